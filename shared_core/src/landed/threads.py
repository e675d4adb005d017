"""A thread for each call under way, and not one more: those that are idle serve first.

One pool of the standard library is no such thing. On CPython 3.12 a thread that has just ended a call may take the next
one before the idle thread that it was meant for; that one counts as busy from then on, and another is started in its
place, until there are as many as there may be. A pool of one thread cannot do that: so it is one for each thread here,
which the interpreter waits for at its end as for any other.
"""

from __future__ import annotations

import _thread
from collections import deque
from concurrent.futures import ThreadPoolExecutor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Threads:
    """Runs calls that may take long. Safe for threads.

    Args:
        most: threads at once; a call that finds as many at work waits until one has ended.
        name: what their names begin with.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._guard = _thread.allocate_lock()
        self._queue: deque[Callable[[], object]] = deque()
        self._idle: list[ThreadPoolExecutor] = []
        self._made = 0

    def submit(self, call: Callable[[], object]) -> None:
        """Run `call`, which raises nothing.

        Raises:
            RuntimeError: the interpreter ends, or the system has no thread for it; it is not run.
        """
        with self._guard:
            one = self._idle.pop() if self._idle else None
            if one is None:
                if self._made == self._most:
                    self._queue.append(call)
                    return
                self._made += 1
        try:
            if one is None:
                one = ThreadPoolExecutor(1, self._name)
            one.submit(self._serve, one, call)
        except BaseException:
            with self._guard:
                self._made -= 1
            raise

    def _serve(self, one: ThreadPoolExecutor, call: Callable[[], object] | None) -> None:
        while call is not None:
            call()
            with self._guard:
                call = self._queue.popleft() if self._queue else None
                if call is None:
                    self._idle.append(one)
