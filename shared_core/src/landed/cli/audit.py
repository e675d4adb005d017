"""``landed audit``: every acknowledged write against the disk.

An installed package adds to it through an entry point of the group ``landed.audits``, whose name says what is looked at
and whose value is a function::

    def audit(under: str, *, level: str) -> Iterable[Finding]

``under`` is the resolved file or directory that the user named, "" for all that is this user's; ``level`` is as for
`landed.audit.examine`. It changes nothing, and yields a `landed.audit.Finding`, with a verdict of `landed.audit`, for
each thing of its own that it looked at, intact ones as well.
"""

from __future__ import annotations

from landed import inspection
from landed.audit import (
    BYPASSED,
    DAMAGED,
    DAMAGED_JOURNAL,
    IN_PROGRESS,
    INTACT,
    LOST,
    UNFINISHED,
    UNREADABLE,
    VERDICTS,
    Finding,
    examine,
    examine_journal,
)
from landed.cli import output
from landed.cli.scope import scope_of
from landed.errors import LandedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from importlib.metadata import EntryPoint
    from typing import Any, Final

GROUP: Final = "landed.audits"
"""The entry-point group through which other packages add findings."""

DESCRIPTION = """\
Compare every acknowledged write with the disk. It changes nothing, and takes the lock of a file only
where something does not match.

  intact           the file holds what landed acknowledged last, the journal all that it acknowledged
  lost             the acknowledged bytes are gone: no file, an empty one, zeros, or old bytes
  bypassed         something that does not use landed put other bytes there
  unfinished       a write was begun and nobody is at it any more
  in progress      a writer is at it now; look again later
  damaged record   what landed knew of the file cannot be read
  damaged journal  a part of a journal is missing or not what was written
  unreadable       the file or its lock cannot be opened

Exits with 1 when anything was lost, bypassed, damaged in a journal, or left unfinished by a dead
owner; else with 3 when something cannot be told. Without DIR, all files in this user's records and
in the shared directory that this one lies in; with it, the files below it, whichever records they
are in, and the journals below it. One that is not there, and of which nothing is known, is refused.
Installed packages add what they keep there.
"""
COLOUR = {
    INTACT: "good",
    LOST: "bad",
    BYPASSED: "bad",
    UNFINISHED: "bad",
    IN_PROGRESS: "dim",
    DAMAGED: "doubt",
    DAMAGED_JOURNAL: "bad",
    UNREADABLE: "doubt",
}


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add the command."""
    parser = output.add_command(subparsers, "audit", "every acknowledged write against the disk", DESCRIPTION)
    parser.add_argument("target", metavar="DIR", nargs="?", help="only this file, or the files below this directory")
    output.add_level(parser)
    parser.set_defaults(run=run, looks=True)


def run(args: argparse.Namespace) -> int:
    """Audit."""
    scope = scope_of(args.target)
    findings: list[Finding] = []
    for store, key in output.progress(scope.entries, "audit"):
        findings += examine(store, key, under=scope.under, level=args.level)
    found = list(inspection.journals(scope.under)) if scope.under else []
    findings += [examine_journal(path, level=args.level) for path in output.progress(found, "audit of journals")]
    added = list(_added(scope.path or scope.under, args.level))
    findings += added
    scope.refuse_nothing(args.target, known=bool(findings))
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in VERDICTS}
    if args.json:
        output.emit(
            {
                "counts": counts,
                "ok": not any(f.bad or not f.told for f in findings),
                "findings": [_document(f) for f in findings],
            }
        )
    else:
        _print(findings, counts, scope.words, len(found), len(added))
    if any(finding.bad for finding in findings):
        return output.BAD_NEWS
    return output.OK if all(finding.told for finding in findings) else output.CANNOT_TELL


def _added(under: str, level: str) -> Iterator[Finding]:
    """What other packages find. One that fails is told as a finding: the others count, and it was not looked at."""
    from importlib.metadata import entry_points

    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            yield from entry.load()(under, level=level)
        except LandedError as error:
            yield Finding(UNREADABLE, error.path or under or entry.name, error.what, hint=error.hint)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it
            yield Finding(UNREADABLE, under or entry.name, _failed(entry, error), hint=_UPDATE)


_UPDATE: Final = "Update or remove that package, then audit again; what the others say counts."


def _failed(entry: EntryPoint, error: Exception) -> str:
    return f"the audit of {entry.name} ({entry.value}) failed: {type(error).__name__}: {error}"


def _document(finding: Finding) -> dict[str, Any]:
    return {
        "path": finding.path,
        "verdict": finding.verdict,
        "bad": finding.bad,
        "detail": finding.detail,
        "hint": finding.hint or None,
        "found": finding.found or None,
        "write": output.write_document(finding.write),
    }


def _print(findings: list[Finding], counts: dict[str, int], where: str, journals: int, added: int) -> None:
    for finding in findings:
        if finding.verdict == INTACT:
            continue
        print(f"{output.coloured(finding.verdict, COLOUR[finding.verdict])}: {output.shown(finding.path)}")
        print(f"    {output.shown(finding.detail)}")
        if finding.hint:
            print(f"    next: {output.shown(finding.hint)}")
    if not findings:
        print(f"landed has written nothing in {output.shown(where)}")
        return
    files = len({finding.path for finding in findings[: len(findings) - journals - added]})
    counted = [output.count(number, noun) for number, noun in ((files, "file"), (journals, "journal")) if number]
    counted += [f"{added} of other packages"] if added else []
    said = ", ".join(
        output.count(number, verdict) if verdict in {DAMAGED, DAMAGED_JOURNAL} else f"{number} {verdict}"
        for verdict, number in counts.items()
        if number
    )
    print(f"{' and '.join(counted)} in {output.shown(where)}: {said}")
