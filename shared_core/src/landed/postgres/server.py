"""A server of PostgreSQL, as the journals of one process use it: a bounded pool of connections, errors in our words.

Nothing waits without a limit: connecting, waiting for a connection, each statement and a silent network all end.
"""

from __future__ import annotations

import os
import select
import threading
from contextlib import contextmanager
from time import monotonic, sleep

import psycopg
from psycopg import errors as sqlstate
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

from landed.errors import LandedError, LockTimeout, NotLanded, OutcomeUnknown
from landed.postgres import schema
from landed.retries import pauses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Final, TypeAlias, TypeVar

    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn
    from psycopg.rows import RowFactory
    from typing_extensions import Self

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
HOLDING: Final = 5_000
"""Milliseconds after which the server takes a row from a host that holds it and says nothing: one that was cut off or
stopped between two statements would keep everybody else waiting."""
ANSWER: Final = 40.0
"""Seconds after which an answer is waited for no longer: more than a statement may take. A server that is stopped, or
waits for a standby, falls silent while its system still acknowledges every packet."""

DRIVER_ERRORS: Final = (psycopg.Error, PoolTimeout, TooManyRequests)
"""What the driver raises."""

# In these states of the server a statement has not happened and may do so a moment later.
_PASSING: Final = (
    sqlstate.CannotConnectNow,
    sqlstate.TooManyConnections,
    sqlstate.SerializationFailure,
    sqlstate.DeadlockDetected,
)


_ENDED: Final = (sqlstate.AdminShutdown, sqlstate.CrashShutdown)
"""The server has ended the session; what was under way may have happened before."""


