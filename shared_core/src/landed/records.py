"""What landed knows of a path: version, digest, who wrote it, what was begun and by whom.

Three files per artifact stand in the store, named by the sha256 of the artifact's true name: ``.lock``, ``.record``
and ``.log``. A record is a small checksummed block, rewritten in place under the lock. It has two slots, written in
turn, so that a torn write leaves the one before it. It costs no flush: the version and digest of a file travel in the
file's own extended attribute ``user.landed``, set before the file's fsync, and settle after a power cut which of the
two is right. Where there are no extended attributes, the record is flushed before the write is acknowledged.

The log has a line for every write that was begun. Those that landed are the chain from the current version back, each
line naming the version it replaced.
"""

from __future__ import annotations

import os
import zlib
from time import time

from landed import _fs
from landed.errors import Corrupt, NotLanded, from_os_error
from landed.lock import Lock
from landed.process import Owner, me

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from landed.state import Store

SLOT_SIZE: Final = 16384
"""Bytes of one slot: a path of 4,096 bytes, escaped, and the rest of the record twice over."""
MAGIC: Final = b"landed-record 1 "
HEADER_SIZE: Final = len(MAGIC) + 8 + 1 + 8 + 1
"""Magic, crc32 and length in hexadecimal, each ended by a space or a newline."""
LOG_LIMIT: Final = 256 * 1024
"""Bytes of a log before its older half is dropped: about a thousand writes."""

ABSENT_DIGEST: Final = ""
"""The digest of a file that is not there."""


class Write:
    """One write, begun or finished.

    Attributes:
        version: ``"<counter>-<nonce>"``; unique for ever.
        digest: sha256 of the bytes in hexadecimal; "" for a delete.
        size: in bytes.
        base: the version that it replaced; "" for none.
        owner: the process that wrote.
        at: when it began, in seconds since the epoch.
    """

    __slots__ = ("at", "base", "digest", "owner", "size", "version")

    def __init__(self, version: str, digest: str, size: int, base: str, owner: Owner, at: float) -> None:
        self.version = version
        self.digest = digest
        self.size = size
        self.base = base
        self.owner = owner
        self.at = at

    def encode(self) -> str:
        fields = (self.version, self.digest or "-", str(self.size), self.base or "-", f"{self.at:.3f}")
        return " ".join((*fields, self.owner.encode()))

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
        return f"{self.version} by {self.owner}, {max(0.0, time() - self.at):.0f} s ago"


class Record:
    """The state of one artifact.

    Attributes:
        name: the artifact's true name in its store.
        landed: the last acknowledged write, or None when there was none.
        begun: a write that was begun and has not ended, or None. Who holds the lock and finds one knows that its
            writer died or could not tell the outcome.
        counter: the highest version counter that was given out.
        sequence: counts the states of this record.
    """

    __slots__ = ("begun", "counter", "landed", "name", "sequence")

    def __init__(self, name: str) -> None:
        self.name = name
        self.landed: Write | None = None
        self.begun: Write | None = None
        self.counter = 0
        self.sequence = 0

    def encode(self) -> bytes:
        fields = [f"sequence={self.sequence}", f"counter={self.counter}", f"name={_escape(self.name)}"]
        if self.landed is not None:
            fields.append(f"landed={self.landed.encode()}")
        if self.begun is not None:
            fields.append(f"begun={self.begun.encode()}")
        body = "\n".join(fields).encode("utf-8", "surrogateescape")
        return MAGIC + b"%08x %08x\n" % (zlib.crc32(body), len(body)) + body

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
        if len(body) != length or zlib.crc32(body) != checksum:
            return None
        fields = dict(line.split("=", 1) for line in body.decode("utf-8", "surrogateescape").split("\n"))
        record = cls(_unescape(fields["name"]))
        record.landed = Write.decode(fields.get("landed", ""))
        record.begun = Write.decode(fields.get("begun", ""))
        record.counter = int(fields["counter"])
        record.sequence = int(fields["sequence"])
        return record


