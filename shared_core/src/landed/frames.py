"""The bytes of a journal: segment headers, frames and records, as docs/reference/on-disk-format.md lays them out.

Pure functions of bytes; nothing here touches a file.
"""

from __future__ import annotations

import struct
from zlib import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

ALIGN: Final = 8
PAGE: Final = 4096
"""The kernel copies a write page by page; a writer that is killed stops at a multiple of this."""

SEGMENT_MAGIC: Final = b"LANDEDJ1"
FRAME_MAGIC: Final = b"LFR1"
END_MARK: Final = b"1RFL"
HEADER: Final = struct.Struct("<8sQQQ8sQ8sQ60sI")
"""magic, size, first, last, id, base, previous id, previous end, zero, check."""
FRAME: Final = struct.Struct("<4sIIIQQI")
"""magic, type and boot tag (type in the low byte), payload length, records, sequence, flushed, back; the header check
follows."""
CHECK: Final = struct.Struct("<I")
RECORD: Final = struct.Struct("<BxHII")
"""kind, key length, sequence distance, data length."""

FRAME_HEADER: Final = FRAME.size + CHECK.size
TRAILER: Final = CHECK.size + len(END_MARK)
OVERHEAD: Final = FRAME_HEADER + TRAILER
NO_ID: Final = bytes(8)
NO_BOOT: Final = 0

BATCH: Final = 1
SEAL: Final = 2

KEY_LIMIT: Final = 0xFFFF
"""Bytes of a key."""
RECORDS_LIMIT: Final = 1 << 20
"""Records of a batch."""
PAYLOAD_LIMIT: Final = 1 << 30
"""Bytes of a batch: one write(2), and a back distance of 32 bits."""


class Record:
    """One record of a journal.

    Attributes:
        data: the bytes.
        key: bytes by which the application finds it; at most 65,535.
        kind: 0 to 255, the application's.
    """

    __slots__ = ("data", "key", "kind")

    def __init__(self, data: bytes, key: bytes = b"", kind: int = 0) -> None:
        self.data = data
        self.key = key
        self.kind = kind

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and (self.kind, self.key, self.data) == (other.kind, other.key, other.data)

    def __hash__(self) -> int:
        return hash((self.kind, self.key, self.data))

    def __repr__(self) -> str:
        return f"Record(kind={self.kind}, key={self.key[:40]!r}, {len(self.data)} bytes)"


class Header:
    """The first 128 bytes of a segment; the attributes are the fields."""

    __slots__ = ("base", "first", "id", "last", "previous_end", "previous_id", "size")

    def __init__(
        self,
        size: int,
        first: int,
        last: int,
        segment_id: bytes,
        base: int,
        previous_id: bytes = NO_ID,
        previous_end: int = 0,
    ) -> None:
        self.size = size
        self.first = first
        self.last = last
        self.id = segment_id
        self.base = base
        self.previous_id = previous_id
        self.previous_end = previous_end

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
            b"",
            0,
        )
        return block[: -CHECK.size] + CHECK.pack(crc32(block[: -CHECK.size]))

    @classmethod
    def decode(cls, block: bytes) -> Header | None:
        """The header in `block`, or None when it does not check."""
        if len(block) < HEADER.size:
            return None
        magic, size, first, last, segment_id, base, previous_id, previous_end, _, check = HEADER.unpack_from(block)
        if magic != SEGMENT_MAGIC or check != crc32(block[: HEADER.size - CHECK.size]):
            return None
        return cls(size, first, last, segment_id, base, previous_id, previous_end)


class Head:
    """A frame's header at its place; the attributes are the fields, `end` is where the next frame begins."""

    __slots__ = ("back", "boot", "check", "count", "end", "flushed", "length", "offset", "sequence", "type")

    def __init__(self, offset: int, fields: tuple[bytes, int, int, int, int, int, int], check: int) -> None:
        _, kind, self.length, self.count, self.sequence, self.flushed, self.back = fields
        self.type = kind & 0xFF
        self.boot = kind >> 8
        self.offset = offset
        self.check = check
        self.end = offset + frame_size(self.length)

    @property
    def tail(self) -> int:
        """The highest sequence number given out up to here."""
        return self.sequence + self.count - 1


