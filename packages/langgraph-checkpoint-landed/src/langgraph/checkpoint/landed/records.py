"""The records of a thread's journal: what each kind holds. msgpack lists, in the order of the fields here.

A put is one batch: a VALUE for each channel value that is not stored yet, then the CHECKPOINT that refers to them. A
put_writes is one WRITES. DROPPED takes checkpoints out; compaction then gives the space back and leaves COMPACTED.

Everything that is state or metadata went through the saver's serializer, so that with an encrypting one it is not plain
here. Plain are: namespaces, ids, channel names, versions, task ids and paths, times and writers.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import ormsgpack

from langgraph.checkpoint.landed.difference import cost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from langgraph.checkpoint.landed.difference import Parts

VALUE: Final = 1
CHECKPOINT: Final = 2
WRITES: Final = 3
DROPPED: Final = 4
COMPACTED: Final = 5

INLINE: Final = 0
"""In place of a reference: the value is inside the checkpoint."""

Position: TypeAlias = tuple[int, ...]
Typed: TypeAlias = tuple[str, bytes]
"""What a serializer's dumps_typed gives."""


class ValueRecord(NamedTuple):
    """One channel value: whole, or as its difference from another.

    Attributes:
        channel, version: whose it is.
        type: as the serializer said.
        depth: how many differences lead to a whole value; 0 for one.
        base: the sequence number of the value that it differs from; 0 for a whole one.
        at: where that stands.
        body: the value, or the parts of the difference.
    """

    channel: str
    version: Any
    type: str
    depth: int
    base: int
    at: list[int]
    body: bytes | Parts


class CheckpointRecord(NamedTuple):
    """One checkpoint.

    Attributes:
        ns, id, parent: which it is.
        refs: for each channel with a value: `INLINE`, or the value's sequence number; negative: counted back from this.
        places: where the values stand that are not in this batch, by sequence number.
        early: sequence number and place of writes that were there before the checkpoint: its own, and those of later
            checkpoints, which may come when nothing before this one is read any more.
        head: whether no checkpoint of its namespace had a higher id.
        type, body: the checkpoint itself, serialized, with inline values only.
        metadata_type, metadata: serialized.
        time: seconds since the epoch.
        writer: the process, for people.
    """

    ns: str
    id: str
    parent: str | None
    refs: dict[str, int]
    places: dict[int, list[int]]
    early: dict[int, list[int]]
    head: bool
    type: str
    body: bytes
    metadata_type: str
    metadata: bytes
    time: float
    writer: str


class WritesRecord(NamedTuple):
    """The writes of one task, as one call gave them.

    Attributes:
        ns, id: the checkpoint that they are pending for.
        task_id, task_path: the task.
        writes: [index, channel, type, bytes] of each.
    """

    ns: str
    id: str
    task_id: str
    task_path: str
    writes: list[list[Any]]


class DroppedRecord(NamedTuple):
    """Checkpoints that are no more, with their writes.

    Attributes:
        dropped: ids by namespace.
        orphaned: ids by namespace of checkpoints that lose their parent.
    """

    dropped: dict[str, list[str]]
    orphaned: dict[str, list[str]]


class CompactedRecord(NamedTuple):
    """Stands where checkpoints were dropped and cleared away: whoever had not read of it has to read all again.

    Attributes:
        time: when the last checkpoint was put, be it one of those.
    """

    time: float = 0.0


Fields: TypeAlias = ValueRecord | CheckpointRecord | WritesRecord | DroppedRecord | CompactedRecord
KINDS: Final[dict[int, type[Fields]]] = {
    VALUE: ValueRecord,
    CHECKPOINT: CheckpointRecord,
    WRITES: WritesRecord,
    DROPPED: DroppedRecord,
    COMPACTED: CompactedRecord,
}
CODES: Final = {fields: kind for kind, fields in KINDS.items()}
LARGE: Final = 64 << 10
"""Bytes from which byte strings are not given to ormsgpack: the buffer that it grows for them costs 20 copies."""
BIN32: Final = struct.Struct(">BI")
"""What stands before a byte string of `LARGE` bytes and more."""
_OPTION: Final = ormsgpack.OPT_NON_STR_KEYS


def serialized(serde: SerializerProtocol, value: object) -> Typed:
    """A value, serialized. LangGraph's serializer gives a bytearray as it is, and its owner may go on to change it."""
    kind, body = serde.dumps_typed(value)
    return kind, bytes(body)


def body_size(fields: Fields) -> int:
    """Bytes of what a record holds, about."""
    if isinstance(fields, ValueRecord):
        return len(fields.body) if isinstance(fields.body, bytes) else cost(fields.body)
    if isinstance(fields, CheckpointRecord):
        return len(fields.body) + len(fields.metadata)
    if isinstance(fields, WritesRecord):
        return sum(len(write[3]) for write in fields.writes)
    return 0


def encode(fields: Fields) -> bytes:
    """The data of a journal record."""
    if body_size(fields) < LARGE:
        return ormsgpack.packb(list(fields), option=_OPTION)
    return b"".join(_pieces(list(fields)))


def _pieces(value: object) -> Iterator[bytes]:
    """The msgpack of a value in pieces, of which its large byte strings are some."""
    if isinstance(value, list):
        yield ormsgpack.packb([None] * len(value))[: -len(value) or None]  # the header of a list of so many
        for each in value:
            yield from _pieces(each)
    elif isinstance(value, bytes) and len(value) >= LARGE:
        yield BIN32.pack(0xC6, len(value))
        yield value
    else:
        yield ormsgpack.packb(value, option=_OPTION)


def decode(kind: int, data: bytes) -> Fields:
    """The fields of a journal record.

    Raises:
        ValueError: it is not such a record.
    """
    fields = KINDS.get(kind)
    if fields is None:
        raise ValueError(f"a record of a kind that this version does not know: {kind}")
    try:
        return fields(*ormsgpack.unpackb(data, option=_OPTION))
    except (TypeError, ormsgpack.MsgpackDecodeError) as error:
        raise ValueError(f"not a thread's record of kind {kind}, but another program's: {error}") from error
