"""A journal's storage in memory: the engine seam without files, which shows that the seam is enough.

`MemoryStore` is what outlives a handle, `MemoryLog` one handle on it. Threads may share both; other processes cannot.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from landed.engine import Batch, Commit
from landed.errors import Claimed, Full, LockTimeout, StaleWrite

if TYPE_CHECKING:
    from landed.engine import Position, Rewrite

GROUP_LIMIT = 16
"""Commits decided at once, so that callers meet a log that decides only some of what they gave."""


class Stored(NamedTuple):
    """A batch and the last sequence number that it took."""

    sequence: int
    tail: int
    payload: bytes


class MemoryStore:
    """The batches, and who may write.

    Args:
        max_bytes: growth limit in bytes of payload; None for none.
    """

    def __init__(self, name: str = "memory", max_bytes: int | None = None) -> None:
        self.name = name
        self.max_bytes = max_bytes
        self.lock = threading.Lock()
        self.compaction = threading.Lock()
        self.stored: list[Stored] = []
        self.tail = 0
        self.generation = 0
        """Counts compactions: each makes all positions invalid."""
        self.owner: MemoryLog | None = None

    @property
    def used(self) -> int:
        return sum(len(each.payload) for each in self.stored)


class MemoryLog:
    """A `landed.engine.Log` on a `MemoryStore`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.name = store.name
        self._refuse_if_claimed()

    def commit(self, commits: Sequence[Commit], timeout: float) -> int:
        store = self._store
        if not store.lock.acquire(timeout=timeout):
            raise LockTimeout("another holder kept the lock", path=self.name, step="lock")
        try:
            self._refuse_if_claimed()
            for decided, commit in enumerate(commits[:GROUP_LIMIT]):
                if commit.expect is not None and commit.expect != store.tail:
                    commit.error = self._stale(commit.expect)
                elif self._fits(commit):
                    self._append(commit)
                elif decided:
                    return decided
                else:
                    raise Full(
                        "the growth limit is reached", path=self.name, step="grow", expected=str(store.max_bytes)
                    )
            return len(commits[:GROUP_LIMIT])
        finally:
            store.lock.release()

    def _fits(self, commit: Commit) -> bool:
        limit = self._store.max_bytes
        return limit is None or self._store.used + len(commit.payload) <= limit

    def _append(self, commit: Commit) -> None:
        store = self._store
        commit.sequence = store.tail + 1
        commit.position = (store.generation, len(store.stored), 0)
        store.tail += commit.count
        store.stored.append(Stored(commit.sequence, store.tail, commit.payload))

    def _stale(self, expected: int) -> StaleWrite:
        found = self._store.tail
        what = f"expected {expected}, found {found}"
        return StaleWrite(what, path=self.name, step="compare", expected=str(expected), found=str(found))

    def _refuse_if_claimed(self) -> None:
        if self._store.owner not in {None, self}:
            error = Claimed("another handle owns it alone", path=self.name, step="claim")
            error.holder = "another handle"
            raise error

    def _look(self) -> list[tuple[Stored, Batch]]:
        store = self._store
        with store.lock:
            return [
                (each, Batch(each.sequence, each.payload, (store.generation, index, 0)))
                for index, each in enumerate(store.stored)
            ]

    def tail(self) -> int:
        return self._store.tail

    def batches(self, start: int, upto: int | None = None) -> Iterator[Batch]:
        return iter([batch for stored, batch in self._look() if stored.tail >= start])

    def newest_first(self, upto: int | None = None) -> Iterator[Batch]:
        return iter([batch for _, batch in reversed(self._look())])

    def fetch(self, position: Position) -> Batch | None:
        return next((batch for _, batch in self._look() if batch.position == position), None)

    def rewrite(self, rewrite: Rewrite, timeout: float) -> tuple[int, int]:
        store = self._store
        if not store.compaction.acquire(timeout=timeout):
            raise LockTimeout("another compaction runs", path=self.name, step="lock")
        try:
            before, old = store.used, self._look()
            answers = [(stored, rewrite(batch)) for stored, batch in old]
            with store.lock:
                self._refuse_if_claimed()
                kept = [stored._replace(payload=payload) for stored, payload in answers if payload]
                store.stored[: len(old)] = kept
                store.generation += 1
            return before, store.used
        finally:
            store.compaction.release()

    def size(self) -> int:
        return self._store.used

    def claim(self) -> None:
        with self._store.lock:
            self._refuse_if_claimed()
            self._store.owner = self

    def forked(self) -> None:
        """There is nothing of another process in here."""

    def close(self) -> None:
        if self._store.owner is self:
            self._store.owner = None
