"""The head of a journal and its segments, as bytes (docs/reference/engines.md, "Objects").

An object is a line that says what it is, the length of a JSON text, that text, frames, and the CRC-32 of all before.
A frame is a batch: its number, how many records it has, the revision that wrote it, its nonce, its length, its payload.

An empty object in a head's place is the grave of a journal that was removed. Were there nothing, the next journal of
that name could not be told from the first. Until its segments are deleted, the grave says whose they are.
"""

from __future__ import annotations

import json
import struct
import zlib

from landed.engine import Batch
from landed.errors import Corrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Final

    from landed.engine import Position

HEAD: Final = b"landed journal head 1\n"
SEGMENT: Final = b"landed journal segment 1\n"
GRAVE: Final = b"landed journal grave 1\n"
LENGTH: Final = struct.Struct("<I")
FRAME: Final = struct.Struct("<QIQ16sI")
"""sequence, records, revision, nonce, payload length."""


class Frame:
    """One batch as it is stored.

    Attributes:
        sequence, count: its first record's number, and how many it has.
        revision: of the compaction that wrote it; 0 for an append.
        nonce: 16 random bytes of the append.
        payload: the records, encoded.
    """

    __slots__ = ("count", "nonce", "payload", "revision", "sequence")

    def __init__(self, sequence: int, count: int, revision: int, nonce: bytes, payload: bytes) -> None:
        self.sequence = sequence
        self.count = count
        self.revision = revision
        self.nonce = nonce
        self.payload = payload

    @property
    def tail(self) -> int:
        return self.sequence + self.count - 1

    @property
    def position(self) -> Position:
        return (self.sequence, self.revision)

    def batch(self) -> Batch:
        """What the journal sees of it."""
        return Batch(self.sequence, self.payload, self.position)

    @property
    def size(self) -> int:
        return FRAME.size + len(self.payload)


class Listed:
    """A segment as the head names it.

    Attributes:
        id: the last part of its key.
        first, last: the numbers of its first batch's first record and of its last batch's last.
        batches: how many it has.
        size: bytes of its frames.
    """

    __slots__ = ("batches", "first", "id", "last", "size")

    def __init__(self, id: str, first: int, last: int, batches: int, size: int) -> None:  # noqa: A002 - its name
        self.id = id
        self.first = first
        self.last = last
        self.batches = batches
        self.size = size

    @classmethod
    def of(cls, id: str, frames: list[Frame]) -> Listed:  # noqa: A002 - its name
        size = sum(frame.size for frame in frames)
        return cls(id, frames[0].sequence, frames[-1].tail, len(frames), size)

    def fields(self) -> list[Any]:
        return [self.id, self.first, self.last, self.batches, self.size]


