"""How large a journal grows: its limit, and compaction beside others that append and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from journal_programs import APPEND, READ, data, journal, path, used
from programs import Programs

from landed import inspection
from landed.entries import Entry, Record
from landed.errors import Full, Refused
from landed.journal import Journal
from landed.local import reading
from landed.local.frames import HEADER, OVERHEAD

__all__ = ["journal", "path"]


# Growth limit.


def fill(journal: Journal) -> Full:
    """Append until it is full; what was raised."""
    for _ in range(1000):
        try:
            journal.append([bytes(500)])
        except Full as error:
            return error
    raise AssertionError("no limit")


def test_full(path: Path) -> None:
    journal = Journal(path, max_bytes=20_000)
    told = fill(journal)
    before = data(journal)
    assert len(before) >= 15
    assert sum(each.stat().st_size for each in path.glob("*.seg")) <= 20_000
    assert told.expected == "20000"
    assert int(told.found or 0) > 20_000
    with pytest.raises(Full):
        journal.append([bytes(500)])
    assert data(Journal(path)) == before
    Journal(path).append([bytes(500)])  # one that has no limit
    with pytest.raises(Full):
        Journal(path, max_bytes=10_000).append([bytes(500_000)])


def test_smaller_appends_still_fit(path: Path) -> None:
    journal = Journal(path, max_bytes=8192)
    journal.append([bytes(2000)])
    with pytest.raises(Full):
        journal.append([bytes(20_000)])
    assert journal.append([bytes(1000)], expect=1).first == 2


def test_compacting_a_full_journal_makes_room(path: Path) -> None:
    journal = Journal(path, max_bytes=20_000)
    fill(journal)
    last = journal.tail
    result = journal.compact(lambda entry: entry.sequence == last)
    assert (result.kept, result.dropped) == (1, last - 1)
    for _ in range(10):
        journal.append([bytes(500)])
    assert sum(each.stat().st_size for each in path.glob("*.seg")) <= 20_000


@pytest.mark.parametrize("limit", [8192, 20_000, 70_000])
def test_compacting_does_not_pass_the_limit(path: Path, limit: int) -> None:
    journal = Journal(path, max_bytes=limit)
    for _ in range(3):
        fill(journal)
        journal.compact(lambda entry: True)
        empty = HEADER.size + OVERHEAD  # the segment behind it, without a frame
        assert sum(each.stat().st_size for each in path.glob("*.seg")) <= limit + empty
    last = journal.tail
    journal.compact(lambda entry: entry.sequence == last)
    journal.append([bytes(500)])
    assert sum(each.stat().st_size for each in path.glob("*.seg")) <= limit
    assert [entry.sequence for entry in Journal(path).read()] == [last, last + 1]
    assert inspection.examine(path).damage == []


def test_a_compaction_under_a_limit_lets_others_append(path: Path) -> None:
    """The one segment has all bytes that the limit allows, and is nearly empty."""
    journal = Journal(path, max_bytes=20_000)
    journal.append([b"one"])
    other = Journal(path, max_bytes=20_000)

    def keep(entry: Entry) -> bool:
        return other.append([bytes(500)]) is not None

    journal.compact(keep)
    assert [entry.sequence for entry in journal.read()] == [1, 2]


# Compaction.


def test_compact(journal: Journal, path: Path) -> None:
    for number in range(1, 101):
        journal.append([Record(b"%d" % number * 100, b"key", number % 3)])
    before = used(path)
    result = journal.compact(
        lambda entry: entry.kind == 0 or (entry.sequence == 100 and Record(b"replaced", b"new", 9))
    )
    assert (result.kept, result.dropped) == (34, 66)
    assert result.after < result.before
    assert result.after == journal.size
    assert used(path) < before
    expected = [*range(3, 100, 3), 100]
    for each in (journal, Journal(path)):
        assert [entry.sequence for entry in each.read()] == expected
        assert [entry.sequence for entry in each.read(newest_first=True)] == expected[::-1]
        newest = next(each.read(newest_first=True))
        assert (newest.data, newest.key, newest.kind) == (b"replaced", b"new", 9)
        assert each.tail == 100
    assert journal.append([b"next"], expect=100).first == 101
    assert len(list(path.glob("*.seg"))) == 2


def test_keep_that_raises(journal: Journal, path: Path) -> None:
    for _ in range(10):
        journal.append([bytes(1000)])
    with pytest.raises(ZeroDivisionError):
        journal.compact(lambda entry: bool(1 // (entry.sequence - 5)))
    assert len(data(journal)) == 10
    assert [file.name for file in path.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize(
    "answer",
    [None, 0, b"bytes", Record(bytearray(b"x")), Record(b"", bytes(65_536)), Record(b"", kind=256)],  # type: ignore[arg-type]
)
def test_keep_that_answers_what_cannot_be_stored(journal: Journal, answer: Any) -> None:
    """A view of numbers has another length than its bytes: its batch would check, and could not be read."""
    journal.append([b"one", b"two"])
    with pytest.raises(Refused):
        journal.compact(lambda entry: answer if entry.sequence == 1 else True)
    assert data(journal) == [b"one", b"two"]


def test_a_slow_reader_outlives_any_number_of_compactions(journal: Journal) -> None:
    """It reads up to the tail of when it began, and does not run after what is appended meanwhile."""
    journal.append([b"first"])
    journal.compact(lambda _: True)
    journal.append([b"second"])
    got = []
    for entry in journal.read():
        got.append(entry.sequence)
        if len(got) < 2 * reading.RELOADS:
            journal.append([b"more"])
            journal.compact(lambda _: True)
            journal.append([b"behind it"])
    assert got == [1, 2]


def test_compaction_beside_other_processes(journal: Journal, path: Path, programs: Programs) -> None:
    for number in range(1, 41):
        journal.append([b"%d" % number * 100])
    writer, reader = programs.start(APPEND, path), programs.start(READ, path)
    assert (writer.hear(), reader.hear()) == ("open", "40")

    def keep(entry: Entry) -> bool:
        if entry.sequence % 10 == 0:
            writer.say("meanwhile")
            assert writer.hear() == str(40 + entry.sequence // 10)
            reader.say()
            assert reader.hear() == f"{40 + entry.sequence // 10} {40 + entry.sequence // 10} meanwhile " + str(
                40 + entry.sequence // 10
            )
        return entry.sequence > 30

    journal.compact(keep)
    reader.say()
    assert reader.hear() == "44 44 meanwhile 14"
    writer.say("after")
    assert writer.hear() == "45"


def test_leftovers_of_a_dead_compaction(journal: Journal, path: Path, programs: Programs) -> None:
    for _ in range(10):
        journal.append([bytes(1000)])
    dying = (
        "import os, sys, landed.journal as j; j.Journal(sys.argv[1]).compact(lambda e: e.sequence < 8 or os._exit(0))"
    )
    programs.run(dying, path)
    assert [file.name for file in path.iterdir() if file.name.startswith(".")] != []
    assert len(data(Journal(path))) == 10
    journal.compact(lambda _: True)
    assert [file.name for file in path.iterdir() if file.name.startswith(".")] == []
    assert len(data(Journal(path))) == 10
