"""The connections of one process to one server: as many as are used at once, up to a limit.

The one that was used last is used next. Whoever finds none idle connects in its own thread, and hears the server's own
words when that fails; a pool that connects for others in threads of its own would cost each put three times as much.
"""

from __future__ import annotations

from math import inf
from queue import Empty, SimpleQueue
from time import monotonic
from weakref import ref

import psycopg
from psycopg.pq import TransactionStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from landed.postgres.server import Patient

CONNECTIONS: Final = 16
"""Connections of one process to one server. Statements are short; more would only queue in the server."""
IDLE: Final = 600.0
"""Seconds after which a connection that nobody needed is closed, when another is given back."""


class NoConnection(psycopg.OperationalError):
    """There was no connection: nothing was sent."""


class Place:
    """One of the connections that there may be. Who drops it gives it back, also by an interrupt: nobody else knows."""

    __slots__ = ("_free",)

    def __init__(self, free: SimpleQueue[Place]) -> None:
        self._free = ref(free)

    def __del__(self) -> None:
        free = self._free()
        if free is not None:
            free.put(Place(free))


class Pool:
    """Safe for threads; a forked child needs one of its own.

    Args:
        connect: makes a connection.
    """

    def __init__(self, connect: Callable[[], Patient]) -> None:
        self._connect = connect
        self._free: SimpleQueue[Place] = SimpleQueue()  # a semaphore in C; threading's own is written in Python
        for _ in range(CONNECTIONS):
            self._free.put(Place(self._free))
        self._idle: list[tuple[Patient, float]] = []

    def __len__(self) -> int:
        """How many lie idle."""
        return len(self._idle)

    def take(self, deadline: float) -> Patient:
        """A connection that stands: those that a restart of the server has ended are dropped.

        Raises:
            NoConnection: all were in use until the deadline, or the server gives none.
        """
        try:
            place = self._free.get(timeout=max(0.001, deadline - monotonic()))
        except Empty:
            raise NoConnection(f"all {CONNECTIONS} connections were in use") from None
        try:
            connection = self._standing()
            connection.place = place
        except psycopg.Error as error:
            raise NoConnection(str(error)) from error
        finally:
            del place  # the traceback of an error would keep it
        return connection

    def _standing(self) -> Patient:
        while self._idle:
            try:
                connection = self._idle.pop()[0]
            except IndexError:  # another thread was faster
                break
            if not connection.ended:
                return connection
            connection.close()
        return self._connect()

    def give_back(self, connection: Patient) -> None:
        """It is kept, unless it broke or was left in the midst of something."""
        now = monotonic()
        if connection.pgconn.transaction_status == TransactionStatus.IDLE:
            self._idle.append((connection, now))
        else:
            connection.close()
        connection.place = None
        self._drop_oldest(now - IDLE)

    def _drop_oldest(self, before: float) -> None:
        """Close the one that lies idle longest, if that is since `before`."""
        try:
            if self._idle[0][1] < before:
                self._idle.pop(0)[0].close()
        except IndexError:  # none does; or another thread was faster, and the caller's write has landed all the same
            return

    def close(self) -> None:
        """Close those that lie idle."""
        while self._idle:
            self._drop_oldest(inf)