class Shelf:
    """The lock, record and log of one artifact in its store."""

    __slots__ = ("_fs", "_record_fd", "_stem", "lock", "name", "store")

    def __init__(self, store: Store, name: str, key: str, fs: _fs.FileOps = _fs.LOCAL) -> None:
        self.store = store
        self.name = name
        self._fs = fs
        self._stem = os.path.join(store.artifacts, key)
        self._record_fd = -1
        self.lock = Lock(self._stem + ".lock", mode=store.mode, fs=fs)

    @property
    def record_path(self) -> str:
        return self._stem + ".record"

    def load(self) -> Record:
        """The artifact's record; an empty one when there is none that can be read. Needs no lock.

        A record whose slots are both torn counts as none: the file's own extended attribute says its version, and
        without that the bytes count as changed from outside, which no write overwrites unseen.

        Raises:
            Corrupt: the record is another artifact's.
            NotLanded: it cannot be read.
        """
        try:
            record = read_record(self.record_path, self._fs)
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
        record.sequence += 1
        block = record.encode()
        if len(block) > SLOT_SIZE:
            raise NotLanded("the path is too long for its record", path=self.name, step="record")
        fd = self._open(self.record_path, os.O_RDWR | os.O_CREAT)
        try:
            _pwrite_all(self._fs, fd, block, record.sequence % 2 * SLOT_SIZE)
            if flush:
                self._fs.fdatasync(fd)
        finally:
            self._fs.close(fd)
        if flush and record.sequence <= 2:  # noqa: PLR2004 - the file may be new, and so its name
            with _fs.Directory(self.store.artifacts, self._fs) as directory:
                directory.sync()

    def log(self, write: Write) -> None:
        """Append a line for a write that begins. Needs the lock.

        Raises:
            OSError: as the system does.
        """
        fd = self._open(self._stem + ".log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            if self._fs.fstat(fd).st_size > LOG_LIMIT:
                self._drop_older_half(fd)
            _fs.write_all(self._fs, fd, write.encode().encode("utf-8", "surrogateescape") + b"\n")
        finally:
            self._fs.close(fd)

    def history(self) -> list[tuple[Write, bool]]:
        """Every logged write, oldest first, and whether it landed."""
        try:
            fd = self._fs.open(self._stem + ".log", os.O_RDONLY | _fs.NOFOLLOW)
        except FileNotFoundError:
            return []
        try:
            text = _fs.read_all(self._fs, fd, LOG_LIMIT)
        finally:
            self._fs.close(fd)
        writes = [Write.decode(line) for line in text.decode("utf-8", "surrogateescape").split("\n")]
        record = self.load()
        current = record.landed.version if record.landed is not None else ""
        landed = []
        for write in reversed([write for write in writes if write is not None]):
            on_chain = write.version == current
            if on_chain:
                current = base_of(write.base)
            landed.append((write, on_chain))
        return landed[::-1]

    def _drop_older_half(self, fd: int) -> None:
        text = self._fs.pread(fd, LOG_LIMIT * 2, 0)
        kept = text[text.index(b"\n", len(text) // 2) + 1 :]
        self._fs.ftruncate(fd, 0)
        _fs.write_all(self._fs, fd, kept)

    def _open(self, path: str, flags: int) -> int:
        fd = self._fs.open(path, flags | _fs.NOFOLLOW, self.store.mode)
        if self.store.base:
            status = self._fs.fstat(fd)
            if status.st_mode & 0o777 != self.store.mode and status.st_uid == os.geteuid():
                self._fs.fchmod(fd, self.store.mode)  # the umask took bits that the other users need
        return fd


def read_record(path: str, fs: _fs.FileOps) -> Record | None:
    """The newer readable slot of a record file; None when the file holds no readable one.

    Raises:
        OSError: as the system does; FileNotFoundError when there is no record.
    """
    fd = fs.open(path, os.O_RDONLY | _fs.NOFOLLOW)
    try:
        text = fs.pread(fd, 2 * SLOT_SIZE, 0)
    finally:
        fs.close(fd)
    slots = [Record.decode(text[start : start + SLOT_SIZE]) for start in (0, SLOT_SIZE)]
    return max((slot for slot in slots if slot is not None), key=lambda slot: slot.sequence, default=None)


def shelves(store: Store, fs: _fs.FileOps) -> Iterator[str]:
    """The keys of all artifacts that have a record in `store`, in the order of their keys."""
    try:
        names = fs.listdir(store.artifacts)
    except FileNotFoundError:
        return
    for name in sorted(names):
        if name.endswith(".record"):
            yield name[: -len(".record")]


def next_write(counter: int, digest: str, size: int, base: str) -> Write:
    """A write that this process is about to begin, with a version that was never given out."""
    return Write(f"{counter + 1}-{os.urandom(6).hex()}", digest, size, base, me(), time())


def counter_of(version: str) -> int:
    """The counter of a version, also of one that stands for a change from outside; 0 when there is none."""
    head = version.partition("-")[0].partition("+")[0]
    return int(head) if head.isdigit() else 0


def base_of(version: str) -> str:
    """The landed version on which an outside change (``"<version>+<digest>"``) was made, or the version itself."""
    return version.partition("+")[0]


def _pwrite_all(fs: _fs.FileOps, fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = fs.pwrite(fd, view, offset)
        if written <= 0:
            raise OSError(5, "write made no progress")
        view, offset = view[written:], offset + written


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _unescape(text: str) -> str:
    return "\\".join(part.replace("\\n", "\n") for part in text.split("\\\\"))
