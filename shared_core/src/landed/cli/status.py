"""``landed status``: who holds what, since when, and what was begun and never ended."""

from __future__ import annotations

from landed.artifact import Artifact
from landed.audit import clock, command
from landed.cli import output
from landed.cli.scope import scope_of
from landed.holder import Holder
from landed.standing import Standing, standing

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

DESCRIPTION = """\
Show who holds which file, since when, and the writes that were begun and never ended: `aborted` if
their owner is dead, `unknown` if it runs on and let go of the file, or runs where it cannot be
asked. A file is `leased` to an agent whose tool may be writing it. For one file also its version.
Without PATH, all files in this user's records and in the shared directory that this one lies in.
Exits with 1 when a dead owner left something unfinished.
"""

FREE, HELD, WRITING, LEASED = "free", "held", "writing", "leased"
ABORTED, UNKNOWN, UNTRIED = "aborted", "unknown", "not tried"


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add the command."""
    parser = output.add_command(subparsers, "status", "who holds what, and what is unfinished", DESCRIPTION)
    parser.add_argument("target", metavar="PATH", nargs="?", help="a file, or a directory for all files below it")
    parser.set_defaults(run=run, looks=True)


def run(args: argparse.Namespace) -> int:
    """Look."""
    scope = scope_of(args.target)
    found = [
        seen
        for store, key in output.progress(scope.entries, "status")
        if (seen := standing(store, key, under=scope.under)) is not None
    ]
    scope.refuse_nothing(args.target, known=bool(found))
    busy = [seen for seen in found if state_of(seen) != FREE]
    current = _current(scope.path) if scope.path is not None else None
    if args.json:
        document: dict[str, Any] = {
            "known": len(found),
            "files": [_document(seen) for seen in (found if current else busy)],
        }
        output.emit({**document, "current": current} if current else document)
    else:
        _print(busy, len(found), scope.words, current)
    return output.BAD_NEWS if any(state_of(seen) == ABORTED for seen in busy) else output.OK


def state_of(seen: Standing) -> str:
    """One word for a standing."""
    if seen.held:
        return WRITING if seen.begun is not None else HELD
    if seen.begun is not None:
        return ABORTED if seen.begun.owner.alive() is False else UNKNOWN
    if seen.lease is not None:
        return LEASED
    return FREE if seen.held is not None else UNTRIED


def _current(path: str) -> dict[str, Any]:
    artifact = Artifact(path)
    sight, record = artifact.look(), artifact.shelf.load()
    verdict = artifact.judge(record, sight)
    return {"path": path, "version": output.version_text(verdict.version), "origin": verdict.origin}


def _document(seen: Standing) -> dict[str, Any]:
    return {
        "path": seen.path,
        "state": state_of(seen),
        "holder": output.holder_document(_holder(seen)),
        "begun": output.write_document(seen.begun),
        "landed": output.write_document(seen.landed),
    }


def _print(busy: list[Standing], known: int, where: str, current: dict[str, Any] | None) -> None:
    if current is not None:
        origin = "" if current["origin"] == "landed" else ", by something that does not use landed"
        print(f"{output.shown(current['path'])}: {current['version'] or 'no file'}{origin}")
    if busy:
        output.table([_row(seen) for seen in busy], ("STATE", "SINCE", "OWNER", "FILE"))
    elif current is None:
        print(f"{output.count(known, 'file')} known in {output.shown(where)}; none is held, nothing is unfinished")
    else:
        print("not held, nothing unfinished")
    for seen in busy:
        if state_of(seen) in {ABORTED, UNKNOWN} and seen.path is not None:
            output.note(f"`{command('verify', seen.path)}` settles what its writer left, as does the next write")


def _row(seen: Standing) -> tuple[str, str, str, str]:
    path = output.shown(seen.path) if seen.path is not None else "(its first write)"
    if not seen.held and seen.begun is not None:
        return state_of(seen), clock(seen.begun.at), str(seen.begun.owner), path
    holder = _holder(seen)
    if holder is None:
        return state_of(seen), "-", "does not say", path
    since = "-" if holder.since is None else clock(holder.since)
    return state_of(seen), since, str(holder.owner), path


def _holder(seen: Standing) -> Holder | None:
    """Who holds the lock, or else may write without it."""
    if seen.lease is not None and not seen.held:
        return Holder(seen.lease.owner, seen.lease.since)
    return seen.holder
