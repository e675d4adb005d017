"""At most one writer: a fair kernel lock with a timeout, released by the kernel when its holder dies.

The lock is ``flock`` (on Windows LockFileEx, by way of filelock) on a file that is never unlinked: the same lock that
`filelock.FileLock` takes on the same file. Acquiring tries once without blocking. If another process has the lock, a
helper thread blocks in the kernel on a descriptor of its own and hands it over, so that waiters queue where the kernel
queues them and a timeout still works: a loop that polls lets the holder take the lock again and starves the others.
Threads of one process queue in front of that, first come, first served.

There is no expiry, no lease and no stale-lock eviction. A stopped holder keeps the lock, a dead one cannot.
"""

from __future__ import annotations

import _thread
import errno
import os
from time import monotonic, time

from landed import _fs
from landed.errors import LockTimeout, NotLanded, Refused, from_os_error
from landed.process import Owner, me

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Final

DEFAULT_TIMEOUT: Final = 30.0
"""Seconds to wait for a lock unless told otherwise; a holder that works for longer is more likely stuck than busy."""
IDLE_DESCRIPTORS: Final = 128
"""Lock files kept open for the next acquisition; well under the usual limit of 1,024 descriptors."""
REOPENS: Final = 100
"""How often a lock file may be replaced between our opening and our locking it before that is an error."""
PRIVATE: Final = 0o600
"""Permission bits of a lock file for one user."""
HOLDER_OFFSET: Final = 64
"""Where the holder's line starts; LockFileEx locks the first byte against reading as well."""
HOLDER_SIZE: Final = 256
"""Bytes of the holder's line, padded, so that a shorter one covers a longer one."""


class Holder:
    """Who holds a lock and since when, as the holder wrote it down. For messages; nothing trusts it.

    Attributes:
        owner: the process.
        since: when it took the lock, in seconds since the epoch.
    """

    __slots__ = ("owner", "since")

    def __init__(self, owner: Owner, since: float) -> None:
        self.owner = owner
        self.since = since

    def __str__(self) -> str:
        return f"{self.owner}, for {max(0.0, time() - self.since):.1f} s"


class _Slot:
    """What the threads of this process share for one lock path."""

    __slots__ = ("busy", "fd", "identity", "owner", "users", "waiters")

    def __init__(self) -> None:
        self.fd = -1
        self.identity = (0, 0)
        self.busy = False
        self.owner: Hashable = None
        self.users = 0
        self.waiters: list[_thread.LockType] = []


_guard = _thread.allocate_lock()
_slots: dict[str, _Slot] = {}
_descriptors: set[int] = set()
"""Every descriptor of a lock file in this process. A forked child closes them: they share the parent's lock."""
_generation = 0


