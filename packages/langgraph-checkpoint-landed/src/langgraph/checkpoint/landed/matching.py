"""Whether metadata is what a filter asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def matches(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether each key of `wanted` has its value in `metadata`. None is also what a missing key has.

    A key that is not there is tried as a dotted path, as SqliteSaver has it: ``user.name``.
    """
    return all(_equal(_find(metadata, key), value) for key, value in wanted.items())


def _find(metadata: Mapping[str, Any], key: str) -> object:
    if key in metadata or "." not in key:
        return metadata.get(key)
    found: object = metadata
    for part in key.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(part)
    return found


def _equal(found: object, value: object) -> bool:
    if isinstance(found, tuple | list) and isinstance(value, tuple | list):
        return len(found) == len(value) and all(map(_equal, found, value))
    return found == value
