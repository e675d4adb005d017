"""A journal in PostgreSQL: an append is one statement, and the primary key makes it compare-and-swap.

The statement moves the journal's tail from where the writer believes it to be and inserts the batches behind it; if the
tail is elsewhere it does nothing. So a lone writer needs one round trip for append and proof. A writer that lost the
race takes the journal's row for update, which queues it in the server, and appends behind what it finds.

Each batch carries a nonce. When the connection breaks before the answer, the same statement is sent again: both move
the tail from one and the same number, so that one lands at most, and the nonce tells it from another writer's.
"""

from __future__ import annotations

import threading
from time import monotonic

import psycopg
from psycopg.errors import LockNotAvailable, QueryCanceled

from landed.engine import claimed, contended, full, stale
from landed.errors import LandedError, LockTimeout, NotLanded, OutcomeUnknown, Refused
from landed.lock import DEFAULT_TIMEOUT
from landed.postgres import claims, compaction, reading
from landed.postgres.address import Address
from landed.postgres.group import Group, lied
from landed.postgres.pool import NoConnection
from landed.postgres.rows import ALONE, STATE, State, find_row
from landed.postgres.schema import OVERHEAD
from landed.postgres.server import Lost, passing, server_for, wait_for_rows
from landed.retries import pauses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from landed.engine import Batch, Commit, Position, Rewrite
    from landed.postgres.group import Proof
    from landed.postgres.server import Connection, Server

