"""``landed log``: who wrote what, when, over which version, and what did not land."""

from __future__ import annotations

from landed.audit import clock
from landed.cli import output
from landed.cli.scope import scope_of
from landed.history import Line, history
from landed.standing import standing

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

DESCRIPTION = """\
Show who wrote what, when, and which version it replaced; which writes did not land; who was refused,
because another version was there than the one expected; and where something that does not use landed
changed a file in between. Oldest first. The log of a file keeps about its last thousand writes.
Without PATH, all files in this user's records and in the shared directory that this one lies in.
"""


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add the command."""
    parser = output.add_command(subparsers, "log", "who wrote what, when, over which version", DESCRIPTION)
    parser.add_argument("target", metavar="PATH", nargs="?", help="a file, or a directory for all files below it")
    parser.add_argument("--last", metavar="COUNT", type=output.positive, help="only the last COUNT lines")
    parser.set_defaults(run=run, looks=True)


def run(args: argparse.Namespace) -> int:
    """Look."""
    scope = scope_of(args.target)
    known, lines = False, list[Line]()
    for store, key in output.progress(scope.entries, "log"):
        seen = standing(store, key, under=scope.under)
        known = known or seen is not None
        if seen is not None and seen.path is not None:
            lines += history(store, key, seen.path)
    scope.refuse_nothing(args.target, known=known)
    lines.sort(key=lambda line: line.order)
    if args.last is not None:
        lines = lines[max(0, len(lines) - args.last) :]
    if args.json:
        output.emit({"lines": [_document(line) for line in lines]})
    elif lines:
        one = scope.path is not None
        header = ("TIME", "OUTCOME", "VERSION", "OVER", "BYTES", "OWNER")
        output.table([_row(line)[: 6 if one else 7] for line in lines], header if one else (*header, "FILE"))
    else:
        print(f"landed has written nothing in {output.shown(scope.words)}")
    return output.OK


def _document(line: Line) -> dict[str, Any]:
    return {
        "path": line.path,
        "outcome": line.outcome,
        "at": output.stamp(line.at) if line.at is not None else None,
        "version": line.version or None,
        "expected": line.over or None,
        "owner": output.owner_document(line.owner) if line.owner is not None else None,
        "write": output.write_document(line.write),
    }


def _row(line: Line) -> tuple[str, ...]:
    at = clock(line.at) if line.at is not None else "-"
    if line.owner is None:
        return at, line.outcome, line.version, "-", "-", "something that does not use landed", output.shown(line.path)
    size = "-" if line.write is None else str(line.write.size) if line.write.digest else "deleted"
    return at, line.outcome, line.version or "-", line.over or "-", size, str(line.owner), output.shown(line.path)
