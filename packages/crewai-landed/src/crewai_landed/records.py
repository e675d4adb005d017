"""What the memory's journal holds: kinds of records, and how a CrewAI record becomes one.

| kind | key | data |
|---|---|---|
| `MEMORY` | its id | length of the text as 4 bytes, the text (JSON), the embedding (float32); all little-endian |
| `REVISED` | its id | the same; keeps `source` and `private` of what it replaces if it has neither |
| `FORGOTTEN` | | a condition as JSON: all that matches at this place of the journal is gone |
| `TOUCHED` | | JSON: `at`, and the `ids` that were recalled then |
| `COMPACTED` | | empty: what comes before was rewritten, and may lack what a reader has not seen yet |
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np

import landed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crewai.memory.types import MemoryRecord
    from numpy.typing import NDArray

MEMORY: Final = 1
REVISED: Final = 2
FORGOTTEN: Final = 3
TOUCHED: Final = 4
COMPACTED: Final = 5

VECTOR: Final = np.dtype("<f4")
LONGEST: Final = 1e18
"""The length of an embedding, so that squared distances fit into float32."""
_LENGTH: Final = struct.Struct("<I")
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - CrewAI's times are naive UTC
_NOT_FINITE: Final = "an embedding is a list of finite numbers"
_LOOK: Final = "Look at what the embedder returned."
_TICK: Final = timedelta(microseconds=1)


def refused(what: str, hint: str = "") -> landed.Refused:
    """The error for an argument that cannot be stored."""
    return landed.Refused(what, step="argument", hint=hint)


# Times: naive UTC, as CrewAI's are; in columns as microseconds since 1970.


def naive(time: datetime) -> datetime:
    """The same moment as naive UTC; CrewAI subtracts `datetime.utcnow()` from what it gets."""
    return time if time.tzinfo is None else time.astimezone(timezone.utc).replace(tzinfo=None)


def ticks(time: datetime) -> int:
    """A time as microseconds since 1970."""
    return (naive(time) - _EPOCH) // _TICK


def moment(microseconds: int) -> datetime:
    """What `ticks` was made from."""
    return _EPOCH + microseconds * _TICK


# Scopes: paths.


def scope_path(scope: str | None) -> str:
    """A scope in its one spelling: a leading slash, none at the end, none twice. The root is ``/``."""
    return "/" + "/".join(part for part in (scope or "").split("/") if part)


def inside(prefix: str) -> tuple[str, str]:
    """The scope itself, and what the scopes below it start with."""
    return prefix, prefix if prefix == "/" else prefix + "/"


# Records.


@dataclass(slots=True)
class Memory:
    """A record as the journal holds it.

    Attributes:
        text: everything but the id and the embedding, as JSON.
        vector: the embedding as float32, or None.
    """

    text: bytes
    vector: NDArray[np.float32] | None

    def encode(self) -> bytes:
        vector = b"" if self.vector is None else self.vector.astype(VECTOR, copy=False).tobytes()
        return _LENGTH.pack(len(self.text)) + self.text + vector


def encode(record: MemoryRecord, kind: int = MEMORY) -> landed.Record:
    """The journal's record for one of CrewAI's.

    Raises:
        landed.Refused: it holds something that JSON or float32 cannot. Nothing was written.
    """
    fields = {**vars(record)}
    key = str(fields.pop("id")).encode(errors="surrogatepass")
    embedding = fields.pop("embedding", None)
    fields["scope"] = scope_path(record.scope)
    for name in ("created_at", "last_accessed"):
        fields[name] = naive(fields[name]).isoformat()
    text = as_json(fields)
    return landed.Record(_LENGTH.pack(len(text)) + text + _packed(embedding), key, kind)


def as_vector(embedding: Sequence[float] | None) -> NDArray[np.float32] | None:
    """An embedding as float32; None when there is none.

    Raises:
        landed.Refused: a number in it is not finite, or it is longer than `LONGEST`.
    """
    numbers = _packed(embedding)
    return np.frombuffer(numbers, VECTOR) if numbers else None


def _packed(embedding: Sequence[float] | None) -> bytes:
    """An embedding as the journal holds it; empty when there is none. Raises as `as_vector`."""
    if embedding is None or not len(embedding):
        return b""
    try:
        length = math.hypot(*embedding)
        numbers = struct.pack(f"<{len(embedding)}f", *embedding)  # faster than numpy's own conversion
    except (TypeError, struct.error, OverflowError) as error:
        raise refused(_NOT_FINITE, _LOOK) from error
    if not length < LONGEST:  # nor if it is not a number
        raise refused(_NOT_FINITE, _LOOK)
    return numbers


def as_json(value: object) -> bytes:
    """Compact JSON.

    Raises:
        landed.Refused: the value holds something else than JSON does.
    """
    try:
        text = _to_json(value)
    except (TypeError, ValueError) as error:
        raise refused(str(error), "Use text, numbers, lists and dicts.") from error
    return text.encode(errors="surrogatepass")


def _not_json(value: object) -> NoReturn:
    raise TypeError(f"a {type(value).__name__} cannot be stored in a memory: {value!r:.100}")


_to_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_not_json).encode


def decode(data: bytes) -> Memory:
    """What `Memory.encode` made."""
    (length,) = _LENGTH.unpack_from(data)
    end = _LENGTH.size + length
    vector = None if end == len(data) else np.frombuffer(data, VECTOR, offset=end)
    return Memory(data[_LENGTH.size : end], vector)


def dimension(data: bytes) -> int:
    """How many numbers the embedding of an encoded memory has; 0 without one."""
    (length,) = _LENGTH.unpack_from(data)
    return (len(data) - _LENGTH.size - int(length)) // VECTOR.itemsize


# What a search or a deletion is limited to.


@dataclass(frozen=True, slots=True)
class Condition:
    """All that is given must hold; None is not given.

    Attributes:
        scope: this scope or one below it.
        categories: at least one of these.
        ids: one of these.
        older_than: created before, in microseconds since 1970.
        metadata: each of these keys has this value.
    """

    scope: str | None = None
    categories: tuple[str, ...] | None = None
    ids: tuple[str, ...] | None = None
    older_than: int | None = None
    metadata: dict[str, Any] | None = None

    @classmethod
    def of(
        cls,
        scope: str | None,
        categories: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        older_than: datetime | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Condition:
        """From the arguments of CrewAI's protocol."""
        path = scope_path(scope)
        return cls(
            None if path == "/" else path,
            None if categories is None else tuple(categories),
            None if ids is None else tuple(map(str, ids)),
            None if older_than is None else ticks(older_than),
            dict(metadata) if metadata else None,
        )

    def encode(self) -> bytes:
        """As JSON. A value that JSON would change equals none that is stored: such a condition matches nothing."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return as_json({name: value for name, value in fields.items() if value is not None})

    @classmethod
    def decode(cls, text: bytes) -> Condition:
        fields = json.loads(text)
        for name in ("categories", "ids"):
            if name in fields:
                fields[name] = tuple(fields[name])
        return cls(**fields)
