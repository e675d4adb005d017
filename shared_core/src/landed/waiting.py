"""Waiting for a lock that another process has: a few tries, then a thread that blocks in the kernel's queue.

Apart from `landed.lock`, which needs it only under contention. A loop that polls would let the holder take the lock
again and starve the others; a call that blocks in the caller's own thread would know no timeout.

The kernel wakes the first of its queue when the lock is free, and gives it to whoever asks next. On a busy machine that
is the process which had it last: it runs, and the woken one waits for a processor. So whoever had to wait for the lock
stays back for a moment the next few times that it asks.
"""

from __future__ import annotations

import _thread
import errno
from time import sleep

from landed import aside, lock
from landed._fs import posix
from landed.errors import LockTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from landed import _fs

PAUSES: Final = (0.00005, 0.0001, 0.0002)
"""Seconds between the first attempts: most holders are done by then, and a thread to wait in costs as much. Few and
short, so that whoever waits in the kernel's queue is not overtaken for long."""
YIELDS: Final = 3
"""How often, before that, whoever waits for a lock that is held for microseconds lets others have the processor: its
holder, when our waking up is what has stopped it. A sleep costs as much processor time as the holder's whole turn."""
WATCHED_PAUSES: Final = (0.00005,) * 40
"""The pauses for such a lock: a hand-over in the kernel takes longer than it is held, and who looks again and again is
served as fairly, by chance."""
COURTESIES: Final = 4
"""How many acquisitions after one that had to wait stay back first: a lock that is free then may still be wanted by one
that was woken for it and has no processor yet."""
COURTESY: Final = 0.001
"""Seconds to stay back, so that whoever was woken gets a processor. A busy machine's scheduler hardly heeds less, and
the lock stands idle for no longer than that."""

_give_way: Callable[[], object] = getattr(posix, "sched_yield", lambda: sleep(0))
"""Let another process have the processor; come back as soon as it is free."""


def wait(slot: lock._Slot, deadline: float, attempt: Callable[[int], bool], fs: _fs.FileOps, *, watched: bool) -> bool:
    """Whether the slot's lock was got before `deadline`; if not, the slot has no descriptor.

    Args:
        attempt: tries once to lock a descriptor.
        watched: whether the lock is held for microseconds, over and over.

    Raises:
        OSError: as `Waiter.wait`.
    """
    if slot.courtesies:
        slot.courtesies -= 1
        if lock._remaining(deadline) > COURTESY:
            sleep(COURTESY)
        if attempt(slot.fd):
            return True
    if not watched:
        slot.courtesies = COURTESIES
    return _try_then_queue(slot, deadline, attempt, fs, watched=watched)


def _try_then_queue(
    slot: lock._Slot, deadline: float, attempt: Callable[[int], bool], fs: _fs.FileOps, *, watched: bool
) -> bool:
    for _ in range(YIELDS if watched else 0):
        _give_way()
        if attempt(slot.fd):
            return True
    for pause in WATCHED_PAUSES if watched else PAUSES:
        if lock._remaining(deadline) < pause:
            break
        sleep(pause)
        if attempt(slot.fd):
            return True
    return Waiter(slot, fs).wait(deadline)


def timed_out(waited_for: lock.Lock) -> LockTimeout:
    """The error for a lock that was not free in time."""
    holder = waited_for.holder()
    error = LockTimeout(
        f"another holder kept the lock: {holder or 'one that does not say who it is'}",
        path=waited_for.path,
        step="lock",
        hint="Try again, or allow a longer timeout.",
    )
    error.holder = str(holder) if holder else None
    return error


class Waiter:
    """Owns the slot's descriptor until it has the lock, and hands it back then."""

    __slots__ = ("_abandoned", "_done", "_error", "_fd", "_fs", "_slot", "_state")

    def __init__(self, slot: lock._Slot, fs: _fs.FileOps) -> None:
        self._slot = slot
        self._fs = fs
        self._fd, slot.fd = slot.fd, -1
        self._abandoned = False
        self._error: OSError | None = None
        self._state = _thread.allocate_lock()
        self._done = _thread.allocate_lock()

    def wait(self, deadline: float) -> bool:
        """Whether the slot has a locked descriptor now; False when the time ran out, and then it has none.

        Raises:
            OSError: the lock cannot be taken, or there is no thread to wait in; the slot has no descriptor.
        """
        try:
            if lock._remaining(deadline) <= 0:
                self._drop()
                return False
            self._done.acquire()
            aside.run(self._block)
            self._done.acquire(timeout=lock._remaining(deadline))
        except RuntimeError as error:
            self._drop()
            raise OSError(errno.EAGAIN, f"no thread to wait in: {error}") from error
        finally:
            with self._state:
                self._abandoned = True
        if self._error is not None:
            raise self._error
        return self._slot.fd >= 0

    def _block(self) -> None:
        try:
            self._fs.flock(self._fd, blocking=True)
        except OSError as error:
            self._error = error
        with self._state:
            if self._abandoned or self._error is not None:
                self._drop()
            else:
                self._slot.fd = self._fd
        self._done.release()

    def _drop(self) -> None:
        with lock._guard:
            lock._discard(self._fs, self._fd)
