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
from time import monotonic, time

from landed import _fs
from landed._fs import LOCAL, posix
from landed.errors import NotLanded, Refused, from_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Hashable
    from typing import Final

    from landed.holder import Holder
    from landed.process import Owner

DEFAULT_TIMEOUT: Final = 30.0
"""Seconds to wait for a lock unless told otherwise; a holder that works for longer is more likely stuck than busy."""
FOREVER: Final = float("inf")
"""Seconds that no time is later than."""
IDLE_DESCRIPTORS: Final = 128
"""Lock files, and files beside them, kept open for the next time; macOS allows a process 256 descriptors."""
REOPENS: Final = 100
"""How often a lock file may be replaced between our opening and our locking it before that is an error."""
STOPPED: Final = 1.0
"""Seconds after which who has the guard is not at work, but under the signal handler that forks."""
PRIVATE: Final = 0o600
"""Permission bits of a lock file for one user."""
HOLDER_OFFSET: Final = 64
"""Where the holder's line starts; LockFileEx locks the first byte against reading as well."""
WATCHED: Final = b"-"
"""Stands for the time in the line of a lock that is held over and over, for microseconds."""
HOLDER_SIZE: Final = 256
"""Bytes of the holder's line, padded, so that a shorter one covers a longer one."""
IMPORTED_LATER: Final = (
    *("landed.deleting", "landed.editing", "landed.engines", "landed.files", "landed.holder", "landed.journals"),
    *("landed.landing", "landed.lease", "landed.local.collection", "landed.local.log", "landed.log", "landed.memory"),
    *("landed.process", "landed.remote", "landed.state", "landed.waiting", "hashlib", "logging", "unicodedata", "zlib"),
)
"""What calls on local files and journals import when they first need it."""


class _Turn:
    """One caller's claim to a slot: in its queue, at its head, or done."""

    __slots__ = ("closed", "gate", "owner", "slot")

    def __init__(self, owner: Hashable) -> None:
        self.owner = owner
        self.slot: _Slot | None = None
        self.gate: _thread.LockType | None = None
        self.closed = False


class _Slot:
    """What the threads of this process share for one lock path."""

    __slots__ = ("beside", "courtesies", "fd", "identity", "known", "ours", "turn", "waiters")

    def __init__(self) -> None:
        self.fd = -1
        self.ours = False
        self.beside: dict[str, tuple[int, int]] = {}
        self.known: object = None
        self.identity: tuple[int, int] = (0, 0)
        self.turn: _Turn | None = None
        self.waiters: list[_Turn] = []
        self.courtesies = 0  # our next acquisitions that let other processes go first


_guard = _thread.allocate_lock()
"""For the tables below, and around every open and close: a fork finds each descriptor noted or closed."""
_slots: dict[str, _Slot] = {}
_descriptors: set[int] = set()
"""Every descriptor of a lock file in this process, and of files beside one; a forked child closes its copies."""
_generation = 0
_forking: list[bool] = []
"""Of each fork under way, whether it has the guard."""


