"""The threads under one root: for each its journal and the index of it, as many as were used last."""

from __future__ import annotations

import threading
import time as clocks
from collections import OrderedDict
from contextlib import suppress
from datetime import timedelta
from time import time
from typing import TYPE_CHECKING, Final, TypeVar

import landed.local.collection  # noqa: F401 - the first saver would load it otherwise, while somebody waits
from landed import Corrupt, Full, Journals, NotLanded, OutcomeUnknown, StaleWrite
from langgraph.checkpoint.landed import forks
from langgraph.checkpoint.landed.cache import Cache
from langgraph.checkpoint.landed.company import Company
from langgraph.checkpoint.landed.ending import Moved
from langgraph.checkpoint.landed.history import History
from langgraph.checkpoint.landed.records import decode

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

INDEXES: Final = 256
"""Threads whose index stays in memory."""
MAKERS: Final = 64
"""Threads that may be made at once. A run's first put and first writes come together, and one of them makes it."""
REBUILDS: Final = 16
"""How often a thread may be compacted or removed under one look at it before that is an error."""


def seconds_of(ttl: object) -> float | None:
    """How long a thread lives after its last put.

    Raises:
        ValueError: it is no length of time above 0.
    """
    if isinstance(ttl, timedelta):
        ttl = ttl.total_seconds()
    if ttl is None or (isinstance(ttl, (int, float)) and ttl > 0):
        return ttl
    raise ValueError(f"ttl is a number of seconds above 0, a timedelta, or None, not {ttl!r}")


class Threads:
    """Indexes of threads by thread id. Safe for threads.

    Args:
        ttl: seconds after its last put at which a thread is removed when it is looked at; None for never.
    """

    def __init__(self, journals: Journals, ttl: float | None = None) -> None:
        self.journals = journals
        self._ttl = ttl
        self._began = (time(), _elapsed())
        forks.begin(self)

    def renew(self) -> None:
        """Without any index: those of a parent may be half changed."""
        self._cache = Cache()
        self._guard = threading.Lock()
        self._pool: OrderedDict[str, History] = OrderedDict()
        self._early: dict[str, Company] = {}
        self._making = [threading.Lock() for _ in range(MAKERS)]

    def find(self, name: str) -> History | None:
        """The thread's index as far as it is known; None when there is no such thread."""
        return self._history(name, create=False)

    def company(self, name: str) -> Company:
        """Who waits for a put of that thread; also of one that is yet to be made or opened."""
        history = self._pool.get(name)
        if history is not None:
            return history.company
        with self._guard:
            history = self._pool.get(name)
            if history is not None:
                return history.company
            company = self._early.pop(name, None) or Company()
            self._early[name] = company
            if len(self._early) > INDEXES:
                del self._early[next(iter(self._early))]
            return company

    def look(self, name: str, look: Callable[[History], T], absent: T, *, complete: bool = True) -> T:
        """What `look` finds in a thread's index, with all that was appended until now; `absent` without a thread.

        Args:
            complete: as for `History.catch_up`.

        Raises:
            Corrupt: the thread is damaged.
            NotLanded: it cannot be read.
        """
        for _ in range(REBUILDS):
            history = self.find(name)
            if history is None:
                return absent
            try:
                with history.guard:
                    history.catch_up(complete=complete)
                    if not self._expired(history):
                        return look(history)
                    seen = history.seen
                with suppress(StaleWrite):  # somebody has just put: then it is not expired
                    self.remove(name, expect=seen)
            except Moved:
                history.forget()
            except NotLanded:
                if self.find(name) is history:
                    raise  # else it was removed under us
        raise NotLanded(f"compacted {REBUILDS} times under one look", path=self.journals.path, step="read")

    def change(self, name: str, change: Callable[[History], T], *, create: bool) -> T | None:
        """What `change` makes of a thread's index; it appends, and is called again when the thread was compacted."""
        for attempt in range(REBUILDS):
            history = (self._known(name) if attempt == 0 else None) or self._history(name, create=create)
            if history is None:
                return None
            try:
                return change(history)
            except Moved:
                history.forget()
            except OutcomeUnknown:
                self.forget(name)  # a journal whose flush failed has to be opened again
                raise
            except Full as error:  # its path is made of a digest, which tells nobody whose thread it is
                error.what, error.hint = f"thread {name!r}: {error.what}", "Prune the thread, or raise max_bytes."
                raise
            except NotLanded:
                if self.find(name) is history:
                    raise  # else it was removed under us, and the change has to see that
        raise NotLanded(f"compacted {REBUILDS} times under one change", path=self.journals.path, step="write")

    def each(self, call: Callable[[str], T]) -> list[T]:
        """What `call` gives for each thread; what another program keeps here, as CrewAI does its memory, is none.

        Raises:
            Corrupt: a thread is damaged.
        """
        told: list[T] = []
        for name in sorted(self.journals.names()):
            try:
                told.append(call(name))
            except Corrupt:
                if self.is_thread(name):
                    raise
        return told

    def is_thread(self, name: str) -> bool:
        """Whether a saver keeps a thread by that name, damaged or not; else it is another program's."""
        try:
            journal = self.journals.find(name)
            first = next(journal.read(), None) if journal is not None else None
            if first is not None:
                decode(first.kind, first.data)
        except Corrupt:
            return True
        except ValueError:
            return False
        return True

    def forget(self, name: str) -> None:
        """Open the thread anew next time."""
        self.journals.forget(name)
        with self._guard:
            self._pool.pop(name, None)

    def _expired(self, history: History) -> bool:
        if self._ttl is None or not history.touched:
            return False
        began, elapsed = self._began
        # What is removed is gone: a clock that is set forward meanwhile must not make the young old.
        now = min(time(), began + _elapsed() - elapsed)
        return history.touched < now - self._ttl

    def remove(self, name: str, *, expect: int | None = None) -> bool:
        removed = self.journals.remove(name, expect=expect)
        self.forget(name)
        return removed

    def _known(self, name: str) -> History | None:
        """The index in the pool; whether its path still leads to the journal, an append finds out itself."""
        history = self._pool.get(name)
        if history is not None:
            with suppress(KeyError):  # another thread has just let it go
                self._pool.move_to_end(name)
        return history

    def _history(self, name: str, *, create: bool) -> History | None:
        known = self._pool.get(name)
        journal = self.journals.find(name)
        if journal is None and create:
            with self._making[hash(name) % MAKERS]:
                journal = self.journals.open(name)
        with self._guard:
            if journal is None:
                if self._pool.get(name) is known:  # else another thread has just made it
                    self._pool.pop(name, None)
                return None
            history = self._pool.get(name)
            if history is None or history.journal is not journal:
                if history is not None:
                    history.forget()
                history = self._pool[name] = History(journal, self._cache, self._early.pop(name, None))
                if len(self._pool) > INDEXES:
                    self._pool.popitem(last=False)[1].forget()
            self._pool.move_to_end(name)
            return history


def _elapsed() -> float:
    """Seconds by a clock that nobody sets; on Linux one that goes on while the machine sleeps."""
    boottime = getattr(clocks, "CLOCK_BOOTTIME", None)
    return clocks.monotonic() if boottime is None else clocks.clock_gettime(boottime)
