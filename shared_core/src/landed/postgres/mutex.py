"""A lock that goes by a name, among all hosts: for throughput and order, never for safety.

It is a session lock of the server, which queues those that wait, and ends with the connection. A host that is cut off
loses it without hearing so at once; what keeps its data from harm is each append's own compare-and-swap.
"""

from __future__ import annotations

import os
import threading
from time import monotonic

import psycopg
from psycopg.errors import LockNotAvailable, QueryCanceled

from landed.engine import Holders
from landed.errors import LockTimeout, NotLanded, Refused
from landed.lock import DEFAULT_TIMEOUT
from landed.postgres.server import keep_for_parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Final

    from landed.postgres.server import Connection, Patient, Server

_SHARED: Final = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
"""Locks that the session of a connection that is new has already: it is another's as well."""

_holders = Holders()


class PostgresMutex:
    """One lock, by its key; not re-entrant.

    Args:
        name: what messages call it.
        key: 64 bits, signed.
    """

    def __init__(self, server: Server, name: str, key: int) -> None:
        self.path = name
        self._server = server
        self._key = key
        self._connection: Connection | None = None
        self._pid = 0
        self._owner: Hashable = None

    @property
    def held(self) -> bool:
        """Whether this object took the lock and its connection stands, as far as this process knows."""
        self._forget_parents()
        return self._connection is not None and not self._connection.closed

    def acquire(self, timeout: float = DEFAULT_TIMEOUT, *, owner: Hashable = None) -> None:
        """Take the lock.

        Args:
            timeout: seconds to wait at most; 0 tries once.
            owner: who asks, for telling a wait from a deadlock; the calling thread when None.

        Raises:
            LockTimeout: it was not free in time. Nothing was changed.
            Refused: this object or owner holds it already, or a pooler gives us a session that has others' locks.
            NotLanded: the server cannot be reached.
        """
        self._forget_parents()
        if self._connection is not None:
            raise Refused("this lock is held already and would wait for itself", path=self.path, step="lock")
        owner = threading.get_ident() if owner is None else owner
        _holders.check(self.path, owner)
        deadline = monotonic() + timeout
        connection = self._server.alone(deadline)
        try:
            with connection.transaction():  # for which a pooler gives us one session
                self._take(connection, deadline)
        except (LockNotAvailable, QueryCanceled) as error:
            connection.close()
            raise LockTimeout(
                "another holder kept the lock",
                path=self.path,
                step="lock",
                hint="Try again, or allow a longer timeout.",
            ) from error
        except psycopg.Error as error:
            connection.close()
            raise self._server.failed(NotLanded, error, "the lock cannot be taken", "lock") from error
        except BaseException:
            connection.close()
            raise
        self._connection, self._pid, self._owner = connection, os.getpid(), owner
        _holders.took(self.path, owner)

    def _take(self, connection: Patient, deadline: float) -> None:
        if not connection.direct and connection.execute(_SHARED).fetchone() is not None:
            raise Refused(
                "a pooler hands out sessions by transaction, in which a lock is nobody's own",
                path=self.path,
                step="lock",
                hint="Connect to the server itself, or by a pooler that keeps sessions.",
            )
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (self._key,)).fetchone()
        if row is None or not row[0]:
            self._wait(connection, deadline)

    def _wait(self, connection: Patient, deadline: float) -> None:
        milliseconds = max(1, int(1000 * (deadline - monotonic())))
        connection.more = milliseconds / 1000
        connection.execute(
            "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', '0', true)",
            (f"{milliseconds}ms",),
        )
        connection.execute("SELECT pg_advisory_lock(%s)", (self._key,))

    def release(self) -> None:
        """Give the lock back. In a forked child it stays the parent's."""
        self._forget_parents()
        connection, self._connection = self._connection, None
        if connection is not None:
            _holders.gave_back(self.path, self._owner)
            connection.close()

    def _forget_parents(self) -> None:
        """In a forked child: to close the connection would end it, and the lock with it, in the parent."""
        if self._connection is not None and self._pid != os.getpid():
            keep_for_parent(self._connection)
            self._connection = None

    def __enter__(self) -> PostgresMutex:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
