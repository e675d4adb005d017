"""Where what landed knows of a path stands: the lock, the record and the log of one artifact, in its store.

Three files per artifact, named by the sha256 of the artifact's true name: ``.lock``, ``.record`` and ``.log``. The
record is rewritten in place under the lock. It costs no flush: the version and digest of a file travel in the file's
own extended attribute ``user.landed``, set before the file's fsync, and settle after a power cut which of the two is
right. Where there are no extended attributes, the record is flushed before the write is acknowledged.

The log has a line for every write that was begun, and one for every write that was refused. Those that landed are the
chain from the current version back, each line naming the version it replaced.
"""

from __future__ import annotations

import errno

from landed import _fs
from landed._fs import LOCAL, SEP, posix
from landed.digest import sha256
from landed.errors import Corrupt, NotLanded, from_os_error
from landed.lock import StoreLock
from landed.records import (
    HEADER_SIZE,
    SEQUENCE_DIGITS,
    SLOT_SIZE,
    Record,
    claimed_sequence,
    counter_of,
    escape,
    newest,
    read_record,
)
from landed.state import flush_ancestors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Final

    from landed.records import Write
    from landed.state import Store

NAME: Final = "name="
"""What begins the line of a log that says whose it is."""
LOG_LIMIT: Final = 256 * 1024
"""Bytes of a log before it is set aside for a new one: about a thousand writes. One older log is kept."""
OLDER: Final = ".1"
"""What is added to the name of a log that was set aside."""
KEYS_KEPT: Final = 4096
"""Names whose keys are not computed anew: those that a program works with at one time."""
LOG_CHECKS: Final = 64
"""Every how many writes a log's size is looked at."""

_keys: dict[str, str] = {}


def key_of(true_name: str) -> str:
    """What the files of the artifact with that true name begin with.

    Raises:
        UnicodeEncodeError: the name has no form in bytes.
    """
    key = _keys.get(true_name)
    if key is None:
        if len(_keys) >= KEYS_KEPT:
            _keys.clear()
        key = _keys[true_name] = sha256(_fs.encoded(true_name))
    return key