class Lock:
    """An exclusive lock on a lock file, among threads, processes and programs. Not re-entrant.

    Args:
        path: the lock file; created when missing, never removed. Its directory must exist.
        mode: permission bits for a lock file that is created.
        fs: the file operations to use.
    """

    __slots__ = ("_fs", "_generation", "_held", "_mode", "_seen", "_watched", "path")

    def __init__(self, path: str, *, mode: int = PRIVATE, fs: _fs.FileOps = LOCAL) -> None:
        self.path = path if path.startswith(_fs.SEP) else _fs.os_path().abspath(path)
        self._mode = mode
        self._watched = False
        self._seen = (0, 0)
        self._fs = fs
        self._held: _Turn | None = None
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
            Refused: this owner holds it already and would wait for itself; or an argument is of the wrong kind.
            NotLanded: the lock file cannot be opened or locked.
        """
        deadline = deadline_after(timeout)
        turn = _Turn(_thread.get_ident() if owner is None else owner)
        try:
            self._lock_file(self._take(turn, deadline), deadline)
            self._generation, self._held = _generation, turn
        except BaseException:
            _end(self, turn, close=True)
            raise

    def release(self) -> None:
        """Give the lock back; does nothing in a forked child, where the lock is still the parent's."""
        turn = self._held
        try:
            self._release(turn)
        except BaseException:
            self._release(turn)  # an interrupt must not leave it half given back
            raise

    def _release(self, turn: _Turn | None) -> None:
        if turn is None:
            return
        if self._generation != _generation:
            self._held = None
            return
        slot, closed = turn.slot, False
        try:
            if slot is not None and slot.turn is turn and slot.fd >= 0:
                self._fs.funlock(slot.fd)
        except OSError:
            closed = True  # which gives the lock back as well
        _end(self, turn, close=closed)

    def still_ours(self) -> bool:
        """Whether this process holds the lock, and the lock file is still the one that others will lock.

        Raises:
            NotLanded: the lock file cannot be looked up.
        """
        try:
            return self.held and self._held is not None and self._leads_to(self._held.slot)
        except OSError as error:
            raise self._failed(error) from error

    def holder(self) -> Holder | None:
        """Who holds the lock, by the kernel's word, or else who wrote it down last and lives; None when unknown."""
        from landed.holder import holder_of

        return holder_of(self.path, self._fs)

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    # In this process: first come, first served.

    def _take(self, turn: _Turn, deadline: float) -> _Slot:
        with _guard:
            slot = _slots.get(self.path)
            if slot is None:
                slot = _slots[self.path] = _Slot()
            if slot.turn is not None and slot.turn.owner == turn.owner:
                raise Refused(
                    "this thread or task already holds the lock and would wait for itself",
                    path=self.path,
                    step="lock",
                    hint="Write through the document that edit() gave, or leave its block first.",
                )
            turn.slot = slot
            if slot.turn is None:
                slot.turn = turn
                return slot
            turn.gate = _thread.allocate_lock()
            turn.gate.acquire()
            slot.waiters.append(turn)
        if not turn.gate.acquire(timeout=_remaining(deadline)):
            from landed.waiting import timed_out

            raise timed_out(self)
        return slot

    # Between processes: the kernel's queue.

    def _lock_file(self, slot: _Slot, deadline: float) -> None:
        try:
            for _ in range(REOPENS):
                if slot.fd < 0:
                    self._open(slot)
                if slot.courtesies or not self._try(slot.fd):
                    self._wait(slot, deadline)
                if slot.identity == self._seen:
                    return  # watched: held for microseconds, over and over; the kernel names its holder
                if self._leads_to(slot):
                    if self._watched:
                        self._seen = slot.identity
                    self._sign(slot)
                    return
                with _guard:  # somebody unlinked or replaced it: lock the one that others will find
                    _close(self._fs, slot)
        except OSError as error:
            raise self._failed(error) from error
        raise NotLanded(
            f"the lock file was replaced {REOPENS} times in a row while we locked it", path=self.path, step="lock"
        )

    def _try(self, fd: int) -> bool:
        try:
            self._fs.flock(fd, blocking=False)
        except OSError as error:
            if error.errno not in _fs.CONTENDED:
                raise
            return False
        return True

    def _wait(self, slot: _Slot, deadline: float) -> None:
        from landed.waiting import timed_out, wait  # most locks are free

        if not wait(slot, deadline, self._try, self._fs, watched=self._watched):
            raise timed_out(self)

    def _open(self, slot: _Slot) -> None:
        with _guard:
            _close(self._fs, slot)  # what is beside it may be as old as the lock file that is gone
            slot.fd, _ = _fs.open_or_look(self._fs, self.path, _fs.MADE, self._mode, look=self._watched)
            _descriptors.add(slot.fd)
        status = self._fs.fstat(slot.fd)
        if not _fs.is_regular(status):
            raise OSError(errno.EINVAL, "it is not a regular file", self.path)
        slot.identity = (status.st_dev, status.st_ino)
        slot.ours = status.st_nlink <= 1  # else it may be a neighbour's second name for somebody's file
        if slot.ours:
            self._give_bits(slot.fd, status)

    def _give_bits(self, fd: int, status: os.stat_result) -> None:
        """Give the users of a shared directory the bits that the umask took."""
        if self._mode != PRIVATE and status.st_mode & 0o777 != self._mode and _fs.is_ours(status):
            self._fs.fchmod(fd, self._mode)

    def _leads_to(self, slot: _Slot | None) -> bool:
        try:
            status = self._fs.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return slot is not None and (status.st_dev, status.st_ino) == slot.identity

    def _sign(self, slot: _Slot) -> None:
        if not slot.ours:
            return
        try:
            since = WATCHED if self._watched else b"%.3f" % time()
            self._fs.pwrite(slot.fd, b"%b %b" % (since, _signature()), HOLDER_OFFSET)
        except OSError:
            return  # a full disk: the lock is held all the same, and only a message misses its name

    def _failed(self, error: OSError) -> NotLanded:
        return from_os_error(NotLanded, error, "the lock file cannot be locked", path=self.path, step="lock")


