"""Where a journal is in PostgreSQL: ``postgresql://[user[:password]@]host[:port]/database[/name...][?option=value]``.

What follows the database is the journal's name there. The options are libpq's, and one is landed's own: ``unsafe=yes``
takes a server that does not flush what it acknowledges. The usual places of libpq (``~/.pgpass``, ``PGPASSWORD``,
``PGSERVICE``) give what the address leaves out.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from landed.engines import POSTGRES
from landed.errors import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

UNSAFE: Final = "unsafe"
_SPELL: Final = "In a user and a password, write each of @ : / ? # % and a space as % and two digits"
_BROKEN: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|%00|\s|@.*@")
"""What libpq would read otherwise than `urlsplit`, or complain of and repeat: to it the first @ ends a password."""
_SECRETS: Final = frozenset({"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"})
"""Options of libpq that hold one."""
NAME_LIMIT: Final = 1024
"""Bytes of a name in an address. The space of a collection is indexed, and an index entry holds 2,704."""


class Address:
    """A journal's place, taken apart.

    Attributes:
        conninfo: what libpq connects to, credentials included. Never shown.
        name: the journal's.
        shown: the address for messages: no user, no password, no options.
        unsafe: whether a server that does not flush what it acknowledges is good enough.

    Raises:
        Refused: it is not such an address.
    """

    __slots__ = ("conninfo", "name", "shown", "unsafe")

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # which would repeat a part of the password
            raise _refused(f"its host or port is none. {_SPELL}") from None
        if parts.scheme not in POSTGRES:
            raise _refused("it does not begin with postgresql://")
        database, _, name = parts.path.lstrip("/").partition("/")
        if (
            parts.fragment
            or "@" in database
            or "@" in parts.query.partition("=")[0]
            or "%00" in parts.query
            or _BROKEN.search(parts.netloc)
        ):
            raise _refused(f"it cannot be taken apart. {_SPELL}")
        options = _options(parts.query)
        answer = dict(options).get(UNSAFE, "no")
        if answer not in {"yes", "no"}:
            raise _refused(f"{UNSAFE} is yes or no")
        self.unsafe = answer == "yes"
        try:
            self.name = unquote(name, errors="strict").strip("/")
            size = len(self.name.encode())
        except UnicodeError:  # replaced, all such names would be one
            raise _refused("a journal's name is UTF-8") from None
        if size > NAME_LIMIT or "\0" in self.name:
            raise _refused(f"a journal's name has at most {NAME_LIMIT} bytes and no NUL")
        rest = urlencode([(key, value) for key, value in options if key != UNSAFE], quote_via=quote)
        self.conninfo = urlunsplit(("postgresql", parts.netloc, f"/{database}", rest, ""))
        host = parts.hostname or ""
        where = f"[{host}]" if ":" in host else host
        at = f"{where}:{port}" if port is not None else where
        self.shown = f"postgresql://{at}/{database}" + (f"/{quote(self.name)}" if self.name else "")


def below(url: str, name: str) -> str:
    """The address of that name within another.

    Raises:
        Refused: it is no address, or names no database, after which alone a name can stand.
    """
    Address(url)
    parts = urlsplit(url)
    if not parts.path.strip("/"):
        raise _refused("it names no database, which comes before the name")
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))


def without_password(url: str) -> str:
    """The address without any password. libpq finds it in ``~/.pgpass``, ``PGPASSWORD`` or ``PGSERVICE``.

    Raises:
        Refused: it is no address.
    """
    Address(url)
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    options = urlencode([each for each in _options(parts.query) if each[0] not in _SECRETS], quote_via=quote)
    return urlunsplit(parts._replace(netloc=user.partition(":")[0] + at + host, query=options))


def _options(query: str) -> list[tuple[str, str]]:
    """As libpq reads them, to which a plus is a plus and no space."""
    return parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)


def _refused(what: str) -> Refused:
    return Refused(f"no journal's address in PostgreSQL: {what}", step="open")
