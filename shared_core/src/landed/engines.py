"""Which engine keeps a journal: the scheme of its address says so; what has none is a directory.

Engines beyond local files are imported when the first address of theirs is opened.
"""

from __future__ import annotations

import os

from landed import state
from landed.errors import Refused
from landed.lock import DEFAULT_TIMEOUT, deadline_after

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.cell import Cell
    from landed.engine import Collection, Log

POSTGRES: Final = ("postgresql", "postgres")
OBJECTS: Final = ("s3", "gs", "az")
CELLS: Final = 1024
"""Addresses of whole files of which a process remembers that they can be written to."""
_MARKS: Final = str.maketrans("", "", "+-.")
"""What a scheme has beside letters and digits, as in ``postgresql+psycopg``. Taken for a directory it would be made,
with the password in its name."""
_DROPPED: Final = frozenset("\t\n\r")
"""What `urllib.parse` drops: two names would be one."""


def open_log(place: str | os.PathLike[str], *, max_bytes: int | None = None, timeout: float = DEFAULT_TIMEOUT) -> Log:
    """The log at a place: a directory, ``postgresql://...``, or ``s3://``, ``gs://`` and ``az://...``.

    Raises:
        Refused: no engine has that scheme, what the engine needs is not installed, or it cannot carry a journal; or an
            argument is of the wrong kind.
        NotLanded, Claimed, Corrupt: as the engine's log.
    """
    _check(max_bytes, timeout)
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
    _check(max_bytes, timeout)
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


def _check(max_bytes: object, timeout: float) -> None:
    """Refuse here, where they were given, what no engine could make anything of."""
    deadline_after(timeout)
    if max_bytes is not None and not (isinstance(max_bytes, int) and max_bytes > 0):
        raise Refused(f"max_bytes is a number of bytes above 0, or None, not {max_bytes!r}", step="argument")


_cells: dict[tuple[str, str], Cell] = {}


def open_cell(place: str | os.PathLike[str], timeout: float = DEFAULT_TIMEOUT) -> Cell:
    """The place of a whole file at an address; one for each address of a process, whose connections it shares.

    Raises:
        Refused: as `open_log`.
        NotLanded: the engine cannot be reached.
    """
    deadline_after(timeout)  # refused here, where it was given
    place = os.fspath(place)
    if _scheme(place) in POSTGRES:
        from landed.postgres.cell import PostgresCell

        return _cells.get((place, "")) or _keep((place, ""), PostgresCell(place, timeout))
    from landed.objects.cell import ObjectCell
    from landed.objects.environment import endpoint

    key = (place, endpoint())
    return _cells.get(key) or _keep(key, ObjectCell(place, timeout))


def _keep(key: tuple[str, str], cell: Cell) -> Cell:
    if len(_cells) >= CELLS:
        _cells.pop(next(iter(_cells)), None)
    return _cells.setdefault(key, cell)


def kinds_of(place: str) -> tuple[bool, bool]:
    """Whether there is a journal at a place, and whether there are journals below it; makes nothing.

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
    return kind(place)


def same_place(one: str, other: str) -> bool:
    """Whether two places are one: of addresses as far as their spelling tells, of directories whatever leads there.

    Raises:
        Refused: no engine has that scheme, or an address cannot be taken apart.
    """
    if _scheme(one) or _scheme(other):
        return _canonical(one) == _canonical(other)
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False  # one of them is not there, or cannot be looked at


def _canonical(place: str) -> object:
    if _scheme(place) in POSTGRES:
        from landed.postgres.address import Address

        address = Address(place)
        return address.conninfo, address.name
    if _scheme(place):
        from landed.objects.address import canonical

        return canonical(place)
    return os.path.realpath(place)


def is_address(place: str | os.PathLike[str]) -> bool:
    """Whether a place is an address of an engine; else it is a directory.

    Raises:
        Refused: no engine has that scheme.
    """
    place = os.fspath(place)
    return bool(place and _scheme(place))


def refuse_address(place: str) -> None:
    """For what knows files and directories of this machine alone.

    Raises:
        Refused: it is an address. Else a directory would be made, or looked for, that is called like one.
    """
    if _scheme(place):
        raise Refused(
            f"this is for files of this machine, not for an address of {place.partition(':')[0]}://",
            step="path",
            hint="Name a file or a directory.",
        )


def absolute(place: str | os.PathLike[str]) -> str:
    """The same place from any working directory: an address as it is, of a directory the absolute path.

    Raises:
        Refused: no engine has that scheme, or the path cannot be made absolute.
    """
    place = os.fspath(place)
    return place if _scheme(place) else state.absolute(place)


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
        Refused: no engine has it, there is neither, it is no str, or the address has what would be dropped from it
            unsaid.
    """
    if not isinstance(place, str):
        raise Refused("a place is a str or an os.PathLike of str", path=os.fsdecode(place), step="path")
    if not place or "\0" in place:  # empty, it would be the working directory: of a variable that is not set
        hint = "Name a directory or an address."
        raise Refused("a place is not empty and holds no NUL", path=repr(place), step="path", hint=hint)
    scheme, separator, rest = place.partition(":/")
    known = scheme in (*POSTGRES, *OBJECTS) and separator
    if known and rest.startswith("/"):
        if not _DROPPED.isdisjoint(rest):
            raise Refused(
                f"an address of {scheme}:// has a tab or a line break in it",
                step="open",
                hint="Write %09, %0A or %0D, or see where the address comes from.",
            )
        return scheme
    if known:
        raise Refused(
            f"of an address of {scheme}:// one slash is missing",
            step="open",
            hint="Give it as a str: pathlib takes one away.",
        )
    if not rest.startswith("/") or not scheme.strip().translate(_MARKS).isalnum():
        return ""
    raise Refused(
        f"no engine keeps journals at {scheme}://",
        step="open",
        hint=f"Give a directory, or an address that begins with {'://, '.join((POSTGRES[0], *OBJECTS))}://.",
    )
