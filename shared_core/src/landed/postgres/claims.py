"""Owning a journal alone: a session lock that ends with its owner's connection, and an epoch that fences the owner.

The lock says whether the owner is still there: the server frees it when the connection ends, whatever became of the
host. The epoch is what keeps the data: every append names the epoch that it belongs to, and ending a claim starts
another one. So an owner that was cut off, or slept, and whose claim was ended meanwhile is refused by its own epoch.
"""

from __future__ import annotations

import psycopg
from psycopg.errors import LockNotAvailable

from landed.engine import claimed
from landed.errors import LockTimeout, NotLanded
from landed.postgres.server import keep_for_parent, wait_for_rows
from landed.process import me

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.postgres.server import Connection, Server

CLASS: Final = 0x6C616E64
"""First key of the session locks."""
_KEYS: Final = f"{CLASS}, (%(journal)s %% 2147483647)::integer"
_TRY: Final = f"SELECT pg_try_advisory_lock({_KEYS})".encode()
_TRY_BRIEFLY: Final = f"SELECT pg_try_advisory_xact_lock({_KEYS})".encode()
_OWNER: Final = "SELECT owner, epoch FROM landed_journal WHERE id = %(journal)s FOR UPDATE"
_BEGIN: Final = "UPDATE landed_journal SET owner = %(owner)s, epoch = epoch + 1 WHERE id = %(journal)s RETURNING epoch"
_END: Final = (
    "UPDATE landed_journal SET owner = NULL, epoch = epoch + 1 WHERE id = %(journal)s AND epoch = %(epoch)s"
    " RETURNING epoch"
)


class Claim:
    """A claim that this process holds.

    Attributes:
        epoch: the journal's, as long as the claim stands.
    """

    __slots__ = ("_connection", "_journal", "epoch")

    def __init__(self, connection: Connection, journal: int, epoch: int) -> None:
        self._connection = connection
        self._journal = journal
        self.epoch = epoch

    def leave_to_parent(self) -> None:
        """In a forked child: the connection is the parent's, and the claim with it."""
        keep_for_parent(self._connection)

    def end(self) -> None:
        """Give the journal back. If the server cannot be told, the next writer ends what is left of the claim."""
        try:
            self._connection.execute(_END, {"journal": self._journal, "epoch": self.epoch})
        except psycopg.Error:
            return
        finally:
            self._connection.close()


def take(server: Server, journal: int, name: str, deadline: float) -> Claim:
    """Claim the journal, if nobody has.

    Raises:
        Claimed: another process owns it.
        LockTimeout: a writer held it for all of the time.
        NotLanded: the server cannot be reached, or the journal was removed.
    """
    connection = server.alone(deadline)
    keys = {"journal": journal, "owner": str(me())}
    try:
        with connection.transaction():
            wait_for_rows(connection, deadline)
            held = connection.execute(_OWNER, keys).fetchone()
            got = held and connection.execute(_TRY, keys).fetchone()
            begun = got and got[0] and connection.execute(_BEGIN, keys).fetchone()
    except psycopg.Error as error:
        connection.close()
        kind = LockTimeout if isinstance(error, LockNotAvailable) else NotLanded
        raise server.failed(kind, error, "the journal cannot be claimed", "claim") from error
    except BaseException:
        connection.close()
        raise
    if begun:
        return Claim(connection, journal, begun[0])
    connection.close()
    if held is None:
        raise NotLanded("the journal was removed", path=name, step="claim")
    raise claimed(name, held[0])


def end_if_dead(connection: Connection, journal: int, epoch: int) -> int | None:
    """End the claim of an owner that is gone. Needs the journal's row, locked, in a transaction.

    Returns:
        The new epoch; None when the owner is still there.
    """
    keys = {"journal": journal, "epoch": epoch}
    free = connection.execute(_TRY_BRIEFLY, keys).fetchone()
    if free is None or not free[0]:
        return None
    ended = connection.execute(_END, keys).fetchone()
    return ended[0] if ended else None
