"""A server of PostgreSQL, as the journals of one process use it: a bounded pool of connections, errors in our words.

Nothing waits without a limit: connecting, waiting for a connection, each statement and a silent network all end.
"""

from __future__ import annotations

import os
import random
import threading
from contextlib import contextmanager
from time import monotonic, sleep

import psycopg
from psycopg import errors as sqlstate
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

from landed.errors import LandedError, LockTimeout, NotLanded, OutcomeUnknown
from landed.postgres import schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Final, TypeAlias, TypeVar

    from landed.postgres.address import Address

    Connection: TypeAlias = psycopg.Connection[Any]
    Result = TypeVar("Result")

CONNECTIONS: Final = 16
"""Connections of one process to one server. Statements are short; more would only queue in the server."""
WAITING: Final = 1024
"""Threads that may wait for one of them; the next is refused."""
CONNECT: Final = 10
"""Seconds in which a connection must stand."""
SILENCE: Final = 20_000
"""Milliseconds after which a server that acknowledges no packet is taken for gone."""
STATEMENT: Final = 30_000
"""Milliseconds that a statement may take, the wait for a row included."""
PAUSE: Final = (0.05, 2.0)
"""Seconds before the first new try and at most; each pause is drawn between none and twice the one before."""

DRIVER_ERRORS: Final = (psycopg.Error, PoolTimeout, TooManyRequests)
"""What the driver raises."""

# In these states of the server a statement has not happened and may do so a moment later.
_PASSING: Final = (
    sqlstate.CannotConnectNow,
    sqlstate.TooManyConnections,
    sqlstate.SerializationFailure,
    sqlstate.DeadlockDetected,
)


class Lost(Exception):
    """The connection broke while a statement was under way: it may or may not have happened."""


class Server:
    """One server, for one process. `server_for` gives the one of an address.

    Raises:
        Refused: the server cannot carry a journal.
        NotLanded: it cannot be reached.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self._address = address
        self.shown = address.shown
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            address.conninfo,
            kwargs={
                "autocommit": True,
                "application_name": "landed",
                "connect_timeout": CONNECT,
                "tcp_user_timeout": SILENCE,
                "keepalives_idle": SILENCE // 1000,
                "options": f"-c statement_timeout={STATEMENT} -c idle_in_transaction_session_timeout={STATEMENT}",
            },
            min_size=0,
            max_size=CONNECTIONS,
            max_waiting=WAITING,
            timeout=timeout,
            reconnect_timeout=CONNECT,
            open=False,
        )
        try:
            with psycopg.connect(address.conninfo, autocommit=True, connect_timeout=CONNECT) as connection:
                schema.prepare(connection, self.shown, unsafe=address.unsafe)
        except psycopg.Error as error:
            raise self.failed(NotLanded, error, "the server cannot be used", "open") from error
        self._pool.open()

    @contextmanager
    def connection(self, deadline: float) -> Iterator[Connection]:
        """A connection of the pool.

        Raises:
            Lost: it broke in the block.
            DRIVER_ERRORS: the statement failed, and has not happened; or there was no connection in time.
        """
        connection = self._pool.getconn(timeout=max(0.001, deadline - monotonic()))
        try:
            yield connection
        except psycopg.Error as error:
            if connection.closed or connection.broken:
                raise Lost(_words(error)) from error
            raise
        finally:
            self._pool.putconn(connection)

    def alone(self) -> Connection:
        """A connection that is in no pool, for locks that live as long as it does; the caller closes it.

        Raises:
            NotLanded: the server cannot be reached.
        """
        try:
            return psycopg.connect(
                self._address.conninfo, autocommit=True, application_name="landed owner", connect_timeout=CONNECT
            )
        except psycopg.Error as error:
            raise self.failed(NotLanded, error, "the server cannot be reached", "claim") from error

    def in_child(self) -> Server:
        """The same server, for a forked child: with connections of its own."""
        return server_for(self._address, CONNECT)

    def ask(self, question: Callable[[Connection], Result], what: str, deadline: float) -> Result:
        """Ask something that changes nothing, again if the connection breaks, until it is answered or time is up.

        Raises:
            NotLanded: no answer.
        """
        for pause in pauses(deadline):
            try:
                with self.connection(deadline) as connection:
                    return question(connection)
            except (Lost, *_PASSING, PoolTimeout) as error:
                if pause is None:
                    raise self.failed(NotLanded, error, what, "read") from error
                sleep(pause)
            except DRIVER_ERRORS as error:
                raise self.failed(NotLanded, error, what, "read") from error
        raise AssertionError  # the last pause is None

    def failed(
        self, kind: type[LandedError], error: BaseException, what: str, step: str, hint: str = ""
    ) -> LandedError:
        """An error of ours, with the server's words and without the connection's secrets."""
        return kind(f"{what}: {_words(error)}", path=self.shown, step=step, hint=hint or _HINTS.get(kind, ""))

    def close(self) -> None:
        """Close every connection."""
        self._pool.close(timeout=1.0)


_HINTS: Final[dict[type[LandedError], str]] = {
    OutcomeUnknown: "Read the journal again before trusting either state.",
    NotLanded: "See whether the server runs and can be reached, then try again.",
    LockTimeout: "Try again, or allow a longer timeout.",
}


def passing(error: BaseException) -> bool:
    """Whether the statement has not happened, and may a moment later."""
    return isinstance(error, (*_PASSING, PoolTimeout))


def pauses(deadline: float) -> Iterator[float | None]:
    """Jittered pauses between tries until the deadline; then one None, for the last try."""
    pause, most = PAUSE
    while True:
        left = deadline - monotonic()
        if left <= 0:
            yield None
            return
        yield min(left, random.uniform(0, 2 * pause))  # noqa: S311 - spreads tries, keeps no secret
        pause = min(most, 2 * pause)


def _words(error: BaseException) -> str:
    """What the server or libpq said, on one line. Neither repeats a password."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    lines = (primary or str(error)).splitlines()
    return lines[0] if lines else type(error).__name__


_servers: dict[tuple[str, bool], Server] = {}
_guard = threading.Lock()
_pid = os.getpid()


def server_for(address: Address, timeout: float) -> Server:
    """The server of an address, one for all journals of this process. A forked child gets one of its own.

    Raises:
        Refused: the server cannot carry a journal.
        NotLanded: it cannot be reached.
    """
    key = (address.conninfo, address.unsafe)
    with _guard:
        server = _servers.get(key)
        if server is None:
            server = _servers[key] = Server(address, timeout)
        return server


def _after_fork() -> None:
    # The connections are the parent's: to use or to close one here would end it there. They are kept, so that nothing
    # closes them when they are collected.
    global _guard  # noqa: PLW0603 - a forked child starts afresh
    _guard = threading.Lock()
    _parents.extend(_servers.values())
    _servers.clear()


_parents: list[Server] = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
