"""What landed knows of a path: version, digest, who wrote it, what was begun and by whom.

A record is a small checksummed block. It has two slots, written in turn, so that a torn write leaves the one before it.
Where it stands, and beside what, is in `landed.shelf`.
"""

from __future__ import annotations

from time import time

from landed import _fs
from landed._fs import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.lease import Lease
    from landed.process import Owner

SLOT_SIZE: Final = 16384
"""Bytes of one slot: a path of 4,096 bytes, escaped, and the rest of the record twice over."""
MAGIC: Final = b"landed-record 1 "
HEADER_SIZE: Final = len(MAGIC) + 8 + 1 + 8 + 1
"""Magic, crc32 and length in hexadecimal, each ended by a space or a newline."""
SEQUENCE_DIGITS: Final = 40
"""Bytes in which a slot's first field, its sequence, certainly ends."""

LANDED: Final = "landed"
"""Origin: the bytes are those of a write that landed made."""
OUTSIDE: Final = "outside"
"""Origin: something that does not use landed put them there, or removed the file."""


class Absent:
    """The type of `ABSENT`."""

    def __repr__(self) -> str:
        return "landed.ABSENT"

    def __reduce__(self) -> str:
        return "ABSENT"


class Any_:  # noqa: N801 - `Any` is taken
    """The type of `ANY`."""

    def __repr__(self) -> str:
        return "landed.ANY"

    def __reduce__(self) -> str:
        return "ANY"


class Seen:
    """The type of `SEEN`."""

    def __repr__(self) -> str:
        return "landed.SEEN"

    def __reduce__(self) -> str:
        return "SEEN"


ABSENT: Final = Absent()
"""The version of a file that does not exist; as `expect`: create only."""
ANY: Final = Any_()
"""`expect`: overwrite whatever is there, on purpose."""
SEEN: Final = Seen()
"""`expect`: what this program last read or wrote at that path, or nothing. The default."""
_NO_FILE: Final = "+absent"
"""In a base, after landed's last version: there was no file any more."""


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
        from landed.process import Owner

        parts = line.split(" ", 5)
        owner = Owner.decode(parts[5]) if len(parts) == 6 else None  # noqa: PLR2004 - the fields above
        if owner is None:
            return None
        version, digest, size, base, at = parts[:5]
        try:
            return cls(version, digest.strip("-"), int(size), "" if base == "-" else base, owner, float(at))
        except ValueError:
            return None

    @property
    def replaced(self) -> str | Absent:
        """The version that was there before it, or `ABSENT`."""
        return self.base if self.base and not self.base.endswith(_NO_FILE) else ABSENT

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
        if self.landed is not None and version == self.landed.version:
            return False  # as nearly always
        return counter_of(version) > self.counter

    def copy(self) -> Record:
        copy = Record.__new__(Record)
        copy.name, copy.landed, copy.begun, copy.lease = self.name, self.landed, self.begun, self.lease
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
    slots = sorted((text[:SLOT_SIZE], text[SLOT_SIZE:]), key=claimed_sequence, reverse=True)
    return next((record for record in map(Record.decode, slots) if record is not None), None)


def claimed_sequence(slot: bytes) -> int:
    """The sequence that a slot, which may be cut off behind it, says it has, unchecked: which one to decode first."""
    digits = slot[HEADER_SIZE + len(b"sequence=") : HEADER_SIZE + SEQUENCE_DIGITS].partition(b"\n")[0]
    return int(digits) if digits.isdigit() else 0


def next_write(counter: int, digest: str, size: int, base: str, owner: Owner | None = None) -> Write:
    """A write that this process (or `owner`) is about to begin, with a version that was never given out."""
    if owner is None:
        from landed.process import me

        owner = me()
    return Write(f"{counter + 1}-{posix.urandom(6).hex()}", digest, size, base, owner, time())


def base_for(version: str | Absent, before: Write | None) -> str:
    """The base of a write on top of `version`; `before` is landed's last write there, or None."""
    if not isinstance(version, Absent):
        return version
    return f"{before.version}{_NO_FILE}" if before is not None else ""


def counter_of(version: str) -> int:
    """The counter of a version, also of one that stands for a change from outside; 0 when there is none."""
    head = version.partition("-")[0].partition("+")[0]
    return int(head) if head.isdigit() else 0


def base_of(version: str) -> str:
    """The landed version behind ``"<version>+<digest>"`` (an outside change on it) or ``"<version>+absent"``."""
    return version.partition("+")[0]


def escape(name: str) -> str:
    """A name as one line, as UTF-8 reads its bytes: another program may have another encoding of names."""
    if not name.isascii():
        name = _fs.encoded(name).decode("utf-8", "surrogateescape")
    return name.replace("\\", "\\\\").replace("\n", "\\n")


def unescape(text: str) -> str:
    """The name that `escape` wrote, as this process reads its bytes."""
    name = "\\".join(part.replace("\\n", "\n") for part in text.split("\\\\"))
    return name if name.isascii() else _fs.decoded(name.encode("utf-8", "surrogateescape"))
