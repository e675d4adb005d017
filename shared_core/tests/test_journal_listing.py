"""A long directory is listed in pieces, not at one moment.

A listing need only have what was there all the time. So while a compaction runs it may lack the compacted segment,
whose name came in a place that was read before, and the old ones, which were removed before theirs was read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from landed import Journal, inspection
from landed._fs import FileOps
from landed.errors import Corrupt
from landed.local.log import LocalLog
from landed.local.segments import name_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("small_segments")


class Piecemeal(FileOps):
    """During a listing somebody acts; of what changes meanwhile the worst is seen.

    Attributes:
        meanwhile: what happens during the next listings, one after the other.
    """

    def __init__(self) -> None:
        self.meanwhile: list[Callable[[], object]] = []

    def scandir(self, path: str) -> dict[str, int]:
        before = super().scandir(path)
        if not self.meanwhile:
            return before
        meanwhile = self.meanwhile.pop(0)
        meanwhile()
        after = super().scandir(path)
        return {name: inode for name, inode in before.items() if name in after}


def grow(path: Path) -> int:
    """Several segments; how many records are in them."""
    with Journal(path) as journal:
        for _ in range(8):
            journal.append([bytes(3000)])
        return journal.tail


def compact(path: Path) -> None:
    with Journal(path) as journal:
        journal.compact(lambda _: True)


def test_open_while_a_compaction_runs(tmp_path: Path) -> None:
    tail, fs = grow(tmp_path), Piecemeal()
    opened = Journal(tmp_path, log=LocalLog(str(tmp_path), fs=fs))
    compact(tmp_path)
    grow(tmp_path)
    fs.meanwhile = [lambda: compact(tmp_path)]
    assert opened.tail == 2 * tail
    assert sum(1 for _ in opened.read()) == 2 * tail


def test_verify_an_append_while_a_compaction_runs(tmp_path: Path) -> None:
    """After the flush, the segment is looked for: by then it can be part of a compacted one."""
    tail, fs = grow(tmp_path), Piecemeal()
    opened = Journal(tmp_path, log=LocalLog(str(tmp_path), fs=fs))
    flush = fs.fdatasync

    def flush_and_compact(fd: int) -> None:
        flush(fd)
        fs.fdatasync = flush  # type: ignore[method-assign]
        grow(tmp_path)
        compact(tmp_path)
        fs.meanwhile = [lambda: None, lambda: (grow(tmp_path), compact(tmp_path))]  # the first looks for `suspect`

    fs.fdatasync = flush_and_compact  # type: ignore[method-assign]
    assert opened.append([b"mine"]).first == tail + 1
    assert next(iter(opened.read(tail + 1))).data == b"mine"


def test_inspect_while_a_compaction_runs(tmp_path: Path) -> None:
    tail, fs = grow(tmp_path), Piecemeal()
    fs.meanwhile = [lambda: compact(tmp_path)]
    found = inspection.examine(tmp_path, fs=fs)
    assert (found.tail, found.damage) == (tail, [])


def test_a_segment_that_is_missing_is_missed_all_the_same(tmp_path: Path) -> None:
    grow(tmp_path)
    opened = Journal(tmp_path)
    (tmp_path / name_of((2, 2))).unlink()
    for look in (lambda: opened.tail, lambda: Journal(tmp_path)):
        with pytest.raises(Corrupt, match="segment 2 is missing"):
            look()
