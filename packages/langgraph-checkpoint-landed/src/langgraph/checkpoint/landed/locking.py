"""Whole runs one after the other: a lock that goes by a thread's id, among threads, tasks and processes."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING

from landed.aio import finish, finish_apart, outcome

if TYPE_CHECKING:
    from landed.engine import Mutex


class ThreadLock:
    """The context manager that `LandedSaver.thread_lock` gives, for ``with`` and ``async with``. Not re-entrant."""

    def __init__(self, lock: Mutex, timeout: float) -> None:
        self._lock = lock
        self._timeout = timeout

    def __enter__(self) -> None:
        self._lock.acquire(self._timeout, owner=threading.get_ident())

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        try:
            await finish(partial(self._lock.acquire, self._timeout, owner=task))
        except asyncio.CancelledError as cancelled:
            ended = outcome(cancelled)
            if ended is not None and ended.error is None:
                await self._leave(cancelled)  # it was taken for a task that will never run the block
            raise

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self._leave(error)

    async def _leave(self, error: BaseException | None) -> None:
        """Give the lock back; an engine's is a request, for which the event loop would stand still."""
        try:
            await finish_apart(self._lock.release)
        except asyncio.CancelledError:
            if not isinstance(error, asyncio.CancelledError):  # else that one goes on, with the outcome that it carries
                raise
