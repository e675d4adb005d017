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
from landed.errors import LandedError, LockTimeout, OutcomeUnknown, Refused
from landed.lock import DEFAULT_TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Final

    from landed.engine import Batch, Log, Position

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


class _Waiting:
    """An append in the queue of its process."""

    __slots__ = ("commit", "turn")

    def __init__(self, commit: Commit) -> None:
        self.commit = commit
        self.turn = _thread.allocate_lock()
        self.turn.acquire()


class Journal:
    """An append-only sequence of records in a directory, shared by any number of threads and processes.

    Args:
        directory: created when missing; or an address, ``postgresql://user@host/database/name``.
        max_bytes: growth limit in bytes; an append that needs more raises `Full`. None for none.
        timeout: seconds that an operation may wait for the lock or the queue.
        log: the storage; the one of `directory` unless given.

    Raises:
        Refused: no engine has that address, or the server cannot carry a journal.
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
        self._queue: list[_Waiting] = []
        self._committing = False
        self._pid = os.getpid()
        self._closed = False

    @property
    def path(self) -> str:
        """The directory, absolute."""
        return self._log.name

    @property
    def tail(self) -> int:
        """Sequence number of the last record, 0 when there is none; sees what other processes acknowledged."""
        self._check_open()
        return self._log.tail()

    @property
    def size(self) -> int:
        """Bytes in use."""
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
        commit = self._commit_of(records, expect, started + self._timeout)
        self._submit(commit)
        if commit.error is not None:
            raise commit.error
        tail = commit.sequence + commit.count - 1
        return Appended(commit.sequence, tail, commit.position, monotonic() - started)

    def read(self, from_: int = 1, *, newest_first: bool = False) -> Iterator[Entry]:
        """The records from sequence number `from_` on, up to the tail of now; or from the tail back to `from_`.

        Raises:
            Corrupt: a frame does not check; everything before it was given.
        """
        self._check_open()
        if not newest_first:
            for batch in self._log.batches(from_):
                for entry in entries.entries(batch):
                    if entry.sequence >= from_:
                        yield entry
            return
        for batch in self._log.newest_first():
            for entry in reversed(list(entries.entries(batch))):
                if entry.sequence < from_:
                    return
                yield entry

    def fetch(self, position: Position) -> list[Entry] | None:
        """The entries of the batch at `position`; None when a compaction has moved it."""
        self._check_open()
        batch = self._log.fetch(position)
        return None if batch is None else list(entries.entries(batch))

    def compact(self, keep: Callable[[Entry], bool | Record]) -> Compacted:
        """Rewrite the journal with what `keep` says of every record that is there now; others may append and read.

        Args:
            keep: True keeps the record, False drops it, a `Record` takes its place. Sequence numbers stay.

        Raises:
            LockTimeout: another compaction runs.
            Corrupt: a frame does not check. Nothing was changed.
            NotLanded: nothing was changed.
            OutcomeUnknown: the rewritten journal may or may not survive a crash; the old one is whole in that case.
        """
        self._check_open()
        kept = dropped = 0

        def rewrite(batch: Batch) -> bytes | None:
            nonlocal kept, dropped
            parts = []
            for distance, record in entries.decode_records(batch.payload):
                answer = keep(Entry(batch.sequence + distance, record, batch.position))
                if answer is False:
                    dropped += 1
                else:
                    kept += 1
                    parts.append((distance, record if answer is True else answer))
            return entries.encode_records(parts) if parts else None

        before, after = self._log.rewrite(rewrite, self._timeout)
        return Compacted(before, after, kept, dropped)

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
        if self._pid != os.getpid():
            self._forked()
        if self._closed:
            raise Refused("the journal is closed", path=self._log.name, step="open", hint="Open it again.")

    def _commit_of(self, records: Iterable[Record | bytes], expect: int | None, deadline: float) -> Commit:
        batch = [record if isinstance(record, Record) else Record(record) for record in records]
        for record in batch:
            what = record.fault()
            if what:
                raise self._refused(what)
        if not 0 < len(batch) <= entries.RECORDS_LIMIT:
            raise self._refused(f"a batch has 1 to {entries.RECORDS_LIMIT} records, not {len(batch)}")
        payload = entries.encode_records(enumerate(batch))
        if len(payload) > entries.PAYLOAD_LIMIT:
            raise self._refused(f"a batch has at most {entries.PAYLOAD_LIMIT} bytes, not {len(payload)}")
        if expect is not None and expect < 0:
            raise self._refused(f"expect is the number of a record or 0, not {expect!r}")
        return Commit(payload, len(batch), expect, deadline)

    def _refused(self, what: str) -> Refused:
        return Refused(what, path=self._log.name, step="argument")

    # Group commit.

    def _submit(self, commit: Commit) -> None:
        """Commit, alone or in a group; on return the commit is decided."""
        waiting = None
        with self._guard:
            if not self._committing:
                self._committing = True
            elif len(self._queue) < QUEUE_LIMIT:
                waiting = _Waiting(commit)
                self._queue.append(waiting)
            else:
                raise self._queue_timeout(f"{QUEUE_LIMIT} appends wait already")
        if waiting is None or self._wait(waiting):
            self._lead(commit)

    def _wait(self, waiting: _Waiting) -> bool:
        """Wait until another thread has decided the commit, or it is this one's turn to lead; whether it is."""
        try:
            got = waiting.turn.acquire(timeout=max(0.0, waiting.commit.deadline - monotonic()))
        except BaseException:
            if not self._leave(waiting) and not waiting.commit.decided:
                self._hand_over()
            raise
        if not got and self._leave(waiting):
            raise self._queue_timeout("the appends before it took the whole timeout")
        return not waiting.commit.decided

    def _leave(self, waiting: _Waiting) -> bool:
        """Leave the queue; False when it is too late for that: the commit is decided now, or this thread's to lead."""
        with self._guard:
            if waiting in self._queue:
                self._queue.remove(waiting)
                return True
        waiting.turn.acquire()
        return False

    def _queue_timeout(self, what: str) -> LockTimeout:
        return LockTimeout(what, path=self._log.name, step="queue", hint="Try again, or allow a longer timeout.")

    def _lead(self, own: Commit) -> None:
        """Commit ours and whatever is queued by now, then hand over to the next in the queue."""
        with self._guard:
            followers, self._queue = self._queue, []
        commits = [own, *(waiting.commit for waiting in followers)]
        try:
            while commits:
                commits = commits[self._commit_some(commits) :]
        except BaseException as error:
            for commit in commits:
                commit.error = OutcomeUnknown(f"interrupted: {error!r}", path=self._log.name, step="append")
            raise
        finally:
            for waiting in followers:
                waiting.turn.release()
            self._hand_over()

    def _commit_some(self, commits: list[Commit]) -> int:
        try:
            return self._log.commit(commits, max(0.0, commits[0].deadline - monotonic()))
        except LandedError as error:
            commits[0].error = error  # the others are asked for again: what stopped the first may not stop them
            return 1

    def _hand_over(self) -> None:
        with self._guard:
            successor = self._queue.pop(0) if self._queue else None
            self._committing = successor is not None
        if successor is not None:
            successor.turn.release()

    def _forked(self) -> None:
        """In a forked child the queue and its threads are the parent's."""
        self._guard = _thread.allocate_lock()
        self._queue, self._committing, self._pid = [], False, os.getpid()
        self._log.forked()
