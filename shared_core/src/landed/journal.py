"""A journal: many small records, appended in order, acknowledged when they are durable and verified.

    with landed.Journal("./events") as journal:
        receipt = journal.append([b"one", b"two"])
        journal.append([b"three"], expect=receipt.tail)
        for entry in journal.read():
            print(entry.sequence, entry.data)

A lone writer commits in its own thread: handing the work to another one costs more than the flush saves. While it
flushes, the appends of other threads queue, and the first of them takes all that is queued along with its own: one
lock, one write, one flush for the whole group. There is no timer, so nobody waits for company.
"""

from __future__ import annotations

import _thread
import os
from time import monotonic

from landed import entries
from landed.engine import Commit
from landed.engines import open_log
from landed.entries import Entry, Record
from landed.errors import LandedError, LockTimeout, NotLanded, OutcomeUnknown, Refused
from landed.lock import DEFAULT_TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Final

    from landed.engine import Batch, Log, Position

OVERDUE: Final = "the appends before it took the whole timeout"
QUEUE_LIMIT: Final = 1024
"""Appends that may wait in one process for the flush before theirs; the next one is refused."""


class Appended:
    """What an append acknowledged: these records are on the disk, flushed and verified, whole and in this order.

    Attributes:
        first: sequence number of the first record.
        tail: sequence number of the last; pass it as ``expect`` to append only on top of this.
        position: of the batch, for `Journal.fetch`.
        seconds: from call to acknowledgement, waiting included.
    """

    __slots__ = ("first", "position", "seconds", "tail")

    def __init__(self, first: int, tail: int, position: Position, seconds: float) -> None:
        self.first = first
        self.tail = tail
        self.position = position
        self.seconds = seconds

    def __repr__(self) -> str:
        return f"<Appended {self.first} to {self.tail}>"


class Compacted:
    """What a compaction did.

    Attributes:
        before, after: bytes in use.
        kept, dropped: records.
    """

    __slots__ = ("after", "before", "dropped", "kept")

    def __init__(self, before: int, after: int, kept: int, dropped: int) -> None:
        self.before = before
        self.after = after
        self.kept = kept
        self.dropped = dropped

    def __repr__(self) -> str:
        return f"<Compacted {self.before} to {self.after} bytes, {self.kept} records kept, {self.dropped} dropped>"


_OPEN: Final = _thread.allocate_lock()
"""The gate of an append that has not had to wait; nobody shuts it."""


class _Turn(Commit):
    """An append on its way: it leads a group, waits for its turn to lead one, or follows another that leads.

    Attributes:
        gate: what it waits at, once it is in the queue.
        group: what it leads, itself first; what is decided leaves.
    """

    __slots__ = ("gate", "group")

    def __init__(self, payload: bytes, count: int, expect: int | None, deadline: float) -> None:
        super().__init__(payload, count, expect, deadline)
        self.gate = _OPEN
        self.group: list[_Turn] = []

    def wake(self) -> bool:
        """Let it go on; whether it was waiting."""
        try:
            self.gate.release()
        except RuntimeError:
            return False  # nobody has shut the gate, or somebody has opened it already
        return True


