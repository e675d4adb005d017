"""Compaction: read in a snapshot, decide, and change everything in one transaction, while others append and read."""

from __future__ import annotations

import zlib
from time import monotonic, sleep

import psycopg
from psycopg.errors import LockNotAvailable

from landed.errors import LockTimeout, NotLanded, OutcomeUnknown, StaleWrite
from landed.postgres import reading
from landed.postgres.claims import CLASS
from landed.postgres.schema import OVERHEAD
from landed.postgres.server import Lost, wait_for_rows
from landed.retries import pauses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from landed.engine import Rewrite
    from landed.postgres.server import Connection, Server

_ALONE: Final = f"SELECT pg_try_advisory_lock({CLASS + 1}, (%(journal)s %% 2147483647)::integer)".encode()
_REVISION: Final = "SELECT revision FROM landed_journal WHERE id = %(journal)s"
_LOCK: Final = "SELECT bytes, revision FROM landed_journal WHERE id = %(journal)s FOR UPDATE"
_DROP: Final = "DELETE FROM landed_batch WHERE journal = %(journal)s AND sequence = ANY(%(dropped)s)"
_CHANGE: Final = """
UPDATE landed_batch b SET payload = new.payload, crc = new.crc, revision = %(revision)s
FROM unnest(%(sequences)s::bigint[], %(crcs)s::bigint[], %(payloads)b::bytea[]) AS new (sequence, crc, payload)
WHERE b.journal = %(journal)s AND b.sequence = new.sequence
"""
_COUNT: Final = """
UPDATE landed_journal SET revision = %(revision)s,
    bytes = (SELECT coalesce(sum(octet_length(payload)::bigint + %(overhead)s), 0)::bigint
             FROM landed_batch WHERE journal = %(journal)s),
    batches = (SELECT count(*) FROM landed_batch WHERE journal = %(journal)s)
WHERE id = %(journal)s RETURNING bytes
"""
CHANGES: Final = 512
"""Changed batches that go into one statement."""


def compact(server: Server, journal: int, name: str, rewrite: Rewrite, timeout: float) -> tuple[int, int]:
    """Rewrite every batch that is there now; returns the bytes in use before and after.

    Raises:
        LockTimeout: another compaction runs, or a writer held the journal for all of `timeout`.
        NotLanded: nothing was changed.
        OutcomeUnknown: the connection broke during the commit; all of it happened, or nothing.
        Corrupt: a batch does not check. Nothing was changed.
    """
    deadline = monotonic() + timeout
    holder = server.alone(deadline)
    try:
        _take_turn(server, holder, journal, name, deadline)
        seen = _revision(server, journal, name, deadline)
        dropped: list[int] = []
        changed: list[tuple[int, bytes]] = []
        for batch in reading.batches(server, journal, name, 1, deadline):
            answer = rewrite(batch)
            if answer is None:
                dropped.append(batch.sequence)
            elif answer != batch.payload:
                changed.append((batch.sequence, answer))
        return _apply(server, journal, name, seen, dropped, changed, timeout)
    finally:
        holder.close()


def _take_turn(server: Server, holder: Connection, journal: int, name: str, deadline: float) -> None:
    waits = pauses(deadline)
    while True:
        try:
            got = holder.execute(_ALONE, {"journal": journal}).fetchone()
        except psycopg.Error as error:
            raise server.failed(NotLanded, error, "the journal cannot be compacted", "compact") from error
        if got is not None and got[0]:
            return
        if (pause := next(waits)) is None:
            raise LockTimeout("another compaction runs", path=name, step="compact", hint="Try again when it has ended.")
        sleep(pause)


def _revision(server: Server, journal: int, name: str, deadline: float) -> int:
    """How often the journal was compacted, asked before its batches are read."""
    keys = {"journal": journal}
    row = server.ask(
        lambda connection: connection.execute(_REVISION, keys).fetchone(), "the journal cannot be compacted", deadline
    )
    if row is None:
        raise NotLanded("the journal was removed", path=name, step="compact")
    return int(row[0])


def _apply(
    server: Server,
    journal: int,
    name: str,
    seen: int,
    dropped: list[int],
    changed: list[tuple[int, bytes]],
    timeout: float,
) -> tuple[int, int]:
    committing = False
    deadline = monotonic() + timeout  # reading may have taken longer
    with_all: dict[str, Any] = {"journal": journal, "dropped": dropped, "overhead": OVERHEAD}
    try:
        with server.connection(deadline) as connection, connection.transaction():
            wait_for_rows(connection, deadline)
            row = connection.execute(_LOCK, with_all).fetchone()
            if row is None:
                raise NotLanded("the journal was removed", path=name, step="compact")
            if row[1] != seen:  # the turn ends with its connection, and what was decided is on batches that are no more
                raise StaleWrite(
                    "another process compacted it meanwhile", path=name, step="compact", hint="Compact it again."
                )
            before, with_all["revision"] = row[0], row[1] + 1
            connection.execute(_DROP, with_all)
            for at in range(0, len(changed), CHANGES):
                part = changed[at : at + CHANGES]
                with_all["sequences"] = [sequence for sequence, _ in part]
                with_all["payloads"] = [payload for _, payload in part]
                with_all["crcs"] = [zlib.crc32(payload) for _, payload in part]
                connection.execute(_CHANGE, with_all)
            counted = connection.execute(_COUNT, with_all).fetchone()
            committing = True
    except Lost as error:
        kind = OutcomeUnknown if committing else NotLanded
        raise server.failed(kind, error, "the compaction broke off", "compact") from error
    except psycopg.Error as error:
        kind = LockTimeout if isinstance(error, LockNotAvailable) else NotLanded
        raise server.failed(kind, error, "the journal cannot be compacted", "compact") from error
    return before, counted[0] if counted else before