GROUP: Final = 256
"""Commits that go into one statement."""
GROUP_BYTES: Final = 8 << 20
"""Bytes that one statement may carry, one larger batch excepted."""
NO_LIMIT: Final = (1 << 63) - 1


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
            if group.landing and timeout and monotonic() > deadline:
                raise contended(self.name)
        return self._append_in_turn(commits, deadline)

    def _lay_out(self, commits: Sequence[Commit], state: State, *, sure: bool) -> tuple[Group, int]:
        """Decide commits in order against the tail as we know it, as long as they fit one statement.

        Args:
            state: what we know.
            sure: whether what we know cannot change meanwhile; else a full journal is looked at again.
        """
        group = Group(state)
        room = self._limit - state.bytes
        decided = 0
        for commit in commits[:GROUP]:
            size = group.bytes + len(commit.payload) + OVERHEAD
            if commit.expect is not None and commit.expect != group.to:
                commit.error = stale(self.name, commit.expect, group.to)
            elif size > room and sure and not decided:
                raise full(self.name, self._limit, state.bytes + size)
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

    def _append(self, group: Group, deadline: float, unknown: Exception | None = None) -> bool:
        """Decide a group behind the tail as we know it; False when the journal is not in the state that we know.

        Args:
            unknown: why the outcome of an earlier sending is not known, if there was one.
        """
        try:
            return self._land(group, deadline, unknown)
        except BaseException as error:
            if not self._shared(group, error):
                raise
            return True

    def _shared(self, group: Group, error: BaseException) -> bool:
        """When it cannot be told what became of a group, all of it is told so; whether that is all there is to say.

        An interrupt is told as well, and goes on its way.
        """
        if isinstance(error, OutcomeUnknown):
            group.share(error)
            return True
        if not isinstance(error, LandedError):
            group.share(self.unknown(error))
        return False

    def _land(self, group: Group, deadline: float, unknown: Exception | None) -> bool:
        waits = pauses(deadline)
        while True:
            try:
                with self._server.connection(deadline) as connection:
                    landed, proof = group.append_and_prove(connection, self.journal, self._limit)
            except Lost as error:
                unknown = error
                if (pause := next(waits)) is not None:
                    self._server.wait(pause, error)
                    continue
                raise self.unknown(error) from error
            except psycopg.Error as error:
                if unknown is None and isinstance(error, LockNotAvailable):
                    return False  # another session holds the row: who wants it queues
                if (pause := next(waits)) is not None and passing(error):
                    self._server.wait(pause, error)
                    continue
                if unknown is not None:
                    raise self.unknown(error) from error
                raise self._not_landed(error) from error
            except Refused as error:  # where the next connection leads; what the one before has taken stays taken
                if unknown is None:
                    raise
                raise self.unknown(error) from error
            if proof is None:
                proof = self._ask_for(group, deadline)
            if not landed and not group.is_in(proof):
                if unknown is not None:
                    self._refuse_unless_overtaken(group, deadline, unknown)
                return False
            if not landed:
                self._confirm(deadline)
            self._acknowledge(group, proof, deadline)
            return True

    def _refuse_unless_overtaken(self, group: Group, deadline: float, lost: Exception) -> None:
        """The tail that an earlier sending moves from must be gone, or that may still happen.

        Raises:
            OutcomeUnknown: it may.
        """
        try:
            state = self._look(deadline)
        except NotLanded as error:
            raise self.unknown(lost) from error
        if state.tail == group.tail or state.revision != group.revision:  # or a compaction has dropped what landed
            raise self.unknown(lost)

    def _confirm(self, deadline: float) -> None:
        """An earlier sending landed, and nobody said so: it may be seen before it is confirmed.

        Raises:
            OutcomeUnknown: it is not confirmed.
        """
        try:
            self._server.confirm(deadline)
        except NotLanded as error:
            raise self.unknown(error) from error

    def _ask_for(self, group: Group, deadline: float) -> Proof:
        """Which batches of a group are there, when it is not known or not shown yet that they landed.

        Raises:
            OutcomeUnknown: the server does not say.
        """
        try:
            return self._server.ask(
                lambda connection: group.prove(connection, self.journal), "it does not read back", deadline
            )
        except NotLanded as error:
            raise self.unknown(error) from error

    def _acknowledge(self, group: Group, proof: Proof, deadline: float) -> None:
        """Each batch reads back under its number and nonce, with its digest; else it is not acknowledged."""
        gone = group.acknowledge(proof, self.name)
        if gone:
            error = self._unproved(group, deadline)
            for commit in gone:
                commit.error = error
        with self._guard:
            if self._state.tail == group.tail:
                self._state.tail = group.to
                self._state.bytes += group.bytes

    def _unproved(self, group: Group, deadline: float) -> LandedError:
        """Why a batch that the server acknowledged is not there: a compaction dropped it, or it never was."""
        try:
            revision = self._look(deadline).revision
        except NotLanded as error:
            return self.unknown(error)
        if revision == group.revision:
            return lied(self.name, f"batches {group.tail + 1} to {group.to}", "fewer")
        return OutcomeUnknown(
            "the server acknowledged the append, and a compaction came before it could be read back",
            path=self.name,
            step="verify",
            hint="Read the journal again: the batch is there, or the compaction dropped it.",
        )

    def _append_in_turn(self, commits: Sequence[Commit], deadline: float) -> int:
        """Queue for the journal's row, look at it, and append behind what is there."""
        blocked: LockNotAvailable | None = None
        waits = pauses(deadline)
        while True:
            group, decided = None, 0
            try:
                with self._server.connection(deadline) as connection, connection.transaction():
                    state = self._look_alone(connection, deadline)
                    group, decided = self._lay_out(commits, state, sure=True)
                    if not group.landing:
                        return decided
                    if not group.append(connection, self.journal, self._limit):
                        raise self._gone()  # noqa: TRY301 - the transaction ends with it
            except Lost as error:
                # The same group, with the same nonces, until it is known. Where the tail that it moves from is gone, it
                # has not happened and cannot happen any more, and is laid out anew.
                if group is not None and group.landing and self._append(group, deadline, error):
                    return decided
                if (pause := next(waits)) is None:
                    raise self._not_landed(error) from error
                self._forget(commits)
                self._server.wait(pause, error)
            except psycopg.Error as error:
                if isinstance(error, LockNotAvailable):
                    blocked = error
                if (pause := next(waits)) is None or not (passing(error) or error is blocked):
                    # What took the time: to the last try hardly any is left, not even for a connection.
                    why = blocked if blocked is not None and isinstance(error, NoConnection) else error
                    raise self._not_landed(why) from why
                self._forget(commits)
                self._server.wait(pause, error)
            except LandedError:
                raise
            except BaseException as error:  # an interrupt, perhaps in the commit
                if group is not None:
                    group.share(self.unknown(error))
                raise
            else:
                self._prove(group, deadline)
                return decided

    def _prove(self, group: Group, deadline: float) -> None:
        """Acknowledge a group that the server took, by what reads back."""
        try:
            self._acknowledge(group, self._ask_for(group, deadline), deadline)
        except BaseException as error:
            if not self._shared(group, error):
                raise

    def _look_alone_once(self, connection: Connection) -> None:
        with connection.transaction():
            self._look_alone(connection, monotonic() + self._timeout)

    def _look_alone(self, connection: Connection, deadline: float) -> State:
        """The journal's state, which stays so until the transaction ends; raises `Claimed`."""
        wait_for_rows(connection, deadline)
        row = connection.execute(f"{STATE} FOR UPDATE", (self.journal,)).fetchone()
        if row is None:
            raise self._gone()
        state = State(row)
        self._refuse_if_claimed(connection, state)
        with self._guard:
            self._state = state
        return state

    # What goes wrong.

    def _gone(self) -> NotLanded:
        self.gone = True
        return NotLanded("the journal was removed", path=self.name, step="append", hint="Open it again to begin anew.")

    def unknown(self, error: BaseException) -> LandedError:
        """The error of who cannot be told whether the append landed."""
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
        deadline = monotonic() + self._timeout
        if self._claim is None:
            self._claim = claims.take(self._server, self.journal, self.name, deadline)
        if self._claim.epoch != self._look(deadline).epoch:
            raise claimed(self.name, self._state.owner)

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
            raise claimed(self.name, state.owner, away=True)
        epoch = claims.end_if_dead(connection, self.journal, state.epoch)
        if epoch is None:
            raise claimed(self.name, state.owner)
        state.owner, state.epoch = None, epoch

    def forked(self) -> None:
        self._guard = threading.Lock()
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.leave_to_parent()

    def close(self) -> None:
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.end()
