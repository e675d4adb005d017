"""A flush that failed is not made good by a later one that succeeds."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path

import pytest

import landed
from landed import _fs
from landed.local.directory import TICK
from landed.local.log import LocalLog


class MarksDuringFlush(_fs.FileOps):
    """Another process's flush fails, and it says so, while ours is under way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fdatasync(self, fd: int) -> None:
        super().fdatasync(fd)
        (self.path / "suspect").touch()


def test_a_flush_that_failed_elsewhere_meanwhile_leaves_ours_unknown(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with (
        landed.Journal(path, log=LocalLog(str(path), fs=MarksDuringFlush(path))) as journal,
        pytest.raises(landed.OutcomeUnknown),
    ):
        journal.append([b"behind a frame that may be lost"])


class FailsAfterCompaction(_fs.FileOps):
    """The first flush of the directory after a compacted segment has its name fails, and no other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failed = False

    def fsync(self, fd: int) -> None:
        if not self.failed and os.path.isdir(f"/proc/self/fd/{fd}") and len(wide(self.path)) == 1:
            self.failed = True
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().fsync(fd)


def wide(path: Path) -> list[str]:
    return [entry.stem for entry in path.glob("*.seg") if entry.stem[:10] != entry.stem[11:]]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to tell a directory's descriptor")
def test_old_segments_outlive_a_failed_flush_of_the_name_that_replaces_them(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with landed.Journal(path) as journal:
        for _ in range(400):
            journal.append([bytes(200)])
    before = {entry.name for entry in path.glob("*.seg")}
    fs = FailsAfterCompaction(path)
    with landed.Journal(path, log=LocalLog(str(path), fs=fs)) as journal:
        with pytest.raises(landed.OutcomeUnknown):
            journal.compact(lambda _: True)
        assert fs.failed
        with contextlib.suppress(landed.OutcomeUnknown):  # as good: it has to be opened again
            journal.append([b"next"])
    assert before <= {entry.name for entry in path.glob("*.seg")}


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to tell a directory's descriptor")
def test_a_compaction_after_anothers_whose_flush_failed(tmp_path: Path) -> None:
    """It finds the segment that the other one has put in place, although it has looked for leftovers before."""
    path = tmp_path / "journal"

    def refuse(_: landed.Entry) -> bool:
        raise KeyError

    with (
        landed.Journal(path) as journal,
        landed.Journal(path, log=LocalLog(str(path), fs=FailsAfterCompaction(path))) as other,
    ):
        for n in range(2):
            journal.append([b"%d" % n])
            with pytest.raises(KeyError):
                journal.compact(refuse)  # so that the newest segment is empty, and not the only one
        with pytest.raises(landed.OutcomeUnknown):
            other.compact(lambda _: True)
        time.sleep(2 * TICK)
        journal.compact(lambda _: True)
        assert [entry.data for entry in journal.read()] == [b"0", b"1"]
