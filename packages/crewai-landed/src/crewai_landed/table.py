"""The memories of a journal as a table in this process: a float32 matrix, and columns to filter by.

The table is a function of the journal: entries are applied in their order, and every process that has applied the same
entries has the same rows. It knows no files and no locks; who uses it holds one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import reduce
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from crewai_landed.dictionary import Dictionary
from crewai_landed.records import (
    COMPACTED,
    FORGOTTEN,
    MEMORY,
    REVISED,
    TOUCHED,
    VECTOR,
    Condition,
    as_json,
    dimension,
    from_text,
    inside,
    moment,
    refused,
    taken_apart,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from crewai_landed.records import Made
    from landed import Entry

    Rows = NDArray[np.intp]
    _Waiting = tuple[int, dict[str, Any], bytes]
    """Sequence number, fields and embedding of a memory whose columns are to be filled."""

GROWTH: Final = 32
"""The matrix grows by a part in so many: it is memory that holds nothing yet."""
RESERVED: Final = 33 << 20
"""Bytes of the smallest matrix. So much comes from the system and not from the heap, whatever was freed before: a page
is taken when a row is written to it, and growing copies nothing and leaves no hole behind."""
SMALLEST: Final = 64
"""Rows of the smallest columns."""
METADATA_COLUMNS: Final = 64
"""Metadata keys that stay indexed; the one that was asked for longest ago goes."""
ERROR: Final = float(np.finfo(np.float32).eps)
"""How far a product in float32 may be off, for each dimension, as a part of the lengths that go into it."""
CHUNK: Final = 1024
"""Rows that are computed in float64 at once."""
TOGETHER: Final = 256
"""Memories that are taken apart at once: what is in use besides the table stays small when a long batch is read."""

_MICROSECONDS: Final = "M8[us]"
_PLAIN: Final = "plain"
_JSON: Final = "json"


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a batch.

    Attributes:
        removed: how many memories it deleted.
        mismatch: the dimension of the table and the other one that made the batch void; None for a batch that counts.
    """

    removed: int = 0
    mismatch: tuple[int, int] | None = None


class _Column:
    """The values of one metadata key, a code for each row."""

    def __init__(self, rows: int) -> None:
        self.dictionary: Dictionary[tuple[str, Any]] = Dictionary()
        self.codes = np.zeros(rows, np.int32)

    def take(self, value: object) -> int:
        """The code of a value, for one more row. Lists and dicts have no hash: their JSON stands for them."""
        if isinstance(value, (list, dict)):
            return self.dictionary.take((_JSON, json.dumps(value, sort_keys=True)))
        return self.dictionary.take((_PLAIN, value))

    def holding(self, value: object, count: int) -> NDArray[np.bool_]:
        """Which of the first rows have a value that equals this one."""
        if isinstance(value, (list, dict)):
            wanted = self.dictionary.where(lambda known: known[0] == _JSON and json.loads(known[1]) == value)
            return wanted[self.codes[:count]]
        try:
            code = self.dictionary.find((_PLAIN, value))
        except TypeError:  # something else without a hash, which JSON does not have
            code = -1
        matching: NDArray[np.bool_] = self.codes[:count] == code
        return matching