class StoreLock(Lock):
    """The lock of a store or a journal, with the files that it guards. For landed's own modules.

    Args:
        path: as of `Lock`.
        mode: permission bits for a lock file, and files beside it, that are created.
        watched: of a journal, which itself notices that the file was unlinked or replaced, and may only be readable.
        fs: the file operations to use.
    """

    __slots__ = ()

    def __init__(self, path: str, *, mode: int = PRIVATE, watched: bool = False, fs: _fs.FileOps = LOCAL) -> None:
        super().__init__(path, mode=mode, fs=fs)
        self._watched = watched

    def abandon(self) -> None:
        """After an interrupt, which may have struck just before `release`: give back what this thread still has."""
        turn = self._held
        if turn is not None and turn.owner == _thread.get_ident():
            self.release()

    def forget_file(self) -> None:
        """Close the held lock file, which gives the lock back; the next acquisition opens what is at the path then."""
        if self._held is not None and self._held.slot is not None:
            with _guard:
                _close(self._fs, self._held.slot)

    def beside(self, path: str, flags: int, edition: int = 0) -> int:
        """The descriptor of a file that the lock guards. Needs the lock. It stays open as long as the lock file's own.

        Args:
            edition: if it is not that of the last time, the file is opened anew.

        Raises:
            OSError: as the system does; also when a neighbour has put something else in its place.
        """
        slot = self._slot
        kept = slot.beside.get(path)
        if kept is not None:
            if kept[1] == edition:
                return kept[0]
            self.close_beside(path)
        with _guard:
            fd = self._fs.open(path, flags | _fs.KEPT, self._mode)
            _descriptors.add(fd)
            slot.beside[path] = (fd, edition)
        try:
            self._check_beside(fd, path)
        except BaseException:
            self.close_beside(path)
            raise
        return fd

    def _check_beside(self, fd: int, path: str) -> None:
        status = self._fs.fstat(fd)
        if not _fs.is_regular(status) or status.st_nlink > 1:
            raise OSError(errno.EINVAL, "it is not a regular file of one name", path)
        self._give_bits(fd, status)

    def close_beside(self, path: str) -> None:
        """Close the file beside the lock; the next use opens what is there then."""
        slot = self._slot
        with _guard:
            fd, _ = slot.beside.pop(path, (-1, 0))
            _discard(self._fs, fd)

    @property
    def known(self) -> object:
        """What this process knows of the files beside the lock since it had it last. Needs the lock."""
        return self._slot.known

    @known.setter
    def known(self, known: object) -> None:
        self._slot.known = known

    @property
    def _slot(self) -> _Slot:
        turn = self._held
        if turn is None or turn.slot is None or self._generation != _generation:
            raise NotLanded("the lock is not held, or a parent process's", path=self.path, step="lock")
        return turn.slot


_signed: tuple[Owner, bytes] | None = None


