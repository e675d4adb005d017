"""The bytes of a journal: segment headers and frames, as docs/reference/on-disk-format.md lays them out.

Pure functions of bytes; nothing here touches a file.
"""

from __future__ import annotations

import struct
from zlib import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

ALIGN: Final = 8
PAGE: Final = 4096
"""The kernel copies a write page by page; a writer that is killed stops at a multiple of this."""

SEGMENT_MAGIC: Final = b"LANDEDJ1"
FRAME_MAGIC: Final = b"LFR1"
END_MARK: Final = b"1RFL"
HEADER: Final = struct.Struct("<8sQQQ8sQ8sQII52sI")
"""magic, size, first, last, id, base, previous id, previous end, boot tag, compacted, zero, check."""
FRAME: Final = struct.Struct("<4sIIIQQI")
"""magic, type and boot tag (type in the low byte), payload length, records, sequence, flushed, back; the header check
follows."""
CHECK: Final = struct.Struct("<I")
CHECKED: Final = struct.Struct("<4sIIIQQII")
"""All of a frame's header."""
START: Final = struct.Struct("<I4xI")
"""magic, as a number, and payload length: how a frame's header begins."""
START_MAGIC: Final = int.from_bytes(FRAME_MAGIC, "little")

FRAME_HEADER: Final = FRAME.size + CHECK.size
TRAILER: Final = CHECK.size + len(END_MARK)
OVERHEAD: Final = FRAME_HEADER + TRAILER
PADDING: Final = tuple(bytes(-length % ALIGN) for length in range(ALIGN))
"""Zeros up to a multiple of `ALIGN`, by the rest of the length."""
NO_ID: Final = bytes(8)
NO_BOOT: Final = 0

BATCH: Final = 1
SEAL: Final = 2


class Header:
    """The first 128 bytes of a segment; the attributes are the fields."""

    __slots__ = ("base", "boot", "compacted", "first", "id", "last", "previous_end", "previous_id", "size")

    def __init__(
        self,
        size: int,
        first: int,
        last: int,
        segment_id: bytes,
        base: int,
        previous_id: bytes = NO_ID,
        previous_end: int = 0,
        boot: int = NO_BOOT,
        *,
        compacted: bool = False,
    ) -> None:
        self.size = size
        self.first = first
        self.last = last
        self.id = segment_id
        self.base = base
        self.previous_id = previous_id
        self.previous_end = previous_end
        self.boot = boot
        self.compacted = compacted

    @property
    def edition(self) -> int:
        """What tells a compacted segment from those before and after it that stand for the same ones; else 0."""
        return int.from_bytes(self.previous_id, "little") or 1 if self.compacted else 0

    def encode(self) -> bytes:
        block = HEADER.pack(
            SEGMENT_MAGIC,
            self.size,
            self.first,
            self.last,
            self.id,
            self.base,
            self.previous_id,
            self.previous_end,
            self.boot,
            self.compacted,
            b"",
            0,
        )
        return block[: -CHECK.size] + CHECK.pack(crc32(block[: -CHECK.size]))

    @classmethod
    def decode(cls, block: bytes) -> Header | None:
        """The header in `block`, or None when it does not check."""
        if len(block) < HEADER.size:
            return None
        magic, *fields, compacted, _, check = HEADER.unpack_from(block)
        if magic != SEGMENT_MAGIC or check != crc32(block[: HEADER.size - CHECK.size]):
            return None
        return cls(*fields, compacted=bool(compacted))


class Head:
    """A frame's header at its place; the attributes are the fields.

    Attributes:
        count: how many sequence numbers the frame takes.
        end: where the next frame begins.
        tail: the highest sequence number given out up to here.
        check: the header check, once the frame is encoded or was decoded.
    """

    __slots__ = ("back", "boot", "check", "count", "end", "flushed", "length", "offset", "sequence", "tail", "type")

    def __init__(
        self,
        offset: int,
        kind: int,
        length: int,
        count: int,
        sequence: int,
        flushed: int,
        back: int,
        boot: int,
        check: int = 0,
    ) -> None:
        self.offset = offset
        self.type = kind
        self.length = length
        self.count = count
        self.sequence = sequence
        self.flushed = flushed
        self.back = back
        self.boot = boot
        self.check = check
        self.end = offset + OVERHEAD + length + -length % ALIGN
        self.tail = sequence + count - 1

    def encode(self, segment_id: bytes, payload: bytes) -> bytes:
        """The bytes of the frame, for its place in its segment."""
        kind = self.type | self.boot << 8
        head = FRAME.pack(FRAME_MAGIC, kind, self.length, self.count, self.sequence, self.flushed, self.back)
        self.check = check = crc32(head, _place(segment_id, self.offset))
        padding = PADDING[self.length % ALIGN]
        body_check = crc32(padding, crc32(payload, check))
        return b"".join((head, CHECK.pack(check), payload, padding, CHECK.pack(body_check), END_MARK))


class Frame:
    """A good frame: its header and its payload."""

    __slots__ = ("head", "payload")

    def __init__(self, head: Head, payload: bytes) -> None:
        self.head = head
        self.payload = payload


def frame_size(payload: int) -> int:
    """Bytes of a frame whose payload has `payload` bytes."""
    return OVERHEAD + payload + -payload % ALIGN


def last_whole(data: bytes, at: int) -> int:
    """Where the last frame that lies whole in `data` begins, hopping from frame to frame by magic and length alone.

    Args:
        at: where the first begins, the answer if it is the only one.
    """
    following, size, start_at = at, len(data), START.unpack_from
    while following + OVERHEAD <= size:
        magic, length = start_at(data, following)
        end = following + OVERHEAD + length + -length % ALIGN
        if magic != START_MAGIC or end > size:
            break
        at, following = following, end
    return at


def boot_tag(boot_id: str) -> int:
    """The 24 bits by which a frame tells under which boot it was written; `NO_BOOT` when unknown."""
    return crc32(boot_id.encode()) & 0xFFFFFF if boot_id else NO_BOOT


def _place(segment_id: bytes, offset: int) -> int:
    """What binds a frame to its segment and its place."""
    return crc32(segment_id + offset.to_bytes(8, "little"))


def decode_head(segment_id: bytes, offset: int, data: bytes, at: int = 0) -> Head | None:
    """The frame header at `at` in `data`, `offset` in its segment; None when it is not a good one for that place."""
    if len(data) < at + FRAME_HEADER:
        return None
    magic, kind, length, count, sequence, flushed, back, check = CHECKED.unpack_from(data, at)
    if magic != FRAME_MAGIC or check != crc32(data[at : at + FRAME.size], _place(segment_id, offset)):
        return None
    return Head(offset, kind & 0xFF, length, count, sequence, flushed, back, kind >> 8, check)


def decode_body(head: Head, data: bytes, at: int) -> bytes | None:
    """The payload of the frame whose header is `head` and stands at `at` in `data`; None when it does not check."""
    start, stop = at + FRAME_HEADER, at + head.end - head.offset - TRAILER
    check = crc32(memoryview(data)[start:stop], head.check)  # no copy: a frame may be large
    if data[stop : stop + TRAILER] != CHECK.pack(check) + END_MARK:
        return None
    return data[start : start + head.length]


def decode_frame(segment_id: bytes, offset: int, data: bytes, at: int = 0) -> Frame | None:
    """The good frame at `at` in `data`, `offset` in its segment; None when there is none, or not all of it."""
    head = decode_head(segment_id, offset, data, at)
    payload = decode_body(head, data, at) if head is not None else None
    return Frame(head, payload) if head is not None and payload is not None else None
