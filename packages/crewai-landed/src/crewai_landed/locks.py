"""CrewAI's locks in a place of one's own, where every process finds them, whatever its temp directory is.

CrewAI takes a lock around its own stores: by default a file in the temp directory, which another container does not
see and another user may not open. `Locks` is a backend for ``crewai_core.lock_store.set_lock_backend``.
"""

from __future__ import annotations

import inspect
import os
import sys
import threading
from typing import TYPE_CHECKING, Final

from landed import Journals
from landed.engines import absolute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from landed.engine import Mutex

CREWAI_TIMEOUT: Final = 120.0
"""Seconds that CrewAI waits for a lock unless it says otherwise."""


class Locks:
    """Named locks in a place: among threads, processes, containers that mount it, and users who may write it.

    Code that runs inside a ``with`` block may take the lock of that block again.

    Args:
        path: a directory, created when missing, in whose ``locks`` their files are. Or an engine's address: the locks
            are among all hosts then, and what [the engine](engines.md) does not promise of a lock, these do not.

    Raises:
        Refused: no engine has that address, or the server cannot carry locks.
        NotLanded: the directory cannot be made, or the server cannot be reached.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = absolute(path)
        self._journals = Journals(self.path)
        self._guard = threading.Lock()
        self._holders: dict[str, _Held] = {}
        self._pid = os.getpid()

    def __call__(self, name: str, *, timeout: float = CREWAI_TIMEOUT) -> _Held:
        """The lock of that name, for one ``with`` block.

        Args:
            timeout: seconds to wait for it.
        """
        return _Held(self, name, timeout)

    def lock(self, name: str) -> Mutex:
        """The lock of a name, without what makes it re-entrant."""
        return self._journals.lock(f"crewai {name}")

    def holder(self, name: str) -> _Held | None:
        """Who holds the lock in this process."""
        if self._pid != os.getpid():  # in a forked child nobody does, and another thread may have held the guard
            self._guard, self._holders, self._pid = threading.Lock(), {}, os.getpid()
        with self._guard:
            return self._holders.get(name)

    def note(self, name: str, held: _Held | None) -> None:
        """Say who holds the lock in this process."""
        with self._guard:
            if held is None:
                self._holders.pop(name, None)
            else:
                self._holders[name] = held


class _Held:
    """One use of a lock. Entered in one thread, it may be left in another: CrewAI's async code does so."""

    def __init__(self, locks: Locks, name: str, timeout: float) -> None:
        self._locks = locks
        self._name = name
        self._timeout = timeout
        self._lock = locks.lock(name)
        self._block: FrameType | None = None
        self._within = False

    def __enter__(self) -> None:
        """Take the lock.

        Raises:
            LockTimeout: it was not free in time; names the holder.
            NotLanded: the lock file cannot be opened, or the server cannot be reached.
        """
        holder = self._locks.holder(self._name)
        callers = _callers()
        block = next(callers)
        if holder is not None and (holder.is_at(block) or any(holder.is_at(frame) for frame in callers)):
            self._within = True
            return
        self._lock.acquire(self._timeout, owner=self)
        self._block = block
        self._locks.note(self._name, self)

    def is_at(self, frame: FrameType) -> bool:
        """Whether the block that took the lock belongs to `frame`. Threads do not tell: they take up other work."""
        return self._block is frame

    def __exit__(self, *_: object) -> None:
        if not self._within:
            self._block = None
            self._locks.note(self._name, None)
            self._lock.release()


def _callers() -> Iterator[FrameType]:
    """The frames of the blocks that enter a lock, innermost first, without those of the context managers between."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        manager = frame.f_code.co_flags & inspect.CO_GENERATOR or frame.f_code.co_name == "__enter__"
        if not manager and frame.f_globals.get("__name__") not in {__name__, "contextlib"}:
            yield frame
        frame = frame.f_back
