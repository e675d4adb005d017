"""``landed log``: who wrote what, when, over which version, and what did not land."""

from __future__ import annotations

import os

from landed import _fs
from landed.artifact import OUTSIDE, Artifact
from landed.audit import standing
from landed.cli import output
from landed.cli.scope import scope_of
from landed.errors import LandedError
from landed.records import Record, Shelf, Write, base_of, read_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from landed.state import Store

DESCRIPTION = """\
Show who wrote what, when, and which version it replaced; which writes did not land; and where
something that does not use landed changed a file in between. Oldest first. The log of a file keeps
about its last thousand writes. Without PATH, all files in this user's records and in the shared
directory that this one lies in.
"""
LANDED, NOT_LANDED, BEGUN, OUTSIDE_CHANGE = "landed", "not landed", "begun", "outside"


class Line:
    """One line of the log: a write, or a change from outside, to which the next write or the disk bears witness."""

    __slots__ = ("at", "order", "outcome", "path", "version", "write")

    def __init__(
        self, path: str, outcome: str, order: float, at: float | None, version: str, write: Write | None = None
    ) -> None:
        self.path = path
        self.outcome = outcome
        self.order = order
        self.at = at
        self.version = version
        self.write = write


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add the command."""
    parser = output.add_command(subparsers, "log", "who wrote what, when, over which version", DESCRIPTION)
    parser.add_argument("target", metavar="PATH", nargs="?", help="a file, or a directory for all files below it")
    parser.add_argument("--last", metavar="COUNT", type=int, help="only the last COUNT lines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look."""
    scope = scope_of(args.target)
    lines: list[Line] = []
    for store, key in output.progress(scope.entries, "log"):
        seen = standing(store, key, under=scope.under)
        if seen is not None and seen.path is not None:
            lines += _lines(store, key, seen.path)
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


def _lines(store: Store, key: str, path: str) -> list[Line]:
    record = read_record(os.path.join(store.artifacts, key + ".record"), _fs.LOCAL) or Record("")
    history = Shelf(store, record.name, key).history()
    lines = []
    deletes = {write.version for write, _ in history if not write.digest}
    for write, landed in history:
        if write.base != base_of(write.base) and landed and base_of(write.base) not in deletes:
            lines.append(Line(path, OUTSIDE_CHANGE, write.at, None, write.base))  # some time before the write
        lines.append(Line(path, _outcome(write, record, landed=landed), write.at, write.at, write.version, write))
    try:
        artifact = Artifact(path)
        sight = artifact.look()
        verdict = artifact.judge(record, sight)
    except LandedError:
        return lines  # what stands there now is for the audit to say
    if verdict.origin == OUTSIDE and record.landed is not None:
        at = sight.status.st_mtime if sight is not None else None
        version = output.version_text(verdict.version) or "no file"
        lines.append(Line(path, OUTSIDE_CHANGE, float("inf"), at, version))
    return lines


def _outcome(write: Write, record: Record, *, landed: bool) -> str:
    if record.begun is not None and record.begun.version == write.version:
        return BEGUN
    return LANDED if landed else NOT_LANDED


def _document(line: Line) -> dict[str, Any]:
    return {
        "path": line.path,
        "outcome": line.outcome,
        "at": output.stamp(line.at) if line.at is not None else None,
        "version": line.version,
        "write": output.write_document(line.write),
    }


def _row(line: Line) -> tuple[str, ...]:
    at = output.clock(line.at) if line.at is not None else "-"
    if line.write is None:
        return at, line.outcome, line.version, "-", "-", "something that does not use landed", output.shown(line.path)
    size = str(line.write.size) if line.write.digest else "deleted"
    return at, line.outcome, line.version, line.write.base or "-", size, str(line.write.owner), output.shown(line.path)
