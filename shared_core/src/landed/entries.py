"""Records, and how a batch of them is encoded, whatever stores it (docs/reference/on-disk-format.md, "Record")."""

from __future__ import annotations

import struct

from landed.errors import Corrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Final

    from landed.engine import Batch, Position

LAYOUT: Final = struct.Struct("<BxHII")
"""kind, key length, sequence distance, data length."""
KEY_LIMIT: Final = 0xFFFF
"""Bytes of a key."""
RECORDS_LIMIT: Final = 1 << 20
"""Records of a batch."""
PAYLOAD_LIMIT: Final = 1 << 30
"""Bytes of a batch: one write(2), and a distance of 32 bits."""


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

    def fault(self) -> str:
        """Why it cannot be stored, in words; "" when it can."""
        if type(self.data) is not bytes or type(self.key) is not bytes:
            return "data and key of a record are bytes"
        if len(self.key) > KEY_LIMIT:
            return f"a key has at most {KEY_LIMIT} bytes, not {len(self.key)}"
        if len(self.data) > PAYLOAD_LIMIT:
            return f"a record has at most {PAYLOAD_LIMIT} bytes, not {len(self.data)}"
        if type(self.kind) is not int or not 0 <= self.kind <= 0xFF:  # noqa: PLR2004 - one byte
            return f"a kind is 0 to 255, not {self.kind!r}"
        return ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and (self.kind, self.key, self.data) == (other.kind, other.key, other.data)

    def __hash__(self) -> int:
        return hash((self.kind, self.key, self.data))

    def __repr__(self) -> str:
        return f"Record(kind={self.kind}, key={self.key[:40]!r}, {len(self.data)} bytes)"


class Entry:
    """A record as it was read.

    Attributes:
        sequence: its number; grows from record to record.
        data, key, kind: as in `Record`.
        position: of its batch, for `Journal.fetch`.
    """

    __slots__ = ("data", "key", "kind", "position", "sequence")

    def __init__(self, sequence: int, record: Record, position: Position) -> None:
        self.sequence = sequence
        self.data = record.data
        self.key = record.key
        self.kind = record.kind
        self.position = position

    def __repr__(self) -> str:
        return f"<Entry {self.sequence} kind={self.kind} key={self.key[:40]!r} {len(self.data)} bytes>"


def entries(batch: Batch, journal: str) -> Iterator[Entry]:
    """The records of a stored batch of a journal; raises `Corrupt`."""
    for distance, record in records(batch, journal):
        yield Entry(batch.sequence + distance, record, batch.position)


def records(batch: Batch, journal: str) -> Iterator[tuple[int, Record]]:
    """The records of a stored batch of a journal, each with its distance from the batch's sequence number.

    Raises:
        Corrupt: they do not fill it, though its checksum is right.
    """
    try:
        yield from decode_records(batch.payload)
    except struct.error as error:
        what = f"batch {batch.sequence} checks, and its records do not fill it: landed did not write it"
        raise Corrupt(what, path=journal, step="read", hint="Restore the journal from a backup.") from error


def encode_batch(records: Iterable[Record | bytes]) -> tuple[bytes, int]:
    """The payload of a new batch, and how many records it has; plain bytes are records without key, of kind 0.

    Raises:
        ValueError: they cannot be stored; says why.
    """
    parts: list[bytes] = []
    count = 0
    for record in records:
        if type(record) is bytes and len(record) <= PAYLOAD_LIMIT:
            parts += (LAYOUT.pack(0, 0, count, len(record)), record)
        else:
            each = record if isinstance(record, Record) else Record(record)
            if fault := each.fault():
                alone = isinstance(records, (bytes, bytearray, str))
                raise ValueError(f"records come in a list, not as {type(records).__name__}" if alone else fault)
            parts += (LAYOUT.pack(each.kind, len(each.key), count, len(each.data)), each.key, each.data)
        count += 1
    payload = b"".join(parts)
    if not 0 < count <= RECORDS_LIMIT:
        raise ValueError(f"a batch has 1 to {RECORDS_LIMIT} records, not {count}")
    if len(payload) > PAYLOAD_LIMIT:
        raise ValueError(f"a batch has at most {PAYLOAD_LIMIT} bytes, not {len(payload)}")
    return payload, count


def encode_records(records: Iterable[tuple[int, Record]]) -> bytes:
    """The payload of a batch, from records and their distances from the frame's sequence number."""
    parts: list[bytes] = []
    for distance, record in records:
        parts += (LAYOUT.pack(record.kind, len(record.key), distance, len(record.data)), record.key, record.data)
    return b"".join(parts)


def decode_records(payload: bytes) -> Iterator[tuple[int, Record]]:
    """The records of a batch, each with its distance from the frame's sequence number.

    Raises:
        struct.error: they do not fill it.
    """
    at = 0
    while at < len(payload):
        kind, key_length, distance, length = LAYOUT.unpack_from(payload, at)
        at += LAYOUT.size
        end = at + key_length + length
        if end > len(payload):
            raise struct.error("the last record is cut short")
        yield distance, Record(payload[at + key_length : end], payload[at : at + key_length], kind)
        at = end
