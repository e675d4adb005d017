"""What landed knows of a path: version, digest, who wrote it, what was begun and by whom.

Three files per artifact stand in the store, named by the sha256 of the artifact's true name: ``.lock``, ``.record``
and ``.log``. A record is a small checksummed block, rewritten in place under the lock. It has two slots, written in
turn, so that a torn write leaves the one before it. It costs no flush: the version and digest of a file travel in the
file's own extended attribute ``user.landed``, set before the file's fsync, and settle after a power cut which of the
two is right. Where there are no extended attributes, the record is flushed before the write is acknowledged.

The log has a line for every write that was begun, and one for every write that was refused. Those that landed are the
chain from the current version back, each line naming the version it replaced.
"""

from __future__ import annotations

from time import time

from landed import _fs
from landed._fs import LOCAL, SEP, posix
from landed.errors import Corrupt, NotLanded, from_os_error
from landed.lock import StoreLock
from landed.process import Owner, me
from landed.state import flush_ancestors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.lease import Lease
    from landed.state import Store

SLOT_SIZE: Final = 16384
"""Bytes of one slot: a path of 4,096 bytes, escaped, and the rest of the record twice over."""
MAGIC: Final = b"landed-record 1 "
HEADER_SIZE: Final = len(MAGIC) + 8 + 1 + 8 + 1
"""Magic, crc32 and length in hexadecimal, each ended by a space or a newline."""
SEQUENCE_DIGITS: Final = 40
"""Bytes in which a slot's first field, its sequence, certainly ends."""
NAME: Final = "name="
"""What begins the line of a log that says whose it is."""
LOG_LIMIT: Final = 256 * 1024
"""Bytes of a log before it is set aside for a new one: about a thousand writes. One older log is kept."""
OLDER: Final = ".1"
"""What is added to the name of a log that was set aside."""
LOG_CHECKS: Final = 64
"""Every how many writes a log's size is looked at."""

ABSENT_DIGEST: Final = ""
"""The digest of a file that is not there."""


class Write:
    """One write, begun or finished.

    Attributes:
        version: ``"<counter>-<nonce>"``; unique for ever.
        digest: sha256 of the bytes in hexadecimal; "" for a delete.
        size: in bytes.
        base: the version that it replaced; ``"<version>+absent"`` when there was no file any more, "" for none ever.
        owner: the process that wrote.
        at: when it began, in seconds since the epoch.
    """

    __slots__ = ("_line", "at", "base", "digest", "owner", "size", "version")

    def __init__(self, version: str, digest: str, size: int, base: str, owner: Owner, at: float) -> None:
        self.version = version
        self.digest = digest
        self.size = size
        self.base = base
        self.owner = owner
        self.at = at
        self._line = ""

    def encode(self) -> str:
        """As one line; `Write.decode` reads it."""
        if not self._line:
            fields = f"{self.version} {self.digest or '-'} {self.size} {self.base or '-'} {self.at:.3f}"
            self._line = f"{fields} {self.owner.encode()}"
        return self._line

    @classmethod
    def decode(cls, line: str) -> Write | None:
        """The write that `line` tells of, or None when it is not such a line."""
        parts = line.split(" ", 5)
        owner = Owner.decode(parts[5]) if len(parts) == 6 else None  # noqa: PLR2004 - the fields above
        if owner is None:
            return None
        version, digest, size, base, at = parts[:5]
        try:
            return cls(version, digest.strip("-"), int(size), "" if base == "-" else base, owner, float(at))
        except ValueError:
            return None

    def __str__(self) -> str:
        if not self.owner.pid:
            return self.version  # adopted from the file's own attribute: who wrote it is not known
        return f"{self.version} by {self.owner}, {max(0.0, time() - self.at):.0f} s ago"


