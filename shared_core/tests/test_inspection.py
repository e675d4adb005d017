"""Journals looked at from outside: what is whole, what is damaged, what still reads; and that nobody notices."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path
from time import monotonic

import pytest
from damaged_journals import (
    FIRST,
    SECOND,
    change,
    contents,
    crashed,
    flip,
    frame_offsets,
    make,
    records_of,
    salvaged,
    torn,
    unflushed,
)
from read_only import ReadOnly

import landed
from landed import _fs, inspection
from landed.errors import Corrupt, LandedError
from landed.local import frames, identity, survey
from landed.local.frames import HEADER
from landed.local.log import LocalLog
from landed.local.recovery import CRASH, TORN
from landed.local.salvage import salvage
from landed.local.walk import BUSY

pytestmark = pytest.mark.usefixtures("small_segments")


# Whole journals.


def test_a_whole_journal(work):
    records = make(work / "j", 40)
    report = inspection.examine(work / "j")
    assert (report.damage, report.tails, report.suspect, report.leftovers) == ([], [], False, [])
    assert len(report.segments) > 2
    assert [segment.sealed for segment in report.segments] == [True] * (len(report.segments) - 1) + [False]
    assert sum(segment.records for segment in report.segments) == len(records)
    assert report.tail == records[-1][0]
    for segment in report.segments:
        assert segment.used == frame_offsets(work / "j" / segment.name)[-1]
    assert [(entry.sequence, entry.data) for entry, _ in inspection.records(work / "j")] == records
    assert [entry.sequence for entry, _ in inspection.records(work / "j", start=79)] == [79, 80]


def test_a_compacted_journal(work):
    records = make(work / "j", 40)
    with landed.Journal(work / "j") as journal:
        journal.compact(lambda entry: entry.sequence % 3 == 0)
        journal.append([b"more"])
    report = inspection.examine(work / "j")
    assert report.damage == []
    expected = [record for record in records if record[0] % 3 == 0] + [(len(records) + 1, b"more")]
    assert [(entry.sequence, entry.data) for entry, _ in inspection.records(work / "j")] == expected
    assert salvaged(work / "j", work / "out") == expected


def test_an_empty_journal(work):
    make(work / "j", 0)
    report = inspection.examine(work / "j")
    assert (report.damage, report.tail, len(report.segments)) == ([], 0, 1)
    assert salvaged(work / "j", work / "out") == []


def test_no_journal(work):
    with pytest.raises(landed.Refused, match="no journal"):
        inspection.examine(work)
    with pytest.raises(FileNotFoundError):
        inspection.examine(work / "missing")
    assert os.listdir(work) == []


# Nobody notices.


@pytest.mark.parametrize("damaged", [False, True])
def test_nothing_is_touched(work, damaged):
    make(work / "j", 40)
    (work / "j" / ".landed-000000000000.tmp").write_bytes(b"a dead writer's")
    if damaged:
        flip(work / "j" / FIRST, 500)
        (work / "j" / "suspect").touch()
        (work / "j" / "claim").touch()
    before = contents(work / "j")
    mtime = (work / "j").stat().st_mtime_ns
    fs = ReadOnly(work / "j")
    report = inspection.examine(work / "j", level="device", fs=fs)
    assert report.leftovers == [".landed-000000000000.tmp"]
    assert bool(report.damage) == damaged
    list(inspection.records(work / "j", fs=fs))
    salvage(work / "j", work / "out", fs=fs)
    assert contents(work / "j") == before
    assert (work / "j").stat().st_mtime_ns == mtime


def test_the_check_of_that_can_fail(work):
    make(work / "j", 1)
    with pytest.raises(LandedError):
        landed.Journal(work / "j", log=LocalLog(str(work / "j"), fs=ReadOnly(work / "j"))).append([b"x"])


def test_a_copy_without_its_lock_file(work):
    records = make(work / "j", 40)
    (work / "j" / "lock").unlink()
    assert inspection.examine(work / "j").damage == []
    assert salvaged(work / "j", work / "out") == records


WRITER = """
import landed, sys, time
directory, seconds = sys.argv[1], 3
end = time.monotonic() + seconds
with landed.Journal(directory) as journal:
    print("ready", flush=True)
    number = 0
    while time.monotonic() < end:
        number += 1
        journal.append([b"x" * (number * 37 % 5000)] * (1 + number % 3))
        if number % 200 == 0 and len(sys.argv) > 2:
            journal.compact(lambda entry: entry.sequence % 2 == 0)
