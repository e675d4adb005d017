"""Reading batches: in one snapshot, in pieces of bounded size, each checked against its checksum."""

from __future__ import annotations

import zlib

import psycopg

from landed.engine import Batch
from landed.errors import Corrupt, NotLanded
from landed.postgres.server import PASSING, Lost
from landed.retries import pauses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

    from landed.engine import Position
    from landed.postgres.server import Connection, Server

FIRST_PIECE: Final = 16
"""Batches fetched at first: many a reader wants no more than the end."""
PIECE: Final = 512
"""Batches fetched at once after that."""
PIECE_BYTES: Final = 8 << 20
"""Bytes of payload fetched at once, one larger batch excepted."""

# The sum of the lengths before a batch bounds a piece; lengths are known without reading what is stored apart.
_PIECE: Final = """
SELECT sequence, tail, revision, crc, payload, found FROM (
    SELECT *, count(*) OVER () AS found,
        sum(octet_length(payload)) OVER (ORDER BY sequence {order}) - octet_length(payload) AS before
    FROM (SELECT * FROM landed_batch WHERE journal = %(journal)s AND {where}
          ORDER BY sequence {order} LIMIT %(count)s) found
) piece WHERE before < {bytes} ORDER BY sequence {order}
"""
_FORWARD: Final = _PIECE.format(order="ASC", where="tail >= %(from)s", bytes=PIECE_BYTES).encode()
_BACKWARD: Final = _PIECE.format(order="DESC", where="sequence < %(from)s", bytes=PIECE_BYTES).encode()
_COUNT: Final = "SELECT batches FROM landed_journal WHERE id = %(journal)s"
_ONE: Final = """
SELECT sequence, tail, revision, crc, payload FROM landed_batch
WHERE journal = %(journal)s AND sequence = %(sequence)s AND revision = %(revision)s
"""
POSITION: Final = 2
"""Parts of a position: sequence and revision."""
_BEYOND: Final = (1 << 63) - 1


def batches(server: Server, journal: int, name: str, start: int, deadline: float) -> Iterator[Batch]:
    """All batches that end at or after `start`, oldest first, as the journal is now.

    Raises:
        Corrupt: a batch does not check, or batches are missing.
        NotLanded: the server cannot be read; everything before it was given.
    """
    return _walk(server, journal, name, deadline, start=max(1, start), newest_first=False)


def newest_first(server: Server, journal: int, name: str, deadline: float) -> Iterator[Batch]:
    """All batches from the tail back; raises as `batches`."""
    return _walk(server, journal, name, deadline, start=_BEYOND, newest_first=True)


def fetch(server: Server, journal: int, name: str, position: Position, deadline: float) -> Batch | None:
    """The batch at a position, or None when a compaction has changed or dropped it; raises as `batches`."""
    if len(position) != POSITION:
        return None  # another engine's, in a journal that was copied
    sequence, revision = position
    keys = {"journal": journal, "sequence": sequence, "revision": revision}

    def one(connection: Connection) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = connection.execute(_ONE, keys).fetchone()
        return row

    row = server.ask(one, "the batch cannot be read", deadline)
    return None if row is None else _checked(row, name)


def _walk(
    server: Server, journal: int, name: str, deadline: float, *, start: int, newest_first: bool
) -> Iterator[Batch]:
    given = 0
    waits = pauses(deadline)
    while True:
        try:
            for batch in _walk_once(server, journal, name, deadline, start=start, newest_first=newest_first):
                given += 1
                yield batch
        except (Lost, *PASSING) as error:
            if (pause := next(waits)) is None or given:  # another snapshot may not go on where this one ended
                raise server.failed(NotLanded, error, "the journal cannot be read", "read") from error
            server.wait(pause, error)
        except psycopg.Error as error:
            raise server.failed(NotLanded, error, "the journal cannot be read", "read") from error
        else:
            return


def _walk_once(
    server: Server, journal: int, name: str, deadline: float, *, start: int, newest_first: bool
) -> Iterator[Batch]:
    given = 0
    keys = {"journal": journal, "from": start, "count": FIRST_PIECE}
    with server.connection(deadline) as connection:
        # One snapshot for all pieces, so that no compaction falls in between.
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            counted = connection.execute(_COUNT, keys).fetchone()
            rows = _piece(connection, keys, newest_first=newest_first)
            while rows and (len(rows) < rows[-1][-1] or len(rows) == keys["count"]):
                for row in rows:
                    yield _checked(row, name)
                given += len(rows)
                keys["count"] = PIECE
                keys["from"] = rows[-1][0] if newest_first else rows[-1][1] + 1
                rows = _piece(connection, keys, newest_first=newest_first)
        finally:
            connection.execute("COMMIT")  # at a ROLLBACK psycopg has the server forget what was prepared
    for row in rows:  # the last piece, for which nobody keeps a connection
        yield _checked(row, name)
    given += len(rows)
    if counted is None:
        raise NotLanded("the journal was removed", path=name, step="read")
    if (newest_first or start == 1) and given != counted[0]:
        raise Corrupt(
            f"the journal has {counted[0]} batches, and {given} are there",
            path=name,
            step="read",
            hint="Something else has changed its tables. Restore them from a backup.",
        )


def _piece(connection: Connection, keys: dict[str, int], *, newest_first: bool) -> list[tuple[Any, ...]]:
    return connection.execute(_BACKWARD if newest_first else _FORWARD, keys).fetchall()


def _checked(row: tuple[Any, ...], name: str) -> Batch:
    sequence, _, revision, crc, payload = row[:5]
    if zlib.crc32(payload) != crc:
        raise Corrupt(
            f"batch {sequence} fails its checksum", path=name, step="read", hint="Restore the table from a backup."
        )
    return Batch(sequence, bytes(payload), (sequence, revision))
