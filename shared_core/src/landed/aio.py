"""The whole-file operations for asyncio. Each runs in a worker thread, and finishes what it began.

A cancellation (or a timeout) that arrives while a write is under way waits until the outcome is known, and then goes
on. The asyncio.CancelledError carries the outcome, and so does the TimeoutError that ``asyncio.wait_for`` makes of it:
`outcome` reads it off either, so that nobody has to guess whether the bytes landed.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from contextlib import suppress
from functools import partial

from landed.files import FILES
from landed.lock import DEFAULT_TIMEOUT
from landed.publish import READ
from landed.records import SEEN
from landed.threads import Threads
from landed.workers import STUCK, Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any, Final, NoReturn, TypeVar

    from landed.editing import Edit
    from landed.remote import RemoteEdit
    from landed.values import Data, Draft, Expect, Path, Receipt, Snapshot

    T = TypeVar("T")
    _Future = asyncio.Future[Any]
else:
    _Future = asyncio.Future

WAITERS: Final = 1024
"""Threads in which operations may wait for locks at once. They are landed's own: an event loop's few would all wait
for a lock whose holder then finds no thread to give it back in."""


class Outcome:
    """How an operation ended after its task was cancelled.

    Attributes:
        result: what it returned, or None.
        error: what it raised, or None.
    """

    __slots__ = ("error", "result")

    def __init__(self, result: object, error: BaseException | None) -> None:
        self.result = result
        self.error = error

    def __repr__(self) -> str:
        return f"<Outcome {self.result!r}>" if self.error is None else f"<Outcome {self.error!r}>"


def outcome(error: BaseException | None) -> Outcome | None:
    """How the operation ended that `error`, an asyncio.CancelledError or a TimeoutError, interrupted.

    Returns:
        None when `error` did not interrupt an operation of landed.
    """
    while error is not None:
        found: Outcome | None = getattr(error, "landed_outcome", None)
        if found is not None:
            return found
        error = error.__cause__ or error.__context__
    return None


async def finish(call: Callable[[], T]) -> T:
    """Run `call` in a thread of its own and wait for its end, whatever happens to the waiting task.

    Raises:
        asyncio.CancelledError: the task was cancelled meanwhile; raised when `call` has ended, with its `outcome`.
    """
    return await _finished(call, short=False)


async def finish_short(call: Callable[[], T]) -> T:
    """As `finish`, for a call that takes no longer than a flush or two, in one of a few threads that such calls share.

    Where many are under way at once, that is faster. Behind calls that take longer all the same, because
    another process keeps a lock, it begins a twentieth of a second late.
    """
    return await _finished(call, short=True)


async def finish_apart(call: Callable[[], object]) -> None:
    """As `finish`, in a thread that is made for it: all the others may be waiting for what `call` gives back."""
    errand = Errand(call)
    try:
        threading.Thread(target=errand.run, name="landed-leave").start()
    except RuntimeError:  # the system has none: the loop stands still, and nothing is kept
        errand.run()
    await errand.end()


async def _finished(call: Callable[[], T], *, short: bool) -> T:
    errand = Errand(call, short=short)
    errand.begin()
    result: T = await errand.end()
    return result


class Errand:
    """A call on its way to a thread. Nobody need run it if its work is done along with another's: then call it off.

    Made in the loop whose task waits for its end. The other methods may be called in any thread.

    Args:
        call: what to run.
        short: whether as by `finish_short`; else as by `finish`.
    """

    __slots__ = ("_call", "_desk", "_future", "_short")

    def __init__(self, call: Callable[[], Any], *, short: bool = True) -> None:
        self._call = call
        self._short = short
        self._desk = _desk()
        self._future = self._desk.open()

    def begin(self) -> None:
        """Run the call in a thread. Begun twice, it is run twice, and the first end counts."""
        try:
            if self._short:
                _workers.submit(self.run)
            else:
                _threads.submit(self.run)
        except RuntimeError as error:  # the interpreter ends
            self._desk.end(self._future, None, error)

    def call_off(self) -> None:
        """Let the task that waits go on, as if the call had returned None."""
        self._desk.end(self._future, None, None)

    def begin_after(self, seconds: float) -> None:
        """In the loop: run the call if it has not ended by then."""
        timer = self.loop.call_later(seconds, self.begin)
        self.when_ended(timer.cancel)

    def when_ended(self, then: Callable[[], object]) -> None:
        """In the loop: call `then` in the turn in which the task that waits goes on."""
        self._future.add_done_callback(lambda _: then())

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Whose task waits."""
        return self._desk.loop

    @property
    def ended(self) -> bool:
        """Whether that task goes on."""
        return self._future.done()

    async def end(self) -> Any:  # noqa: ANN401 - what the call returns
        """Wait for the end, whatever happens to the waiting task; as `finish`."""
        try:
            return await self._future
        except asyncio.CancelledError:
            await _end_cancelled(self._future)

    def run(self) -> None:
        """Run the call in this thread."""
        try:
            result = self._call()
        except StopIteration as error:  # no future takes it
            self._desk.end(self._future, None, RuntimeError(f"the call raised {error!r}"))
        except BaseException as error:  # noqa: BLE001 - who waits for it raises it
            self._desk.end(self._future, None, error)
        else:
            self._desk.end(self._future, result, None)


