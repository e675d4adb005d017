"""A segment is a hole for the most part: what is written into it, and when that costs more than a flush."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from recording import Call, Recording, failing

from landed import _fs, entries
from landed.engine import Commit
from landed.errors import Corrupt, NotLanded
from landed.journal import Journal
from landed.local.ahead import AHEAD, LARGE
from landed.local.frames import PAGE
from landed.local.log import LocalLog
from landed.local.sizes import FIRST_SIZE

FLUSHES = frozenset({"fsync", "fdatasync"})
LARGE_BATCH = 20 * LARGE


@pytest.fixture
def path(work: Path) -> Path:
    return work / "j"


def log_at(path: Path, fs: Recording) -> LocalLog:
    return LocalLog(str(path), fs=fs)


def zeros(fs: Recording) -> int:
    """Bytes of zeros that were written, beside those that a new segment gets."""
    return sum(len(call.args[1]) for call in fs.named("pwrite", on=".seg") if not any(call.args[1]))


def test_a_young_journal_costs_few_flushes_beside_those_of_its_appends(path: Path, fs: Recording) -> None:
    journal = Journal(path, log=log_at(path, fs))
    for _ in range(200):
        journal.append([bytes(1024)])
    assert sum(call.name in FLUSHES and call.path.startswith(str(path)) for call in fs.calls) <= 200 + 8


def test_a_journal_of_a_few_records_takes_a_page(path: Path, fs: Recording) -> None:
    journal = Journal(path, log=log_at(path, fs))
    for _ in range(5):
        journal.append([bytes(100)])
    assert zeros(fs) == 0
    assert sum(len(call.args[1]) for call in fs.named("write")) == PAGE


def test_large_batches_are_written_once(path: Path, fs: Recording) -> None:
    journal = Journal(path, log=log_at(path, fs))
    for number in range(20):
        journal.append([b"%d" % number * LARGE_BATCH])
    assert zeros(fs) == 0
    assert sum(len(call.args[1]) for call in fs.named("write")) <= 4 * PAGE
    assert [len(entry.data) for entry in Journal(path).read()][::19] == [LARGE_BATCH, 2 * LARGE_BATCH]


def test_as_many_zeros_as_frames_ahead_of_large_batches(path: Path, fs: Recording) -> None:
    journal = Journal(path, log=log_at(path, fs))
    journal.append([b"x" * LARGE])
    assert zeros(fs) == 0  # it may have been the only one
    for number in range(12):
        journal.append([b"x" * LARGE])
        (used,) = (file.stat().st_blocks * 512 for file in path.glob("*-0000000002.seg"))
        assert used <= 2 * (number + 2) * LARGE + LARGE
    assert 5 * LARGE < zeros(fs) <= 13 * LARGE
    assert len(list(Journal(path).read())) == 13


def test_no_zeros_ahead_of_a_group_that_is_large_together(path: Path, fs: Recording) -> None:
    log = log_at(path, fs)
    Journal(path, log=log).append([b"x" * 2 * LARGE])
    for _ in range(4):
        batches = [entries.encode_batch([b"x" * 1024]) for _ in range(100)]
        commits = [Commit(payload, count, None, 0.0) for payload, count in batches]
        assert log.commit(commits, 1.0) == len(commits)
    assert zeros(fs) == 0


def test_zeros_between_large_batches_are_few(path: Path, fs: Recording) -> None:
    journal = Journal(path, log=log_at(path, fs))
    journal.append([b"x" * LARGE_BATCH])
    for _ in range(10):
        journal.append([b"x" * LARGE_BATCH])
        journal.append([b"x" * PAGE])
    assert 0 < zeros(fs) <= 10 * 3 * PAGE


def test_zeros_are_written_once_whoever_appends(path: Path, fs: Recording) -> None:
    first, second = (Journal(path, log=log_at(path, fs)) for _ in range(2))
    first.append([bytes(FIRST_SIZE)])
    fs.forget()
    for _ in range(100):
        first.append([b"x" * 1000])
        second.append([b"x" * 1000])
    size = (path / "0000000002-0000000002.seg").stat().st_size
    assert AHEAD < zeros(fs) <= size
    assert len(list(Journal(path).read())) == 201


@pytest.mark.parametrize("what", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_that_has_no_place_for_zeros_takes_what_is_appended(path: Path, fs: Recording, what: int) -> None:
    journal = Journal(path, log=log_at(path, fs))
    journal.append([b"x" * 3000])

    def full(call: Call) -> None:
        if not any(call.args[1]):
            raise OSError(what, "full")

    fs.before("pwrite", full, on=".seg", always=True)
    for _ in range(3):
        journal.append([b"x" * 2000])
    assert [len(entry.data) for entry in Journal(path).read()] == [3000, 2000, 2000, 2000]


def test_zeros_that_the_device_refuses_are_an_error(path: Path, fs: Recording) -> None:
    journal = Journal(path, log=log_at(path, fs))
    journal.append([b"x" * 3000])

    refused: list[Call] = []

    def broken(call: Call) -> None:
        if not any(call.args[1]) and not refused:
            refused.append(call)
            raise OSError(errno.EIO, "broken")

    fs.before("pwrite", broken, on=".seg", always=True)
    with pytest.raises(NotLanded) as told:
        journal.append([b"x" * 2000])
    assert told.value.errno == errno.EIO
    assert journal.append([b"x" * 100]).tail == 2
    assert [len(entry.data) for entry in Journal(path).read()] == [3000, 100]


def test_a_frame_that_another_has_seen_before_it_is_taken_back(path: Path, fs: Recording) -> None:
    """It is written, the zeros behind it are refused, and zeros are put over it: the other goes on where it began."""
    journal, other = Journal(path, log=log_at(path, fs)), Journal(path)
    journal.append([b"x" * 3000])

    def broken(call: Call) -> None:
        if not any(call.args[1]) and not seen:
            seen.append(other.tail)
            raise OSError(errno.EIO, "broken")

    seen: list[int] = []
    fs.before("pwrite", broken, on=".seg", always=True)
    with pytest.raises(NotLanded):
        journal.append([b"x" * 2000])
    assert seen == [2]
    assert other.append([b"other's"]).tail == 2
    assert [len(entry.data) for entry in Journal(path).read()] == [3000, 7]


def test_a_full_disk_that_takes_part_of_a_large_batch(path: Path, fs: Recording) -> None:
    journal = Journal(path, log=log_at(path, fs))
    journal.append([b"x" * LARGE_BATCH])
    (segment,) = path.glob("*-0000000002.seg")
    taken = []

    def part(call: Call) -> None:
        data, offset = call.args[1], call.args[2]
        if len(data) > LARGE:
            taken.append(offset + 10 * PAGE)
            with segment.open("r+b") as file:
                file.seek(offset)
                file.write(data[: 10 * PAGE])
            raise OSError(errno.ENOSPC, "full")
        if taken and offset + len(data) > taken[0]:
            raise OSError(errno.ENOSPC, "full")

    fs.before("pwrite", part, on=".seg", always=True)
    with pytest.raises(NotLanded) as told:
        journal.append([b"y" * LARGE_BATCH])
    assert told.value.errno == errno.ENOSPC
    assert taken
    assert b"y" * 100 not in segment.read_bytes()
    assert journal.append([b"x" * 100]).tail == 2  # in the places that the failed one had taken
    assert [len(entry.data) for entry in Journal(path).read()] == [LARGE_BATCH, 100]


def test_where_a_file_cannot_be_searched_nothing_is_said_of_its_holes(work: Path, fs: Recording) -> None:
    fd = fs.open(str(work / "a"), os.O_RDWR | os.O_CREAT)
    try:
        assert _fs.data_after(fs, fd, 0) == 0  # there are none, which is an answer
        fs.before("lseek", failing(errno.EIO))
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            _fs.data_after(fs, fd, 0)
    finally:
        os.close(fd)


def test_a_system_that_tells_of_no_holes(path: Path, fs: Recording) -> None:
    def refuse(call: Call) -> None:
        if call.args[2] in {os.SEEK_HOLE, os.SEEK_DATA}:
            raise OSError(errno.EINVAL, "unknown whence")

    fs.before("lseek", refuse, always=True)
    for number in range(3):
        with Journal(path, log=log_at(path, fs)) as journal:
            assert journal.append([b"x" * (number * 100)]).tail == number + 1
    with (path / "0000000001-0000000001.seg").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    with pytest.raises(Corrupt):
        log_at(path, fs)