"""


def test_beside_busy_writers(work, programs):
    make(work / "j", 1)
    writers = [programs.start(WRITER, work / "j"), programs.start(WRITER, work / "j", "compacts")]
    for writer in writers:
        assert writer.hear() == "ready"
    seen, looks = 0, 0
    end = monotonic() + 1.5
    while monotonic() < end:
        report = inspection.examine(work / "j")
        assert report.damage == []
        assert report.tail >= seen
        seen = report.tail
        looks += 1
    for writer in writers:
        writer.finish()
    assert looks > 2
    assert inspection.examine(work / "j").damage == []


# Damage: what is damaged is said, and everything else is salvaged.


def test_any_flipped_byte(work):
    """Of a small journal every byte that means something, and some of the zeros behind them."""
    records = make(work / "j", 4, size=40)
    path = work / "j" / FIRST
    offsets = frame_offsets(path)
    whole = path.read_bytes()
    for at in [*range(offsets[-1]), *range(offsets[-1], len(whole), 97)]:
        flip(path, at)
        report = inspection.examine(work / "j")
        assert [(one.segment, one.offset <= at < one.offset + one.size) for one in report.damage] == [(FIRST, True)], at
        hit = [number for number, start in enumerate(offsets[:-1]) if start <= at < offsets[number + 1]]
        left = [record for record in records if (record[0] - 1) // 2 not in hit]
        assert [(entry.sequence, entry.data) for entry, _ in inspection.records(work / "j")] == left, at
        if at % 16 == 0:
            assert salvaged(work / "j", work / "out") == left
        path.write_bytes(whole)


@pytest.mark.parametrize("name", [FIRST, SECOND, "0000000004-0000000004.seg"])
def test_a_flipped_byte_in_a_rolled_journal(work, name):
    records = make(work / "j", 60)
    path = work / "j" / name
    offsets = frame_offsets(path)
    first = next(entry.sequence for entry, where in inspection.records(work / "j") if where == name)
    whole = path.read_bytes()
    sealed = (work / "j" / f"{int(name[:10]) + 1:010d}-{int(name[:10]) + 1:010d}.seg").exists()
    for at in range(0, offsets[-1], 29):
        flip(path, at)
        hit = [number for number, start in enumerate(offsets[:-1]) if start <= at < offsets[number + 1]]
        in_seal = sealed and at >= offsets[-2]
        gone = {first + 2 * number + one for number in hit for one in (0, 1) if not in_seal}
        left = [record for record in records if record[0] not in gone]
        report = inspection.examine(work / "j")
        if in_seal:
            # The next segment says where the frames end; whatever stands there instead of the seal is no part of them.
            assert (report.damage, [tail.offset for tail in report.tails]) == ([], [offsets[-2]])
        else:
            assert {one.segment for one in report.damage} == {name}, at
        assert [(entry.sequence, entry.data) for entry, _ in inspection.records(work / "j")] == left, at
        path.write_bytes(whole)


def test_says_damage_where_reading_does(work):
    """The command and the journal itself follow one set of rules."""
    make(work / "j", 20)
    sizes = {path.name: frame_offsets(path)[-1] for path in sorted((work / "j").glob("*.seg"))}
    for name, end in sizes.items():
        for at in range(0, min(end + 64, 4096), 101):
            copy = work / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(work / "j", copy)
            flip(copy / name, at)
            damaged = bool(inspection.examine(copy).damage)
            try:
                records_of(copy)
            except Corrupt:
                assert damaged, (name, at)
            else:
                assert not damaged, (name, at)


def test_a_truncated_segment(work):
    records = make(work / "j", 40)
    path = work / "j" / SECOND
    offsets = frame_offsets(path)
    os.truncate(path, offsets[3] + 20)
    report = inspection.examine(work / "j")
    assert {one.segment for one in report.damage} == {SECOND}
    assert any(one.offset == offsets[3] for one in report.damage)
    done = salvage(work / "j", work / "out")
    lost = [one for one in done.skipped if one.damage.offset == offsets[3]]
    copied = dict(records_of(work / "out"))
    assert lost[0].before is not None
    assert [number for number, _ in records if number not in copied] == list(range(lost[0].after + 1, lost[0].before))


def test_a_missing_segment(work):
    records = make(work / "j", 40)
    gone = {entry.sequence for entry, where in inspection.records(work / "j") if where == SECOND}
    assert gone
    (work / "j" / SECOND).unlink()
    report = inspection.examine(work / "j")
    assert [(one.segment, one.what) for one in report.damage] == [(SECOND, "the segment is missing")]
    done = salvage(work / "j", work / "out")
    assert [(one.after, one.before) for one in done.skipped] == [(min(gone) - 1, max(gone) + 1)]
    assert records_of(work / "out") == [record for record in records if record[0] not in gone]


def test_the_last_segment_is_missing(work):
    make(work / "j", 40)
    names = sorted(path.name for path in (work / "j").glob("*.seg"))
    (work / "j" / names[-1]).unlink()
    assert [(one.segment, one.size) for one in inspection.examine(work / "j").damage] == [(names[-1], 0)]


def test_all_segments_are_missing(work):
    make(work / "j", 1)
    (work / "j" / FIRST).unlink()
    assert [one.segment for one in inspection.examine(work / "j").damage] == [FIRST]


def test_a_segment_of_another_journal(work):
    make(work / "j", 40)
    make(work / "other", 40)
    shutil.copy(work / "other" / SECOND, work / "j" / SECOND)
    report = inspection.examine(work / "j")
    assert {one.what for one in report.damage} == {"it is not the segment that the next one follows"}


def test_a_frame_out_of_order(work):
    """Every check holds, and the order does not: a segment of twice the same records."""
    make(work / "j", 1, size=40)
    path = work / "j" / FIRST
    data = path.read_bytes()
    segment_id = data[32:40]
    offsets = frame_offsets(path)
    frame = frames.decode_frame(segment_id, 128, data, 128)
    assert frame is not None
    again = frames.Head(offsets[1], 1, frame.head.length, count=2, sequence=1, flushed=128, back=0, boot=0)
    change(path, offsets[1], again.encode(segment_id, frame.payload))
    report = inspection.examine(work / "j")
    assert [(one.offset, "comes after 2" in one.what) for one in report.damage] == [(offsets[1], True)]
    assert salvaged(work / "j", work / "out") == [(1, b"0" * 10), (2, b"")]


def test_a_payload_that_looks_like_frames_is_not_salvaged_as_such(work):
    make(work / "inner", 3, size=40)
    image = (work / "inner" / FIRST).read_bytes()[:1000]
    with landed.Journal(work / "j") as journal:
        journal.append([b"first"])
        journal.append([image])
        journal.append([b"last"])
    path = work / "j" / FIRST
    offsets = frame_offsets(path)
    flip(path, offsets[1] + 9)
    flip(path, 40)  # and the header, so that only the frames tell whose they are
    assert salvaged(work / "j", work / "out") == [(1, b"first"), (3, b"last")]


def test_an_id_is_found_by_the_frames_alone(work, monkeypatch):
    """Also of the newest segment, which no other one names, and of a compacted one."""
    make(work / "j", 40)
    with landed.Journal(work / "j") as journal:
        journal.compact(lambda entry: True)
        journal.append([b"one"])
        journal.append([b"two"])
    records = records_of(work / "j")
    for path in (work / "j").glob("*.seg"):
        change(path, 0, bytes(HEADER.size))
    assert salvaged(work / "j", work / "out") == records
    monkeypatch.setattr(identity, "_told_by_frames", lambda file: [])
    assert salvaged(work / "j", work / "out") == []


class BadSector(_fs.FileOps):
    """A device that does not give back one page of a file."""

    def __init__(self, path: Path, page: int) -> None:
        self._inode = path.stat().st_ino
        self._page = page

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        if os.fstat(fd).st_ino == self._inode and offset < self._page + 4096 and offset + size > self._page:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().pread(fd, size, offset)


@pytest.mark.parametrize("index", [2, -1])
def test_a_page_that_cannot_be_read(work, index):
    records = make(work / "j", 80)
    path = sorted((work / "j").glob("*.seg"))[index]
    offsets = frame_offsets(path)
    assert offsets[-1] > 4096
    inside = [entry.sequence for entry, where in inspection.records(work / "j") if where == path.name]
    hit = [n for n, at in enumerate(offsets[:-1]) if at < 8192 and offsets[n + 1] > 4096]
    gone = {inside[2 * number + one] for number in hit for one in (0, 1) if 2 * number < len(inside)}
    fs = BadSector(path, 4096)
    report = inspection.examine(work / "j", fs=fs)
    assert [one.what for one in report.damage if "give back" in one.what] == [
        "the device does not give back the page at offset 4096"
    ]
    done = salvage(work / "j", work / "out", fs=fs)
    assert done.skipped
    assert records_of(work / "out") == [record for record in records if record[0] not in gone]


def test_a_page_that_cannot_be_read_is_not_taken_for_the_end(work):
    with landed.Journal(work / "j") as journal:
        journal.append([b"x" * 3908])
        journal.append([b"on a page of its own"])
    path = work / "j" / SECOND
    assert frame_offsets(path)[1] == 4096
    report = inspection.examine(work / "j", fs=BadSector(path, 4096))
    assert [one.offset for one in report.damage if one.size] == [4096]
    assert report.tail == 1


# Crash tails.


def test_a_crash_tail_is_no_damage(work, rebooted):
    _, at = crashed(work / "j")
    assert inspection.examine(work / "j").damage
    rebooted()
    report = inspection.examine(work / "j")
    assert report.damage == []
    assert [(tail.kind, tail.offset) for tail in report.tails] == [(CRASH, at)]
    done = salvage(work / "j", work / "out")
    assert (done.skipped, done.tail, len(done.tails)) == ([], 6, 1)


def test_a_crash_tail_that_was_recovered(work, rebooted):
    path, last = crashed(work / "j")
    flip(path, last + 50)
    unflushed(path, last)
    at = frame_offsets(path)[-3]
    flip(path, at + 50)  # as when two processes wrote, neither had flushed, and only the later page got out
    assert inspection.examine(work / "j").damage
    rebooted()
    (tail,) = inspection.examine(work / "j").tails
    assert (tail.kind, tail.offset, tail.tail) == (CRASH, at, 8)
    with landed.Journal(work / "j") as journal:
        journal.append([b"after the crash"])
    report = inspection.examine(work / "j")
    assert report.damage == []
    assert [(tail.kind, tail.segment, tail.offset) for tail in report.tails] == [(CRASH, FIRST, at)]
    assert salvaged(work / "j", work / "out") == records_of(work / "j")
    assert records_of(work / "j")[-1] == (5, b"after the crash")
    assert salvage(work / "j", work / "out 2").base >= 8
    change(work / "j" / SECOND, 0, bytes(16))  # then only the records tell where the next segment begins
    assert salvaged(work / "j", work / "out") == [*make(work / "k", 4, size=40)[:4], (5, b"after the crash")]


def test_a_torn_tail(work):
    path, at = torn(work / "j")
    report = inspection.examine(work / "j")
    assert report.damage == []
    assert [(tail.kind, tail.segment, tail.offset) for tail in report.tails] == [(TORN, path.name, at)]


def test_half_a_write_of_a_stopped_writer(work, monkeypatch):
    """While somebody holds the lock, a bad frame may become a good one."""
    path, at = crashed(work / "j")
    monkeypatch.setattr(survey, "PATIENCE", 0.2)
    holder = os.open(work / "j" / "lock", os.O_RDWR)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        report = inspection.examine(work / "j")
        assert (report.damage, report.busy, report.lock.held) == ([], True, True)
        assert [(tail.kind, tail.offset) for tail in report.tails] == [(BUSY, at)]
    finally:
        os.close(holder)
    report = inspection.examine(work / "j")
    assert (bool(report.damage), report.busy, report.lock.held) == (True, False, False)
    flip(path, at + 50)
    assert inspection.examine(work / "j").damage == []


def test_a_failed_flush_is_read_as_a_crash(work):
    crashed(work / "j")
    (work / "j" / "suspect").touch()
    report = inspection.examine(work / "j")
    assert (report.suspect, report.damage) == (True, [])
    assert [tail.kind for tail in report.tails] == [CRASH]


# Finding journals.


def test_journals_below_a_directory(work):
    make(work / "a", 1)
    make(work / "b" / "c", 1)
    make(work / "a" / "nested", 1)
    (work / "b" / "link").symlink_to(work / "a")
    (work / "b" / "1-1.seg").write_bytes(b"a name that is none of ours")
    assert list(inspection.journals(str(work))) == [str(work / name) for name in ("a", "a/nested", "b/c")]