class _Pending(_Future):
    """Waited for by one task, whose cancellation comes through when this is done, and not before."""

    def cancel(self, msg: Any = None) -> bool:  # noqa: ANN401, ARG002 - as in the class above
        return False


class _Desk:
    """Where the tasks of one loop wait for what threads do: all that has ended meanwhile is told in one turn.

    A wake-up of the loop for each call would cost more than the call.
    """

    __slots__ = ("_called", "_ended", "_looking", "_open", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._open = 0
        self._ended: deque[tuple[_Pending, Any, BaseException | None]] = deque()
        self._called = False
        self._looking = False

    def open(self) -> _Pending:
        self._open += 1
        if not self._looking:
            self._looking = True
            self.loop.call_later(STUCK, self._look)
        return _Pending(loop=self.loop)

    def end(self, future: _Pending, result: object, error: BaseException | None) -> None:
        """In any thread: let the loop know."""
        self._ended.append((future, result, error))
        if not self._called:  # set back before the loop looks at what has ended: nothing is left behind
            self._called = True
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                self.loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._called = False
        while self._ended:
            future, result, error = self._ended.popleft()
            if future.done():
                continue
            self._open -= 1
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    def _look(self) -> None:
        """See now and then that there are threads enough, as long as somebody waits."""
        self._looking = self._open > 0
        if self._looking:
            _workers.help_out()
            self.loop.call_later(STUCK, self._look)


def _desk() -> _Desk:
    loop = asyncio.get_running_loop()
    desk: _Desk | None = getattr(_here, "desk", None)
    if desk is None or desk.loop is not loop:
        desk = _here.desk = _Desk(loop)
    return desk


async def _end_cancelled(future: asyncio.Future[T]) -> NoReturn:
    """Wait for the end, however often the task is cancelled again meanwhile, and go on with the cancellation."""
    while not future.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    failed = future.exception()
    ended = Outcome(None if failed else future.result(), failed)
    # The class itself: timeouts know a cancellation of their own making by exactly that.
    passed_on = asyncio.CancelledError(f"cancelled after the operation ended: {ended!r}")
    passed_on.landed_outcome = ended  # type: ignore[attr-defined]
    raise passed_on from failed


def _new_threads() -> None:
    global _threads, _workers  # noqa: PLW0603 - the threads of a pool do not live on in a forked child
    _threads = Threads(WAITERS, "landed")
    _workers = Workers(_threads)


_here = threading.local()
_threads: Threads
_workers: Workers
_new_threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_threads)


async def read(path: Path) -> Snapshot:
    """As `landed.read`."""
    return await finish(partial(FILES._read, path, _task()))


async def write(
    path: Path, data: Data, *, expect: Expect = SEEN, verify: str = READ, timeout: float = DEFAULT_TIMEOUT
) -> Receipt:
    """As `landed.write`; a cancellation meanwhile goes on when it has ended, with its `outcome`."""
    return await finish(partial(FILES._write, path, data, expect, verify, timeout, _task()))


async def delete(path: Path, *, expect: Expect = SEEN, timeout: float = DEFAULT_TIMEOUT) -> Receipt:
    """As `landed.delete`; a cancellation meanwhile goes on when it has ended, with its `outcome`."""
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
        self._make = partial(FILES._edit, path, verify, timeout)
        self._edit: Edit | RemoteEdit

    async def __aenter__(self) -> Draft:
        edit = self._make(_task())
        try:
            draft = await finish(edit.__enter__)
        except asyncio.CancelledError as cancelled:
            ended = outcome(cancelled)
            if ended is not None and ended.error is None:
                # The lock was taken for a task that will never run the block: give it back.
                await _leave(edit, asyncio.CancelledError, cancelled)
            raise
        self._edit = edit  # now, and not before: whoever is in the block of this same edit still needs its own
        return draft

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        await _leave(self._edit, kind, error)


async def _leave(edit: Edit | RemoteEdit, kind: type[BaseException] | None, error: BaseException | None) -> None:
    await finish_apart(partial(edit.__exit__, kind, error, None))


_tokens: weakref.WeakKeyDictionary[asyncio.Task[Any], object] = weakref.WeakKeyDictionary()


def _task() -> Hashable:
    """Who asks, where threads do not tell: a token of the task that no other task ever has."""
    task = asyncio.current_task()
    if task is None:
        return object()
    return _tokens.setdefault(task, object())
