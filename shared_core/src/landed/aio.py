"""The whole-file operations for asyncio. Each runs in a worker thread, and finishes what it began.

A cancellation (or a timeout) that arrives while a write is under way waits until the outcome is known. Then it is
raised as `Cancelled`, an `asyncio.CancelledError` that carries the outcome: ``asyncio.wait_for`` shows it as the cause
of its TimeoutError, so that nobody has to guess whether the bytes landed.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from landed.files import FILES, Edit
from landed.lock import DEFAULT_TIMEOUT
from landed.publish import READ
from landed.values import SEEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import TypeVar

    from landed.values import Data, Draft, Expect, Path, Receipt, Snapshot

    T = TypeVar("T")


class Cancelled(asyncio.CancelledError):
    """The task was cancelled while an operation was under way; the operation has ended since.

    Attributes:
        result: what it returned, or None.
        error: what it raised, or None.
    """

    def __init__(self, result: object, error: BaseException | None) -> None:
        self.result = result
        self.error = error
        super().__init__(f"cancelled after the operation ended: {result if error is None else error!r}")


async def finish(call: Callable[[], T], executor: ThreadPoolExecutor | None = None) -> T:
    """Run `call` in a worker thread and wait for its end, whatever happens to the waiting task.

    Args:
        executor: whose thread; the event loop's own when None.

    Raises:
        Cancelled: the task was cancelled meanwhile; raised when `call` has ended.
    """
    future = asyncio.get_running_loop().run_in_executor(executor, call)
    cancelled = False
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            cancelled = True
    if not cancelled:
        return future.result()
    error = future.exception()
    raise Cancelled(None if error else future.result(), error) from error


async def read(path: Path) -> Snapshot:
    """As `landed.read`."""
    return await finish(partial(FILES._read, path, _task()))


async def write(
    path: Path, data: Data, *, expect: Expect = SEEN, verify: str = READ, timeout: float = DEFAULT_TIMEOUT
) -> Receipt:
    """As `landed.write`; raises `Cancelled` when the task was cancelled meanwhile."""
    return await finish(partial(FILES._write, path, data, expect, verify, timeout, _task()))


async def delete(path: Path, *, expect: Expect = SEEN, timeout: float = DEFAULT_TIMEOUT) -> Receipt:
    """As `landed.delete`; raises `Cancelled` when the task was cancelled meanwhile."""
    return await finish(partial(FILES._delete, path, expect, timeout, _task()))


async def verify(path: Path, *, level: str = READ, timeout: float = DEFAULT_TIMEOUT) -> Receipt:
    """As `landed.verify`."""
    return await finish(partial(FILES._verify, path, level, timeout))


def edit(path: Path, *, verify: str = READ, timeout: float = DEFAULT_TIMEOUT) -> AsyncEdit:
    """As `landed.edit`, for ``async with``."""
    return AsyncEdit(path, verify, timeout)


class AsyncEdit:
    """The asynchronous context manager that `edit` gives."""

    def __init__(self, path: Path, verify: str, timeout: float) -> None:
        self._make = partial(Edit, FILES, path, verify, timeout)
        self._edit: Edit
        # The loop's own threads may all be waiting for the lock that this edit holds; leaving needs one that is not.
        self._leaver = ThreadPoolExecutor(1, "landed-edit")

    async def __aenter__(self) -> Draft:
        self._edit = self._make(_task())
        try:
            return await finish(self._edit.__enter__)
        except Cancelled as cancelled:
            if cancelled.error is None:
                # The lock was taken for a task that will never run the block: give it back.
                await self._leave(Cancelled, cancelled)
            raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        await self._leave(kind, error)

    async def _leave(self, kind: type[BaseException] | None, error: BaseException | None) -> None:
        try:
            await finish(partial(self._edit.__exit__, kind, error, None), self._leaver)
        finally:
            self._leaver.shutdown(wait=False)


def _task() -> Hashable:
    """Who asks, where threads do not tell: each task has seen what it has seen."""
    return ("task", id(asyncio.current_task()))