class Record:
    """The state of one artifact.

    Attributes:
        name: the artifact's true name in its store.
        landed: the last acknowledged write, or None when there was none.
        begun: a write that was begun and has not ended, or None. Who holds the lock and finds one knows that its
            writer died or could not tell the outcome.
        lease: the agent that may write the path while nobody holds the lock, or None; see `landed.lease`.
        counter: the highest version counter that was given out.
        sequence: counts the states of this record.
        named: whether the record's own name in the store was flushed.
        moved: the root of the store that keeps this artifact since a shared directory was made; "" for none.
    """

    __slots__ = ("begun", "counter", "landed", "lease", "moved", "name", "named", "sequence")

    def __init__(self, name: str) -> None:
        self.name = name
        self.landed: Write | None = None
        self.begun: Write | None = None
        self.lease: Lease | None = None
        self.counter = 0
        self.sequence = 0
        self.named = False
        self.moved = ""

    def lags(self, version: str) -> bool:
        """Whether the file, which says it is `version`, is ahead of this record: a power cut took the later states.

        What such a record says begun is over and done with.
        """
        return counter_of(version) > self.counter

    def copy(self) -> Record:
        copy = Record(self.name)
        copy.landed, copy.begun, copy.lease = self.landed, self.begun, self.lease
        copy.counter, copy.sequence, copy.named, copy.moved = self.counter, self.sequence, self.named, self.moved
        return copy

    def following(self) -> Record:
        """A copy, to become the state after this one."""
        copy = self.copy()
        copy.sequence += 1
        return copy

    def encode(self) -> bytes:
        text = f"sequence={self.sequence}\ncounter={self.counter}\nname={escape(self.name)}"
        if self.named:
            text += "\nnamed=1"
        if self.moved:
            text += f"\nmoved={escape(self.moved)}"
        if self.landed is not None:
            text += f"\nlanded={self.landed.encode()}"
        if self.begun is not None:
            text += f"\nbegun={self.begun.encode()}"
        if self.lease is not None:
            text += f"\nlease={self.lease.encode()}"
        body = text.encode("utf-8", "surrogateescape")
        return b"%b%08x %08x\n%b" % (MAGIC, _crc32(body), len(body), body)

    @classmethod
    def decode(cls, block: bytes) -> Record | None:
        """The record in `block`, or None when it is torn, empty or not a record."""
        if not block.startswith(MAGIC) or len(block) < HEADER_SIZE:
            return None
        try:
            checksum, length = (int(part, 16) for part in block[len(MAGIC) : HEADER_SIZE].split())
        except ValueError:
            return None
        body = block[HEADER_SIZE : HEADER_SIZE + length]
        if len(body) != length or _crc32(body) != checksum:
            return None
        try:
            fields = dict(line.split("=", 1) for line in body.decode("utf-8", "surrogateescape").split("\n"))
            record = cls(unescape(fields["name"]))
            record.landed = Write.decode(fields.get("landed", ""))
            record.begun = Write.decode(fields.get("begun", ""))
            if "lease" in fields:
                from landed.lease import Lease

                record.lease = Lease.decode(fields["lease"])
            record.counter = int(fields["counter"])
            record.sequence = int(fields["sequence"])
            record.named = fields.get("named") == "1"
            record.moved = unescape(fields.get("moved", ""))
        except (KeyError, ValueError):
            return None
        return record


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
        text = self._fs.pread(lock.beside(self.record_path, posix.O_RDWR), 2 * SLOT_SIZE, 0)
        known = lock.known
        if isinstance(known, State) and _is_newest(text, known.block, known.record.sequence):
            return known.record.copy()
        return newest(text)


def _crc32(data: bytes) -> int:
    import zlib  # a tenth of what landed may cost to import

    return zlib.crc32(data)


def read_record(path: str, fs: _fs.FileOps) -> Record | None:
    """The newer readable slot of a record file; None when the file holds no readable one.

    Raises:
        OSError: as the system does; FileNotFoundError when there is no record.
    """
    fd = fs.open(path, posix.O_RDONLY | _fs.KEPT)
    try:
        return newest(fs.pread(fd, 2 * SLOT_SIZE, 0))
    finally:
        _fs.close_read(fs, fd)


def newest(text: bytes) -> Record | None:
    """The newer readable slot in the bytes of a record file; None when neither is readable."""
    slots = sorted((text[:SLOT_SIZE], text[SLOT_SIZE:]), key=_claimed_sequence, reverse=True)
    return next((record for record in map(Record.decode, slots) if record is not None), None)


def _claimed_sequence(text: bytes, at: int = 0) -> int:
    """The sequence that the slot at `at` says it has, unchecked: which one to decode first."""
    at += HEADER_SIZE
    digits = text[at + len(b"sequence=") : at + SEQUENCE_DIGITS].partition(b"\n")[0]
    return int(digits) if digits.isdigit() else 0


def _is_newest(text: bytes, block: bytes, sequence: int) -> bool:
    """Whether the bytes of a record file still have `block` as their newest slot, so that nobody wrote since."""
    at = sequence % 2 * SLOT_SIZE
    return text.startswith(block, at) and _claimed_sequence(text, SLOT_SIZE - at) < sequence


def next_write(counter: int, digest: str, size: int, base: str, owner: Owner | None = None) -> Write:
    """A write that this process (or `owner`) is about to begin, with a version that was never given out."""
    return Write(f"{counter + 1}-{posix.urandom(6).hex()}", digest, size, base, owner or me(), time())


def counter_of(version: str) -> int:
    """The counter of a version, also of one that stands for a change from outside; 0 when there is none."""
    head = version.partition("-")[0].partition("+")[0]
    return int(head) if head.isdigit() else 0


def base_of(version: str) -> str:
    """The landed version behind ``"<version>+<digest>"`` (an outside change on it) or ``"<version>+absent"``."""
    return version.partition("+")[0]


def escape(text: str) -> str:
    """A name as one line."""
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def unescape(text: str) -> str:
    """The name that `escape` wrote."""
    return "\\".join(part.replace("\\n", "\n") for part in text.split("\\\\"))