class Journal:
    """An append-only sequence of records in a directory, shared by any number of threads and processes.

    Args:
        directory: created when missing; or an address, ``postgresql://user@host/database/name``.
        max_bytes: growth limit in bytes; an append that needs more raises `Full`. None for none. A directory's journal
            grows by pages of 4,096 bytes, and needs one beside what a compaction keeps. A compaction takes more while
            it runs, and leaves more only where it makes records larger, or by less than 256 bytes.
        timeout: seconds that an operation may wait for the lock or the queue.
        log: the storage; the one of `directory` unless given.

    Raises:
        Refused: no engine has that address, the server cannot carry a journal, or the directory has many.
        Corrupt: a file of the journal is missing or damaged. Nothing was changed.
        Claimed: another process owns the journal alone.
        NotLanded: the directory cannot be made or read.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        log: Log | None = None,
    ) -> None:
        self._log: Log = open_log(directory, max_bytes=max_bytes, timeout=timeout) if log is None else log
        self._timeout = timeout
        self._guard = _thread.allocate_lock()
        self._leader: _Turn | None = None
        self._queue: list[_Turn] = []
        self._decided: list[_Turn] = []
        self._generation = _generation
        self._closed = False

    @property
    def path(self) -> str:
        """The directory, absolute."""
        return self._log.name

    @property
    def tail(self) -> int:
        """Sequence number that was given last, 0 before the first; sees what other processes acknowledged.

        Its record may be gone: compacted away, or cut off by a crash before it was acknowledged.
        """
        self._check_open()
        return self._log.tail()

    @property
    def size(self) -> int:
        """Bytes in use."""
        self._check_open()
        return self._log.size()

    def append(self, records: Iterable[Record | bytes], *, expect: int | None = None) -> Appended:
        """Append records as one batch: whole and in this order, or not at all.

        Args:
            records: at least one; plain bytes are records without key, of kind 0.
            expect: append only if the journal's tail is this.

        Raises:
            StaleWrite: the tail is another. Nothing was written.
            Full: the growth limit would be passed. Nothing was written.
            Claimed: another process owns the journal alone. Nothing was written.
            LockTimeout: other writers kept the journal for the whole timeout. Nothing was written.
            Refused: a record is none. Nothing was written.
            NotLanded: the system refused the write. Nothing was written.
            OutcomeUnknown: the flush failed, or what was written cannot be shown; the journal must be opened again.
            Corrupt: the journal's end is damaged. Nothing was written.
        """
        started = monotonic()
        self._check_open()
        try:
            payload, count = entries.encode_batch(records)
        except ValueError as error:
            raise self._refused(str(error)) from None
        if expect is not None and expect < 0:
            raise self._refused(f"expect is the number of a record or 0, not {expect!r}")
        turn = _Turn(payload, count, expect, started + self._timeout)
        try:
            if self._begin(turn) or self._wait(turn):
                self._lead(turn)
        except BaseException:
            self._end(turn)
            raise
        if turn.error is not None:
            raise turn.error
        first = turn.sequence
        return Appended(first, first + count - 1, turn.position, monotonic() - started)

    def read(self, from_: int = 1, *, newest_first: bool = False, upto: int | None = None) -> Iterator[Entry]:
        """The records from sequence number `from_` on, up to the tail of now; or from the tail back to `from_`.

        Args:
            newest_first: from the tail back.
            upto: a tail that was looked up before, to read no further than that; on some engines it spares a request.

        Raises:
            Corrupt: a frame does not check; everything before it was given.
        """
        self._check_open()
        if not newest_first:
            for batch in self._log.batches(from_, upto):
                for entry in entries.entries(batch, self.path):
                    if upto is not None and entry.sequence > upto:
                        return
                    if entry.sequence >= from_:
                        yield entry
            return
        for batch in self._log.newest_first(upto):
            for entry in reversed(list(entries.entries(batch, self.path))):
                if entry.sequence < from_:
                    return
                if upto is None or entry.sequence <= upto:
                    yield entry

    def fetch(self, position: Position) -> list[Entry] | None:
        """The entries of the batch at `position`; None when a compaction has moved it."""
        self._check_open()
        batch = self._log.fetch(position)
        return None if batch is None else list(entries.entries(batch, self.path))

    def compact(self, keep: Callable[[Entry], bool | Record]) -> Compacted:
        """Rewrite the journal with what `keep` says of every record that is there now; others may append and read.

        Args:
            keep: True keeps the record, False drops it, a `Record` takes its place. Sequence numbers stay.

        Raises:
            LockTimeout: another compaction runs.
            Refused: an answer is none of these. Nothing was changed.
            Corrupt: a frame does not check. Nothing was changed.
            NotLanded: nothing was changed.
            OutcomeUnknown: the rewritten journal may or may not survive a crash; the old one is whole in that case.
        """
        self._check_open()
        kept = dropped = 0

        def rewrite(batch: Batch) -> bytes | None:
            nonlocal kept, dropped
            parts = []
            for distance, record in entries.records(batch, self.path):
                answer = keep(Entry(batch.sequence + distance, record, batch.position))
                if answer is False:
                    dropped += 1
                else:
                    kept += 1
                    parts.append((distance, record if answer is True else self._replacement(answer)))
            return entries.encode_records(parts) if parts else None

        before, after = self._log.rewrite(rewrite, self._timeout)
        return Compacted(before, after, kept, dropped)

    def _replacement(self, answer: object) -> Record:
        if not isinstance(answer, Record):
            raise self._refused(f"keep says True, False or a Record, not {answer!r}")
        if fault := answer.fault():
            raise self._refused(fault)
        return answer

    def claim(self) -> Journal:
        """Own the journal alone until it is closed; everybody else's appends and opens raise `Claimed`.

        Raises:
            Claimed: another process owns it; names that.
        """
        self._check_open()
        self._log.claim()
        return self

    def close(self) -> None:
        """Give back descriptors and the claim. What was acknowledged needs no closing."""
        self._closed = True
        self._log.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._generation != _generation:
            self._forked()
        if self._closed:
            raise Refused("the journal is closed", path=self._log.name, step="open", hint="Open it again.")

    def _refused(self, what: str) -> Refused:
        return Refused(what, path=self._log.name, step="argument")

    # Group commit. A signal handler may raise between any two lines: whatever was begun, `_end` puts right.

    def _begin(self, turn: _Turn) -> bool:
        """Lead when nobody does, else queue; whether it leads."""
        with self._guard:
            if self._leader is None:
                turn.group = [turn]
                self._leader = turn
                return True
            if len(self._queue) >= QUEUE_LIMIT:
                raise self._queue_timeout(f"{QUEUE_LIMIT} appends wait already")
            turn.gate = _thread.allocate_lock()
            turn.gate.acquire()
            self._queue.append(turn)
            return False

    def _wait(self, turn: _Turn) -> bool:
        """Wait until another thread has decided the commit, or it is this one's turn to lead; whether it is."""
        if not turn.gate.acquire(timeout=max(0.0, turn.deadline - monotonic())):
            with self._guard:
                if turn in self._queue:
                    raise self._queue_timeout(OVERDUE)
            turn.gate.acquire()  # too late for that: it is being decided
        turn.wake()  # the gate stays open: nobody waits at it any more
        if turn.decided:
            self._wake_decided()
            return False
        with self._guard:  # whatever waits goes along: one lock, one write, one flush
            turn.group, self._queue = [turn, *(each for each in self._queue if each is not turn)], []
            return True

    def _queue_timeout(self, what: str) -> LockTimeout:
        return LockTimeout(what, path=self._log.name, step="queue", hint="Try again, or allow a longer timeout.")

    def _lead(self, turn: _Turn) -> None:
        """Commit the group, then hand over to the next in the queue."""
        group = turn.group
        while group:
            try:
                left = group[0].deadline - monotonic()
                if left <= 0 and group[0] is not turn:
                    raise self._queue_timeout(OVERDUE)
                decided = self._log.commit(group, max(0.0, left))
            except LandedError as error:
                group[0].error = error  # the others are asked for again: what stopped the first may not stop them
                decided = 1
            for each in group[:decided]:
                if each is not turn:
                    self._decided.append(each)
            del group[:decided]
            if group:
                self._wake_decided()  # the last of them after the next leader, who can begin meanwhile: in `_end`
        self._end(turn)

    def _wake_decided(self) -> None:
        """Wake one of those whose commit is decided; as soon as it runs, it wakes the next.

        Woken all at once, each would meet the others at the interpreter's lock, and wait a second time.
        """
        if not self._decided:
            return
        with self._guard:
            while self._decided:
                woken = self._decided[0].wake()  # before it is struck off: an interrupt in between wakes one more
                del self._decided[0]
                if woken:
                    return

    def _end(self, turn: _Turn) -> None:
        """Leave the leading or the queue, from wherever the turn is. Can be repeated after an interrupt."""
        with self._guard:
            for each in turn.group:
                if each.error is None:
                    each.error = self._interrupted(each)
                each.wake()
            turn.group = []
            if turn.gate.locked():
                turn.wake()  # it leaves: whoever is to wake it wakes the next one instead
            if self._leader is turn:
                self._leader = self._queue[0] if self._queue else None
                del self._queue[:1]
            elif turn in self._queue:
                self._queue.remove(turn)
            leader = self._leader
        if leader is not None:
            leader.wake()
        self._wake_decided()

    def _interrupted(self, commit: Commit) -> LandedError:
        """The error for an append whose leader was interrupted."""
        kind = OutcomeUnknown if commit.sequence else NotLanded
        what = "the append of another thread, which this one had joined, was interrupted"
        return kind(what, path=self._log.name, step="append", hint="Look at the tail, then try again.")

    def _forked(self) -> None:
        """In a forked child the queue and its threads are the parent's."""
        self._guard = _thread.allocate_lock()
        self._leader, self._queue, self._decided, self._generation = None, [], [], _generation
        self._log.forked()


_generation = 0
"""How many forks lie between the first process and this one."""


def _after_fork_in_child() -> None:
    global _generation  # noqa: PLW0603 - a forked child starts afresh
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