class Head:
    """Where a journal ends, what it consists of, and its newest batches.

    Attributes:
        incarnation: random; a journal that is removed and made again has another.
        name: the journal's in its collection, or None.
        tail: the highest number given out.
        revision: how often it was compacted.
        epoch: how often a claim began or ended.
        owner: who owns it alone, or None.
        change: random, of the newest step that was no append. It tells a step that landed from one that did not, and
            makes a renewal another object: an ETag may be a digest.
        compacting: the last number of what a compaction works on. Those segments are not merged meanwhile; were they,
            its work would be for nothing, again and again while others append.
        segments: oldest first.
        garbage: ids of segments that no head names any more, and when that began, in seconds since the epoch.
        frames: the newest batches, which are in no segment yet.
    """

    __slots__ = (
        "change", "compacting", "epoch", "frames", "garbage", "incarnation", "name", "owner", "revision", "segments",
        "tail",
    )  # fmt: skip

    def __init__(self, incarnation: str, name: str | None = None) -> None:
        self.incarnation = incarnation
        self.name = name
        self.tail = 0
        self.revision = 0
        self.epoch = 0
        self.owner: str | None = None
        self.change = ""
        self.compacting = 0
        self.segments: list[Listed] = []
        self.garbage: list[tuple[str, float]] = []
        self.frames: list[Frame] = []

    def copy(self) -> Head:
        """Another that can be changed without changing this one."""
        other = Head(self.incarnation, self.name)
        other.tail, other.revision, other.epoch, other.owner = self.tail, self.revision, self.epoch, self.owner
        other.change, other.compacting = self.change, self.compacting
        other.segments, other.garbage, other.frames = [*self.segments], [*self.garbage], [*self.frames]
        return other

    def behind(self, other: Head) -> bool:
        """Whether it is older than another, as a cache on the way may give it: what it lacks may have landed."""
        return self.tail < other.tail or self.revision < other.revision or self.epoch < other.epoch

    @property
    def size(self) -> int:
        """Bytes in use: of all frames."""
        return sum(each.size for each in self.segments) + sum(frame.size for frame in self.frames)

    def encode(self) -> bytes:
        fields = {
            "incarnation": self.incarnation,
            "name": self.name,
            "tail": self.tail,
            "revision": self.revision,
            "epoch": self.epoch,
            "owner": self.owner,
            "change": self.change,
            "compacting": self.compacting,
            "segments": [each.fields() for each in self.segments],
            "garbage": self.garbage,
        }
        return _encode(HEAD, fields, self.frames)

    @classmethod
    def decode(cls, data: bytes, path: str) -> Head:
        """The head in an object; raises `Corrupt`."""
        fields, frames = _decode(HEAD, data, path)
        head = cls(fields["incarnation"], fields["name"])
        head.tail, head.revision, head.epoch = fields["tail"], fields["revision"], fields["epoch"]
        head.owner, head.change, head.compacting = fields["owner"], fields["change"], fields["compacting"]
        head.segments = [Listed(*each) for each in fields["segments"]]
        head.garbage = [(each[0], each[1]) for each in fields["garbage"]]
        head.frames = frames
        return head


def encode_grave(incarnation: str) -> bytes:
    """What stands in the head's place until the segments of a removed journal are deleted."""
    return _encode(GRAVE, {"incarnation": incarnation}, ())


def decode_grave(data: bytes, path: str) -> str:
    """The incarnation whose segments may be there yet; raises `Corrupt`."""
    incarnation: str = _decode(GRAVE, data, path)[0]["incarnation"]
    return incarnation


def encode_segment(incarnation: str, frames: list[Frame]) -> bytes:
    """The object of a segment."""
    return _encode(SEGMENT, {"incarnation": incarnation}, frames)


def decode_segment(data: bytes, incarnation: str, listed: Listed, path: str) -> list[Frame]:
    """The batches of a segment; raises `Corrupt` when they are not those that the head names."""
    fields, frames = _decode(SEGMENT, data, path)
    found = [Listed.of(listed.id, frames).fields() if frames else None, fields["incarnation"]]
    if found != [listed.fields(), incarnation]:
        raise _corrupt("the segment is not the one that the head names", path)
    return frames


def _encode(what: bytes, fields: dict[str, Any], frames: Iterable[Frame]) -> bytes:
    text = json.dumps(fields, separators=(",", ":")).encode()
    parts = [what, LENGTH.pack(len(text)), text]
    for frame in frames:
        parts.append(FRAME.pack(frame.sequence, frame.count, frame.revision, frame.nonce, len(frame.payload)))
        parts.append(frame.payload)
    data = b"".join(parts)
    return data + LENGTH.pack(zlib.crc32(data))


def _decode(what: bytes, data: bytes, path: str) -> tuple[dict[str, Any], list[Frame]]:
    if not data.startswith(what):
        raise _corrupt("it does not begin as an object of a journal does", path)
    end = len(data) - LENGTH.size
    if end < len(what) + LENGTH.size or LENGTH.unpack_from(data, end)[0] != zlib.crc32(memoryview(data)[:end]):
        raise _corrupt("it fails its checksum", path)
    at = len(what) + LENGTH.size
    at, begin = at + LENGTH.unpack_from(data, len(what))[0], at
    fields: dict[str, Any] = json.loads(data[begin:at])
    frames = []
    while at < end:
        sequence, count, revision, nonce, length = FRAME.unpack_from(data, at)
        at += FRAME.size
        frames.append(Frame(sequence, count, revision, nonce, data[at : at + length]))
        at += length
    return fields, frames


def _corrupt(what: str, path: str) -> Corrupt:
    return Corrupt(what, path=path, step="read", hint="Restore the object, from its versions or from a backup.")
