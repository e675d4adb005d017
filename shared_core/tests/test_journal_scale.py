"""Very many journals, and very many records: what they take, and what finding the newest record costs.

Bytes, descriptors and reads are counted rather than seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from journal_programs import used
from recording import Recording

from landed.entries import Record, encode_records
from landed.journal import Journal
from landed.local import pool, reading, segments, sizes
from landed.local.frames import BATCH, HEADER, SEAL, Head, Header, boot_tag
from landed.local.log import LocalLog
from landed.process import boot_id

JOURNALS = 10_000
MEASURED = 500
"""Journals that are made one by one; the rest would say the same."""
DISK_LIMIT = 16 << 10
RECORDS = 1_000_000


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_many_small_journals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stays under 16 KiB on the disk, and all of them open at once need no more descriptors than the pool has."""
    monkeypatch.setattr(pool, "OPEN_SEGMENTS", 20)
    before = descriptors()
    journals = []
    for number in range(MEASURED):
        journal = Journal(tmp_path / str(number))
        for turn in range(3):
            journal.append([b"%d in %d" % (turn, number) * 20])
        journals.append(journal)
    assert descriptors() - before <= 20 + 128 + 4
    assert max(used(tmp_path / str(number)) for number in range(MEASURED)) <= DISK_LIMIT
    for number in range(0, MEASURED, 7):  # those that rested go on
        assert journals[number].append([b"more"], expect=3).first == 4
        assert [entry.sequence for entry in journals[number].read()] == [1, 2, 3, 4]
    assert descriptors() - before <= 20 + 128 + 4


def test_the_pool_holds_for_ten_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool itself, with as many holders: it never counts more than its limit as open."""

    class Holder:
        open = 0

        def __init__(self) -> None:
            Holder.open += 1

        def rest(self) -> bool:
            Holder.open -= 1
            return True

        def forked(self) -> None:
            raise AssertionError("nothing forks here")

    monkeypatch.setattr(pool, "_open", {})
    holders = []
    for _ in range(JOURNALS):
        holder = Holder()
        holders.append(holder)
        pool.opened(holder)
        assert Holder.open <= pool.OPEN_SEGMENTS


class Counted(tuple[int, int]):
    """A segment's range that counts how often it is compared."""

    __slots__ = ()
    compared = 0
    __hash__ = tuple.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return tuple.__eq__(self, other)


def test_many_segments_are_not_compared_each_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither at a roll, which looks for those that were replaced, nor in a compaction."""
    spans = [Counted((number, number)) for number in range(1, 501)]
    names = [segments.name_of(span) for span in spans]
    assert segments.replaced([*names, segments.name_of((3, 4))], list(spans)) == [segments.name_of((3, 4))]
    monkeypatch.setattr(reading, "_frames", lambda *_: ())
    log: Any = SimpleNamespace(follower=SimpleNamespace(view=lambda: (spans, None)))
    assert list(reading.frames_of(log, list(spans))) == []
    assert Counted.compared <= 2 * len(spans)


class Writer:
    """Lays out a large journal quickly: what appends of 1,000 records each would have left, without their flushes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.boot = boot_tag(boot_id())
        self.sequence, self.number, self.used = 1, 0, 0
        self.previous = (bytes(8), 0)

    def batches(self) -> Iterator[bytes]:
        while self.sequence <= RECORDS:
            yield encode_records((n, Record(b"%d" % (self.sequence + n))) for n in range(1000))

    def write(self) -> None:
        self.path.mkdir()
        batches = self.batches()
        payload = next(batches)
        while payload:
            payload = self._segment(batches, payload)
        (self.path / "lock").touch()

    def _segment(self, batches: Iterator[bytes], payload: bytes) -> bytes:
        """Fill one segment; the batch that did not fit, or b"" at the end."""
        self.number += 1
        size = sizes.next_size(self.used, len(payload) + 48, sizes.SIZE_LIMIT)
        self.used += size
        header = Header(
            size, self.number, self.number, b"%08d" % self.number, self.sequence - 1, *self.previous, self.boot
        )
        parts, offset, back = [header.encode()], HEADER.size, 0
        while payload and offset + len(payload) + 112 <= size:
            offset, back = self._frame(parts, header, offset, back, payload, 1000)
            self.sequence += 1000
            payload = next(batches, b"")
        self.previous = (header.id, offset)
        if payload:
            offset, back = self._frame(parts, header, offset, back, b"", 0)
        name = segments.name_of((self.number, self.number))
        (self.path / name).write_bytes(b"".join(parts).ljust(size, b"\0"))
        return payload

    def _frame(
        self, parts: list[bytes], header: Header, offset: int, back: int, payload: bytes, count: int
    ) -> tuple[int, int]:
        kind = BATCH if count else SEAL
        head = Head(
            offset, kind, len(payload), count=count, sequence=self.sequence, flushed=offset, back=back, boot=self.boot
        )
        data = head.encode(header.id, payload)
        parts.append(data)
        return offset + len(data), len(data)


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "journal"
    Writer(path).write()
    return path


def reads(fs: Recording) -> tuple[int, int]:
    """Bytes asked for by reads, and how many of them."""
    sizes = [call.args[1] for call in fs.calls if call.name in {"pread", "read"}]
    return sum(sizes), len(sizes)


def test_a_million_records_are_ready_soon(million: Path, fs: Recording) -> None:
    """Opening looks through the newest segment alone, and the newest record is one batch away."""
    journal = Journal(million, log=LocalLog(str(million), fs=fs))
    assert journal.tail == RECORDS
    newest = next(journal.read(newest_first=True))
    assert (newest.sequence, newest.data) == (RECORDS, b"%d" % RECORDS)
    size, count = reads(fs)
    assert size <= sizes.SIZE_LIMIT + (1 << 20)
    assert count <= 60
    assert sum(file.stat().st_size for file in million.glob("*.seg")) > 4 * size


def test_appending_to_a_million_records(million: Path, fs: Recording) -> None:
    journal = Journal(million, log=LocalLog(str(million), fs=fs))
    tail = journal.append([b"one more"]).tail
    fs.forget()
    journal.append([b"and another"], expect=tail)
    size, count = reads(fs)
    assert size <= 1024
    assert count <= 3


def test_reading_near_the_end_of_a_million_records(million: Path, fs: Recording) -> None:
    """A reader that has seen nearly all of it does not read it all again."""
    journal = Journal(million, log=LocalLog(str(million), fs=fs))
    fs.forget()
    assert next(journal.read(RECORDS - 5)).sequence == RECORDS - 5
    assert reads(fs)[0] <= sizes.SIZE_LIMIT + (1 << 20)


def test_all_of_a_million_records(million: Path) -> None:
    """Every record once, in order, with the right bytes; read in pieces."""
    fs = Recording()
    journal = Journal(million, log=LocalLog(str(million), fs=fs))
    fs.forget()
    count = 0
    for entry in journal.read():
        count += 1
        if entry.sequence <= RECORDS:
            assert entry.sequence == count
            assert entry.data == b"%d" % count
    assert count >= RECORDS
    assert max(call.args[1] for call in fs.calls if call.name == "pread") <= 1 << 20