def _signature() -> bytes:
    """This process's part of the holder's line, padded and ended."""
    global _signed  # noqa: PLW0603 - one cached value per process
    from landed.process import me

    owner = me()
    if _signed is None or _signed[0] is not owner:
        size = HOLDER_SIZE - len("1234567890.123 ")
        _signed = (owner, owner.encode().encode()[: size - 1].ljust(size - 1) + b"\n")
    return _signed[1]


def deadline_after(timeout: float) -> float:
    """When a wait that begins now ends, in seconds of `monotonic`; raises `Refused` where `timeout` is no number."""
    try:
        deadline = monotonic() + timeout
        if deadline <= FOREVER:  # which nan is not
            return deadline
    except (TypeError, OverflowError):
        pass
    raise Refused(f"a timeout is a number of seconds, not {timeout!r}", step="argument")


def _remaining(deadline: float) -> float:
    return max(0.0, min(deadline - monotonic(), _thread.TIMEOUT_MAX))


def _end(lock: Lock, turn: _Turn, *, close: bool) -> None:
    """Take `turn` out of its slot, from wherever it is, and wake the next. Can be repeated after an interrupt."""
    with _guard:
        if lock._held is turn:  # before the next is woken: threads share the object, and it may be theirs from then on
            lock._held = None
        slot = turn.slot
        if slot is None:
            return
        if slot.turn is turn:
            if close and not turn.closed:
                _close(lock._fs, slot)
            turn.closed = True
            following = slot.waiters[0] if slot.waiters else None
            if following is not None and following.gate is not None and following.gate.locked():
                following.gate.release()
            slot.turn = following
            del slot.waiters[:1]
        elif turn in slot.waiters:
            slot.waiters.remove(turn)
        if slot.turn is None and (slot.fd < 0 or len(_descriptors) > IDLE_DESCRIPTORS):
            _keep_or_drop(lock.path, slot, lock._fs)


def _keep_or_drop(path: str, slot: _Slot, fs: _fs.FileOps) -> None:
    """Keep an idle slot's descriptors for the next time; the longest unused ones go. Needs the guard."""
    if slot.fd < 0:
        _close(fs, slot)
        if _slots.get(path) is slot:
            del _slots[path]
        return
    if len(_descriptors) > IDLE_DESCRIPTORS:
        _slots[path] = _slots.pop(path, slot)  # the order of the dictionary is the order of use
    while len(_descriptors) > IDLE_DESCRIPTORS:
        idle = next((name for name, other in _slots.items() if other.turn is None and other is not slot), None)
        if idle is None:
            return
        _close(fs, _slots.pop(idle))


def _close(fs: _fs.FileOps, slot: _Slot) -> None:
    """Close a slot's descriptors. Needs the guard."""
    slot.known = None
    while slot.beside:
        _discard(fs, slot.beside.popitem()[1][0])
    fd, slot.fd = slot.fd, -1
    _discard(fs, fd)


def _discard(fs: _fs.FileOps, fd: int) -> None:
    """Close a descriptor. Needs the guard. What was written to it needs no flush, or had one: that it goes is all."""
    if fd >= 0:
        try:
            fs.close(fd)
        except OSError:
            return
        finally:
            _descriptors.discard(fd)


def _before_fork() -> None:
    try:
        # A module that another thread is importing stays locked in the child for ever: CPython frees no such lock.
        for name in IMPORTED_LATER if _thread._count() else ():
            try:
                __import__(name)
            except ImportError:
                continue  # then nobody has it, and whoever asks for it is told
    finally:  # also after an interrupt: Python forks all the same
        _forking.append(_guard.acquire(timeout=STOPPED))


def _after_fork_in_parent() -> None:
    if _forking.pop():
        _guard.release()


def _after_fork_in_child() -> None:
    # The locks belong to the parent. Closing our copies of its descriptors is harmless; unlocking one would not be.
    global _guard, _generation  # noqa: PLW0603 - a forked child starts afresh
    _guard = _thread.allocate_lock()
    _generation += 1
    for fd in _descriptors:
        try:
            posix.close(fd)
        except OSError:
            continue  # closed already; there is nothing to keep
    _descriptors.clear()
    _slots.clear()
    _forking.clear()


if hasattr(posix, "register_at_fork"):
    posix.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
