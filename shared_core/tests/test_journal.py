"""`landed.Journal` as a program uses it, on the real file system, among threads and processes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from journal_programs import APPEND, READ, data, journal, path
from programs import Programs

from landed import entries
from landed.copying import copy_log
from landed.entries import Record
from landed.errors import Corrupt, NotLanded, Refused, StaleWrite
from landed.journal import Journal
from landed.local.frames import PAGE
from landed.local.log import LocalLog

__all__ = ["journal", "path"]


# Appending and reading.


def test_a_journal(journal: Journal, path: Path) -> None:
    receipt = journal.append([b"one", Record(b"two", b"key", 255)])
    assert (receipt.first, receipt.tail, journal.tail) == (1, 2, 2)
    assert receipt.seconds > 0
    assert journal.append([b"three"], expect=receipt.tail).first == 3
    assert [(e.sequence, e.data, e.key, e.kind) for e in journal.read()] == [
        (1, b"one", b"", 0),
        (2, b"two", b"key", 255),
        (3, b"three", b"", 0),
    ]
    assert journal.path == str(path)
    assert repr(receipt) == "<Appended 1 to 2>"


def test_read_from(journal: Journal) -> None:
    for first in range(1, 61, 3):
        assert journal.append([b"%d" % (first + n) * 60 for n in range(3)]).first == first
    for start in (-1, 0, 1, 2, 3, 4, 30, 59, 60, 61, 1000):
        expected = list(range(max(1, start), 61))
        assert [entry.sequence for entry in journal.read(start)] == expected
        assert [entry.sequence for entry in journal.read(start, newest_first=True)] == expected[::-1]


def test_read_is_up_to_the_tail_of_when_it_began(journal: Journal) -> None:
    journal.append([b"one", b"two"])
    reader = journal.read()
    assert next(reader).data == b"one"
    journal.append([b"three"])
    assert [entry.data for entry in reader] == [b"two"]


def test_fetch(journal: Journal) -> None:
    receipts = [journal.append([b"%d" % n * 700, b"more"]) for n in range(10)]
    for number, receipt in enumerate(receipts):
        held = journal.fetch(receipt.position)
        assert held is not None
        assert [(e.sequence, e.data, e.position) for e in held] == [
            (receipt.first, b"%d" % number * 700, receipt.position),
            (receipt.tail, b"more", receipt.position),
        ]
    assert {entry.position for entry in journal.read()} == {receipt.position for receipt in receipts}


def test_fetch_after_a_compaction(journal: Journal) -> None:
    receipts = [journal.append([b"%d" % n * 700]) for n in range(10)]
    journal.compact(lambda entry: entry.sequence % 2 == 0)
    assert [journal.fetch(receipt.position) for receipt in receipts] == [None] * 10
    for entry in journal.read():
        held = journal.fetch(entry.position)
        assert held is not None
        assert held[0].data == entry.data


def test_two_journals_on_one_directory(journal: Journal, path: Path) -> None:
    other = Journal(path)
    for number in range(1, 30):
        assert journal.append([b"%d" % number * 200]).first == number
        assert other.tail == number
        assert next(other.read(newest_first=True)).sequence == number
        journal, other = other, journal
    assert data(journal) == data(other) == [b"%d" % number * 200 for number in range(1, 30)]


def test_another_process_sees_an_append_at_once(journal: Journal, path: Path, programs: Programs) -> None:
    reader = programs.start(READ, path)
    assert reader.hear() == "0"
    for number in range(1, 30):
        journal.append([b"%d" % number * 150])
        reader.say()
        assert reader.hear() == f"{number} {number} {str(number) * 150} {number}"


def test_writers_in_turn(journal: Journal, path: Path, programs: Programs) -> None:
    writer = programs.start(APPEND, path)
    assert writer.hear() == "open"
    for number in range(1, 40, 2):
        assert journal.append([b"x" * 300], expect=number - 1).first == number
        writer.say("y" * 300)
        assert writer.hear() == str(number + 1)
    assert data(journal) == [b"x" * 300, b"y" * 300] * 20


# Compare-and-swap.


@pytest.mark.parametrize("expect", [0, 1, 3, 2**60])
def test_stale(journal: Journal, expect: int) -> None:
    journal.append([b"one", b"two"])
    with pytest.raises(StaleWrite) as told:
        journal.append([b"three"], expect=expect)
    assert (told.value.expected, told.value.found) == (str(expect), "2")
    assert data(journal) == [b"one", b"two"]
    assert journal.append([b"three"], expect=2).first == 3


def test_expect_of_an_empty_journal(journal: Journal) -> None:
    assert journal.append([b"one"], expect=0).first == 1
    with pytest.raises(StaleWrite):
        journal.append([b"one"], expect=0)


def test_stale_where_the_segment_is_full(journal: Journal) -> None:
    journal.append([bytes(3800)])
    with pytest.raises(StaleWrite):
        journal.append([bytes(5000)], expect=0)
    assert len(list(Path(journal.path).glob("*.seg"))) == 1, "nothing was made for it"


# What is refused.


@pytest.mark.parametrize(
    "records",
    [
        *([], ["text"], [bytearray(b"x")], [None], [1]),
        *([Record(b"x", b"k" * 65_536)], [Record(b"x", b"", 256)], [Record(b"x", b"", -1)], [Record("x")]),  # type: ignore[arg-type]
    ],
)
def test_refused(journal: Journal, records: list[bytes]) -> None:
    with pytest.raises(Refused):
        journal.append(records)
    assert journal.tail == 0
    journal.append([b"good"])


@pytest.mark.parametrize("alone", [b"bytes", bytearray(b"x"), "text"])
def test_refused_says_that_a_batch_is_a_list(journal: Journal, alone: bytes) -> None:
    with pytest.raises(Refused, match="records come in a list, not as"):
        journal.append(alone)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [1.5, "1", None])
def test_refused_kind(journal: Journal, kind: int) -> None:
    with pytest.raises(Refused):
        journal.append([Record(b"x", b"", kind)])


def test_one_bad_record_refuses_the_batch(journal: Journal) -> None:
    with pytest.raises(Refused):
        journal.append([b"good", "bad"])  # type: ignore[list-item]
    assert data(journal) == []


def test_negative_expectation(journal: Journal) -> None:
    with pytest.raises(Refused):
        journal.append([b"x"], expect=-1)


def test_too_large(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "PAYLOAD_LIMIT", 1000)
    monkeypatch.setattr(entries, "RECORDS_LIMIT", 10)
    journal.append([bytes(1000 - 12)])
    journal.append([b""] * 10)
    for records in ([bytes(1000 - 11)], [b""] * 11):
        with pytest.raises(Refused, match=r"at most 1000|1 to 10"):
            journal.append(records)
    assert journal.tail == 11


def test_largest_key_and_empty_data(journal: Journal) -> None:
    journal.append([Record(b"", b"k" * 65_535, 0), b""])
    assert [(len(entry.key), entry.data) for entry in journal.read()] == [(65_535, b""), (0, b"")]


# Sizes.


@pytest.mark.parametrize("size", [3 << 20, 9 << 20])
def test_batch_larger_than_any_segment(journal: Journal, path: Path, size: int) -> None:
    journal.append([b"before"])
    large = os.urandom(1 << 10) * (size >> 10)
    journal.append([large, b"and a small one"])
    journal.append([b"after"])
    assert data(Journal(path)) == [b"before", large, b"and a small one", b"after"]


def test_many_records_in_a_batch(journal: Journal) -> None:
    receipt = journal.append([b"%d" % number for number in range(50_000)])
    assert (receipt.first, receipt.tail) == (1, 50_000)
    assert sum(entry.data == b"%d" % (entry.sequence - 1) for entry in journal.read()) == 50_000


def test_segments_grow(journal: Journal, path: Path) -> None:
    for _ in range(1200):
        journal.append([bytes(1000)])
    sizes = [file.stat().st_size for file in sorted(path.glob("*.seg"))]
    assert sizes == [64 << 10, 1 << 20, 4 << 20]
    size = journal.size  # without the hole at the end
    assert sum(sizes[:-1]) < size < sum(sizes)
    journal.append([bytes(1000)])
    assert 1000 < journal.size - size < 1100
    assert [entry.sequence for entry in Journal(path).read()] == list(range(1, 1202))


@pytest.mark.usefixtures("small_segments")
def test_sealed_segments_never_change(journal: Journal, path: Path) -> None:
    for _ in range(8):
        journal.append([bytes(1000)])
    sealed = {file: file.read_bytes() for file in sorted(path.glob("*.seg"))[:-1]}
    assert sealed
    for _ in range(30):
        journal.append([bytes(1000)])
    assert {file: file.read_bytes() for file in sealed} == sealed


def test_modes(path: Path) -> None:
    Journal(path / "deeper" / "still").append([bytes(5000)])
    for each in (path, path / "deeper", path / "deeper" / "still"):
        assert stat.S_IMODE(each.stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (path / "deeper" / "still").iterdir()}
    assert modes["lock"] == 0o600


def test_mode_of_segments(journal: Journal, path: Path) -> None:
    journal.append([bytes(5000)])
    journal.compact(lambda _: True)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o600}


# Where it does not work.


def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotLanded):
        Journal(tmp_path / "file" / "journal")


def test_path_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotLanded):
        Journal(tmp_path / "file")


def test_path_does_not_follow_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    journal = Journal("journal")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    journal.append([b"one"])
    assert journal.path == str(tmp_path / "journal")
    assert data(Journal(tmp_path / "journal")) == [b"one"]


@pytest.mark.parametrize("name", ["with space", "ünïcode", "-dash", "a" * 200])
def test_names(tmp_path: Path, name: str) -> None:
    Journal(tmp_path / name).append([bytes(5000)])
    assert data(Journal(tmp_path / name)) == [bytes(5000)]


def test_a_damaged_journal_does_not_become_an_empty_one(journal: Journal, path: Path) -> None:
    journal.append([b"one"])
    journal.close()
    for file in path.glob("*.seg"):
        file.write_bytes(bytes(PAGE))
    with pytest.raises(Corrupt):
        Journal(path)


@pytest.mark.parametrize("payload", [b"abc", b"\xff" * 40, bytes(20) + b"x"], ids=["short", "long key", "rest"])
def test_records_that_do_not_fill_a_batch_that_checks(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, payload: bytes
) -> None:
    """A checksum is no signature: somebody who knows the format may have written it."""
    journal.append([b"one"])
    with monkeypatch.context() as patch:
        patch.setattr(entries, "encode_batch", lambda _: (payload, 1))
        forged = journal.append([b"two"])
    given = journal.read()
    assert next(given).data == b"one"
    with pytest.raises(Corrupt, match="records do not fill it"):
        list(given)
    with pytest.raises(Corrupt, match="records do not fill it"):
        next(journal.read(newest_first=True))
    with pytest.raises(Corrupt, match="records do not fill it"):
        journal.fetch(forged.position)
    with pytest.raises(Corrupt, match="records do not fill it"):
        journal.compact(lambda _: True)
    with pytest.raises(Corrupt, match="records do not fill it"):
        copy_log(LocalLog(journal.path), LocalLog(str(tmp_path / "copy")))
