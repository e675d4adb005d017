"""A few threads that many short calls share.

A thread for each of many calls at once makes them wait for the interpreter's lock: every system call gives it away, and
whoever made it queues for it again behind all the others. Calls that take no longer than a flush are done sooner by a
few threads, one after the other. Where one takes longer after all, because another process keeps a lock, whoever waits
behind it calls for one more thread.
"""

from __future__ import annotations

import _thread
from collections import deque
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from landed.threads import Threads

AT_ONCE: Final = 16
"""Threads that share the calls: enough to keep a disk busy that takes some milliseconds to flush, and for the kernel to
merge the flushes of several."""
STUCK: Final = 0.05
"""Seconds in which no call has ended, while some wait, after which another thread helps out."""

MOMENT: Final = 0.01
"""Seconds that a thread without a call stays: to ask for one anew costs more than a call."""


class Workers:
    """Runs calls in the order in which they came. Safe for threads.

    Args:
        threads: what gives the threads.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._guard = _thread.allocate_lock()
        self._queue: deque[Callable[[], None]] = deque()
        self._idle: list[_thread.LockType] = []
        self._serving = 0
        self._ended = 0.0

    def submit(self, call: Callable[[], None]) -> None:
        """Run `call`, which raises nothing, as soon as a thread is free.

        Raises:
            RuntimeError: the interpreter ends; it is not run.
        """
        with self._guard:
            if not self._serving:
                self._ended = monotonic()  # nobody waits yet
            self._queue.append(call)
            more = self._serving < AT_ONCE
            self._serving += more
            stayed = self._idle.pop() if more and self._idle else None
        if stayed is not None:
            stayed.release()
        elif more:
            try:
                self._threads.submit(self._serve)
            except RuntimeError:
                with self._guard:
                    self._serving -= 1
                    if call in self._queue:  # else another has it
                        self._queue.remove(call)
                        raise

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
        ended = False
        while True:
            gate = _thread.allocate_lock()
            gate.acquire()
            with self._guard:
                if ended:  # read and written at once, or a thread that was put off in between sets it back
                    self._ended = monotonic()
                call = self._queue.popleft() if self._queue else None
                ended = call is not None
                if call is None:
                    self._serving -= 1
                    self._idle.append(gate)
            if call is not None:
                call()
                del call
            elif not self._stay(gate):
                return

    def _stay(self, gate: _thread.LockType) -> bool:
        """Wait a moment for the next call, which often comes at once; whether there is one."""
        if gate.acquire(timeout=MOMENT):
            return True
        with self._guard:
            if gate in self._idle:
                self._idle.remove(gate)
                return False
        gate.acquire(timeout=STUCK)  # it has just come, but who brought it may be interrupted before it opens the gate
        return True
