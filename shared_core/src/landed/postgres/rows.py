"""The row of a journal: where it ends, and who owns it alone."""

from __future__ import annotations

import hashlib

from landed.errors import Corrupt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from landed.postgres.server import Connection, Server

STATE: Final = "SELECT tail, bytes, batches, revision, epoch, owner FROM landed_journal WHERE id = %s"
FIND: Final = """
SELECT tail, bytes, batches, revision, epoch, owner, id, name FROM landed_journal
WHERE space = %(space)s AND digest = %(digest)s
"""
MAKE: Final = """
INSERT INTO landed_journal (space, digest, name) VALUES (%(space)s, %(digest)s, %(name)s) ON CONFLICT DO NOTHING
"""
ALONE: Final = "journal"
"""The space of journals that have an address of their own."""


class State:
    """A journal's row, as it was seen last."""

    __slots__ = ("batches", "bytes", "epoch", "owner", "revision", "tail")

    def __init__(self, row: tuple[Any, ...]) -> None:
        self.tail, self.bytes, self.batches, self.revision, self.epoch, self.owner = row


def find_row(server: Server, space: str, name: bytes, deadline: float, *, create: bool) -> tuple[int, State] | None:
    """The id and the state of a journal; None when there is none and none is to be made.

    Raises:
        Corrupt: its row bears another name.
        NotLanded: the server cannot be reached.
    """
    keys = {"space": space, "digest": hashlib.sha256(name).digest(), "name": name}

    def find(connection: Connection) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = connection.execute(FIND, keys).fetchone()
        if row is None and create:
            connection.execute(MAKE, keys)
            row = connection.execute(FIND, keys).fetchone()
        return row

    row = server.ask(find, "the journal cannot be opened", deadline)
    if row is None:
        return None
    if bytes(row[7]) != name:
        raise Corrupt("a journal bears a name that is not its own", path=server.shown, step="open")
    return row[6], State(row[:6])
