"""A few threads that many short calls share.

A thread for each of many calls at once makes them wait for the interpreter's lock: every system call gives it away, and
whoever made it queues for it again behind all the others. Calls that take no longer than a flush are done sooner by a
few threads, one after the other. Where one takes longer after all, because another process keeps a lock, whoever waits
behind it calls for one more thread.
"""

from __future__ import annotations

import _thread
from collections import deque
from concurrent.futures import Future
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from typing import Any, Final

AT_ONCE: Final = 8
"""Threads that share the calls: enough to keep a disk busy that takes some milliseconds to flush."""
STUCK: Final = 0.05
"""Seconds in which no call has ended, while some wait, after which another thread helps out."""


class Workers:
    """Runs calls in the order in which they came. Safe for threads.

    Args:
        threads: what gives the threads.
    """

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self._guard = _thread.allocate_lock()
        self._queue: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._serving = 0
        self._ended = 0.0

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Run `call` as soon as a thread is free.

        Raises:
            RuntimeError: the interpreter ends; it is not run.
        """
        future: Future[Any] = Future()
        work = (call, future)
        with self._guard:
            if not self._serving:
                self._ended = monotonic()  # nobody waits yet
            self._queue.append(work)
            hired = self._serving < AT_ONCE
            self._serving += hired
        if hired:
            try:
                self._threads.submit(self._serve)
            except RuntimeError:
                with self._guard:
                    self._serving -= 1
                    if work in self._queue:  # else another has it
                        self._queue.remove(work)
                        raise
        return future

    def help_out(self) -> None:
        """Start one more thread if calls wait and none has ended for a while: those that run wait for something too."""
        with self._guard:
            if not self._queue or monotonic() - self._ended < STUCK:
                return
            self._serving += 1
        try:
            self._threads.submit(self._serve)
        except RuntimeError:
            with self._guard:
                self._serving -= 1  # the others will have to do

    def _serve(self) -> None:
        while True:
            with self._guard:
                if not self._queue:
                    self._serving -= 1
                    return
                call, future = self._queue.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 - who waits for it raises it
                future.set_exception(error)
            else:
                future.set_result(result)
            with self._guard:  # read and written at once, or a thread that was put off in between sets it back
                self._ended = monotonic()
            del call, future
