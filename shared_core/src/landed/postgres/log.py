"""A journal in PostgreSQL: an append is one statement, and the primary key makes it compare-and-swap.

The statement moves the journal's tail from where the writer believes it to be and inserts the batches behind it; if the
tail is elsewhere it does nothing. So a lone writer needs one round trip for append and proof. A writer that lost the
race takes the journal's row for update, which queues it in the server, and appends behind what it finds.

Each batch carries a nonce. When the connection breaks before the answer, the same statement is sent again: both move
the tail from one and the same number, so that one lands at most, and the nonce tells it from another writer's.
"""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from contextlib import contextmanager
from time import monotonic, sleep

from psycopg.errors import LockNotAvailable, QueryCanceled

from landed.errors import (
    Corrupt,
    Full,
    LandedError,
    LockTimeout,
    NotLanded,
    OutcomeUnknown,
    StaleWrite,
    VerifyFailed,
)
from landed.lock import DEFAULT_TIMEOUT
from landed.postgres import claims, compaction, reading
from landed.postgres.address import Address
from landed.postgres.schema import OVERHEAD
from landed.postgres.server import DRIVER_ERRORS, Lost, passing, pauses, server_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Final

    from landed.engine import Batch, Commit, Position, Rewrite
    from landed.postgres.server import Connection, Server

GROUP: Final = 256
"""Commits that go into one statement."""
GROUP_BYTES: Final = 8 << 20
"""Bytes that one statement may carry, one larger batch excepted."""
PIPELINED: Final = 1 << 20
"""Bytes up to which the proof is asked for before the append is answered. A pipeline of psycopg 3.3 stops for good when
more than about 8 MiB are under way in it, and beside a large append one more round trip does not show."""

APPEND: Final = """
WITH moved AS (
    UPDATE landed_journal
    SET tail = %(to)s, batches = batches + %(count)s, bytes = bytes + %(bytes)s
    WHERE id = %(journal)s AND tail = %(from)s AND epoch = %(epoch)s AND bytes + %(bytes)s <= %(limit)s
    RETURNING id, revision
), added AS (
    INSERT INTO landed_batch (journal, sequence, tail, revision, nonce, crc, payload)
    SELECT moved.id, new.sequence, new.tail, moved.revision, new.nonce, new.crc, new.payload
    FROM moved, unnest(%(sequences)s::bigint[], %(tails)s::bigint[], %(nonces)s::bytea[], %(crcs)s::bigint[],
                       %(payloads)b::bytea[]) AS new (sequence, tail, nonce, crc, payload)
)
SELECT id FROM moved
"""
APPEND_ONE: Final = """
WITH moved AS (
    UPDATE landed_journal SET tail = %(to)s, batches = batches + 1, bytes = bytes + %(bytes)s
    WHERE id = %(journal)s AND tail = %(from)s AND epoch = %(epoch)s AND bytes + %(bytes)s <= %(limit)s
    RETURNING id, revision
), added AS (
    INSERT INTO landed_batch (journal, sequence, tail, revision, nonce, crc, payload)
    SELECT id, %(from)s + 1, %(to)s, revision, %(nonce)b, %(crc)s, %(payload)b FROM moved
)
SELECT id FROM moved
"""
"""The same for one batch, at half the price."""
PROOF: Final = """
SELECT nonce, sequence, sha256(payload), revision FROM landed_batch
WHERE journal = %(journal)s AND sequence BETWEEN %(from)s + 1 AND %(to)s
"""
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
NO_LIMIT: Final = (1 << 63) - 1


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


class _Group:
    """Commits laid out behind a tail: one statement, with the nonces that it keeps if it must be sent again."""

    def __init__(self, state: State) -> None:
        self.tail = self.to = state.tail
        self.epoch = state.epoch
        self.revision = state.revision
        self.bytes = 0
        self.landing: list[Commit] = []
        self.nonces: list[bytes] = []
        self.sequences: list[int] = []
        self.tails: list[int] = []

    def add(self, commit: Commit) -> None:
        commit.error = None  # of an earlier try
        self.sequences.append(self.to + 1)
        self.to += commit.count
        self.tails.append(self.to)
        self.bytes += len(commit.payload) + OVERHEAD
        self.landing.append(commit)
        self.nonces.append(os.urandom(16))

    def share(self, error: LandedError) -> None:
        """One statement, one fate. Were only one told, the others would be appended once more."""
        for commit in self.landing:
            if not commit.decided:
                commit.error = error

    def is_in(self, proof: list[tuple[Any, ...]]) -> bool:
        """Whether the first of its batches is what stands under its number; then all of them are there."""
        return any(bytes(row[0]) == self.nonces[0] for row in proof)

    def parameters(self, journal: int, limit: int) -> dict[str, Any]:
        payloads = [commit.payload for commit in self.landing]
        return {
            "journal": journal,
            "epoch": self.epoch,
            "limit": limit,
            "from": self.tail,
            "to": self.to,
            "count": len(payloads),
            "bytes": self.bytes,
            "sequences": self.sequences,
            "tails": self.tails,
            "nonces": self.nonces,
            "crcs": [zlib.crc32(payload) for payload in payloads],
            "payloads": payloads,
            "nonce": self.nonces[0],
            "crc": zlib.crc32(payloads[0]),
            "payload": payloads[0],
        }


