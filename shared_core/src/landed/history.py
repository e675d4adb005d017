"""What happened to a file, line by line: what landed, what did not, who was refused, and what came from outside.

    for line in landed.history.history(store, key, path):
        print(line.outcome, line.version, line.owner)

`landed log` prints it, and `landed report` draws it.
"""

from __future__ import annotations

import os
from math import inf

from landed import _fs, log
from landed.artifact import Artifact
from landed.errors import LandedError
from landed.records import OUTSIDE, Absent, Record, Write, base_of, read_record
from landed.shelf import Shelf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.process import Owner
    from landed.state import Store

LANDED: Final = "landed"
"""Outcome: it was acknowledged, after it was verified."""
NOT_LANDED: Final = "not landed"
"""Outcome: it was begun, and the old state is what counts."""
BEGUN: Final = "begun"
"""Outcome: it has no end yet."""
REFUSED: Final = "refused"
"""Outcome: what was there was not what the writer expected, so that nothing was written."""
OUTSIDE_CHANGE: Final = "outside"
"""Outcome: something that does not use landed changed the file; the next write, or the disk, bears witness."""


class Line:
    """One line of a file's history.

    Attributes:
        path: the file.
        outcome: one of the words above.
        order: what it is sorted by among those of other files: its time, or that of an earlier line which says later. A
            change from outside comes right before the write that saw it.
        at: seconds since the epoch; None where it is not known.
        version: that was written, or that was found.
        over: the version that it replaced or was to replace; "" for none.
        owner: the process; None for something that does not use landed.
        write: the write, where there was one.
    """

    __slots__ = ("at", "order", "outcome", "over", "owner", "path", "version", "write")

    def __init__(
        self,
        path: str,
        outcome: str,
        order: float,
        at: float | None,
        version: str,
        *,
        over: str = "",
        owner: Owner | None = None,
        write: Write | None = None,
    ) -> None:
        self.path = path
        self.outcome = outcome
        self.order = order
        self.at = at
        self.version = version
        self.over = over
        self.owner = owner
        self.write = write


def history(store: Store, key: str, path: str, fs: _fs.FileOps = _fs.LOCAL) -> list[Line]:
    """The history of one file, oldest first, as far as its log goes back: about a thousand writes.

    Args:
        store: that keeps its records.
        key: the file's, in the store.
        path: the file.
        fs: the file operations to use.

    Raises:
        OSError: as the system does.
    """
    record = read_record(os.path.join(store.artifacts, key + ".record"), fs) or Record("")
    shelf = Shelf(store, record.name, key, fs)
    lines = []
    writes = log.writes(shelf)
    stands = {write.version for write, landed in writes if landed}
    deletes = {write.version for write, _ in writes if not write.digest}
    order = -inf
    for entry in log.entries(shelf):  # in the log's order: its clock may stand still, or go back
        at, owner = entry.at, entry.owner
        order = max(order, at)
        if isinstance(entry, log.Refusal):
            lines.append(Line(path, REFUSED, order, at, entry.found, over=entry.expected, owner=owner))
            continue
        landed, base = entry.version in stands, base_of(entry.base)
        if entry.base != base and landed and base not in deletes:
            lines.append(Line(path, OUTSIDE_CHANGE, order, None, entry.base))  # some time before the write
        outcome = _outcome(entry, record, landed=landed)
        lines.append(Line(path, outcome, order, at, entry.version, over=entry.base, owner=owner, write=entry))
    now = _outside_now(path, record, fs)
    return [*lines, now] if now is not None else lines


def _outcome(write: Write, record: Record, *, landed: bool) -> str:
    if record.begun is not None and record.begun.version == write.version:
        return BEGUN
    return LANDED if landed else NOT_LANDED


def _outside_now(path: str, record: Record, fs: _fs.FileOps) -> Line | None:
    """The change from outside that stands there now and that no write has seen."""
    try:
        artifact = Artifact(path, fs)
        sight = artifact.look()
        verdict = artifact.judge(record, sight)
    except LandedError:
        return None  # what stands there now is for the audit to say
    if verdict.origin != OUTSIDE or record.landed is None:
        return None
    at = sight.status.st_mtime if sight is not None else None
    version = "no file" if isinstance(verdict.version, Absent) else verdict.version
    return Line(path, OUTSIDE_CHANGE, inf, at, version)
