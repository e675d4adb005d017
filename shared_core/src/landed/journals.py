"""Many journals under one root, each by a name that the user gives: a thread id, a flow id, anything at all.

    journals = landed.Journals("./threads")
    journals.open("user/42").append([b"hello"])     # made when it is not there
    journals.find("user/43")                        # None
    sorted(journals.names())                        # ["user/42"]
    journals.remove("user/42")                      # whoever still appends to it hears so

Names never become paths: a name is hashed, and the true name is stored inside and compared on read. Handles are pooled,
so ask for a journal each time it is used, and leave closing it to the collection.
"""

from __future__ import annotations

import _thread
import os

from landed.engines import open_collection
from landed.errors import Refused
from landed.journal import Journal
from landed.lock import DEFAULT_TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from landed.engine import Collection, Log, Mutex

OPEN_JOURNALS: Final = 256
"""Handles that are kept; the longest unused go. Descriptors are few at any number (`landed.local.pool`)."""


class Journals:
    """The journals of one root directory, shared by any number of threads, processes and forked children.

    Args:
        root: created when missing; or an address, ``postgresql://user@host/database/name``.
        max_bytes: growth limit of each journal in bytes; an append that needs more raises `Full`. None for none.
        timeout: seconds that an operation may wait for the lock or the queue.
        collection: the storage; the one of `root` unless given.

    Raises:
        Refused: the root is the directory of one journal.
        NotLanded: the root cannot be made or read.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        collection: Collection | None = None,
    ) -> None:
        self._collection: Collection = (
            open_collection(root, max_bytes=max_bytes, timeout=timeout) if collection is None else collection
        )
        self._timeout = timeout
        self._guard = _thread.allocate_lock()
        self._pool: dict[str, tuple[Journal, Log]] = {}
        self._pid = os.getpid()
        self._closed = False

    @property
    def path(self) -> str:
        """The root, absolute."""
        return self._collection.name

    def open(self, name: str) -> Journal:
        """The journal of that name; made when there is none.

        Raises:
            Corrupt: a file of it is missing or damaged. Nothing was changed.
            Claimed: another process owns it alone.
            NotLanded: it cannot be made or read, or the root is gone. Nothing was changed.
        """
        journal = self.find(name) or self._open(name, create=True)
        assert journal is not None  # noqa: S101 - it was made
        return journal

    def find(self, name: str) -> Journal | None:
        """The journal of that name, or None; makes nothing.

        A handle that was closed, or whose journal was removed or replaced meanwhile, is not given out again.

        Raises:
            Corrupt: a file of it is missing or damaged. Nothing was changed.
            Claimed: another process owns it alone.
            NotLanded: it cannot be read, or the root is gone.
        """
        self._check_open()
        with self._guard:
            pooled = self._pool.pop(name, None)
            if pooled is not None:
                self._pool[name] = pooled  # at the end: used last
        if pooled is not None and self._current(pooled):
            return pooled[0]
        journal = self._open(name, create=False)
        if journal is None:
            with self._guard:
                if self._pool.get(name) is pooled:  # else another thread has just made it
                    self._pool.pop(name, None)
        return journal

    def forget(self, name: str) -> None:
        """Open the journal anew next time: what an `OutcomeUnknown` asks for."""
        with self._guard:
            self._pool.pop(name, None)

    def names(self) -> Iterator[str]:
        """The names of all journals, in no order.

        Raises:
            Corrupt: a journal has lost its name, or bears one that is not its own.
            NotLanded: the root cannot be read.
        """
        self._check_open()
        return self._collection.names()

    def remove(self, name: str, *, expect: int | None = None) -> bool:
        """Remove a journal, damaged or not; whoever has it open raises at the next append.

        Args:
            expect: remove it only if its tail is this.

        Returns:
            Whether there was one.

        Raises:
            StaleWrite: the tail is another. Nothing was changed.
            Claimed: another process owns it alone. Nothing was changed.
            LockTimeout: writers kept it for the whole timeout. Nothing was changed.
            NotLanded: it cannot be removed. Nothing was changed.
            OutcomeUnknown: it is gone, and may be back after a crash.
        """
        self._check_open()
        removed = self._collection.remove(name, self._timeout, expect)
        self.forget(name)
        return removed

    def lock(self, name: str) -> Mutex:
        """A lock that goes by that name, for work longer than one append; no append takes it or waits for it.

        It is independent of the journal, which need not exist and may be removed meanwhile.
        """
        self._check_open()
        return self._collection.lock(name)

    def close(self) -> None:
        """Give back descriptors. What was acknowledged needs no closing."""
        self._closed = True
        with self._guard:
            pool, self._pool = self._pool, {}
        for journal, _ in pool.values():
            journal.close()

    def __enter__(self) -> Journals:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._pid != os.getpid():  # in a forked child, where another thread of the parent may have held the guard
            self._guard, self._pid = _thread.allocate_lock(), os.getpid()
        if self._closed:
            raise Refused("the journals are closed", path=self.path, step="open", hint="Open them again.")

    def _current(self, pooled: tuple[Journal, Log]) -> bool:
        return not pooled[0]._closed and self._collection.current(pooled[1])

    def _open(self, name: str, *, create: bool) -> Journal | None:
        log = self._collection.open(name, create=create)
        if log is None:
            return None
        journal = Journal(log.name, timeout=self._timeout, log=log)
        with self._guard:
            other = self._pool.get(name)
            if other is not None and self._current(other):
                # Another thread was first; those that append through one handle share their flushes.
                journal.close()
                return other[0]
            self._pool[name] = (journal, log)
            while len(self._pool) > OPEN_JOURNALS:
                # Not closed: another thread may be at work in it. Its descriptor goes with the last reference.
                del self._pool[next(iter(self._pool))]
        return journal
