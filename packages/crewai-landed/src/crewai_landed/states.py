"""A flow's state as JSON that gives back what it was given: dates, UUIDs, sets, tuples, bytes and the like.

What JSON has is written as it is. Anything else is ``{"$landed": TYPE, "value": ...}``, and so is a dictionary that
JSON would change: one whose keys are not all strings, or that has that very key. Models and dataclasses become
dictionaries, members of an enumeration their values: which class they were, the flow's own state class knows.
"""

from __future__ import annotations

import dataclasses
import json
from base64 import b64decode, b64encode
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from operator import is_
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pydantic import BaseModel, SecretStr

from landed import Corrupt, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

STATE, PENDING, RESUMED = 1, 2, 3
"""Kinds of record: a state; a state and the feedback that is waited for; that this feedback came."""
MARK: Final = "$landed"
VALUE: Final = "value"

_SCALARS: Final[tuple[tuple[type[Any], str, Callable[[Any], Any]], ...]] = (
    (datetime, "datetime", lambda value: value.isoformat()),  # before date, of which it is a kind
    (date, "date", lambda value: value.isoformat()),
    (time, "time", lambda value: value.isoformat()),
    (timedelta, "timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    (UUID, "uuid", str),
    (Decimal, "decimal", str),
    (complex, "complex", lambda value: [value.real, value.imag]),
    (bytes, "bytes", lambda value: b64encode(value).decode()),
    (bytearray, "bytearray", lambda value: b64encode(value).decode()),
    (PurePath, "path", str),
)
_COLLECTIONS: Final[tuple[tuple[type[Any], str], ...]] = ((tuple, "tuple"), (set, "set"), (frozenset, "frozenset"))
_MAKE: Final[dict[str, Callable[[Any], Any]]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda parts: timedelta(*parts),
    "uuid": UUID,
    "decimal": Decimal,
    "complex": lambda parts: complex(*parts),
    "bytes": b64decode,
    "bytearray": lambda text: bytearray(b64decode(text)),
    "path": Path,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "dict": dict,
}


def encode(value: Any) -> str:  # noqa: ANN401 - whatever a state holds
    """JSON for a state or a part of one.

    Raises:
        Refused: something in it has no form here; the message says where it is and what.
    """
    try:
        return json.dumps(_plain(value, ""), separators=(",", ":"))
    except RecursionError:
        raise Refused("the state refers to itself, or nests too deeply", step="encode", hint=_HINT) from None
    except ValueError as error:  # a number of more digits than Python reads
        raise Refused(f"the state is not JSON: {error}", step="encode", hint=_HINT) from error


def decode(data: bytes) -> Any:  # noqa: ANN401 - whatever a state holds
    """What `encode` was given, of whose text these are the bytes.

    Raises:
        Corrupt: it is not what `encode` makes.
    """
    try:
        return json.loads(data.decode(), object_hook=_made)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Corrupt(f"a stored state cannot be read: {error!r}", step="decode") from error


_MASK: Final = str(SecretStr("x"))
"""What pydantic gives for any secret."""
_HINT: Final = "Keep what it stands for in the state: text, numbers, dates, lists, dictionaries, models."


def _plain(value: Any, where: str) -> Any:  # noqa: ANN401
    """`value` in what JSON has."""
    if value is None or (isinstance(value, (str, bool, int, float)) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return _plain(value.value, where)
    if isinstance(value, BaseModel):
        return _plain(_dump(value, where), where)
    if isinstance(value, dict):
        return _dictionary(value, where)
    if isinstance(value, list):  # rebuilt by iteration: CrewAI's own kinds of list keep their items elsewhere
        return [_plain(item, f"{where}[{number}]") for number, item in enumerate(value)]
    for kind, name in _COLLECTIONS:
        if isinstance(value, kind):
            items = [_plain(item, f"{where}[...]") for item in value]
            if kind is not tuple:
                _check_members(value, items, f"{where}[...]")
            return {MARK: name, VALUE: items}
    for kind, name, write in _SCALARS:
        if isinstance(value, kind):
            return {MARK: name, VALUE: write(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, where)
    raise Refused(
        f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which cannot be stored",
        step="encode",
        hint=_HINT,
    )


def _dump(model: BaseModel, where: str) -> dict[str, Any]:
    """The fields of a model, as they are where they have a form here; else in the form that the model has for JSON."""
    given: dict[str, Any] = {}
    try:
        given = model.model_dump()
        _plain(given, where)
    except (Refused, TypeError) as error:  # pydantic's own for a set of models, as it makes dictionaries of them
        try:
            fields = model.model_dump(mode="json")
        except Exception:  # noqa: BLE001 - pydantic's own error does not say where
            raise error from None
        _check_unmasked(fields, given, where)
        return fields
    return given


def _check_unmasked(fields: Any, given: Any, where: str) -> None:  # noqa: ANN401 - whatever JSON has
    """Refuse a secret that pydantic has masked, unless its model says what it is in JSON.

    Args:
        given: the same as it was; a text there that looks like the mask is one.
    """
    if isinstance(fields, dict):
        for key, item in fields.items():
            before = given.get(key) if isinstance(given, dict) else None
            _check_unmasked(item, before, f"{where}[{key!r}]" if where else str(key))
    elif isinstance(fields, list):
        same = isinstance(given, (list, tuple)) and len(given) == len(fields)
        for number, item in enumerate(fields):
            _check_unmasked(item, given[number] if same else None, f"{where}[{number}]")
    elif fields == _MASK != given:
        hint = "Keep it elsewhere, or give its model a field_serializer that tells it."
        raise Refused(f"{where} is a secret, which would be lost", step="encode", hint=hint)


def _check_members(given: Iterable[Any], members: list[Any], where: str) -> None:
    """Refuse what could not be made a set, or the keys of a dictionary, again."""
    if all(map(is_, given, members)):
        return  # JSON has them
    try:
        made = {json.loads(json.dumps(each), object_hook=_made) for each in members}
    except TypeError:
        what = f"{where} comes back as a dictionary, which cannot be a member of a set, or a key"
        raise Refused(what, step="encode", hint=_HINT) from None
    if len(made) < len(members):
        raise Refused(f"{where} would come back as one with another", step="encode", hint=_HINT)


def _dictionary(value: dict[Any, Any], where: str) -> dict[str, Any]:
    places = [f"{where}[{key!r}]" if where else str(key) for key in value]
    if MARK not in value and all(type(key) is str for key in value):
        return {key: _plain(item, place) for (key, item), place in zip(value.items(), places, strict=True)}
    at = f"a key of {where or 'the state'}"
    keys = [_plain(key, at) for key in value]
    _check_members(value, keys, at)
    items = [_plain(item, place) for item, place in zip(value.values(), places, strict=True)]
    return {MARK: "dict", VALUE: list(zip(keys, items, strict=True))}


def _made(found: dict[str, Any]) -> Any:  # noqa: ANN401
    return _MAKE[found[MARK]](found[VALUE]) if MARK in found else found
