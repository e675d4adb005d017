"""Salvage: what it writes and where, and that it is there whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from damaged_journals import contents, crashed, make, records_of

import landed
from landed import _fs, inspection
from landed.local.salvage import salvage


def test_salvage_keeps_numbers_and_goes_on_above_all_that_was_seen(work, rebooted):
    crashed(work / "j")
    rebooted()
    with landed.Journal(work / "j") as journal:
        journal.append([b"one", b"two"])
        tail = journal.tail
    done = salvage(work / "j", work / "out")
    assert done.base == max(tail, 8)
    with landed.Journal(work / "out") as journal:
        assert journal.append([b"next"]).first == done.base + 1
        assert journal.compact(lambda entry: True).dropped == 0
    assert inspection.examine(work / "out").damage == []


def test_one_of_many_keeps_its_name(work):
    for name in ("support-42", ""):
        with landed.Journals(work / "many") as journals:
            journals.open(name).append([b"one"])
            path = journals.open(name).path
        salvage(path, work / "out")
        shutil.rmtree(path)
        (work / "out").rename(path)
        with landed.Journals(work / "many") as journals:
            assert name in journals.names()
            assert records_of(Path(path)) == [(1, b"one")]


def test_salvage_below_a_file_is_told_as_any_place_where_it_cannot_be_made(work):
    make(work / "j", 1)
    (work / "file").touch()
    for where in ("file/out", "nowhere/out"):
        with pytest.raises(landed.NotLanded, match="the new journal cannot be written"):
            salvage(work / "j", work / where)


@pytest.mark.parametrize("where", ["j", "j/out", "there"])
def test_salvage_refuses_to_write_there(work, where):
    make(work / "j", 1)
    (work / "there").mkdir()
    before = contents(work / "j")
    with pytest.raises(landed.Refused):
        salvage(work / "j", work / where)
    assert contents(work / "j") == before
    assert os.listdir(work / "there") == []


class Fails(_fs.FileOps):
    """Fails the Nth call that changes something, whichever it is."""

    def __init__(self, number: int) -> None:
        self.left = number

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self._count()
        super().mkdir(path, mode)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self._count()
        return super().write(fd, data)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self._count()
        return super().pwrite(fd, data, offset)

    def fsync(self, fd: int) -> None:
        self._count()
        super().fsync(fd)

    def link(self, source: str, target: str, *, dir_fd: int | None = None) -> None:
        self._count()
        super().link(source, target, dir_fd=dir_fd)

    def rename(self, source: str, target: str, *, dir_fd: int | None = None) -> None:
        self._count()
        super().rename(source, target, dir_fd=dir_fd)


def test_salvage_leaves_all_or_nothing(work):
    records = make(work / "j", 20)
    (work / "j" / "name").write_bytes(b"whose")
    for number in range(1, 100):
        fs = Fails(number)
        try:
            salvage(work / "j", work / "out", fs=fs)
        except landed.OutcomeUnknown:
            assert records_of(work / "out") == records
            shutil.rmtree(work / "out")
        except landed.NotLanded:
            assert sorted(os.listdir(work)) == ["j"], number
        else:
            assert number > 8
            assert fs.left > 0
            assert records_of(work / "out") == records
            assert (work / "out" / "name").read_bytes() == b"whose"
            break
    else:
        pytest.fail("it never succeeded")


class Garbles(_fs.FileOps):
    """A device that changes what it is given."""

    def write(self, fd: int, data: bytes | memoryview) -> int:
        garbled = bytearray(data)
        garbled[len(garbled) // 2] ^= len(data) > 4096  # the segment with the records
        return super().write(fd, bytes(garbled))


def test_salvage_reads_back_what_it_wrote(work):
    make(work / "j", 20)
    with pytest.raises(landed.NotLanded, match="reads back otherwise"):
        salvage(work / "j", work / "out", fs=Garbles())
    assert os.listdir(work) == ["j"]
