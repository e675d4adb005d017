"""`LandedStorage`, clause by clause."""

from __future__ import annotations

import asyncio
import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from functools import reduce
from typing import TYPE_CHECKING, Any

import pytest
from crewai.memory.storage.backend import StorageBackend
from crewai.memory.types import MemoryRecord
from model import START, another_process, told

import landed
from crewai_landed import LandedStorage
from crewai_landed.mismatch import EmbeddingDimensionMismatchError
from landed import aio

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def storage(tmp_path: Path) -> LandedStorage:
    return LandedStorage(tmp_path)


def record(name: str, **fields: Any) -> MemoryRecord:
    return MemoryRecord(**{"id": name, "content": name, "embedding": [1.0, 0.0], **fields})


def names(found: list[MemoryRecord]) -> list[str]:
    return sorted(each.id for each in found)


def journal(storage: LandedStorage) -> landed.Journal:
    return storage._opened()._open()


# What comes back is what was saved.


def test_it_is_a_storage_backend(storage: LandedStorage) -> None:
    assert isinstance(storage, StorageBackend)


@pytest.mark.parametrize("text", ["", "plain", "Grüße, 世界 🎉", '\0\n\\"', "a lone surrogate: \ud800"])
def test_every_field_comes_back(text: str, storage: LandedStorage) -> None:
    made = record(
        text or "empty",
        content=text,
        scope="/a/b",
        categories=["x", "x", text],
        metadata={"k": 1, "deep": {"list": [1, None, True, 0.1]}, text: text, "big": 2**70},
        importance=0.7,
        created_at=START,
        embedding=[0.1, -2.5],
        source=text or None,
        private=True,
    )
    storage.save([made])
    got = another_process(storage.path).get_record(made.id)
    assert got is not None
    assert got.embedding == pytest.approx(made.embedding)
    assert told(got) == {**told(made), "embedding": got.embedding}
    assert got.last_accessed == made.last_accessed


@pytest.mark.parametrize(
    "metadata",
    [
        {"k": "text", "n": 1, "f": 0.1, "none": None, "yes": True},
        {1: "a key that is a number", None: "or none"},
        {"k": (1, 2), "deep": [[[{"a": [1]}]]]},
        {"k": float("inf"), "nan": float("nan")},
        {"k": "a lone surrogate: \ud800"},
        {"far down": reduce(lambda inner, _: [inner], range(300), [])},
    ],
    ids=["plain", "keys", "nested", "not finite", "surrogate", "deep"],
)
def test_who_saves_holds_what_the_others_read(metadata: dict[Any, Any], storage: LandedStorage) -> None:
    """The one that saves does not read what it wrote; its table must be what the journal makes of it all the same."""
    made = record("one").model_copy(update={"metadata": metadata})
    storage.search([1.0, 0.0], metadata_filter={"k": "text"})  # has that key indexed
    storage.save([record("zero", metadata={"k": 0}), made])
    metadata["k"] = "changed afterwards"
    other = another_process(storage.path)
    assert [repr(told(each)) for each in storage.list_records()] == [repr(told(each)) for each in other.list_records()]
    for key, value in [
        ("k", "text"),
        ("k", [1, 2]),
        ("k", (1, 2)),
        ("k", float("inf")),
        ("1", metadata.get(1)),
        (1, 1),
    ]:
        wanted = {"metadata_filter": {key: value}}
        assert [each.id for each, _ in storage.search([1.0, 0.0], **wanted)] == [
            each.id for each, _ in other.search([1.0, 0.0], **wanted)
        ]


def test_times_are_given_back_as_naive_utc(storage: LandedStorage) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    storage.save([record("one", created_at=noon)])
    assert storage.list_records()[0].created_at == START + timedelta(hours=10)
    assert storage.delete(older_than=noon) == 0
    assert storage.delete(older_than=noon + timedelta(seconds=1)) == 1


def test_a_record_that_breaks_the_rules_of_its_type_does_not_brick_the_memory(storage: LandedStorage) -> None:
    strange = record("one")
    strange.importance = 7.0
    storage.save([strange])
    assert storage.search([1.0, 0.0])[0][0].importance == 7.0


def test_saving_an_id_again_replaces_it(storage: LandedStorage) -> None:
    storage.save([record("one", content="first"), record("one", content="second")])
    storage.save([record("one", content="third")])
    assert [each.content for each in storage.list_records()] == ["third"]


def test_saving_nothing_writes_nothing(storage: LandedStorage) -> None:
    storage.save([])
    assert journal(storage).tail == 0


# One commit each.