class State:
    """A state of a record, and the block that says so.

    Raises:
        NotLanded: the record is too long.
    """

    __slots__ = ("block", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.encode()

    def encode(self) -> None:
        """Make the block anew."""
        self.block = self.record.encode()
        if len(self.block) > SLOT_SIZE:
            raise NotLanded("the path is too long for its record", path=self.record.name, step="record")


class Shelf:
    """The lock, record and log of one artifact in its store.

    Record and log stay open as long as the lock file does, and what was saved last is remembered as long.
    """

    __slots__ = ("_fs", "_stem", "lock", "name", "record_path", "store")

    def __init__(self, store: Store, name: str, key: str, fs: _fs.FileOps = LOCAL) -> None:
        self.store = store
        self.name = name
        self._fs = fs
        self._stem = f"{store.artifacts}{SEP}{key}"
        self.record_path = self._stem + ".record"
        self.lock = StoreLock(self._stem + ".lock", mode=store.mode, fs=fs)

    def acquire(self, timeout: float, owner: Hashable = None) -> None:
        """Take the lock, as `landed.lock.Lock.acquire`; a store that is not there is made for it.

        Raises:
            LockTimeout: others kept it. As the next one, it names the file, whose lock has another name.
            NotLanded: the lock cannot be taken, or the store cannot be made.
        """
        try:
            try:
                self.lock.acquire(timeout, owner=owner)
            except NotLanded as error:
                if error.errno != errno.ENOENT:
                    raise
                self.store.make(self._fs)
                self.lock.acquire(timeout, owner=owner)
        except NotLanded as error:
            if error.path == self.lock.path:
                error.path = self.store.path_of(self.name)
                if error.errno is not None or not error.hint:
                    error.hint = f"Its lock is {self.lock.path}. {error.hint}".strip()
            raise

    def load(self) -> Record:
        """The artifact's record; an empty one when there is none that can be read. Needs no lock.

        A record whose slots are both torn counts as none: the file's own extended attribute says its version, and
        without that the bytes count as changed from outside, which no write overwrites unseen.

        Raises:
            Corrupt: the record is another artifact's.
            NotLanded: it cannot be read.
        """
        try:
            record = self._read()
        except FileNotFoundError:
            return Record(self.name)
        except OSError as error:
            raise from_os_error(
                NotLanded, error, "the record cannot be read", path=self.record_path, step="record"
            ) from error
        if record is None:
            return Record(self.name)
        if record.name != self.name:
            raise Corrupt(
                "the record is another artifact's",
                path=self.record_path,
                step="record",
                expected=self.name,
                found=record.name,
                hint="Move the file away; landed then starts from the file's own version.",
            )
        return record

    def save(self, record: Record, *, flush: bool = False) -> None:
        """Write the record's next state into the slot that does not hold its last. Needs the lock.

        Raises:
            OSError: as the system does; the state before stays readable.
        """
        state = State(record.following())
        self.put(state, flush=flush)
        record.sequence, record.named = state.record.sequence, state.record.named

    def put(self, state: State, *, flush: bool = False) -> None:
        """Write a state that was made beforehand, as `save` does. It follows the one that was written last."""
        lock = self.lock
        fd = lock.beside(self.record_path, posix.O_RDWR | posix.O_CREAT)
        if flush and not state.record.named:
            self._flush_names()
            state.record.named = True  # said only once it is so
            state.encode()
        try:
            _fs.pwrite_all(self._fs, fd, state.block, state.record.sequence % 2 * SLOT_SIZE)
            if flush:
                self._fs.fdatasync(fd)
        except BaseException:
            lock.close_beside(self.record_path)
            raise  # the next try takes the same slot: the other one is the last good state
        lock.known = state

    def _flush_names(self) -> None:
        """The record's name, and those of the store's directories: who gave them may have died before.

        Or have failed to flush them.
        """
        with _fs.Directory(self.store.artifacts, self._fs) as directory:
            directory.change(f"{self._stem.rpartition(SEP)[2]}.new")
            directory.sync()
        flush_ancestors(self._fs, self.store.artifacts)

    def log(self, write: Write) -> None:
        """Append a line for a write that begins. Needs the lock.

        A new log says first whose it is: after a power cut there may be a log and no record.

        Raises:
            OSError: as the system does.
        """
        path = self.log_path
        counter = counter_of(write.version)
        edition, since = divmod(counter, LOG_CHECKS)
        name = f"{NAME}{escape(self.name)}\n" if counter == 1 or since == 0 else ""
        if since == 0:
            self.lock.close_beside(path)
            self._set_aside(path)
        self.append(name + write.encode(), edition)

    def append(self, line: str, edition: int) -> None:
        """Append a line to the log that writes of this `edition` use. Needs the lock."""
        path = self.log_path
        # Another program may have set aside the one that this one has open; it does so between two editions only.
        fd = self.lock.beside(path, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND, edition)
        try:
            # The newline first: a line that was cut short ends there, and takes nothing with it.
            _fs.write_all(self._fs, fd, b"\n" + line.encode("utf-8", "surrogateescape"))
        except BaseException:
            self.lock.close_beside(path)
            raise
        if _fs.WINDOWS:  # pragma: no cover - an open file cannot be renamed there
            self.lock.close_beside(path)

    @property
    def log_path(self) -> str:
        return self._stem + ".log"

    def _set_aside(self, path: str) -> None:
        """Start a new log when this one is long; the one before it is kept, the one before that goes."""
        try:
            if self._fs.stat(path).st_size > LOG_LIMIT:
                self._fs.rename(path, path + OLDER)
        except FileNotFoundError:
            return

    def _read(self) -> Record | None:
        lock = self.lock
        if not lock.held:
            return read_record(self.record_path, self._fs)
        fd = lock.beside(self.record_path, posix.O_RDWR)
        known = lock.known
        if isinstance(known, State) and self._is_newest(fd, known):
            return known.record.copy()
        return newest(self._fs.pread(fd, 2 * SLOT_SIZE, 0))

    def _is_newest(self, fd: int, state: State) -> bool:
        """Whether the record file still has `state` in its newest slot, so that nobody wrote since."""
        sequence = state.record.sequence
        at = sequence % 2 * SLOT_SIZE
        pread = self._fs.pread
        if pread(fd, len(state.block), at) != state.block:
            return False
        return claimed_sequence(pread(fd, HEADER_SIZE + SEQUENCE_DIGITS, SLOT_SIZE - at)) < sequence
