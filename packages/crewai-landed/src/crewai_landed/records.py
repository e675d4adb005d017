"""What the memory's journal holds: kinds of records, and how a CrewAI record becomes one.

| kind | key | data |
|---|---|---|
| `MEMORY` | its id | length of the text as 4 bytes, the text (JSON), the embedding (float32); all little-endian |
| `REVISED` | its id | the same; keeps `source` and `private` of what it replaces if it has neither |
| `FORGOTTEN` | | a condition as JSON: all that matches at this place of the journal is gone |
| `TOUCHED` | | JSON: `at`, and the `ids` that were recalled then |
| `COMPACTED` | | empty: not written any more, and says nothing; there are memories that have it |
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np
from pydantic_core import PydanticSerializationError, from_json, to_json

import landed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crewai.memory.types import MemoryRecord
    from numpy.typing import NDArray

    Parts = tuple[bytes, bytes, dict[str, Any]]
    """Text, embedding and fields of a memory."""

MEMORY: Final = 1
REVISED: Final = 2
FORGOTTEN: Final = 3
TOUCHED: Final = 4
COMPACTED: Final = 5

VECTOR: Final = np.dtype("<f4")
LONGEST: Final = 1e18
"""The length of an embedding, so that squared distances fit into float32."""
DIGITS: Final = 4300
"""The most digits of a whole number that Python reads."""
_LENGTH: Final = struct.Struct("<I")
_ORDER: Final = "" if sys.byteorder == "little" else "<"
"""Little-endian; the machine's own order is packed faster when it is not named."""
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - CrewAI's times are naive UTC
_NOT_FINITE: Final = "an embedding is a list of finite numbers"
_LOOK: Final = "Look at what the embedder returned."
_TEXT: Final = frozenset({str})
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
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


@lru_cache(maxsize=1024)
def scope_path(scope: str | None) -> str:
    """A scope in its one spelling: a leading slash, none at the end, none twice. The root is ``/``."""
    return "/" + "/".join(part for part in (scope or "").split("/") if part)


def inside(prefix: str) -> tuple[str, str]:
    """The scope itself, and what the scopes below it start with."""
    return prefix, prefix if prefix == "/" else prefix + "/"


# Records.


class Made(landed.Record):
    """A memory on its way into the journal; once it is there, as good as an entry that was read.

    Attributes:
        parts: what `taken_apart` would give of it.
        sequence: its number in the journal, once it has one.
    """

    __slots__ = ("parts", "sequence")

    def __init__(self, parts: Parts, key: bytes, kind: int) -> None:
        super().__init__(joined(parts[0], parts[1]), key, kind)
        self.parts = parts
        self.sequence = 0


def encode(records: Iterable[MemoryRecord], kind: int = MEMORY) -> list[Made]:
    """The journal's records for CrewAI's.

    Raises:
        landed.Refused: one holds something that JSON or float32 cannot. Nothing was written.
    """
    made: list[Made] = []
    for record in records:
        fields = {**vars(record)}
        key = str(fields.pop("id")).encode(errors="surrogatepass")
        numbers = _packed(fields.pop("embedding", None))
        fields["scope"] = scope_path(record.scope)
        fields["created_at"] = naive(record.created_at).isoformat()
        fields["last_accessed"] = naive(record.last_accessed).isoformat()
        text, fields = _as_text(fields)
        made.append(Made((text, numbers, fields), key, kind))
    _check([record.parts[1] for record in made if record.parts[1]])
    return made


def as_vector(embedding: Sequence[float] | None) -> NDArray[np.float32] | None:
    """An embedding as float32; None when there is none.

    Raises:
        landed.Refused: a number in it is not finite, or it is longer than `LONGEST`.
    """
    numbers = _packed(embedding)
    if not numbers:
        return None
    _check([numbers])
    return np.frombuffer(numbers, VECTOR)


def _packed(embedding: Sequence[float] | None) -> bytes:
    """An embedding as the journal holds it, not checked yet; empty when there is none."""
    if embedding is None or not len(embedding):
        return b""
    try:
        return struct.pack(f"{_ORDER}{len(embedding)}f", *embedding)  # faster than numpy's own conversion
    except (TypeError, struct.error, OverflowError) as error:
        raise refused(_NOT_FINITE, _LOOK) from error