def test_a_batch_an_update_and_a_deletion_are_one_append_each(storage: LandedStorage) -> None:
    def batches() -> int:
        return len({entry.position for entry in journal(storage).read()})

    storage.save([record(f"{number}") for number in range(50)])
    assert batches() == 1
    storage.update(record("7", content="new"))
    assert batches() == 2
    assert storage.delete(scope_prefix="/") == 50
    assert batches() == 3
    storage.reset()  # there is nothing
    assert batches() == 3


def test_an_update_keeps_what_consolidation_drops(storage: LandedStorage) -> None:
    storage.save([record("one", source="alice", private=True)])
    storage.update(record("one", content="new"))
    kept = storage.get_record("one")
    assert kept is not None
    assert (kept.content, kept.source, kept.private) == ("new", "alice", True)
    storage.update(record("one", source="bob"))
    assert storage.list_records()[0].source == "bob"
    assert not storage.list_records()[0].private


def test_an_update_of_a_missing_record_saves_it(storage: LandedStorage) -> None:
    storage.update(record("one"))
    assert storage.count() == 1


def test_an_error_while_writing_leaves_everything_as_it_was(
    storage: LandedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.save([record("one", content="old")])

    def full(*_: object) -> None:
        raise landed.NotLanded("no space", path=storage.path, step="write", errno=errno.ENOSPC)

    for call in (
        lambda: storage.save([record("two")]),
        lambda: storage.update(record("one", content="new")),
        lambda: storage.delete(record_ids=["one"]),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(landed.Journal, "append", full)
            with pytest.raises(landed.NotLanded, match="no space"):
                call()
        assert [each.content for each in storage.list_records()] == ["old"]


def test_an_unknown_outcome_is_looked_up_on_the_next_call(
    storage: LandedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = landed.Journal.append

    def unknown(self: landed.Journal, records: list[landed.Record]) -> None:
        real(self, records)
        raise landed.OutcomeUnknown("the flush failed", path=storage.path, step="sync")

    with monkeypatch.context() as patch:
        patch.setattr(landed.Journal, "append", unknown)
        with pytest.raises(landed.OutcomeUnknown, match="the flush failed"):
            storage.save([record("one")])
    assert storage.count() == 1
    storage.save([record("two")])
    assert storage.count() == 2


# Deleting.


@pytest.fixture
def three(storage: LandedStorage) -> LandedStorage:
    storage.save(
        [
            record("a", scope="/a", categories=["red"], created_at=START, metadata={"k": 1}),
            record("ab", scope="/ab", categories=["red"], created_at=START + timedelta(days=9), metadata={"k": 1}),
            record("root", scope="/", categories=["blue"], created_at=START + timedelta(days=9), metadata={"k": 2}),
        ]
    )
    return storage


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"scope_prefix": "/a"}, ["ab", "root"]),
        ({"scope_prefix": "/a/"}, ["ab", "root"]),
        ({"record_ids": []}, ["a", "ab", "root"]),
        ({"categories": []}, ["a", "ab", "root"]),
        ({"record_ids": ["ab"], "scope_prefix": "/a"}, ["a", "ab", "root"]),
        ({"record_ids": ["a", "nobody"]}, ["ab", "root"]),
        ({"older_than": START + timedelta(days=1)}, ["ab", "root"]),
        ({"older_than": START + timedelta(days=1), "scope_prefix": "/ab"}, ["a", "ab", "root"]),
        ({"categories": ["red"], "metadata_filter": {"k": 2}}, ["a", "ab", "root"]),
        ({"categories": ["red"], "record_ids": ["a", "root"]}, ["ab", "root"]),
        ({"metadata_filter": {"k": 1}, "older_than": START + timedelta(days=1)}, ["ab", "root"]),
        ({}, []),
    ],
)
def test_each_filter_narrows_a_deletion(given: dict[str, Any], left: list[str], three: LandedStorage) -> None:
    assert three.delete(**given) == 3 - len(left)
    assert names(three.list_records()) == left


def test_reset_of_a_scope_leaves_its_namesakes(three: LandedStorage) -> None:
    three.reset("/a")
    assert names(three.list_records()) == ["ab", "root"]


@pytest.mark.parametrize("value", [(1,), {1}, float("nan"), START])
def test_a_filter_that_json_would_change_matches_nothing(value: Any, three: LandedStorage) -> None:
    three.save([record("list", metadata={"k": [1]}), record("nan", metadata={"k": float("nan")})])
    assert three.delete(metadata_filter={"k": value}) == 0
    assert three.search([1.0, 0.0], metadata_filter={"k": value}) == []
    assert three.count() == 5