class Frame:
    """A good frame: its header and its payload."""

    __slots__ = ("head", "payload")

    def __init__(self, head: Head, payload: bytes) -> None:
        self.head = head
        self.payload = payload


def frame_size(payload: int) -> int:
    """Bytes of a frame whose payload has `payload` bytes."""
    return FRAME_HEADER + -(-payload // ALIGN) * ALIGN + TRAILER


def boot_tag(boot_id: str) -> int:
    """The 24 bits by which a frame tells under which boot it was written; `NO_BOOT` when unknown."""
    return crc32(boot_id.encode()) & 0xFFFFFF if boot_id else NO_BOOT


def _place(segment_id: bytes, offset: int) -> int:
    """What binds a frame to its segment and its place."""
    return crc32(segment_id + offset.to_bytes(8, "little"))


def encode_frame(
    segment_id: bytes,
    offset: int,
    kind: int,
    payload: bytes,
    *,
    count: int,
    sequence: int,
    flushed: int,
    back: int,
    boot: int,
) -> bytes:
    """The bytes of a frame for its place."""
    head = FRAME.pack(FRAME_MAGIC, kind | boot << 8, len(payload), count, sequence, flushed, back)
    header_check = crc32(head, _place(segment_id, offset))
    padding = bytes(-len(payload) % ALIGN)
    payload_check = crc32(padding, crc32(payload, header_check))
    return b"".join((head, CHECK.pack(header_check), payload, padding, CHECK.pack(payload_check), END_MARK))


def decode_head(segment_id: bytes, offset: int, data: bytes, at: int = 0) -> Head | None:
    """The frame header at `at` in `data`, `offset` in its segment; None when it is not a good one for that place."""
    end = at + FRAME.size
    if data[at : at + 4] != FRAME_MAGIC or len(data) < at + FRAME_HEADER:
        return None
    check: int = CHECK.unpack_from(data, end)[0]
    if check != crc32(data[at:end], _place(segment_id, offset)):
        return None
    return Head(offset, FRAME.unpack_from(data, at), check)


def decode_body(head: Head, data: bytes, at: int) -> bytes | None:
    """The payload of the frame whose header is `head` and stands at `at` in `data`; None when it does not check."""
    body = data[at + FRAME_HEADER : at + head.end - head.offset - TRAILER]
    trailer = data[at + head.end - head.offset - TRAILER : at + head.end - head.offset]
    if trailer != CHECK.pack(crc32(body, head.check)) + END_MARK:
        return None
    return body[: head.length]


def decode_frame(segment_id: bytes, offset: int, data: bytes, at: int = 0) -> Frame | None:
    """The good frame at `at` in `data`, `offset` in its segment; None when there is none, or not all of it."""
    head = decode_head(segment_id, offset, data, at)
    payload = decode_body(head, data, at) if head is not None else None
    return Frame(head, payload) if head is not None and payload is not None else None


def encode_records(records: Iterable[tuple[int, Record]]) -> bytes:
    """The payload of a batch, from records and their distances from the frame's sequence number."""
    parts = []
    for distance, record in records:
        parts += (RECORD.pack(record.kind, len(record.key), distance, len(record.data)), record.key, record.data)
    return b"".join(parts)


def decode_records(payload: bytes) -> Iterator[tuple[int, Record]]:
    """The records of a batch, each with its distance from the frame's sequence number."""
    at = 0
    while at < len(payload):
        kind, key_length, distance, length = RECORD.unpack_from(payload, at)
        at += RECORD.size
        key = payload[at : at + key_length]
        at += key_length
        yield distance, Record(payload[at : at + length], key, kind)
        at += length