def _check(embeddings: list[bytes]) -> None:
    """Refuse what is not finite, or too long; all at once, as each of numpy's calls costs more than the numbers do."""
    numbers = np.frombuffer(b"".join(embeddings), VECTOR)
    with np.errstate(over="ignore", invalid="ignore"):
        if np.dot(numbers, numbers) < LONGEST**2:  # then so is each; not if one is not a number
            return
        starts = np.cumsum([0, *map(len, embeddings[:-1])]) // VECTOR.itemsize
        squares = np.add.reduceat(numbers * numbers, starts)
    if not (squares < LONGEST**2).all():
        raise refused(_NOT_FINITE, _LOOK)


def _as_text(fields: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The JSON of a memory's fields, and what a reader makes of it; faster for plain values, which nearly all hold."""
    categories, metadata = fields.pop("categories"), fields.pop("metadata")
    # Pydantic looks at them when a record is made, and not when it is changed; a reader could not go past them.
    if not isinstance(categories, (list, tuple)) or not all(isinstance(each, str) for each in categories):
        raise refused(f"categories are a list of texts, not {categories!r:.100}")
    if not isinstance(metadata, dict):
        raise refused(f"metadata is a dict, not {metadata!r:.100}")
    if _PLAIN.issuperset(map(type, (*fields.values(), *metadata.values()))) and _TEXT.issuperset(
        map(type, (*categories, *metadata))
    ):
        fields["categories"], fields["metadata"] = [*categories], {**metadata}  # the caller may change its own
        try:
            text = to_json(fields, inf_nan_mode="constants")
        except PydanticSerializationError:  # a lone surrogate
            pass
        else:
            if len(text) > DIGITS:
                _check_text(text)
            return text, fields
    text = as_json({**fields, "categories": categories, "metadata": metadata})
    return text, from_text(text)


def _check_text(text: bytes) -> None:
    """Refuse a number so long that Python reads it no more; pydantic writes it all the same."""
    try:
        from_text(text)
    except ValueError as error:
        raise refused(str(error)) from error


def as_json(value: object) -> bytes:
    """Compact JSON.

    Raises:
        landed.Refused: the value holds something else than JSON does.
    """
    try:
        text = _to_json(value)
    except (TypeError, ValueError) as error:
        raise refused(str(error), "Use text, numbers, lists and dicts.") from error
    except RecursionError as error:
        raise refused("it nests too deep", "Use text, numbers, lists and dicts.") from error
    return text.encode(errors="surrogatepass")


def _not_json(value: object) -> NoReturn:
    raise TypeError(f"a {type(value).__name__} cannot be stored in a memory: {value!r:.100}")


_to_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_not_json).encode


def from_text(text: bytes) -> dict[str, Any]:
    """The fields that `as_json` made a text of."""
    try:
        fields: dict[str, Any] = from_json(text)  # takes a fifth of the time
    except ValueError:  # a lone surrogate, or lists in lists deeper than it goes
        fields = json.loads(text.decode(errors="surrogatepass"))
    return fields


def joined(text: bytes, numbers: bytes) -> bytes:
    """The data of a memory: its text, which is everything but its id and its embedding, and its embedding's bytes."""
    return b"".join((_LENGTH.pack(len(text)), text, numbers))


def parted(data: bytes) -> tuple[bytes, bytes]:
    """What `joined` made one of: the text, and the embedding's bytes."""
    (length,) = _LENGTH.unpack_from(data)
    end = _LENGTH.size + length
    return data[_LENGTH.size : end], data[end:]


def taken_apart(memory: landed.Entry | Made) -> Parts:
    """The text, the embedding's bytes, and the fields that the text holds."""
    if isinstance(memory, Made):
        return memory.parts
    text, numbers = parted(memory.data)
    return text, numbers, from_text(text)


def dimension(memory: landed.Entry | Made) -> int:
    """How many numbers the embedding of a memory has; 0 without one."""
    if isinstance(memory, Made):
        return len(memory.parts[1]) // VECTOR.itemsize
    (length,) = _LENGTH.unpack_from(memory.data)
    return (len(memory.data) - _LENGTH.size - int(length)) // VECTOR.itemsize


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
