"""One conformance suite, run against local files and against an engine in memory; and the journal upon each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from collection_conformance import CollectionConformance, OpenCollection
from engine_conformance import LogConformance, OpenLog
from memory_log import MemoryLog, MemoryStore

from landed.engines import absolute
from landed.entries import Record
from landed.errors import Refused, StaleWrite
from landed.journal import Journal
from landed.journals import Journals
from landed.local.collection import LocalCollection
from landed.local.log import LocalLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from landed.engine import Log


class TestMemory(LogConformance):
    @pytest.fixture
    def open_log(self) -> OpenLog:
        store = MemoryStore()

        def open_(max_bytes: int | None = None) -> Log:
            store.max_bytes = max_bytes
            return MemoryLog(store)

        return open_


class TestLocalFiles(LogConformance):
    @pytest.fixture
    def open_log(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenLog:
        monkeypatch.setattr("landed.local.claim.TIMEOUT", 0.3)
        monkeypatch.setattr("landed.local.claim.GLANCE", 0.02)
        return lambda max_bytes=None: LocalLog(str(tmp_path / "journal"), max_bytes=max_bytes)


class TestLocalCollection(CollectionConformance):
    @pytest.fixture
    def open_collection(self, tmp_path: Path) -> OpenCollection:
        return lambda: LocalCollection(str(tmp_path / "root"))


@pytest.fixture(params=["memory", "local files"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    log: Log = MemoryLog(MemoryStore()) if request.param == "memory" else LocalLog(str(tmp_path / "journal"))
    return Journal(tmp_path / "journal", log=log)


class TestJournalOnEveryEngine:
    def test_append_and_read(self, journal: Journal) -> None:
        receipt = journal.append([b"one", Record(b"two", b"key", 7)])
        assert (receipt.first, receipt.tail) == (1, 2)
        assert [(entry.sequence, entry.data, entry.key, entry.kind) for entry in journal.read()] == [
            (1, b"one", b"", 0),
            (2, b"two", b"key", 7),
        ]
        assert [entry.sequence for entry in journal.read(newest_first=True)] == [2, 1]
        assert [entry.sequence for entry in journal.read(2)] == [2]
        assert journal.tail == 2
        fetched = journal.fetch(receipt.position)
        assert fetched is not None
        assert [entry.data for entry in fetched] == [b"one", b"two"]

    def test_compare_and_swap(self, journal: Journal) -> None:
        journal.append([b"one"], expect=0)
        with pytest.raises(StaleWrite):
            journal.append([b"again"], expect=0)
        assert [entry.data for entry in journal.read()] == [b"one"]

    def test_compact_records_of_a_batch(self, journal: Journal) -> None:
        for number in range(30):
            journal.append([Record(b"%d" % (2 * number + half) * 100, b"k", half) for half in (0, 1)])
        result = journal.compact(lambda entry: entry.kind == 1 and (entry.sequence != 60 or Record(b"last", b"new", 9)))
        assert (result.kept, result.dropped) == (30, 30)
        assert [entry.sequence for entry in journal.read()] == list(range(2, 61, 2))
        last = next(journal.read(newest_first=True))
        assert (last.sequence, last.data, last.key, last.kind) == (60, b"last", b"new", 9)
        assert journal.append([b"x"]).first == 61

    def test_read_up_to_a_tail_that_is_known(self, journal: Journal) -> None:
        journal.append([b"one", b"two"])
        tail = journal.append([b"three"]).tail
        journal.append([b"four"])
        assert [entry.data for entry in journal.read(2, upto=tail)] == [b"two", b"three"]
        assert [entry.data for entry in journal.read(2, upto=tail, newest_first=True)] == [b"three", b"two"]
        assert [entry.data for entry in journal.read(upto=1)] == [b"one"]


@pytest.mark.parametrize("place", ["postgresql://host/database/name", "s3://bucket/name"])
@pytest.mark.parametrize("make", [Journal, Journals])
def test_an_engine_whose_driver_is_missing_says_what_to_install(
    place: str, make: type[Journal | Journals], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in list(sys.modules):
        if module.startswith(("landed.postgres", "landed.objects")):
            monkeypatch.delitem(sys.modules, module)
    for driver in ("psycopg", "obstore"):
        monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(Refused, match=r'pip install "landed\[(postgres|object-store)\]"'):
        make(place)


@pytest.mark.parametrize("make", [Journal, Journals, absolute])
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("relative", "cannot be resolved"),
        ("a\0b", "holds no NUL"),
        ("/\ud800", "no form in bytes"),
        (b"bytes", "is a str"),
        ("", "is not empty"),
    ],
)
def test_a_place_that_is_none_is_refused(
    make: Callable[[Any], object], place: object, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(Refused, match=words):
        make(place)
