"""A server of PostgreSQL, as the journals of one process use it: a bounded pool of connections, errors in our words.

Nothing waits without a limit: connecting, waiting for a connection, each statement and a silent network all end.
"""

from __future__ import annotations

import os
import re
import select
import threading
from functools import partial
from time import monotonic
from weakref import ref

import psycopg
from psycopg import errors as sqlstate
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row

from landed.errors import LandedError, LockTimeout, NotLanded, OutcomeUnknown
from landed.postgres import schema
from landed.postgres.pool import NoConnection, Place, Pool
from landed.retries import pauses, wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, TypeAlias, TypeVar

    from psycopg.abc import PQGen
    from psycopg.errors import Diagnostic
    from psycopg.pq.abc import PGconn
    from psycopg.rows import RowFactory

    from landed.postgres.address import Address

    Connection: TypeAlias = psycopg.Connection[Any]
    Result = TypeVar("Result")

CONNECT: Final = 10
"""Seconds in which a connection must stand."""
SILENCE: Final = 20_000
"""Milliseconds after which a server that acknowledges no packet is taken for gone, and by the server a host."""
STATEMENT: Final = 30_000
"""Milliseconds that a statement may take, the wait for a row included."""
HELD: Final = 100
"""Milliseconds that a statement waits for a row or a lock that another session holds, unless told otherwise: a commit
takes less, and who has to wait for longer queues, with a limit of its own (`wait_for_rows`)."""
HOLDING: Final = 5_000
"""Milliseconds after which the server takes a row from a host that holds it and says nothing: one that was cut off or
stopped between two statements would keep everybody else waiting."""
ANSWER: Final = 40.0
"""Seconds after which an answer is waited for no longer: more than a statement may take. A server that is stopped, or
waits for a standby, falls silent while its system still acknowledges every packet."""
IDLE_LIMIT: Final = 140_000
"""The first version of the server that can end sessions for being idle."""

_BRIEFLY: Final = f" -c lock_timeout={HELD}"

# In these states of the server a statement has not happened and may do so a moment later.
PASSING: Final = (
    NoConnection,
    sqlstate.LockNotAvailable,
    sqlstate.CannotConnectNow,
    sqlstate.TooManyConnections,
    sqlstate.SerializationFailure,
    sqlstate.DeadlockDetected,
)


_WAITS_FOR_STANDBYS: Final = "SyncRepWaitForLSN"
"""The server's function that does so; the words of its warning are in the server's language."""
_CONFIRM: Final = b"SELECT pg_logical_emit_message(true, 'landed', '')"

_ENDED: Final = (sqlstate.AdminShutdown, sqlstate.CrashShutdown)
"""The server has ended the session; what was under way may have happened before."""


class Patient(psycopg.Connection["tuple[Any, ...]"]):
    """A connection that waits for no answer without a limit; it is closed when the limit is passed."""

    more = 0.0
    """Seconds to wait beyond `ANSWER`."""
    direct = True
    """Whether it leads to one session, in which what was prepared stays."""
    place: Place | None = None
    """Among those that there may be at once, while it is in use."""
    unconfirmed = False
    """Whether the server has answered a commit before a standby did, as it was told to wait no longer."""

    def __init__(self, pgconn: PGconn, row_factory: RowFactory[Any] = tuple_row) -> None:
        super().__init__(pgconn, row_factory)
        self.prepared: set[bytes] = set()
        self.readable = select.poll()
        self.readable.register(pgconn.socket, select.POLLIN)
        self.add_notice_handler(partial(_heed, ref(self)))  # no cycle: one that is dropped is closed, its place free

    def __del__(self, *_: object) -> None:
        """One that lies idle ends with its process; the driver would warn."""

    @property
    def ended(self) -> bool:
        """Whether the server has closed it while it lay idle. A server that has nothing to say leaves it silent."""
        if self.closed:
            return True
        if not self.readable.poll(0):
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


def _heed(patient: ref[Patient], notice: Diagnostic) -> None:
    """A commit whose wait for a standby was cancelled succeeds, with a warning."""
    connection = patient()
    if connection is not None and notice.source_function == _WAITS_FOR_STANDBYS:
        connection.unconfirmed = True


class Lost(Exception):
    """The connection broke while a statement was under way: it may or may not have happened."""


class Lent:
    """What `Server.connection` gives. A class: a generator costs three times as much, and each put asks for one."""

    __slots__ = ("_connection", "_deadline", "_pool")

    def __init__(self, pool: Pool, deadline: float) -> None:
        self._pool, self._deadline = pool, deadline

    def __enter__(self) -> Patient:
        self._connection = self._pool.take(self._deadline)
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        connection, lost = self._connection, None
        if isinstance(error, psycopg.Error) and (connection.closed or connection.broken or isinstance(error, _ENDED)):
            lost = Lost(_words(error))
        elif connection.unconfirmed:
            connection.unconfirmed = False
            if error is None:
                lost = Lost("the wait for a standby was cancelled")
        self._pool.give_back(connection)
        if lost is not None:
            raise lost from error


