"""Which engine keeps a journal: the scheme of its address says so; what has none is a directory.

Engines beyond local files are imported when the first address of theirs is opened.
"""

from __future__ import annotations

import os

from landed.errors import Refused
from landed.lock import DEFAULT_TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.engine import Collection, Log

POSTGRES: Final = ("postgresql", "postgres")
OBJECTS: Final = ("s3", "gs", "az")
JOURNAL: Final = "journal"
COLLECTION: Final = "collection"


def open_log(place: str | os.PathLike[str], *, max_bytes: int | None = None, timeout: float = DEFAULT_TIMEOUT) -> Log:
    """The log at a place: a directory, ``postgresql://...``, or ``s3://``, ``gs://`` and ``az://...``.

    Raises:
        Refused: no engine has that scheme, what the engine needs is not installed, or it cannot carry a journal.
        NotLanded, Claimed, Corrupt: as the engine's log.
    """
    place = os.fspath(place)
    scheme = _scheme(place)
    if scheme in POSTGRES:
        from landed.postgres.log import PostgresLog

        return PostgresLog(place, max_bytes=max_bytes, timeout=timeout)
    if scheme in OBJECTS:
        from landed.objects.log import ObjectLog

        return ObjectLog(place, max_bytes=max_bytes, timeout=timeout)
    from landed.local.log import LocalLog

    return LocalLog(place, max_bytes=max_bytes)


def open_collection(
    place: str | os.PathLike[str], *, max_bytes: int | None = None, timeout: float = DEFAULT_TIMEOUT
) -> Collection:
    """The collection at a place, as `open_log`."""
    place = os.fspath(place)
    scheme = _scheme(place)
    if scheme in POSTGRES:
        from landed.postgres.collection import PostgresCollection

        return PostgresCollection(place, max_bytes=max_bytes, timeout=timeout)
    if scheme in OBJECTS:
        from landed.objects.collection import ObjectCollection

        return ObjectCollection(place, max_bytes=max_bytes, timeout=timeout)
    from landed.local.collection import LocalCollection

    return LocalCollection(place, max_bytes=max_bytes)


def kind_of(place: str) -> str:
    """What is at a place: `JOURNAL`, `COLLECTION`, or "" when it is neither; makes nothing.

    Raises:
        Refused, NotLanded: as `open_log`.
    """
    scheme = _scheme(place)
    if scheme in POSTGRES:
        from landed.postgres.collection import kind_of as kind
    elif scheme in OBJECTS:
        from landed.objects.collection import kind_of as kind
    else:
        from landed.local.collection import kind_of as kind
    journal, collection = kind(place)
    return JOURNAL if journal else COLLECTION if collection else ""


def is_address(place: str | os.PathLike[str]) -> bool:
    """Whether a place is an address of an engine; else it is a directory.

    Raises:
        Refused: no engine has that scheme.
    """
    return bool(_scheme(os.fspath(place)))


def absolute(place: str | os.PathLike[str]) -> str:
    """The same place from any working directory: an address as it is, of a directory the absolute path.

    Raises:
        Refused: no engine has that scheme.
    """
    place = os.fspath(place)
    return place if _scheme(place) else os.path.abspath(place)


def below(place: str, name: str) -> str:
    """The place of that name within another: a directory in a directory, a longer address.

    Raises:
        Refused: no engine has that scheme, or the address names no database.
    """
    scheme = _scheme(place)
    if scheme in POSTGRES:
        from landed.postgres.address import below as within

        return within(place, name)
    return f"{place.rstrip('/')}/{name}" if scheme else os.path.join(place, name)


def without_password(place: str) -> str:
    """What may be written down of a place: all but the password.

    Raises:
        Refused: no engine has that scheme, or the address cannot be taken apart.
    """
    if _scheme(place) in POSTGRES:
        from landed.postgres.address import without_password as rest

        return rest(place)
    return place


def _scheme(place: str) -> str:
    """The scheme of an address, "" for a path.

    Raises:
        Refused: no engine has it.
    """
    scheme, separator, _ = place.partition("://")
    if not separator or not scheme.isalnum():
        return ""
    if scheme in (*POSTGRES, *OBJECTS):
        return scheme
    raise Refused(
        f"no engine keeps journals at {scheme}://",
        step="open",
        hint=f"Give a directory, or an address that begins with {'://, '.join((POSTGRES[0], *OBJECTS))}://.",
    )
