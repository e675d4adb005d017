"""CrewAI's memory as it should be, as a plain list, and the same operations played on it and on `LandedStorage`.

Several storages with a table each take turns on one directory, as if each were in a process of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from crewai.memory.types import MemoryRecord
from hypothesis import strategies as st

from crewai_landed import LandedStorage
from crewai_landed.mismatch import EmbeddingDimensionMismatchError
from crewai_landed.store import Store

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 1, 1)  # noqa: DTZ001 - naive, as CrewAI's are
IDS = ["one", "two", "three", "four", "five"]
SCOPES = ["/", "/a", "/a/b", "/a/b/c", "/ab", "/b", "a/b/", "/a//x"]
TAGS = ["red", "blue", "green"]
COLOURS: list[Any] = [None, 1, True, 2.5, "1", [1], [1.0], {"k": [1]}]


def another_process(directory: Path) -> LandedStorage:
    """A storage that shares nothing with others but the directory."""
    storage = LandedStorage(directory)
    storage._store = Store(str(directory))
    return storage


def normal(scope: str) -> str:
    return "/" + "/".join(part for part in scope.split("/") if part)


def within(scope: str, prefix: str | None) -> bool:
    wanted, given = normal(prefix or "/"), normal(scope)
    return wanted == "/" or given == wanted or given.startswith(wanted + "/")


@dataclass
class Model:
    """The records by id, in the order in which each was saved last."""

    records: dict[str, MemoryRecord] = field(default_factory=dict)

    def dimension(self) -> int:
        return next((len(record.embedding) for record in self.records.values() if record.embedding), 0)

    def fits(self, records: list[MemoryRecord]) -> bool:
        dimensions = {len(record.embedding) for record in records if record.embedding} | {self.dimension() or 0}
        return len(dimensions - {0}) <= 1

    def put(self, record: MemoryRecord) -> None:
        kept = record.model_copy(update={"scope": normal(record.scope)})
        self.records.pop(record.id, None)
        self.records[record.id] = kept

    def revise(self, record: MemoryRecord) -> None:
        before = self.records.get(record.id)
        if before is not None and record.source is None and not record.private:
            record = record.model_copy(update={"source": before.source, "private": before.private})
        self.put(record)

    def selected(self, **given: Any) -> list[MemoryRecord]:
        found = []
        for record in self.records.values():
            if not within(record.scope, given.get("scope_prefix")):
                continue
            if given.get("categories") is not None and not set(given["categories"]) & set(record.categories):
                continue
            if given.get("record_ids") is not None and record.id not in given["record_ids"]:
                continue
            if given.get("older_than") is not None and record.created_at >= given["older_than"]:
                continue
            if any(record.metadata.get(key) != value for key, value in (given.get("metadata_filter") or {}).items()):
                continue
            found.append(record)
        return found

    def nearest(self, query: list[float], limit: int, **given: Any) -> list[tuple[str, float]]:
        scored = [
            (sum((a - b) ** 2 for a, b in zip(record.embedding, query, strict=True)), record.id)
            for record in self.selected(**given)
            if record.embedding
        ]
        scored.sort(key=lambda pair: pair[0])  # stable: of two as near, the one saved first
        return [(name, 1.0 / (1.0 + distance)) for distance, name in scored[:limit]]


# Operations: small whole numbers in the embeddings, so that distances are exact and many are equal.

embeddings = st.one_of(
    st.lists(st.integers(-2, 2).map(float), min_size=3, max_size=3),
    st.lists(st.integers(-2, 2).map(float), min_size=2, max_size=2),
    st.none(),
)
records = st.builds(
    MemoryRecord,
    id=st.sampled_from(IDS),
    content=st.text(max_size=8),
    scope=st.sampled_from(SCOPES),
    categories=st.lists(st.sampled_from(TAGS), max_size=3),
    metadata=st.dictionaries(st.sampled_from(["colour", "size"]), st.sampled_from(COLOURS), max_size=2),
    importance=st.sampled_from([0.0, 0.5, 1.0]),
    created_at=st.integers(0, 5).map(lambda days: START + timedelta(days=days)),
    embedding=embeddings,
    source=st.sampled_from([None, "alice"]),
    private=st.booleans(),
)
conditions = st.fixed_dictionaries(
    {},
    optional={
        "scope_prefix": st.sampled_from([None, *SCOPES]),
        "categories": st.lists(st.sampled_from(TAGS), max_size=2),
        "metadata_filter": st.dictionaries(st.sampled_from(["colour"]), st.sampled_from(COLOURS), max_size=1),
    },
)
deletions = st.tuples(
    conditions,
    st.fixed_dictionaries(
        {},
        optional={
            "record_ids": st.lists(st.sampled_from(IDS), max_size=3),
            "older_than": st.integers(0, 6).map(lambda days: START + timedelta(days=days)),
        },
    ),
).map(lambda pair: {**pair[0], **pair[1]})
operations = st.one_of(
    st.tuples(st.just("save"), st.lists(records, min_size=1, max_size=4)),
    st.tuples(st.just("update"), records),
    st.tuples(st.just("delete"), deletions),
    st.tuples(st.just("reset"), st.sampled_from([None, "/", "/a", "/ab"])),
    st.tuples(st.just("compact"), st.none()),
    st.tuples(st.just("reopen"), st.none()),
    st.tuples(st.just("search"), st.tuples(conditions, st.integers(1, 6))),
)
plays = st.lists(st.tuples(st.integers(0, 1), operations), min_size=1, max_size=12)


def play(steps: list[tuple[int, tuple[str, Any]]], directory: Path) -> None:
    """Play operations on the model and, in turns, on two storages; both must agree with it at the end."""
    model = Model()
    storages = [another_process(directory), another_process(directory)]
    for turn, (name, argument) in steps:
        storage = storages[turn]
        if name == "save":
            _write(storage.save, argument, argument, model, model.put)
        elif name == "update":
            _write(storage.update, argument, [argument], model, model.revise)
        elif name == "delete":
            doomed = model.selected(**argument)
            assert storage.delete(**argument) == len(doomed)
            model.records = {name: each for name, each in model.records.items() if each not in doomed}
        elif name == "reset":
            storage.reset(argument)
            model.records = {name: each for name, each in model.records.items() if not within(each.scope, argument)}
        elif name == "compact":
            storage.compact()
        elif name == "reopen":
            storages[turn] = another_process(directory)
        else:
            given, limit = argument
            _compare_search(storage, model, limit, given)
    for storage in [*storages, another_process(directory)]:
        compare(storage, model)


def _write(call: Any, argument: Any, batch: list[MemoryRecord], model: Model, put: Any) -> None:
    if model.fits(batch):
        call(argument)
        for record in batch:
            put(record)
        return
    try:
        call(argument)
    except EmbeddingDimensionMismatchError:
        return
    raise AssertionError("an embedding of another dimension was accepted")


def _compare_search(storage: LandedStorage, model: Model, limit: int, given: dict[str, Any]) -> None:
    query = [1.0] * (model.dimension() or 3)
    found = [(record.id, score) for record, score in storage.search(query, limit=limit, **given)]
    wanted = {**given, "categories": given.get("categories") or None}  # an empty list is none for a search
    assert found == model.nearest(query, limit, **wanted)


def compare(storage: LandedStorage, model: Model) -> None:
    """Everything that can be asked."""
    assert storage.count() == len(model.records)
    for name in IDS:
        assert told(storage.get_record(name)) == told(model.records.get(name))
    for scope in [None, *SCOPES]:
        selected = model.selected(scope_prefix=scope)
        newest = sorted(enumerate(selected), key=lambda pair: (pair[1].created_at, pair[0]), reverse=True)
        assert [told(each) for each in storage.list_records(scope)] == [told(each) for _, each in newest]
        assert [each.id for each in storage.list_records(scope, limit=2, offset=1)] == [
            each.id for _, each in newest[1:3]
        ]
        assert storage.count(scope) == len(selected)
        counts: dict[str, int] = {}
        for record in selected:
            for tag in record.categories:
                counts[tag] = counts.get(tag, 0) + 1
        assert storage.list_categories(scope) == counts
        path = normal(scope or "/")
        below = path if path == "/" else path + "/"
        children = sorted(
            {
                below + record.scope[len(below) :].split("/")[0]
                for record in model.records.values()
                if record.scope.startswith(below) and record.scope != path
            }
        )
        assert storage.list_scopes(path) == children
        info = storage.get_scope_info(path)
        created = [record.created_at for record in selected]
        assert (info.path, info.record_count, info.categories, info.child_scopes) == (
            path,
            len(selected),
            sorted(counts),
            children,
        )
        assert (info.oldest_record, info.newest_record) == (min(created, default=None), max(created, default=None))
    for tag in TAGS:
        _compare_search(storage, model, 3, {"categories": [tag]})
    for colour in COLOURS:
        _compare_search(storage, model, 3, {"metadata_filter": {"colour": colour}, "scope_prefix": "/a"})


def told(record: MemoryRecord | None) -> dict[str, Any] | None:
    """All fields but the last access, which recalling changes."""
    return None if record is None else {**vars(record), "last_accessed": None}