class Table:
    """All memories, and what is known of each.

    Attributes:
        tail: sequence number up to which the journal was applied.
        entries: how many entries of the journal were applied, whatever became of them.
        dimension: of the embeddings; 0 while there is none.
    """

    def __init__(self) -> None:
        self.tail = 0
        self.entries = 0
        self.dimension = 0
        self._vectors = 0
        self._rows: dict[str, int] = {}
        self._ids: list[str] = []
        self._texts: list[bytes] = []
        self._scopes: Dictionary[str] = Dictionary()
        self._tags: Dictionary[tuple[str, ...]] = Dictionary()
        self._metadata: dict[str, _Column] = {}
        self._matrix = np.empty((0, 0), np.float32)
        self._created = np.empty(0, np.int64)
        self._accessed = np.empty(0, np.int64)
        self._sequence = np.empty(0, np.int64)
        self._scope = np.empty(0, np.int32)
        self._tag = np.empty(0, np.int32)
        self._square = np.empty(0, np.float64)
        """Squared length of each embedding; NaN while it is not computed, infinite where there is none."""
        self._unmeasured = False

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self._created, self._accessed, self._sequence, self._scope, self._tag, self._square

    # Applying the journal.

    def apply(self, batch: Sequence[Entry | Made]) -> Applied:
        """One batch of the journal, in its turn. A batch with an embedding of another dimension is void as a whole."""
        self.tail = batch[-1].sequence
        self.entries += len(batch)
        mismatch = self.mismatch(dimension(entry) for entry in batch if entry.kind in {MEMORY, REVISED})
        if mismatch is not None:
            return Applied(mismatch=mismatch)
        removed = 0
        for putting, run in groupby(batch, lambda entry: entry.kind in {MEMORY, REVISED}):
            if putting:
                self._put(run)
                continue
            for entry in run:
                if entry.kind == FORGOTTEN:
                    removed += self._remove(self.select(Condition.decode(entry.data)))
                elif entry.kind == TOUCHED:
                    fields = json.loads(entry.data)
                    self.touch(fields["ids"], fields["at"])
                elif entry.kind != COMPACTED:
                    raise refused(f"a record of the unknown kind {entry.kind}", "Upgrade crewai-landed.")
        return Applied(removed)

    def mismatch(self, dimensions: Iterable[int]) -> tuple[int, int] | None:
        """The table's dimension and the first other one among these; 0 stands for no embedding."""
        known = self.dimension
        for each in dimensions:
            if each:
                known = known or each
                if each != known:
                    return known, each
        return None

    def touch(self, ids: Iterable[str], at: int) -> None:
        """These were recalled at that time."""
        for each in ids:
            row = self._rows.get(each)
            if row is not None:
                self._accessed[row] = max(at, self._accessed[row])

    def _put(self, entries: Iterable[Entry | Made]) -> None:
        """Memories, in their turn; their columns are filled for `TOGETHER` at once, which is faster."""
        waiting: dict[int, _Waiting] = {}
        for entry in entries:
            text, numbers, fields = taken_apart(entry)
            name = entry.key.decode(errors="surrogatepass")
            row = self._rows.get(name)
            if row in waiting or len(waiting) == TOGETHER:
                self._fill(waiting)
                waiting = {}
            if row is None:
                row = self._rows[name] = len(self._ids)
                self._ids.append(name)
                self._texts.append(text)
            else:
                if entry.kind == REVISED and fields.get("source") is None and not fields.get("private"):
                    before = from_text(self._texts[row])
                    fields["source"], fields["private"] = before.get("source"), before.get("private", False)
                    text = as_json(fields)
                self._texts[row] = text
                self._unindex(row)
            waiting[row] = entry.sequence, fields, numbers
        if waiting:
            self._fill(waiting)

    def _fill(self, waiting: dict[int, _Waiting]) -> None:
        """The columns of these rows."""
        if len(self) > len(self._created):
            self._grow(len(self))
        rows = np.fromiter(waiting, np.intp, len(waiting))
        sequences, fields, vectors = zip(*waiting.values(), strict=True)
        self._sequence[rows] = sequences
        self._scope[rows] = [self._scopes.take(each["scope"]) for each in fields]
        self._tag[rows] = [self._tags.take(tuple(each["categories"])) for each in fields]
        self._created[rows] = np.array([each["created_at"] for each in fields], _MICROSECONDS).view(np.int64)
        self._accessed[rows] = np.array([each["last_accessed"] for each in fields], _MICROSECONDS).view(np.int64)
        for key, column in self._metadata.items():
            column.codes[rows] = [column.take(each["metadata"].get(key)) for each in fields]
        self._set_vectors(rows, vectors)

    def _set_vectors(self, rows: Rows, vectors: Sequence[bytes]) -> None:
        without = np.fromiter((not numbers for numbers in vectors), bool, len(vectors))
        self._square[rows[without]] = np.inf
        if self.dimension:
            self._matrix[rows[without]] = 0
        rows = rows[~without]
        if len(rows):
            numbers = np.frombuffer(b"".join(vectors), VECTOR).reshape(len(rows), -1)
            if not self.dimension:
                self.dimension = numbers.shape[1]
                size = max(len(self._created), RESERVED // (self.dimension * VECTOR.itemsize))
                self._matrix = np.zeros((size, self.dimension), np.float32)
            self._matrix[rows] = numbers
            self._square[rows] = np.nan
            self._unmeasured = True
            self._vectors += len(rows)
        self._forget_dimension()

    def _unindex(self, row: int) -> None:
        self._scopes.give_back(int(self._scope[row]))
        self._tags.give_back(int(self._tag[row]))
        for column in self._metadata.values():
            column.dictionary.give_back(int(column.codes[row]))
        if not np.isposinf(self._square[row]):
            self._vectors -= 1

    def _forget_dimension(self) -> None:
        """Without an embedding left, the next one may have any dimension."""
        if not self._vectors and self.dimension:
            self.dimension = 0
            self._matrix = np.empty((0, 0), np.float32)

    def _grow(self, rows: int) -> None:
        size = max(SMALLEST, rows + rows // GROWTH)
        # In place, where the allocator can: a copy would need the memory twice. No view of a column outlives a call.
        for column in self._columns:
            column.resize(size, refcheck=False)
        for each in self._metadata.values():
            each.codes.resize(size, refcheck=False)
        if self.dimension and len(self._matrix) < size:
            self._matrix.resize((size, self.dimension), refcheck=False)

    def _remove(self, mask: NDArray[np.bool_] | None) -> int:
        """Remove the rows of `mask`, all for None; the last rows move into the holes."""
        if mask is None:
            removed, tail, entries = len(self), self.tail, self.entries
            self.__init__()  # type: ignore[misc]
            self.tail, self.entries = tail, entries
            return removed
        gone = np.flatnonzero(mask)
        for row in gone.tolist():
            self._unindex(row)
            del self._rows[self._ids[row]]
        left = len(self) - len(gone)
        holes = gone[gone < left]
        movers = np.flatnonzero(~mask[left:]) + left
        for column in self._columns:
            column[holes] = column[movers]
        for each in self._metadata.values():
            each.codes[holes] = each.codes[movers]
        if self.dimension:
            self._matrix[holes] = self._matrix[movers]
        for hole, mover in zip(holes.tolist(), movers.tolist(), strict=True):
            self._ids[hole], self._texts[hole] = self._ids[mover], self._texts[mover]
            self._rows[self._ids[hole]] = hole
        del self._ids[left:], self._texts[left:]
        self._forget_dimension()
        return len(gone)

    # Selecting rows.

    def select(self, condition: Condition) -> NDArray[np.bool_] | None:
        """Which rows the condition holds for; None for all."""
        count = len(self)
        parts: list[NDArray[np.bool_]] = []
        if condition.ids is not None:
            named = np.zeros(count, bool)
            named[[self._rows[each] for each in condition.ids if each in self._rows]] = True
            parts.append(named)
        if condition.scope is not None:
            itself, below = inside(condition.scope)
            wanted = self._scopes.where(lambda scope: scope == itself or scope.startswith(below))
            parts.append(wanted[self._scope[:count]])
        if condition.categories is not None:
            asked = set(condition.categories)
            parts.append(self._tags.where(lambda tags: not asked.isdisjoint(tags))[self._tag[:count]])
        if condition.older_than is not None:
            parts.append(self._created[:count] < condition.older_than)
        for key, value in (condition.metadata or {}).items():
            parts.append(self._column(key).holding(value, count))
        return reduce(np.logical_and, parts) if parts else None

    def _column(self, key: str) -> _Column:
        """The index of a metadata key; made when it is first asked for."""
        column = self._metadata.pop(key, None)
        if column is None:
            column = _Column(len(self._created))
            for row, text in enumerate(self._texts):
                column.codes[row] = column.take(from_text(text)["metadata"].get(key))
        self._metadata[key] = column  # last: the one asked for most recently
        while len(self._metadata) > METADATA_COLUMNS:
            del self._metadata[next(iter(self._metadata))]
        return column

    def _selected(self, condition: Condition) -> Rows:
        mask = self.select(condition)
        return np.arange(len(self)) if mask is None else np.flatnonzero(mask)

    # Asking.

    def nearest(self, query: NDArray[np.float32], condition: Condition, limit: int) -> list[tuple[int, float]]:
        """The rows nearest to `query` of those that the condition holds for, with their squared distances."""
        if limit <= 0 or not self.dimension:
            return []
        self._measure()
        count = len(self)
        mask = self.select(condition)
        rows = None if mask is None else np.flatnonzero(mask)
        if rows is not None and len(rows) * 4 < count:
            dots, square = self._matrix[rows] @ query, self._square[rows]
        else:  # one pass over the whole matrix costs less than gathering much of it
            dots, square = self._matrix[:count] @ query, self._square[:count]
            if rows is not None:
                dots, square = dots[rows], square[rows]
        length = float(query.astype(np.float64) @ query)
        distances = square - 2.0 * dots
        found = np.flatnonzero(np.isfinite(distances))
        if len(found) > limit:
            # Whoever may be among the nearest, given how exact this is; what follows is exact.
            nearest = np.partition(distances[found], limit - 1)[limit - 1]
            slack = (
                ERROR * self.dimension * (length + abs(nearest) + 2.0 * np.sqrt(length * max(0.0, length + nearest)))
            )
            found = np.flatnonzero(distances <= nearest + slack)
        candidates = found if rows is None else rows[found]
        exact = self._distances(candidates, query)
        order = np.lexsort((self._sequence[candidates], exact))[:limit]
        return list(zip(candidates[order].tolist(), exact[order].tolist(), strict=True))

    def _distances(self, rows: Rows, query: NDArray[np.float32]) -> NDArray[np.float64]:
        """Squared distances in float64."""
        exact = np.empty(len(rows))
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            difference = self._matrix[part].astype(np.float64) - query
            exact[start : start + CHUNK] = np.einsum("ij,ij->i", difference, difference)
        return exact

    def _measure(self) -> None:
        """The squared lengths of new embeddings."""
        if not self._unmeasured:
            return
        new = np.flatnonzero(np.isnan(self._square[: len(self)]))
        for start in range(0, len(new), CHUNK):
            part = new[start : start + CHUNK]
            vectors = self._matrix[part].astype(np.float64)
            self._square[part] = np.einsum("ij,ij->i", vectors, vectors)
        self._unmeasured = False

    def newest(self, condition: Condition, limit: int, offset: int) -> list[int]:
        """Rows by the time they were created, the newest first."""
        rows = self._selected(condition)
        wanted = limit + offset
        if limit <= 0 or offset < 0 or offset >= len(rows):
            return []
        created = self._created[rows]
        if wanted < len(rows):
            least = np.partition(created, len(rows) - wanted)[len(rows) - wanted]
            rows = rows[created >= least]
            created = self._created[rows]
        order = np.lexsort((self._sequence[rows], created))[::-1]
        return list(map(int, rows[order][offset:wanted]))

    def row(self, name: str) -> int | None:
        return self._rows.get(name)

    def get(self, row: int) -> dict[str, Any]:
        """The fields of a memory."""
        fields = from_text(self._texts[row])
        fields["id"] = self._ids[row]
        fields["created_at"] = moment(int(self._created[row]))
        fields["last_accessed"] = moment(int(self._accessed[row]))
        fields["embedding"] = None if np.isposinf(self._square[row]) else self._matrix[row].tolist()
        return fields

    def count(self, condition: Condition) -> int:
        mask = self.select(condition)
        return len(self) if mask is None else int(np.count_nonzero(mask))

    def categories(self, condition: Condition) -> dict[str, int]:
        """How many memories have each category."""
        mask = self.select(condition)
        counts: dict[str, int] = {}
        if mask is None:
            found = list(self._tags.counts())
        else:
            codes, times = np.unique(self._tag[: len(self)][mask], return_counts=True)
            found = [(self._tags[code], int(count)) for code, count in zip(codes.tolist(), times.tolist(), strict=True)]
        for tags, count in found:
            for tag in tags:
                counts[tag] = counts.get(tag, 0) + count
        return counts

    def children(self, scope: str) -> list[str]:
        """The scopes directly below one, as full paths, in order."""
        _, below = inside(scope)
        return sorted(
            {
                below + name[len(below) :].partition("/")[0]
                for name, _ in self._scopes.counts()
                if name.startswith(below) and name != below
            }
        )

    def span(self, condition: Condition) -> tuple[datetime, datetime] | None:
        """When the oldest and the newest memory were created; None when there is none."""
        created = self._created[self._selected(condition)]
        return (moment(int(np.min(created))), moment(int(np.max(created)))) if len(created) else None

    # For a compaction.

    def live(self) -> dict[str, tuple[int, bytes]]:
        """For each id: the sequence number of its memory, and the text as it is now, with its last access."""
        now: dict[str, tuple[int, bytes]] = {}
        for row, (name, text) in enumerate(zip(self._ids, self._texts, strict=True)):
            fields = from_text(text)
            fields["last_accessed"] = moment(int(self._accessed[row])).isoformat()
            now[name] = int(self._sequence[row]), as_json(fields)
        return now
