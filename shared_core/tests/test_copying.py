"""Copying journals from engine to engine: numbers kept, resumed, proved, and never over somebody else's."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path

import pytest
from memory_log import MemoryLog, MemoryStore

from landed.cli import main
from landed.copying import copy_collection, copy_log
from landed.engine import Commit
from landed.entries import Record
from landed.errors import Refused, StaleWrite, VerifyFailed
from landed.journal import Journal
from landed.journals import Journals
from landed.local.collection import LocalCollection
from landed.local.log import LocalLog


def made(path: Path, batches: int = 30) -> Journal:
    journal = Journal(path)
    for number in range(batches):
        journal.append([Record(b"%d" % number, b"key", 1), b"second of %d" % number])
    return journal


def records(journal: Journal) -> list[tuple[int, bytes, bytes, int]]:
    return [(entry.sequence, entry.data, entry.key, entry.kind) for entry in journal.read()]


def test_every_record_keeps_its_number(tmp_path: Path) -> None:
    source = made(tmp_path / "source")
    copied = copy_log(LocalLog(str(tmp_path / "source")), LocalLog(str(tmp_path / "target")))
    assert (copied.batches, copied.present, copied.tail) == (30, 0, 60)
    assert records(Journal(tmp_path / "target")) == records(source)


def test_gaps_stay_gaps(tmp_path: Path) -> None:
    source = made(tmp_path / "source")
    source.compact(lambda entry: entry.sequence % 7 == 3 and entry.sequence < 50)
    copy_log(LocalLog(str(tmp_path / "source")), LocalLog(str(tmp_path / "target")))
    target = Journal(tmp_path / "target")
    assert records(target) == records(source) != []
    assert target.tail == source.tail == 60
    assert target.append([b"next"]).first == 61
    assert main(["journal", "verify", str(tmp_path / "target")]) == 0


def test_a_journal_of_which_nothing_is_left(tmp_path: Path) -> None:
    source = made(tmp_path / "source")
    source.compact(lambda entry: False)
    copied = copy_log(LocalLog(str(tmp_path / "source")), LocalLog(str(tmp_path / "target")))
    target = Journal(tmp_path / "target")
    assert (copied.batches, copied.tail, target.tail) == (1, 60, 60)
    assert target.append([b"next"]).first == 61


def test_numbers_that_went_out_since_the_last_copy_are_not_given_again(tmp_path: Path) -> None:
    source = made(tmp_path / "source")
    copy_log(LocalLog(str(tmp_path / "source")), LocalLog(str(tmp_path / "target")))
    source.append([b"dropped", b"dropped"])
    source.compact(lambda entry: entry.data != b"dropped")
    copied = copy_log(LocalLog(str(tmp_path / "source")), LocalLog(str(tmp_path / "target")))
    target = Journal(tmp_path / "target")
    assert (copied.tail, target.tail, source.tail) == (62, 62, 62)
    assert copy_log(LocalLog(str(tmp_path / "source")), LocalLog(str(tmp_path / "target"))).batches == 0
    assert records(target) == records(source)
    assert target.append([b"next"]).first == 63
    assert main(["journal", "verify", str(tmp_path / "target")]) == 0


def test_it_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    source = made(tmp_path / "source", 700)

    class Broken(Exception):
        """The copy is broken off."""

    def progress(done: int, total: int) -> None:
        raise Broken

    with pytest.raises(Broken):
        copy_log(LocalLog(str(tmp_path / "source")), LocalLog(str(tmp_path / "target")), progress)
    assert 0 < Journal(tmp_path / "target").tail < source.tail
    copied = copy_log(LocalLog(str(tmp_path / "source")), LocalLog(str(tmp_path / "target")))
    assert 0 < copied.present < source.tail
    assert records(Journal(tmp_path / "target")) == records(source)
    source.append([b"later"])
    assert copy_log(LocalLog(str(tmp_path / "source")), LocalLog(str(tmp_path / "target"))).batches == 1


def test_it_goes_on_behind_a_batch_of_which_the_end_was_dropped(tmp_path: Path) -> None:
    """The numbers that nobody has go with the batch behind them: until it is copied, the target ends before them."""
    source = Journal(tmp_path / "source")
    source.append([b"1", b"2", b"3"])
    source.append([b"4"])
    source.compact(lambda entry: entry.sequence != 3)
    first = LocalLog(str(tmp_path / "first"))
    copy_log(LocalLog(str(tmp_path / "source")), first)
    batch = next(iter(first.batches(1)))
    target = LocalLog(str(tmp_path / "target"))
    target.commit([Commit(batch.payload, 2, 0, inf)], 10.0)  # where a copy was broken off
    assert copy_log(LocalLog(str(tmp_path / "source")), target).batches == 1
    assert records(Journal(tmp_path / "target")) == records(source)
    assert Journal(tmp_path / "target").tail == 4


@pytest.mark.parametrize("longer", [False, True])
def test_a_target_that_holds_something_else_is_refused(tmp_path: Path, longer: bool) -> None:
    made(tmp_path / "source", 5)
    target = Journal(tmp_path / "target")
    for number in range(20 if longer else 3):
        target.append([b"another %d" % number])
    before = records(target)
    with pytest.raises(Refused):
        copy_log(LocalLog(str(tmp_path / "source")), LocalLog(str(tmp_path / "target")))
    assert records(target) == before


def test_a_difference_far_from_the_end_is_found(tmp_path: Path) -> None:
    source, target = Journal(tmp_path / "source"), Journal(tmp_path / "target")
    for number in range(10):
        source.append([b"%d" % number])
        target.append([b"%d" % (number if number != 4 else 99)])
    with pytest.raises(VerifyFailed):
        copy_log(LocalLog(str(tmp_path / "source")), LocalLog(str(tmp_path / "target")))


def test_somebody_who_appends_to_the_target_is_found(tmp_path: Path) -> None:
    made(tmp_path / "source", 700)
    target = Journal(tmp_path / "target")

    def progress(done: int, total: int) -> None:
        target.append([b"mine"])

    with pytest.raises(StaleWrite) as stale:
        copy_log(LocalLog(str(tmp_path / "source")), LocalLog(str(tmp_path / "target")), progress)
    assert "Somebody else" in stale.value.hint


def test_from_another_engine(tmp_path: Path) -> None:
    store = MemoryStore()
    source = Journal(tmp_path, log=MemoryLog(store))
    for number in range(40):
        source.append([b"%d" % number])
    copy_log(MemoryLog(store), LocalLog(str(tmp_path / "target")))
    target = Journal(tmp_path / "target")
    assert records(target) == records(source)
    assert target.fetch((7, 0)) is None  # the other engine's position


def test_a_collection_and_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journals = Journals(tmp_path / "source")
    for name in ("a", "b/c", "\0"):
        journals.open(name).append([name.encode()])
    assert copy_collection(LocalCollection(str(tmp_path / "source")), LocalCollection(str(tmp_path / "one"))) == 3
    assert main(["copy", str(tmp_path / "source"), str(tmp_path / "two"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"kind": "collection", "journals": 3, "batches": 3, "resumed": 0, "verified": True}
    for root in ("one", "two"):
        copy = Journals(tmp_path / root)
        assert sorted(copy.names()) == ["\0", "a", "b/c"]
        assert [entry.data for entry in copy.open("b/c").read()] == [b"b/c"]
    assert main(["copy", str(tmp_path / "source"), str(tmp_path / "two")]) == 0
    assert "3 of which an earlier copy began" in capsys.readouterr().out


def test_the_command_on_a_journal_and_on_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path / "source")
    assert main(["copy", str(tmp_path / "source"), str(tmp_path / "target")]) == 0
    assert "copied 30 batches of 1 journal" in capsys.readouterr().out
    assert main(["copy", str(tmp_path / "nothing"), str(tmp_path / "target")]) == 1
    assert "no journal" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("kind", ["journal", "collection"])
@pytest.mark.parametrize(
    ("source", "target"), [("it", "it"), ("it", "./it/"), ("it", "other/../it"), ("link", "it"), ("it/", "link/")]
)
def test_the_command_does_not_copy_onto_itself(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    source: str,
    target: str,
) -> None:
    journal = Journal(tmp_path / "it") if kind == "journal" else Journals(tmp_path / "it").open("a")
    journal.append([b"one"])
    (tmp_path / "link").symlink_to("it")
    (tmp_path / "other").mkdir()
    before = contents(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["copy", source, target]) == 1
    assert "it would be copied onto itself" in capsys.readouterr().err
    assert contents(tmp_path) == before


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
