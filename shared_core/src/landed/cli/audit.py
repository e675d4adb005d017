"""``landed audit``: every acknowledged write against the disk."""

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
from landed.publish import LEVELS, READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

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
are in, and the journals below it.
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
    parser.add_argument("--level", choices=LEVELS, default=READ, help="`device` reads past the page cache")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Audit."""
    scope = scope_of(args.target)
    findings: list[Finding] = []
    for store, key in output.progress(scope.entries, "audit"):
        findings += examine(store, key, under=scope.under, level=args.level)
    found = list(inspection.journals(scope.under)) if scope.under else []
    findings += [examine_journal(path, level=args.level) for path in output.progress(found, "audit of journals")]
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
        _print(findings, counts, scope.words, len(found))
    if any(finding.bad for finding in findings):
        return output.BAD_NEWS
    return output.OK if all(finding.told for finding in findings) else output.CANNOT_TELL


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


def _print(findings: list[Finding], counts: dict[str, int], where: str, journals: int) -> None:
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
    files = len({finding.path for finding in findings}) - journals
    counted = [output.count(files, "file")] if files or not journals else []
    counted += [output.count(journals, "journal")] if journals else []
    said = ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number)
    print(f"{' and '.join(counted)} in {output.shown(where)}: {said}")