# Bad input changes nothing.


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ({"embedding": [float("nan"), 0.0]}, "finite"),
        ({"embedding": [float("inf"), 0.0]}, "finite"),
        ({"embedding": [1e30, 0.0]}, "finite"),
        ({"metadata": {"when": START}}, "datetime cannot be stored"),
        ({"metadata": {"set": {1}}}, "set cannot be stored"),
        ({"metadata": {"number": 10**5000}}, "digits"),
        ({"metadata": {"deep": [10**5000]}}, "digits"),
        ({"metadata": {"far down": reduce(lambda inner, _: [inner], range(100_000), [])}}, "too deep"),
        ({"metadata": None}, "metadata"),
        ({"metadata": ["k"]}, "metadata"),
        ({"categories": None}, "categories"),
        ({"categories": "abc"}, "categories"),
        ({"categories": ["a", 1]}, "categories"),
        ({"categories": [["a"]]}, "categories"),
        ({"id": "x" * 70_000}, "65,535|65535"),
    ],
)
def test_what_cannot_be_stored_is_refused(bad: dict[str, Any], what: str, storage: LandedStorage) -> None:
    made = record("bad").model_copy(update=bad)
    with pytest.raises(landed.Refused, match=what):
        storage.save([record("good"), made])
    with pytest.raises(landed.Refused, match=what):
        storage.update(made)
    assert storage.count() == 0
    assert journal(storage).tail == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda storage: storage.save([record("two", embedding=[1.0])]),
        lambda storage: storage.save([record("two"), record("three", embedding=[1.0, 2.0, 3.0])]),
        lambda storage: storage.update(record("one", embedding=[1.0])),
        lambda storage: storage.search([1.0]),
        lambda storage: storage.search([]),
    ],
    ids=["save", "batch", "update", "search", "empty"],
)
def test_another_dimension_is_crewais_own_error(call: Any, storage: LandedStorage) -> None:
    storage.save([record("one")])
    with pytest.raises(EmbeddingDimensionMismatchError) as caught:
        call(storage)
    assert caught.value.stored_dim == 2
    assert names(storage.list_records()) == ["one"]