class Lock:
    """An exclusive lock on a lock file, among threads, processes and programs. Not re-entrant.

    Args:
        path: the lock file; created when missing, never removed. Its directory must exist.
        mode: permission bits for a lock file that is created.
        watched: the caller itself notices when the lock file is unlinked or replaced; spares a look each time.
        fs: the file operations to use.
    """

    __slots__ = ("_fs", "_generation", "_held", "_mode", "_watched", "path")

    def __init__(self, path: str, *, mode: int = PRIVATE, watched: bool = False, fs: _fs.FileOps = _fs.LOCAL) -> None:
        self.path = os.path.abspath(path)
        self._mode = mode
        self._watched = watched
        self._fs = fs
        self._held: _Slot | None = None
        self._generation = -1

    @property
    def held(self) -> bool:
        """Whether this object holds the lock, in this process."""
        return self._held is not None and self._generation == _generation

    def acquire(self, timeout: float = DEFAULT_TIMEOUT, *, owner: Hashable = None) -> None:
        """Take the lock.

        Args:
            timeout: seconds to wait at most; 0 tries once.
            owner: who asks, for telling a wait from a deadlock; the calling thread when None.

        Raises:
            LockTimeout: it was not free in time; names the holder. Nothing was changed.
            Refused: this owner holds it already and would wait for itself.
            NotLanded: the lock file cannot be opened or locked.
        """
        deadline = monotonic() + timeout
        owner = _thread.get_ident() if owner is None else owner
        slot = self._take_turn(deadline, owner)
        try:
            self._lock_file(slot, deadline)
            slot.owner = owner
            self._held, self._generation = slot, _generation
        except BaseException:
            self._held = None
            _close(self._fs, slot)
            _pass_on(self.path, slot, self._fs)
            raise

    def release(self) -> None:
        """Give the lock back; does nothing in a forked child, where the lock is still the parent's."""
        slot = self._held
        if slot is None or self._generation != _generation:
            self._held = None
            return
        try:
            self._fs.funlock(slot.fd)
        except OSError:
            _close(self._fs, slot)  # which gives the lock back as well
        except BaseException:
            _close(self._fs, slot)
            raise
        finally:
            self._held = slot.owner = None
            _pass_on(self.path, slot, self._fs)

    def forget_file(self) -> None:
        """Close the held lock file, which gives the lock back; the next acquisition opens what is at the path then."""
        if self._held is not None:
            _close(self._fs, self._held)

    def still_ours(self) -> bool:
        """Whether the held lock file is still the one that others will lock (nobody unlinked or replaced it)."""
        return self._held is not None and self._leads_to(self._held)

    def holder(self) -> Holder | None:
        """Who wrote down last that it holds the lock, and still lives; None when nobody did or it is dead."""
        try:
            fd = self._fs.open(self.path, os.O_RDONLY | _fs.NOFOLLOW | _fs.NONBLOCK)
        except OSError:
            return None
        try:
            line = self._fs.pread(fd, HOLDER_SIZE, HOLDER_OFFSET)
        except OSError:
            return None
        finally:
            self._fs.close(fd)
        since, _, rest = line.decode("utf-8", "replace").strip("\0\n ").partition(" ")
        owner = Owner.decode(rest)
        try:
            return Holder(owner, float(since)) if owner is not None and owner.alive() is not False else None
        except ValueError:
            return None

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    # In this process: first come, first served.

    def _take_turn(self, deadline: float, owner: Hashable) -> _Slot:
        with _guard:
            slot = _slots.get(self.path)
            if slot is None:
                slot = _slots[self.path] = _Slot()
            if slot.busy and slot.owner == owner:
                raise Refused(
                    "this thread or task already holds the lock and would wait for itself",
                    path=self.path,
                    step="lock",
                    hint="Write through the document that edit() gave, or leave its block first.",
                )
            slot.users += 1
            if not slot.busy:
                slot.busy = True
                return slot
            turn = _thread.allocate_lock()
            turn.acquire()
            slot.waiters.append(turn)
        got = False
        try:
            got = turn.acquire(timeout=_remaining(deadline))
        finally:
            if not got:
                self._leave_queue(slot, turn)
        if not got:
            raise self._timeout()
        return slot

    def _leave_queue(self, slot: _Slot, turn: _thread.LockType) -> None:
        with _guard:
            if turn in slot.waiters:
                slot.waiters.remove(turn)
                slot.users -= 1
                return
        _pass_on(self.path, slot, self._fs)  # the turn came while we were leaving

    # Between processes: the kernel's queue.

    def _lock_file(self, slot: _Slot, deadline: float) -> None:
        try:
            for _ in range(REOPENS):
                if slot.fd < 0:
                    self._open(slot)
                try:
                    self._fs.flock(slot.fd, blocking=False)
                except OSError as error:
                    if error.errno not in _fs.CONTENDED:
                        raise
                    if _remaining(deadline) <= 0 or not _Waiter(slot, self._fs).wait(_remaining(deadline)):
                        raise self._timeout() from None
                if self._watched or self._leads_to(slot):
                    self._sign(slot.fd)
                    return
                _close(self._fs, slot)  # somebody unlinked or replaced it: lock the one that others will find
        except OSError as error:
            raise from_os_error(
                NotLanded, error, "the lock file cannot be locked", path=self.path, step="lock"
            ) from error
        raise NotLanded(
            f"the lock file was replaced {REOPENS} times in a row while we locked it", path=self.path, step="lock"
        )

    def _open(self, slot: _Slot) -> None:
        fd = self._fs.open(self.path, os.O_RDWR | os.O_CREAT | _fs.NOFOLLOW | _fs.NONBLOCK, self._mode)
        _descriptors.add(fd)
        slot.fd = fd
        status = self._fs.fstat(fd)
        slot.identity = (status.st_dev, status.st_ino)
        if self._mode != PRIVATE and status.st_mode & 0o777 != self._mode and status.st_uid == os.geteuid():
            self._fs.fchmod(fd, self._mode)  # the umask took bits that the users of a shared directory need

    def _leads_to(self, slot: _Slot) -> bool:
        try:
            status = self._fs.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == slot.identity

    def _sign(self, fd: int) -> None:
        line = f"{time():.3f} {me().encode()}".encode()[: HOLDER_SIZE - 1]
        self._fs.pwrite(fd, line.ljust(HOLDER_SIZE - 1) + b"\n", HOLDER_OFFSET)

    def _timeout(self) -> LockTimeout:
        holder = self.holder()
        error = LockTimeout(
            f"another holder kept the lock: {holder or 'one that does not say who it is'}",
            path=self.path,
            step="lock",
            hint="Try again, or allow a longer timeout.",
        )
        error.holder = str(holder) if holder else None
        return error