class Patient(psycopg.Connection["tuple[Any, ...]"]):
    """A connection that waits for no answer without a limit; it is closed when the limit is passed."""

    more = 0.0
    """Seconds to wait beyond `ANSWER`."""
    trusted = False
    """Whether what it leads to was seen to keep what it acknowledges: a role, a database or a failover may differ."""

    def __init__(self, pgconn: PGconn, row_factory: RowFactory[Any] = tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self.prepared: set[bytes] = set()

    @classmethod
    def connect(cls, conninfo: str = "", **settings: Any) -> Self:  # noqa: ANN401 - those of the driver
        """As the driver's; of a pool that has no connection to give, it says later why not."""
        try:
            connection = super().connect(conninfo, **settings)
        except psycopg.Error as error:
            _refused[conninfo] = _words(error)
            raise
        _refused.pop(conninfo, None)
        return connection

    @property
    def ended(self) -> bool:
        """Whether the server has closed it while it lay idle. A server that has nothing to say leaves it silent."""
        if self.closed:
            return True
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        if not poll.poll(0):
            return False
        try:
            self.execute("")
        except psycopg.Error:
            return True
        return False

    def wait(self, gen: PQGen[Result], interval: float = 0.1, timeout: float | None = None) -> Result:
        limit = ANSWER + self.more if timeout is None else timeout
        end = monotonic() + limit
        try:
            return super().wait(gen, interval, limit)
        except psycopg.OperationalError:
            if timeout is None and monotonic() >= end:
                self.pgconn.finish()
            raise


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
        self._timeout = timeout
        self.shown = address.shown
        try:
            given = conninfo_to_dict(address.conninfo).get("options") or os.environ.get("PGOPTIONS", "")
            limits = f"-c statement_timeout={STATEMENT} -c idle_in_transaction_session_timeout={STATEMENT}"
            self._settings: dict[str, Any] = {
                "autocommit": True,
                "connect_timeout": CONNECT,
                "tcp_user_timeout": SILENCE,
                "keepalives_idle": SILENCE // 1000,
                "keepalives_interval": SILENCE // 4000,
                "options": f"{given} {limits}",
            }
            with self._connect("landed") as connection:
                schema.make(connection, self.shown)
        except psycopg.Error as error:
            raise self.failed(NotLanded, error, "the server cannot be used", "open") from error
        self._pool = self._new_pool()

    def _connect(self, application: str) -> Patient:
        connection = Patient.connect(self._address.conninfo, application_name=application, **self._settings)
        self._trust(connection)
        return connection

    def _trust(self, connection: Patient) -> None:
        """See what a connection leads to; one that is refused is closed, so that the next may find it mended."""
        try:
            schema.check(connection, self.shown, unsafe=self._address.unsafe)
        except BaseException:
            connection.close()
            raise
        connection.trusted = True

    def _new_pool(self) -> ConnectionPool[Patient]:
        return ConnectionPool(
            self._address.conninfo,
            connection_class=Patient,
            kwargs={"application_name": "landed", **self._settings},
            min_size=0,
            max_size=CONNECTIONS,
            max_waiting=WAITING,
            timeout=self._timeout,
            reconnect_timeout=CONNECT,
            open=False,  # it starts threads: with the first connection, and not while a child is being forked
        )

    @contextmanager
    def connection(self, deadline: float) -> Iterator[Patient]:
        """A connection of the pool.

        Raises:
            Lost: it broke in the block.
            DRIVER_ERRORS: the statement failed, and has not happened; or there was no connection in time.
            Refused: it leads to a server that cannot carry a journal, or does not any more.
        """
        connection = self._idle(deadline)
        try:
            if not connection.trusted:
                self._trust(connection)
            yield connection
        except psycopg.Error as error:
            if connection.closed or connection.broken or isinstance(error, _ENDED):
                raise Lost(_words(error)) from error
            raise
        finally:
            self._pool.putconn(connection)

    def _idle(self, deadline: float) -> Patient:
        """A connection of the pool that stands: those that a restart of the server has ended are dropped."""
        if self._pool.closed:
            self._pool.open()
        while True:
            connection = self._pool.getconn(timeout=max(0.001, deadline - monotonic()))
            if not connection.ended:
                return connection
            connection.close()
            self._pool.putconn(connection)

    def check(self, deadline: float) -> None:
        """See again, for somebody who opens a journal, that the server keeps what it acknowledges.

        Raises:
            Refused: it does not any more.
            NotLanded: it cannot be asked.
        """
        self.ask(self._trust, "the server cannot be used", deadline)

    def alone(self) -> Patient:
        """A connection that is in no pool, for locks that live as long as it does; the caller closes it.

        Raises:
            NotLanded: the server cannot be reached.
        """
        try:
            return self._connect("landed owner")
        except psycopg.Error as error:
            raise self.failed(NotLanded, error, "the server cannot be reached", "claim") from error

    def forked(self) -> None:
        """In a forked child: have connections of its own.

        The pool is the parent's: to use or to close one of its connections would end it there. It is kept, so that
        nothing closes them when they are collected.
        """
        keep_for_parent(self._pool)
        self._pool = self._new_pool()

    def ask(self, question: Callable[[Patient], Result], what: str, deadline: float) -> Result:
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
        said = _words(error)
        if isinstance(error, PoolTimeout):
            said = _refused.get(self._address.conninfo, said)
        return kind(f"{what}: {said}", path=self.shown, step=step, hint=hint or _HINTS.get(kind, ""))

    def close(self) -> None:
        """Close every connection."""
        self._pool.close(timeout=1.0)


_HINTS: Final[dict[type[LandedError], str]] = {
    OutcomeUnknown: "Read the journal again before trusting either state.",
    NotLanded: "See whether the server runs and can be reached, then try again.",
    LockTimeout: "Try again, or allow a longer timeout.",
}


def wait_for_rows(connection: Connection, deadline: float) -> None:
    """In this transaction, wait for rows until the deadline, and lose them when the host falls silent (`HOLDING`)."""
    wait = min(STATEMENT - 1000, max(1, int(1000 * (deadline - monotonic()))))
    connection.execute(
        "SELECT set_config('lock_timeout', %s, true), set_config('idle_in_transaction_session_timeout', %s, true)",
        (f"{wait}ms", f"{HOLDING}ms"),
    )


def passing(error: BaseException) -> bool:
    """Whether the statement has not happened, and may a moment later."""
    return isinstance(error, (*_PASSING, PoolTimeout))


def _words(error: BaseException) -> str:
    """What the server or libpq said, on one line. Neither repeats a password."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    lines = (primary or str(error)).splitlines()
    return lines[0] if lines else type(error).__name__


_refused: dict[str, str] = {}
"""What was said to the last try to connect, by the connection's settings, as long as it failed."""
_servers: dict[tuple[str, bool], Server] = {}
_guard = threading.Lock()


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
        new = Server(address, timeout)
        with _guard:
            return _servers.setdefault(key, new)
    server.check(monotonic() + timeout)
    return server


def _after_fork() -> None:
    global _guard  # noqa: PLW0603 - a forked child starts afresh
    _guard = threading.Lock()
    for server in _servers.values():
        server.forked()


def keep_for_parent(theirs: object) -> None:
    """In a forked child: never collect a connection or pool of the parent's, which would end it there."""
    _parents.append(theirs)


_parents: list[object] = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