def test_of_two_first_saves_of_different_dimensions_one_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both processes looked before either wrote."""
    mine, other = another_process(tmp_path), another_process(tmp_path)
    real = landed.Journal.append
    raced = []

    def append(self: landed.Journal, records: list[landed.Record]) -> landed.Appended:
        if not raced:
            raced.append(True)
            other.save([record("theirs", embedding=[1.0, 2.0, 3.0])])
        return real(self, records)

    monkeypatch.setattr(landed.Journal, "append", append)
    with pytest.raises(EmbeddingDimensionMismatchError):
        mine.save([record("mine"), record("mine too")])
    for each in (mine, other, another_process(tmp_path)):
        assert names(each.list_records()) == ["theirs"]


def test_after_a_reset_any_dimension_is_the_first(storage: LandedStorage) -> None:
    storage.save([record("one")])
    storage.reset()
    assert storage.search([1.0, 2.0, 3.0]) == []
    storage.save([record("one", embedding=[1.0, 2.0, 3.0])])
    assert storage.search([1.0, 2.0, 3.0])[0][1] == 1.0


def test_a_record_without_an_embedding_is_listed_and_not_searched(storage: LandedStorage) -> None:
    storage.save([record("one", embedding=None), record("two")])
    assert names(storage.list_records()) == ["one", "two"]
    assert [each.id for each, _ in storage.search([1.0, 0.0])] == ["two"]
    assert storage.get_record("one").embedding is None  # type: ignore[union-attr]


def test_a_journal_of_a_later_version_is_refused_with_the_next_step(storage: LandedStorage) -> None:
    storage.save([record("one")])
    journal(storage).append([landed.Record(b"{}", kind=99)])
    with pytest.raises(landed.Refused, match="Upgrade"):
        storage.count()
    with pytest.raises(landed.Refused, match="Upgrade"):
        storage.count()


# Searching.


def test_filters_come_before_ranking(storage: LandedStorage) -> None:
    """The nearest hundred have another category, so that filtering afterwards would find nothing."""
    storage.save([record(f"near {number}", categories=["red"]) for number in range(100)])
    storage.save([record("far", categories=["blue"], metadata={"k": "v"}, scope="/x", embedding=[0.0, 1.0])])
    for given in ({"categories": ["blue"]}, {"metadata_filter": {"k": "v"}}, {"scope_prefix": "/x"}):
        assert [each.id for each, _ in storage.search([1.0, 0.0], limit=1, **given)] == ["far"]  # type: ignore[arg-type]


def test_min_score_and_limit(storage: LandedStorage) -> None:
    storage.save([record("near"), record("far", embedding=[0.0, 1.0])])
    assert [(each.id, score) for each, score in storage.search([1.0, 0.0])] == [("near", 1.0), ("far", 1 / 3)]
    assert [each.id for each, _ in storage.search([1.0, 0.0], min_score=0.5)] == ["near"]
    assert len(storage.search([1.0, 0.0], limit=1)) == 1
    assert storage.search([1.0, 0.0], limit=0) == []


def test_more_metadata_keys_than_are_indexed(storage: LandedStorage) -> None:
    storage.save([record("one", metadata={f"key {number}": number for number in range(100)})])
    for _ in range(2):
        for number in range(100):
            assert len(storage.search([1.0, 0.0], metadata_filter={f"key {number}": number})) == 1
            assert storage.search([1.0, 0.0], metadata_filter={f"key {number}": "other"}) == []


# Recalling.


def test_touching_costs_no_append_and_travels_with_the_next(storage: LandedStorage) -> None:
    storage.save([record("one", last_accessed=START), record("two", last_accessed=START)])
    tail = journal(storage).tail
    storage.touch_records(["one", "nobody"])
    assert journal(storage).tail == tail
    touched = storage.get_record("one").last_accessed  # type: ignore[union-attr]
    assert touched > START
    storage.save([record("three")])
    elsewhere = another_process(storage.path)
    assert elsewhere.get_record("one").last_accessed == touched  # type: ignore[union-attr]
    assert elsewhere.get_record("two").last_accessed == START  # type: ignore[union-attr]


def test_closing_writes_what_was_touched_and_the_next_use_opens(storage: LandedStorage) -> None:
    storage.save([record("one", last_accessed=START)])
    storage.touch_records(["one"])
    storage.close()
    storage.close()
    assert another_process(storage.path).get_record("one").last_accessed > START  # type: ignore[union-attr]
    assert storage.count() == 1


def test_a_compaction_keeps_what_was_touched(storage: LandedStorage) -> None:
    storage.save([record("one", last_accessed=START)])
    storage.touch_records(["one"])
    storage.compact()
    assert another_process(storage.path).get_record("one").last_accessed > START  # type: ignore[union-attr]


def test_what_was_touched_is_kept_when_a_write_fails(storage: LandedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.save([record("one", last_accessed=START)])
    storage.touch_records(["one"])

    def full(*_: object) -> None:
        raise landed.NotLanded("no space", path=storage.path)

    with monkeypatch.context() as patch:
        patch.setattr(landed.Journal, "append", full)
        with pytest.raises(landed.NotLanded):
            storage.save([record("two")])
    storage.save([record("two")])
    assert another_process(storage.path).get_record("one").last_accessed > START  # type: ignore[union-attr]


# Space.


def test_the_journal_does_not_grow_with_the_number_of_updates(storage: LandedStorage) -> None:
    storage.save([record(f"{number}") for number in range(10)])
    for _ in range(8):
        storage.save([record(f"{number % 10}", content="x" * 100) for number in range(500)])
    assert storage.count() == 10
    assert sum(1 for _ in journal(storage).read()) < 2000
    assert another_process(storage.path).count() == 10


# Threads, tasks, locks.


def test_threads_save_and_search_at_once(storage: LandedStorage) -> None:
    storage.save([record("first")])

    def work(number: int) -> None:
        for turn in range(20):
            storage.save([record(f"{number}-{turn}", scope=f"/{number}")])
            assert len(storage.search([1.0, 0.0], scope_prefix=f"/{number}", limit=100)) == turn + 1
        assert storage.delete(f"/{number}", record_ids=[f"{number}-0", f"{number}-1"]) == 2

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert storage.count() == another_process(storage.path).count() == 1 + 8 * 18


def test_a_cancelled_save_ends_before_its_task_does(storage: LandedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    real = landed.Journal.append

    def slow(self: landed.Journal, records: list[landed.Record]) -> landed.Appended:
        begun.set()
        assert go_on.wait(30)
        return real(self, records)

    monkeypatch.setattr(landed.Journal, "append", slow)

    async def cancel() -> None:
        task = asyncio.ensure_future(storage.asave([record("one")]))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        outcome = aio.outcome(caught.value)
        assert outcome is not None
        assert outcome.error is None

    asyncio.run(cancel())
    assert storage.count() == 1


def test_the_write_lock_is_reentrant_and_shuts_others_out(storage: LandedStorage) -> None:
    other = another_process(storage.path)
    order: list[str] = []

    def wait() -> None:
        with other.write_lock:
            order.append("other")

    with storage.write_lock, LandedStorage(storage.path).write_lock:
        thread = threading.Thread(target=wait)
        thread.start()
        storage.save([record("one")])  # no method waits for it
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]