class _Waiter:
    """A thread that blocks in the kernel on the slot's descriptor; it owns the descriptor until it has the lock."""

    __slots__ = ("_abandoned", "_done", "_error", "_fd", "_fs", "_slot", "_state")

    def __init__(self, slot: _Slot, fs: _fs.FileOps) -> None:
        self._slot = slot
        self._fs = fs
        self._fd, slot.fd = slot.fd, -1
        self._abandoned = False
        self._error: OSError | None = None
        self._state = _thread.allocate_lock()
        self._done = _thread.allocate_lock()
        self._done.acquire()
        try:
            _thread.start_new_thread(self._block, ())
        except RuntimeError as error:
            self._drop()
            raise OSError(errno.EAGAIN, f"no thread to wait in: {error}") from error

    def wait(self, timeout: float) -> bool:
        """Whether the slot has a locked descriptor now; False when the time ran out, and then it has none."""
        try:
            self._done.acquire(timeout=timeout)
        except BaseException:
            self._abandon()
            raise
        return self._abandon()

    def _abandon(self) -> bool:
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
        _descriptors.discard(self._fd)
        self._fs.close(self._fd)


def _remaining(deadline: float) -> float:
    return max(0.0, min(deadline - monotonic(), _thread.TIMEOUT_MAX))


def _pass_on(path: str, slot: _Slot, fs: _fs.FileOps) -> None:
    """Give this process's turn to the next thread in the queue."""
    with _guard:
        slot.users -= 1
        if slot.waiters:
            slot.waiters.pop(0).release()
            return
        slot.busy = False
        # The order of the dictionary is the order of last use; the oldest idle ones go.
        if _slots.get(path) is slot:
            del _slots[path]
            if slot.fd >= 0:
                _slots[path] = slot
        idle = None
        if len(_slots) > IDLE_DESCRIPTORS:
            idle = next(((name, other) for name, other in _slots.items() if other.users == 0), None)
            if idle is not None:
                del _slots[idle[0]]
    if idle is not None:
        _close(fs, idle[1])


def _close(fs: _fs.FileOps, slot: _Slot) -> None:
    fd, slot.fd = slot.fd, -1
    if fd >= 0:
        _descriptors.discard(fd)
        fs.close(fd)


def _before_fork() -> None:
    _guard.acquire()


def _after_fork_in_parent() -> None:
    _guard.release()


def _after_fork_in_child() -> None:
    # The locks belong to the parent. Closing our copies of its descriptors is harmless; unlocking one would not be.
    global _guard, _generation  # noqa: PLW0603 - a forked child starts afresh
    _guard = _thread.allocate_lock()
    _generation += 1
    for fd in _descriptors:
        try:
            os.close(fd)
        except OSError:
            continue
    _descriptors.clear()
    _slots.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
