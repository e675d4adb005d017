"""`LandedStorage` among processes: what one does the others see, and nobody breaks anybody."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from crewai.memory.types import MemoryRecord
from model import another_process

import landed
from crewai_landed import LandedStorage
from crewai_landed.records import COMPACTED
from crewai_landed.store import MEMORY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from others import Other


def record(name: str, content: str = "") -> MemoryRecord:
    return MemoryRecord(id=name, content=content or name, scope=f"/{name}", embedding=[1.0, 0.0])


def test_the_next_search_finds_what_another_process_saved(shared: LandedStorage, others: list[Other]) -> None:
    assert shared.search([1.0, 0.0]) == []
    assert others[0].ask("shared.count()") == 0
    for number in range(10):
        others[0].ask(f"shared.save([record('{number}')])")
        assert shared.get_record(f"{number}") is not None
        assert len(shared.search([1.0, 0.0], limit=100)) == number + 1
        assert others[1].ask("len(shared.search([1.0, 0.0], limit=100))") == number + 1


def test_a_reset_in_another_process_breaks_nobody(shared: LandedStorage, others: list[Other]) -> None:
    shared.save([record("one"), record("two")])
    assert others[1].ask("shared.count()") == 2
    others[0].ask("shared.reset()")
    shared.save([record("three")])
    for other in others:
        other.ask(f"shared.save([record('{id(other)}')])")
    assert shared.count() == 3
    assert [other.ask("shared.count()") for other in others] == [3, 3]
    assert len(shared.search([1.0, 0.0])) == 3


def test_a_compaction_in_another_process_breaks_nobody(shared: LandedStorage, others: list[Other]) -> None:
    shared.save([record("one"), record("two")])
    assert others[1].ask("shared.count()") == 2
    shared.delete(record_ids=["one"])  # the other one has not seen this when it is compacted away
    shared.compact()
    assert others[1].ask("sorted(r.id for r in shared.list_records())") == ["two"]
    others[1].ask("shared.save([record('three')])")
    assert shared.count() == others[0].ask("shared.count()") == 2


def test_a_deletion_that_was_cleared_away_is_seen(tmp_path: Path) -> None:
    """The number of what says so, and of all that is new, is missing."""
    writer, reader = LandedStorage(tmp_path), another_process(tmp_path)
    writer.save([record("one"), record("two")])
    assert reader.count() == 2
    writer.delete(record_ids=["one"])
    writer.compact()
    assert [each.id for each in reader.list_records()] == ["two"]


def test_a_memory_that_was_compacted_when_a_record_said_so_reads(tmp_path: Path) -> None:
    writer = LandedStorage(tmp_path)
    writer.save([record("one")])
    with landed.Journals(str(tmp_path)) as journals:
        journals.open(MEMORY_NAME).append([landed.Record(b"", kind=COMPACTED)])
    writer.save([record("two")])
    assert writer.count() == another_process(tmp_path).count() == 2
    writer.compact()
    assert another_process(tmp_path).count() == 2


def test_what_another_process_compacted_is_not_compacted_at_every_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crewai_landed.store.GARBAGE", 10)
    one, two = LandedStorage(tmp_path), another_process(tmp_path)
    compactions = []
    compact = landed.Journal.compact
    monkeypatch.setattr(landed.Journal, "compact", lambda *args: compactions.append(compact(*args)))
    for storage in [one, two] * 40:
        storage.save([record("the same")])
    assert 2 <= len(compactions) <= 14


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (landed.StaleWrite("another process compacted it meanwhile", path="memory"), False),
        (landed.LockTimeout("another compaction runs", path="memory"), False),
        (landed.NotLanded("the device is full", path="memory"), True),
    ],
)
def test_a_compaction_that_meets_another_warns_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception, *, told: bool
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("crewai_landed.store.GARBAGE", -9)
    monkeypatch.setattr(landed.Journal, "compact", fail)
    with caplog.at_level("INFO", logger="landed"):
        LandedStorage(tmp_path).save([record("one")])
    assert [each.levelname for each in caplog.records] == ["WARNING"] * told


def test_a_compaction_under_a_reader_hides_no_deletion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It clears away what says that something is gone, which the reader has and did not come to yet."""
    writer, reader = LandedStorage(tmp_path), another_process(tmp_path)
    writer.save([record("one")])
    assert reader.count() == 1
    writer.delete(record_ids=["one"])
    for name in ("two", "three"):
        writer.save([record(name, "x" * 50_000)])  # a segment each
    read = landed.Journal.read

    def compacted_meanwhile(*args: Any, **options: Any) -> Iterator[landed.Entry]:
        entries = read(*args, **options)
        yield next(entries)
        monkeypatch.undo()
        writer.compact()
        yield from entries

    monkeypatch.setattr(landed.Journal, "read", compacted_meanwhile)
    assert reader.count() == 2


def test_processes_that_save_and_delete_at_once_lose_nothing(shared: LandedStorage, others: list[Other]) -> None:
    for number, other in enumerate(others):
        other.tell(f"[shared.save([record(f'{number}-{{turn}}')]) for turn in range(60)] and None")
    removed = 0
    for turn in range(60):
        shared.save([record(f"mine-{turn}")])
        removed += shared.delete(f"/mine-{turn}")
    assert [other.answer() for other in others] == ["None", "None"]
    assert removed == 60
    expected = sorted(f"{number}-{turn}" for number in range(2) for turn in range(60))
    assert sorted(each.id for each in shared.list_records(limit=1000)) == expected
    assert others[0].ask("shared.count()") == 120


FORKS = """
import os, sys, threading, warnings
warnings.simplefilter("ignore")
from crewai.memory.types import MemoryRecord
from crewai_landed import LandedStorage
storage = LandedStorage(sys.argv[1])
record = lambda name: MemoryRecord(id=name, content=name, embedding=[1.0, 0.0])
storage.save([record("parent")])
done = threading.Event()
def busy():
    number = 0
    while not done.is_set():
        storage.save([record(f"busy {number % 7}")])
        number += 1
thread = threading.Thread(target=busy)
thread.start()
children = []
for number in range(10):
    child = os.fork()
    if child == 0:
        found = len(storage.search([1.0, 0.0], limit=100))
        storage.save([record(f"child {number}")])
        os._exit(0 if storage.count() > found > 0 else 1)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
done.set()
thread.join()
print(sorted(r.id for r in storage.list_records(limit=100) if not r.id.startswith("busy")))
"""


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="no fork on this platform")
def test_forked_children_use_it_and_leave_the_parents_alone(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FORKS, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    codes, found = map(eval, ran.stdout.splitlines())
    assert codes == [0] * 10
    assert found == sorted(["parent", *(f"child {number}" for number in range(10))])


def test_a_directory_that_is_removed_under_it_is_an_error_once(tmp_path: Path) -> None:
    storage = LandedStorage(tmp_path / "state")
    storage.save([record("one")])
    shutil.rmtree(tmp_path / "state")
    with pytest.raises(landed.LandedError):
        storage.save([record("two")])
    storage.save([record("three")])
    assert [each.id for each in storage.list_records()] == ["three"]
