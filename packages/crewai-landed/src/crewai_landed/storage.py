"""`LandedStorage`: CrewAI's memory in a landed journal."""

from __future__ import annotations

from functools import partial
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from crewai.memory.types import MemoryRecord, ScopeInfo
from pydantic_core import SchemaSerializer, core_schema

import landed
from crewai_landed.mismatch import EmbeddingDimensionMismatchError
from crewai_landed.records import FORGOTTEN, REVISED, Condition, as_vector, dimension, encode, scope_path
from crewai_landed.store import store_at
from landed import aio
from landed.engines import absolute, without_password

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from crewai_landed.records import Made
    from crewai_landed.store import Store
    from crewai_landed.table import Table

SCHEME: Final = "landed:"
"""What the specification of a storage starts with; no other storage of CrewAI takes it."""


class LandedStorage:
    """CrewAI's memory in a journal: what a call has returned from is durable, verified, and seen by every process.

    It implements the whole of CrewAI's `StorageBackend`. Search is exact, over all embeddings in float32. All storages
    of one place in a process share their memory; threads, processes and forked children may use it at once (of object
    storage, no forked children).

    A method raises `landed.LandedError`: `landed.NotLanded`, and nothing was changed; or `landed.OutcomeUnknown`, and
    the next call reads from the device what there is. Wherever an embedding comes in, it raises CrewAI's
    `EmbeddingDimensionMismatchError` if it has another dimension than those that are stored; nothing is changed then.

    Args:
        path: the directory, created when something is first saved or searched; or an engine's address
            (``postgresql://...``, ``s3://...``), which is first asked then. Flows and locks may share it.

    Raises:
        Refused: no engine has an address of that scheme.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = absolute(path)
        self._store: Store | None = None

    @classmethod
    def from_spec(cls, spec: str) -> LandedStorage | None:
        """The storage that a specification names, as `spec` gives it; None for one of another kind."""
        return cls(spec.removeprefix(SCHEME)) if spec.startswith(SCHEME) else None

    @property
    def spec(self) -> str:
        """What stands for this storage in a checkpoint: ``landed:`` and its place, without a password."""
        return SCHEME + without_password(self.path)

    def __repr__(self) -> str:
        return f"LandedStorage({without_password(self.path)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.path,)

    # CrewAI writes a memory into its checkpoints by asking pydantic, which asks the object for this.
    __pydantic_serializer__ = SchemaSerializer(
        core_schema.any_schema(serialization=core_schema.plain_serializer_function_ser_schema(lambda self: self.spec))
    )

    def _opened(self) -> Store:
        if self._store is None:
            self._store = store_at(self.path)
        return self._store

    def _table(self) -> AbstractContextManager[Table]:
        return self._opened().table()

    # Writing.

    def save(self, records: list[MemoryRecord]) -> None:
        """Save all of them or none, in one commit; a record whose id is there takes its place."""
        self._put(encode(records))

    def update(self, record: MemoryRecord) -> None:
        """Replace the record of the same id, or save it, in one commit.

        `source` and `private` stay as they were if the new record has neither: CrewAI's consolidation drops them.
        """
        self._put(encode([record], REVISED))

    def _put(self, records: Sequence[Made]) -> None:
        if not records:
            return
        with self._table() as table:  # most mistakes are found here, before anything is written
            _refuse(table.mismatch(map(dimension, records)))
        _refuse(self._opened().write(records).mismatch)

    def delete(
        self,
        scope_prefix: str | None = None,
        categories: list[str] | None = None,
        record_ids: list[str] | None = None,
        older_than: datetime | None = None,
        metadata_filter: dict[str, Any] | None = None,
    ) -> int:
        """Delete what all that is given applies to, in one commit; everything, if nothing is given.

        Args:
            scope_prefix: in this scope or below it.
            categories: in one of these; in none if the list is empty.
            record_ids: one of these; none if the list is empty.
            older_than: created before.
            metadata_filter: with these values.

        Returns:
            How many were deleted.
        """
        condition = Condition.of(scope_prefix, categories, record_ids, older_than, metadata_filter)
        with self._table() as table:
            if not table.count(condition):
                return 0
        return self._opened().write([landed.Record(condition.encode(), kind=FORGOTTEN)]).removed

    def reset(self, scope_prefix: str | None = None) -> None:
        """Delete everything in a scope and below it, or everything. Other processes go on, and see it."""
        self.delete(scope_prefix)

    def touch_records(self, record_ids: list[str]) -> None:
        """Note that these were recalled now.

        It shows at once in this process, and is written with the next save, update, deletion or `close`: a search costs
        no flush. Until then a crash forgets it.
        """
        self._opened().touch(dict.fromkeys(map(str, record_ids), time_ns() // 1000))

    # Reading.

    def search(
        self,
        query_embedding: list[float],
        scope_prefix: str | None = None,
        categories: list[str] | None = None,
        metadata_filter: dict[str, Any] | None = None,
        limit: int = 10,
        min_score: float = 0.0,
    ) -> list[tuple[MemoryRecord, float]]:
        """The records nearest to an embedding, best first, of those that all that is given applies to.

        Args:
            query_embedding: of the dimension of those that are stored.
            scope_prefix: in this scope or below it.
            categories: in one of these; an empty list is as good as none, as CrewAI's own flows have it.
            metadata_filter: with these values.
            limit: at most so many.
            min_score: at least so near.

        Returns:
            Records and their scores, 1 / (1 + squared distance), which is LanceDB's scale.
        """
        condition = Condition.of(scope_prefix, categories or None, metadata=metadata_filter)
        query = as_vector(query_embedding)
        with self._table() as table:
            if table.dimension:
                _refuse(table.mismatch([len(query_embedding) or -1]))
            if query is None:
                return []
            found = table.nearest(query, condition, limit)
            scored = [(table.get(row), 1.0 / (1.0 + distance)) for row, distance in found]
        return [(_record(fields), score) for fields, score in scored if score >= min_score]

    def get_record(self, record_id: str) -> MemoryRecord | None:
        """The record of this id, or None."""
        with self._table() as table:
            row = table.row(str(record_id))
            return None if row is None else _record(table.get(row))

    def list_records(self, scope_prefix: str | None = None, limit: int = 200, offset: int = 0) -> list[MemoryRecord]:
        """Records in a scope and below it, the newest first."""
        with self._table() as table:
            found = [table.get(row) for row in table.newest(Condition.of(scope_prefix), limit, offset)]
        return [_record(fields) for fields in found]

    def get_scope_info(self, scope: str) -> ScopeInfo:
        """What there is in a scope and below it."""
        path, condition = scope_path(scope), Condition.of(scope)
        with self._table() as table:
            oldest, newest = table.span(condition) or (None, None)
            return ScopeInfo(
                path=path,
                record_count=table.count(condition),
                categories=sorted(table.categories(condition)),
                oldest_record=oldest,
                newest_record=newest,
                child_scopes=table.children(path),
            )

    def list_scopes(self, parent: str = "/") -> list[str]:
        """The scopes directly below one, in order."""
        with self._table() as table:
            return table.children(scope_path(parent))

    def list_categories(self, scope_prefix: str | None = None) -> dict[str, int]:
        """How many records in a scope and below it have each category."""
        with self._table() as table:
            return table.categories(Condition.of(scope_prefix))

    def count(self, scope_prefix: str | None = None) -> int:
        """How many records there are in a scope and below it."""
        with self._table() as table:
            return table.count(Condition.of(scope_prefix))

    # Async: each finishes what it began before a cancellation goes on.

    async def asave(self, records: list[MemoryRecord]) -> None:
        """As `save`."""
        await aio.finish(partial(self.save, records))

    async def asearch(
        self,
        query_embedding: list[float],
        scope_prefix: str | None = None,
        categories: list[str] | None = None,
        metadata_filter: dict[str, Any] | None = None,
        limit: int = 10,
        min_score: float = 0.0,
    ) -> list[tuple[MemoryRecord, float]]:
        """As `search`."""
        call = partial(self.search, query_embedding, scope_prefix, categories, metadata_filter, limit, min_score)
        return await aio.finish(call)

    async def adelete(
        self,
        scope_prefix: str | None = None,
        categories: list[str] | None = None,
        record_ids: list[str] | None = None,
        older_than: datetime | None = None,
        metadata_filter: dict[str, Any] | None = None,
    ) -> int:
        """As `delete`."""
        call = partial(self.delete, scope_prefix, categories, record_ids, older_than, metadata_filter)
        return await aio.finish(call)

    # Upkeep.

    @property
    def write_lock(self) -> AbstractContextManager[None]:
        """For several calls that belong together: one thread of one process at a time, re-entrant for that thread.

        CrewAI 1.10 takes it around a consolidation. No method takes it or waits for it. Its file is in the directory.
        """
        return self._opened().exclusive()

    def compact(self) -> landed.Compacted:
        """Give the space of what was deleted and replaced back now. It happens by itself when half of it is that."""
        return self._opened().compact()

    def close(self) -> None:
        """Write when memories were last recalled, and give back descriptors. The next use opens it again."""
        if self._store is not None:
            self._store.close()
            self._store = None


def _refuse(mismatch: tuple[int, int] | None) -> None:
    if mismatch is not None:
        raise EmbeddingDimensionMismatchError(mismatch[0], max(0, mismatch[1]))


def _record(fields: dict[str, Any]) -> MemoryRecord:
    # Not validated again: a record that was accepted is given back, whatever a later version thinks of it.
    return MemoryRecord.model_construct(**fields)
