"""Waiting for a lock that another process has: a thread that blocks in the kernel, so that waiters queue fairly there.

Apart from `landed.lock`, which needs it only under contention. A loop that polls would let the holder take the lock
again and starve the others; a call that blocks in the caller's own thread would know no timeout.
"""

from __future__ import annotations

import _thread
import errno

from landed import aside, lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from landed import _fs


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