class Server:
    """One server, for one process. `server_for` gives the one of an address.

    Raises:
        Refused: the server cannot carry a journal.
        NotLanded: it cannot be reached.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self.shown = address.shown
        try:
            given = conninfo_to_dict(address.conninfo).get("options") or os.environ.get("PGOPTIONS", "")
            limits = f"-c statement_timeout={STATEMENT} -c idle_in_transaction_session_timeout={STATEMENT}"
            limits += r" -c default_transaction_isolation=read\ committed"  # who queues for a row goes on behind it
            # The server looks as well: a host that is gone, or paused, holds nothing for longer than that.
            idle, interval = SILENCE // 1000, SILENCE // 4000
            limits += (
                f" -c tcp_keepalives_idle={idle} -c tcp_keepalives_interval={interval} -c tcp_user_timeout={SILENCE}"
            )
            self._settings: dict[str, Any] = {
                "autocommit": True,
                # Without one, as in a database without an encoding, psycopg gives texts as bytes, equal to no text.
                "client_encoding": "UTF8",
                "connect_timeout": CONNECT,
                "tcp_user_timeout": SILENCE,
                "keepalives_idle": idle,
                "keepalives_interval": interval,
                "options": f"{given} {limits}",
            }
            with self._connect("landed") as connection:
                path = schema.make(connection, self.shown)
            # In another schema there may be such tables too, and another journal under the same number.
            self._settings["options"] += " -c search_path=" + re.sub(r"([\\\s])", r"\\\1", path)
        except psycopg.Error as error:
            raise self.failed(NotLanded, error, "the server cannot be used", "open") from error
        self._pool = self._new_pool()

    def _connect(self, application: str, limits: str = "") -> Patient:
        settings = {**self._settings, "options": self._settings["options"] + limits}
        connection = Patient.connect(self._address.conninfo, application_name=application, **settings)
        self._trust(connection)
        return connection

    def _trust(self, connection: Patient) -> None:
        """See that what a connection leads to keeps what it acknowledges: a role, a database or a failover may differ.

        One that is refused is closed, so that the next may find it mended.
        """
        try:
            connection.direct = schema.check(connection, self.shown, unsafe=self._address.unsafe)
            if not connection.direct:  # another session may have another statement under the name of one of ours
                connection.prepare_threshold = None
        except BaseException:
            connection.close()
            raise

    def _new_pool(self) -> Pool:
        return Pool(lambda: self._connect("landed", _BRIEFLY))

    def connection(self, deadline: float) -> Lent:
        """A connection of the pool, for ``with``.

        Raises:
            Lost: it broke in the block.
            psycopg.Error: the statement failed, and has not happened; or there was no connection in time.
            Refused: it leads to a server that cannot carry a journal, or does not any more.
        """
        return Lent(self._pool, deadline)

    def check(self, deadline: float) -> None:
        """See again, for somebody who opens a journal, that the server keeps what it acknowledges.

        Raises:
            Refused: it does not any more.
            NotLanded: it cannot be asked.
        """
        self.ask(self._trust, "the server cannot be used", deadline)

    def alone(self, deadline: float) -> Patient:
        """A connection that is in no pool, for locks that live as long as it does; the caller closes it.

        Raises:
            NotLanded: the server cannot be reached.
        """
        waits = pauses(deadline)
        while True:
            try:
                connection = self._connect("landed owner", _BRIEFLY)
                if connection.info.server_version >= IDLE_LIMIT:  # a role's limit would end the lock of who lives
                    connection.execute("SET idle_session_timeout = 0")
            except psycopg.Error as error:
                if (pause := next(waits)) is None:
                    raise self.failed(NotLanded, error, "the server cannot be reached", "lock") from error
                self.wait(pause, error)
            else:
                return connection

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
        waits = pauses(deadline)
        while True:
            try:
                with self.connection(deadline) as connection:
                    return question(connection)
            except (Lost, *PASSING) as error:
                if (pause := next(waits)) is None:
                    raise self.failed(NotLanded, error, what, "read") from error
                self.wait(pause, error)
            except psycopg.Error as error:
                raise self.failed(NotLanded, error, what, "read") from error

    def confirm(self, deadline: float) -> None:
        """Have what is there confirmed as a commit is: flushed, and by the standbys that the server waits for.

        Whoever is answered has that already. But what a crash or a cancelled wait has left behind can be seen before a
        standby has it; a commit that writes something, whatever it is, waits for all that was written before.

        Raises:
            NotLanded: it is not confirmed.
        """
        self.ask(lambda connection: connection.execute(_CONFIRM), "no standby confirms it", deadline)

    def wait(self, pause: float, error: BaseException) -> None:
        """Pause until the next try; `error` is what stood in the way of the last."""
        wait(pause, self.shown, _words(error))

    def failed(self, kind: type[LandedError], error: BaseException, what: str, step: str) -> LandedError:
        """An error of ours, with the server's words and without the connection's secrets."""
        return kind(f"{what}: {_words(error)}", path=self.shown, step=step, hint=_HINTS.get(kind, ""))

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


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
    return isinstance(error, PASSING)


def _words(error: BaseException) -> str:
    """What the server or libpq said, on one line. Neither repeats a password."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    lines = (primary or str(error)).splitlines()
    return lines[0] if lines else type(error).__name__


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
        new = Server(address)
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