class PostgresLog:
    """The `Log` of PostgreSQL.

    Args:
        url: the journal's address (`landed.postgres.address`).
        max_bytes: growth limit in bytes of payload and rows; None for none.
        timeout: seconds in which the server must answer at open.

    Raises:
        Refused: the address is none, or the server cannot carry a journal.
        NotLanded: the server cannot be reached.
        Claimed: another process owns the journal alone.
    """

    def __init__(self, url: str, *, max_bytes: int | None = None, timeout: float = DEFAULT_TIMEOUT) -> None:
        address = Address(url)
        server = server_for(address, timeout)
        self._begin(server, address.shown, max_bytes, timeout)
        found = find_row(server, ALONE, address.name.encode(), monotonic() + timeout, create=True)
        assert found is not None  # noqa: S101 - it was made
        self._take(*found)

    @classmethod
    def of_row(
        cls, server: Server, name: str, found: tuple[int, State], *, max_bytes: int | None, timeout: float
    ) -> PostgresLog:
        """The log of a journal's row, for a collection; `name` is what messages call it. Raises `Claimed`."""
        log = cls.__new__(cls)
        log._begin(server, name, max_bytes, timeout)
        log._take(*found)
        return log

    def _begin(self, server: Server, name: str, max_bytes: int | None, timeout: float) -> None:
        self.name = name
        self.gone = False
        self._server = server
        self._limit = NO_LIMIT if max_bytes is None else max_bytes
        self._timeout = timeout
        self._claim: claims.Claim | None = None
        self._guard = threading.Lock()

    def _take(self, journal: int, state: State) -> None:
        self.journal, self._state = journal, state
        if not self._allowed(state):
            self._server.ask(self._look_alone_once, "the journal cannot be opened", monotonic() + self._timeout)

    # Appending.

    def commit(self, commits: Sequence[Commit], timeout: float) -> int:
        """Decide the first of `commits`, and with them all that one statement carries."""
        deadline = monotonic() + timeout
        state = self._state  # once: other threads look meanwhile
        if self._allowed(state):
            group, decided = self._lay_out(commits, state, sure=False)
            if group.landing and self._append(group, deadline):
                return decided
            self._forget(commits[:decided])
        return self._append_in_turn(commits, deadline)

    def _lay_out(self, commits: Sequence[Commit], state: State, *, sure: bool) -> tuple[_Group, int]:
        """Decide commits in order against the tail as we know it, as long as they fit one statement.

        Args:
            state: what we know.
            sure: whether what we know cannot change meanwhile; else a full journal is looked at again.
        """
        group = _Group(state)
        room = self._limit - state.bytes
        decided = 0
        for commit in commits[:GROUP]:
            size = group.bytes + len(commit.payload) + OVERHEAD
            if commit.expect is not None and commit.expect != group.to:
                commit.error = self._stale(commit.expect, group.to)
            elif size > room and sure and not decided:
                raise self._full(state.bytes + size)
            elif size > room or (group.landing and size > GROUP_BYTES):
                break
            else:
                group.add(commit)
            decided += 1
        return group, decided

    @staticmethod
    def _forget(commits: Sequence[Commit]) -> None:
        """They were decided against a tail that is not the journal's."""
        for commit in commits:
            commit.error = None

    def _append(self, group: _Group, deadline: float, unknown: Exception | None = None) -> bool:
        """Decide a group behind the tail as we know it; False when the journal is not in the state that we know.

        Args:
            unknown: why the outcome of an earlier sending is not known, if there was one.
        """
        with self._sharing(group):
            return self._land(group, deadline, unknown)
        return True  # each commit of it was told that the outcome is not known

    @contextmanager
    def _sharing(self, group: _Group) -> Iterator[None]:
        """When it cannot be told what became of a group, all of it is told so, an interrupt included."""
        try:
            yield
        except OutcomeUnknown as error:
            group.share(error)
        except LandedError:
            raise
        except BaseException as error:
            group.share(self._unknown(error))
            raise

    def _land(self, group: _Group, deadline: float, unknown: Exception | None) -> bool:
        parameters = group.parameters(self.journal, self._limit)
        for pause in pauses(deadline):
            try:
                with self._server.connection(deadline) as connection:
                    landed, proof = self._send(connection, parameters)
            except Lost as error:
                unknown = error
                if pause is not None:
                    sleep(pause)
                    continue
                raise self._unknown(error) from error
            except DRIVER_ERRORS as error:
                if pause is not None and passing(error):
                    sleep(pause)
                    continue
                if unknown is not None:
                    raise self._unknown(error) from error
                raise self._not_landed(error) from error
            if proof is None:
                proof = self._ask_for(group, deadline)
            if landed is None and not group.is_in(proof):
                if unknown is not None:
                    self._refuse_unless_overtaken(group, deadline, unknown)
                return False
            self._acknowledge(group, proof)
            return True
        raise AssertionError  # the last pause is None

    def _refuse_unless_overtaken(self, group: _Group, deadline: float, lost: Exception) -> None:
        """The tail that an earlier sending moves from must be gone, or that may still happen.

        Raises:
            OutcomeUnknown: it may.
        """
        try:
            state = self._look(deadline)
        except NotLanded as error:
            raise self._unknown(lost) from error
        if state.tail == group.tail or state.revision != group.revision:  # or a compaction has dropped what landed
            raise self._unknown(lost)

    @staticmethod
    def _send(connection: Connection, parameters: dict[str, Any]) -> tuple[object, list[tuple[Any, ...]] | None]:
        """Append and read back, in one round trip; the append is committed before the read begins."""
        append = APPEND_ONE if parameters["count"] == 1 else APPEND
        if parameters["bytes"] > PIPELINED:
            return connection.execute(append, parameters).fetchone(), None
        appended = connection.cursor()
        try:
            with connection.pipeline() as pipeline:
                appended.execute(append, parameters)
                pipeline.sync()
                read = connection.execute(PROOF, parameters)
            return appended.fetchone(), read.fetchall()
        except DRIVER_ERRORS:
            if connection.closed or appended.pgresult is None:
                raise
            return appended.fetchone(), None  # it was the proof that failed, and the append was answered before

    def _ask_for(self, group: _Group, deadline: float) -> list[tuple[Any, ...]]:
        """Which batches of a group are there, when it is not known or not shown yet that they landed.

        Raises:
            OutcomeUnknown: the server does not say.
        """
        parameters = {"journal": self.journal, "from": group.tail, "to": group.to}
        try:
            return self._server.ask(
                lambda connection: connection.execute(PROOF, parameters).fetchall(), "it does not read back", deadline
            )
        except NotLanded as error:
            raise self._unknown(error) from error

    def _acknowledge(self, group: _Group, proof: list[tuple[Any, ...]]) -> None:
        """Each batch reads back under its number and nonce, with its digest; else nothing is acknowledged."""
        found = {sequence: (bytes(nonce), bytes(digest), revision) for nonce, sequence, digest, revision in proof}
        for commit, nonce, sequence in zip(group.landing, group.nonces, group.sequences, strict=True):
            held = found.get(sequence)
            expected = (nonce, hashlib.sha256(commit.payload).digest())
            if held is None or held[:2] != expected:
                commit.error = VerifyFailed(
                    "the server acknowledged the batch, and reads it back otherwise",
                    path=self.name,
                    step="verify",
                    expected=f"{sequence} {expected[1].hex()}",
                    found="nothing" if held is None else f"{sequence} {held[1].hex()}",
                    hint="Read the journal again, and see what changes its tables.",
                )
                continue
            commit.sequence, commit.position = sequence, (sequence, held[2])
        with self._guard:
            if self._state.tail == group.tail:
                self._state.tail = group.to
                self._state.bytes += group.bytes

    def _append_in_turn(self, commits: Sequence[Commit], deadline: float) -> int:
        """Queue for the journal's row, look at it, and append behind what is there."""
        unknown: Exception | None = None
        for pause in pauses(deadline):
            group, decided = None, 0
            try:
                with self._server.connection(deadline) as connection, connection.transaction():
                    state = self._look_alone(connection, deadline)
                    group, decided = self._lay_out(commits, state, sure=True)
                    if not group.landing:
                        return decided
                    parameters = group.parameters(self.journal, self._limit)
                    if connection.execute(APPEND, parameters).fetchone() is None:
                        raise self._gone()  # noqa: TRY301 - the transaction ends with it
            except Lost as error:
                if group is not None and group.landing:
                    return self._append_again(group, decided, deadline, error)
                unknown = error
                if pause is None:
                    raise self._not_landed(unknown) from error
                sleep(pause)
            except DRIVER_ERRORS as error:
                if pause is None or not passing(error):
                    raise self._not_landed(error) from error
                self._forget(commits)
                sleep(pause)
            except LandedError:
                raise
            except BaseException as error:  # an interrupt, perhaps in the commit
                if group is not None:
                    group.share(self._unknown(error))
                raise
            else:
                with self._sharing(group):
                    self._acknowledge(group, self._ask_for(group, deadline))
                return decided
        raise AssertionError  # the last pause is None

    def _append_again(self, group: _Group, decided: int, deadline: float, lost: Exception) -> int:
        """The connection broke with a group under way: the same group, with the same nonces, until it is known."""
        if self._append(group, deadline, lost):
            return decided
        # It has not happened, and cannot happen any more: the tail that it moves from is gone.
        raise self._server.failed(NotLanded, lost, "the append was overtaken after its connection broke", "append")

    def _look_alone_once(self, connection: Connection) -> None:
        with connection.transaction():
            self._look_alone(connection, monotonic() + self._timeout)

    def _look_alone(self, connection: Connection, deadline: float) -> State:
        """The journal's state, which stays so until the transaction ends; raises `Claimed`."""
        wait = max(1, int(1000 * (deadline - monotonic())))
        connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{wait}ms",))
        row = connection.execute(f"{STATE} FOR UPDATE", (self.journal,)).fetchone()
        if row is None:
            raise self._gone()
        state = State(row)
        self._refuse_if_claimed(connection, state)
        with self._guard:
            self._state = state
        return state

    # What goes wrong.

    def _stale(self, expected: int, tail: int) -> StaleWrite:
        return StaleWrite(
            f"expected the journal at {expected}, it is at {tail}",
            path=self.name,
            step="compare",
            expected=str(expected),
            found=str(tail),
            hint="Read what was appended since, then append to that.",
        )

    def _full(self, needed: int) -> Full:
        return Full(
            f"the journal may have {self._limit} bytes, and would have {needed}",
            path=self.name,
            step="grow",
            expected=str(self._limit),
            found=str(needed),
            hint="Compact the journal, or raise its limit.",
        )

    def _gone(self) -> NotLanded:
        self.gone = True
        return NotLanded("the journal was removed", path=self.name, step="append", hint="Open it again to begin anew.")

    def _unknown(self, error: BaseException) -> LandedError:
        return self._server.failed(OutcomeUnknown, error, "whether the append landed is not known", "append")

    def _not_landed(self, error: Exception) -> LandedError:
        kind = LockTimeout if isinstance(error, (LockNotAvailable, QueryCanceled)) else NotLanded
        return self._server.failed(kind, error, "the server did not take the append", "append")

    # Looking.

    def _look(self, deadline: float) -> State:
        def look(connection: Connection) -> State:
            row = connection.execute(STATE, (self.journal,)).fetchone()
            if row is None:
                raise self._gone()
            return State(row)

        state = self._server.ask(look, "the journal cannot be read", deadline)
        with self._guard:
            self._state = state
        return state

    def tail(self) -> int:
        return int(self._look(monotonic() + self._timeout).tail)

    def size(self) -> int:
        return int(self._look(monotonic() + self._timeout).bytes)

    def batches(self, start: int, upto: int | None = None) -> Iterator[Batch]:  # noqa: ARG002 - it is one request
        return reading.batches(self._server, self.journal, self.name, start, monotonic() + self._timeout)

    def newest_first(self, upto: int | None = None) -> Iterator[Batch]:  # noqa: ARG002 - it is one request
        return reading.newest_first(self._server, self.journal, self.name, monotonic() + self._timeout)

    def fetch(self, position: Position) -> Batch | None:
        return reading.fetch(self._server, self.journal, self.name, position, monotonic() + self._timeout)

    # Compacting.

    def rewrite(self, rewrite: Rewrite, timeout: float) -> tuple[int, int]:
        return compaction.compact(self._server, self.journal, self.name, rewrite, timeout)

    # Owning.

    def claim(self) -> None:
        if self._claim is None:
            self._claim = claims.take(self._server, self.journal, self.name)
        if self._claim.epoch != self._look(monotonic() + self._timeout).epoch:
            raise claims.refused(self.name, self._state.owner)

    def _allowed(self, state: State) -> bool:
        """Whether this process may append, as far as it knows: nobody owns the journal, or this process does."""
        if self._claim is None:
            return state.owner is None
        return bool(self._claim.epoch == state.epoch)

    def _refuse_if_claimed(self, connection: Connection, state: State) -> None:
        """Refuse when another owns the journal; end the claim of an owner that is gone. Needs the row, locked.

        Raises:
            Claimed: another owns it, or this process did and its claim was ended meanwhile.
        """
        if self._allowed(state):
            return
        if self._claim is not None:
            error = claims.refused(self.name, state.owner)
            error.hint = "This process was away for so long that its claim was ended. Read the journal, then claim it."
            raise error
        epoch = claims.end_if_dead(connection, self.journal, state.epoch)
        if epoch is None:
            raise claims.refused(self.name, state.owner)
        state.owner, state.epoch = None, epoch

    def forked(self) -> None:
        self._guard = threading.Lock()
        self._claim = None  # the parent's

    def close(self) -> None:
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.end()
