"""Many journals of one server under one root, by any name."""

from __future__ import annotations

import hashlib
from time import monotonic

import psycopg
from psycopg.errors import LockNotAvailable

from landed.engine import claimed, decode_name, encode_name, stale
from landed.errors import Corrupt, LockTimeout, NotLanded, OutcomeUnknown
from landed.lock import DEFAULT_TIMEOUT
from landed.postgres import claims
from landed.postgres.address import Address
from landed.postgres.log import PostgresLog
from landed.postgres.mutex import PostgresMutex
from landed.postgres.rows import ALONE, STATE, State, find_row
from landed.postgres.server import Lost, server_for, wait_for_rows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

    from landed.engine import Log
    from landed.postgres.server import Connection

_NAMES: Final = b"SELECT digest, name FROM landed_journal WHERE space = %s AND digest > %s ORDER BY digest LIMIT 500"
_REMOVE: Final = """
WITH batches AS (DELETE FROM landed_batch WHERE journal = %(id)s)
DELETE FROM landed_journal WHERE id = %(id)s RETURNING id
"""


class PostgresCollection:
    """The `Collection` of PostgreSQL.

    Args:
        url: the root's address (`landed.postgres.address`).
        max_bytes: growth limit of each journal in bytes; None for none.
        timeout: seconds in which the server must answer.

    Raises:
        Refused: the address is none, or the server cannot carry a journal.
        NotLanded: the server cannot be reached.
    """

    def __init__(self, url: str, *, max_bytes: int | None = None, timeout: float = DEFAULT_TIMEOUT) -> None:
        address = Address(url)
        self.name = address.shown
        self._space = f"journals/{address.name}"
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._server = server_for(address, timeout)

    def open(self, name: str, *, create: bool) -> PostgresLog | None:
        found = find_row(self._server, self._space, encode_name(name), monotonic() + self._timeout, create=create)
        if found is None:
            return None
        shown = f"{self.name}[{name!r}]"
        return PostgresLog.of_row(self._server, shown, found, max_bytes=self._max_bytes, timeout=self._timeout)

    def current(self, log: Log) -> bool:
        """As far as is known without asking: a log finds out with its next request."""
        return isinstance(log, PostgresLog) and not log.gone

    def names(self) -> Iterator[str]:
        after = b""
        while True:
            rows = self._ask(_NAMES, (self._space, after), "the journals cannot be listed")
            for _, name in rows:
                try:
                    yield decode_name(bytes(name))
                except UnicodeDecodeError:
                    raise Corrupt(
                        f"a journal's name is none: {bytes(name)[:40]!r}",
                        path=self.name,
                        step="list",
                        hint="Something else has written to landed_journal. See what that row is.",
                    ) from None
            if not rows:
                return
            after = bytes(rows[-1][0])

    def remove(self, name: str, timeout: float, expect: int | None = None) -> bool:
        deadline = monotonic() + timeout
        found = find_row(self._server, self._space, encode_name(name), deadline, create=False)
        if found is None:
            return False
        journal = found[0]
        removing = False
        try:
            with self._server.connection(deadline) as connection, connection.transaction():
                wait_for_rows(connection, deadline)
                row = connection.execute(f"{STATE} FOR UPDATE", (journal,)).fetchone()
                if row is None:
                    return False  # another process was first
                state = State(row)
                if state.owner is not None and claims.end_if_dead(connection, journal, state.epoch) is None:
                    raise claimed(self.name, state.owner)
                if expect is not None and expect != state.tail:
                    raise stale(self.name, expect, state.tail)
                removing = True
                return connection.execute(_REMOVE, {"id": journal}).fetchone() is not None
        except Lost as error:
            kind = OutcomeUnknown if removing else NotLanded
            raise self._server.failed(kind, error, "the removal broke off", "remove") from error
        except psycopg.Error as error:
            kind = LockTimeout if isinstance(error, LockNotAvailable) else NotLanded
            raise self._server.failed(kind, error, "the journal cannot be removed", "remove") from error

    def lock(self, name: str) -> PostgresMutex:
        digest = hashlib.sha256(f"{self._space}\0".encode() + encode_name(name)).digest()
        return PostgresMutex(self._server, f"{self.name}[{name!r}]", int.from_bytes(digest[:8], "big", signed=True))

    def _ask(self, statement: bytes, values: tuple[object, ...], what: str) -> list[tuple[Any, ...]]:
        def question(connection: Connection) -> list[tuple[Any, ...]]:
            return connection.execute(statement, values).fetchall()

        return self._server.ask(question, what, monotonic() + self._timeout)


def kind_of(place: str) -> tuple[bool, bool]:
    """Whether there is a journal at an address, and whether there are journals below it."""
    address = Address(place)
    server = server_for(address, DEFAULT_TIMEOUT)
    journal = find_row(server, ALONE, address.name.encode(), monotonic() + DEFAULT_TIMEOUT, create=False)
    return journal is not None, any(True for _ in PostgresCollection(place).names())
