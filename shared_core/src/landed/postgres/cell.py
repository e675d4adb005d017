"""A whole file in PostgreSQL: one row, replaced by the tag of its last change."""

from __future__ import annotations

import hashlib
import os

import psycopg
from psycopg.errors import LockNotAvailable

from landed.cell import Held, Unsure
from landed.errors import LockTimeout, NotLanded, Refused
from landed.postgres.address import Address
from landed.postgres.server import Lost, server_for, wait_for_rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from landed.postgres.server import Connection

_GET: Final = b"SELECT data, tag FROM landed_file WHERE digest = %s"
_CREATE: Final = b"""
INSERT INTO landed_file (digest, name, tag, data) VALUES (%(digest)s, %(name)s, %(tag)s, %(data)b)
ON CONFLICT DO NOTHING RETURNING 1
"""
_REPLACE: Final = b"""
UPDATE landed_file SET tag = %(tag)s, data = %(data)b WHERE digest = %(digest)s AND tag = %(known)s RETURNING 1
"""


class PostgresCell:
    """The `Cell` of PostgreSQL.

    Raises:
        Refused: the address is none, or the server cannot carry a file.
        NotLanded: the server cannot be reached.
    """

    def __init__(self, url: str, timeout: float) -> None:
        address = Address(url)
        if not address.name:
            raise Refused("the address names a database", path=address.shown, step="path", hint="Name a file in it.")
        self.name = address.shown
        self._file = address.name.encode()
        self._digest = hashlib.sha256(self._file).digest()
        self._server = server_for(address, timeout)

    def get(self, deadline: float) -> Held | None:
        def question(connection: Connection) -> tuple[Any, ...] | None:
            row: tuple[Any, ...] | None = connection.execute(_GET, (self._digest,)).fetchone()
            return row

        row = self._server.ask(question, "the file cannot be read", deadline)
        return Held(bytes(row[0]), row[1]) if row is not None else None

    def put(self, data: bytes, known: Held | None, deadline: float) -> bool:
        values = {
            "digest": self._digest,
            "name": self._file,
            "tag": os.urandom(16),
            "data": data,
            "known": known.tag if known is not None else None,
        }
        try:
            with self._server.connection(deadline) as connection, connection.transaction():
                wait_for_rows(connection, deadline)
                return connection.execute(_CREATE if known is None else _REPLACE, values).fetchone() is not None
        except Lost as error:
            raise Unsure(str(error)) from error
        except psycopg.Error as error:
            kind = LockTimeout if isinstance(error, LockNotAvailable) else NotLanded
            raise self._server.failed(kind, error, "the file cannot be written", "write") from error

    def confirm(self, deadline: float) -> None:
        self._server.confirm(deadline)
