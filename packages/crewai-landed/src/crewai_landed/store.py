"""One memory in this process: its journal, and the table that is kept in step with it.

Everything that happens to a memory is a batch of its journal, and what comes of a batch is decided where it stands:
each process that reads the journal comes to the same table. A call appends, applies all that is new up to its own
batch, and answers with what became of that. So no call depends on how much of the journal its process had seen.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import landed
from crewai_landed.records import MEMORY, REVISED, TOUCHED, Made, as_json, joined, parted
from crewai_landed.table import Applied, Table
from landed.engines import is_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MEMORY_NAME: Final = "memory"
"""What the memory's journal and its lock are called in the place that the user named."""
GARBAGE: Final = 1000
"""Entries that may be garbage beside as many as there are memories, before the journal is compacted."""
MISMADE: Final = (
    AttributeError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
    struct.error,
)
"""What comes of a record that checks, and is not as those that are made here: somebody else wrote it."""
RELOADS: Final = 16
"""How often a journal may be compacted while it is read from the start before that is an error."""

log = logging.getLogger("landed")


class Store:
    """The memory in one place, for all threads of this process.

    Args:
        path: a directory or an address; its journal is made when it is first used.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._guard = threading.RLock()
        self._journals: landed.Journals | None = None
        self._journal: landed.Journal | None = None
        self._table = Table()
        self._changing = False
        self._writers = 0
        self._applied: dict[int, Applied] = {}
        """What became of batches, by their first sequence number, while somebody waits for one of them."""
        self._touched: dict[str, int] = {}
        self._alone = threading.RLock()
        self._entered = False

    # Reading.

    @contextmanager
    def table(self) -> Iterator[Table]:
        """The table, with all that any process has saved; no other thread uses it meanwhile.

        Raises:
            landed.LandedError: the journal cannot be read.
        """
        with self._guard:
            self._catch_up(self._open())
            yield self._table

    def _open(self) -> landed.Journal:
        if self._journal is None:
            self._journals = landed.Journals(self.path)
            self._journal = self._journals.open(MEMORY_NAME)
        return self._journal

    def _catch_up(self, journal: landed.Journal) -> None:
        """Apply what is new. Needs the guard."""
        with self._change(journal):
            tail = journal.tail
            if tail == self._table.tail:
                return
            if self._table.tail:
                # From the end: reading forward would start with the first record of the segment.
                new = list(journal.read(self._table.tail + 1, newest_first=True))
                new.reverse()
                if _all_there(new, self._table.tail, tail):
                    self._apply(new)
                    return
            self._reload(journal)

    @contextmanager
    def _change(self, journal: landed.Journal) -> Iterator[None]:
        """The table changes; if that fails, it is read anew. Needs the guard."""
        self._changing = True
        try:
            yield
        except BaseException as error:
            if isinstance(error, landed.LandedError):
                self._forget(journal)
            else:
                self._table = Table()  # half of a batch may be in it
            raise
        finally:
            self._changing = False

    def _reload(self, journal: landed.Journal) -> None:
        """Read the whole journal. A compaction meanwhile could hide a deletion whose memory was read before it."""
        for _ in range(RELOADS):
            self._table = Table()
            tail = journal.tail
            entries = journal.read()
            first = next(entries, None)
            if first is not None:
                self._apply([first], entries)
            self._table.tail = max(tail, self._table.tail)  # the last ones may have been compacted away
            if first is None or journal.fetch(first.position) is not None:
                return
        raise landed.NotLanded(
            f"compacted {RELOADS} times while it was read", path=journal.path, step="read", hint="Try again."
        )

    def _apply(self, *parts: Iterable[landed.Entry]) -> None:
        entries = (entry for part in parts for entry in part)
        for _, batch in groupby(entries, attrgetter("position")):
            self._apply_batch(list(batch))  # of which no name is kept here: the next one may be as large

    def _apply_batch(self, batch: list[landed.Entry]) -> None:
        try:
            done = self._table.apply(batch)
        except MISMADE as error:
            what = f"record {batch[0].sequence} or one after it is not as it is made here: {error!r}"
            raise landed.Corrupt(what, path=self.path, step="read") from error
        if self._writers:
            self._applied[batch[0].sequence] = done

    def _forget(self, journal: landed.Journal) -> None:
        """Open the journal anew next time: what an error left unknown is read from the device then."""
        with self._guard:
            if self._journal is journal:  # not closed: other threads may be appending
                self._journals = self._journal = None
                self._table = Table()

    # Writing.

    def write(self, records: Sequence[landed.Record]) -> Applied:
        """Append one batch, and say what became of it.

        Raises:
            landed.NotLanded: nothing was written.
            landed.OutcomeUnknown: it may have been written.
        """
        with self._guard:
            journal = self._open()
            touched, self._touched = self._touched, {}
            self._writers += 1
        try:
            batch: list[landed.Record] = [*records, *_touches(touched)]
            receipt = self._append(journal, batch)
            with self._guard:
                try:
                    self._take(journal, receipt, batch)
                except landed.LandedError as error:
                    raise landed.OutcomeUnknown(
                        f"it was written, and the memory cannot be read any more: {error.what}",
                        path=journal.path,
                        step="apply",
                    ) from error
                done = self._outcome(journal, receipt.first)
        except BaseException:
            with self._guard:
                self._touched = {**touched, **self._touched}
            raise
        finally:
            with self._guard:
                self._writers -= 1
                if not self._writers:
                    self._applied.clear()
        self._compact_if_due()
        return done

    def _take(self, journal: landed.Journal, receipt: landed.Appended, batch: list[landed.Record]) -> None:
        """Apply what was just written. Needs the guard."""
        if receipt.first != self._table.tail + 1:  # others have written before it, or it was applied already
            self._catch_up(journal)
            return
        with self._change(journal):  # it was verified: there is no need to read it
            entries = [_placed(record, number, receipt) for number, record in enumerate(batch, receipt.first)]
            self._applied[receipt.first] = self._table.apply(entries)

    def _outcome(self, journal: landed.Journal, sequence: int) -> Applied:
        done = self._applied.get(sequence)
        if done is None:
            what = "it was written, and compacted by another process before this one saw what became of it"
            raise landed.OutcomeUnknown(what, path=journal.path, step="apply", hint="Look it up.")
        return done

    def _append(self, journal: landed.Journal, records: list[landed.Record]) -> landed.Appended:
        try:
            return journal.append(records)
        except landed.OutcomeUnknown:
            self._forget(journal)
            raise

    def touch(self, touched: dict[str, int]) -> None:
        """Note when memories were recalled; it is written along with the next batch, and costs no flush of its own."""
        with self.table() as table:
            for name, at in touched.items():
                table.touch([name], at)
            self._touched.update(touched)

    # Compacting.

    def _compact_if_due(self) -> None:
        with self._guard:
            due = self._table.entries > 2 * len(self._table) + GARBAGE
        if not due:
            return
        try:
            self.compact()
        except (landed.LockTimeout, landed.StaleWrite) as error:
            log.debug("another process compacts the memory's journal: %s", error)
        except landed.LandedError as error:  # what was to be written has been
            log.warning("the memory's journal could not be compacted and goes on growing: %s", error)

    def compact(self) -> landed.Compacted:
        """Rewrite the journal with the memories that there are; others may save and search meanwhile.

        Raises:
            landed.LandedError: as `landed.Journal.compact`.
        """
        with self._guard:
            journal = self._open()
            self._catch_up(journal)
            table, tail, live = self._table, self._table.tail, self._table.live()
        compacted = journal.compact(lambda entry: entry.sequence > tail or _kept(entry, live))
        with self._guard:  # not less what this one dropped: another process may have dropped the most of it
            table.entries = len(live) + table.tail - tail
        return compacted

    def close(self) -> None:
        """Write what was noted, and give back descriptors; the next use opens the memory again.

        Raises:
            landed.LandedError: what was noted cannot be written: when memories were recalled last.
        """
        with self._guard:
            if self._journal is None or self._writers:
                return
            try:
                if self._touched:
                    self._append(self._journal, _touches(self._touched))
                    self._touched = {}
            finally:
                if self._journals is not None:
                    self._journals.close()
                self._journals = self._journal = None

    # One at a time.

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One thread of one process at a time; a thread that is in may enter again. No other method waits for it.

        Raises:
            landed.LockTimeout: another process stayed in for the whole timeout.
        """
        with self._alone:
            if self._entered:
                yield
                return
            with self._guard:
                self._open()
                assert self._journals is not None  # noqa: S101 - it was opened
                lock = self._journals.lock(MEMORY_NAME)
            with lock:
                self._entered = True
                try:
                    yield
                finally:
                    self._entered = False

    def forked(self) -> None:
        """In a forked child: another thread of the parent may have been at work in here, and lives on there only."""
        self._guard = threading.RLock()
        self._alone, self._entered = threading.RLock(), False
        self._writers = 0
        self._applied = {}
        self._touched = {}  # the parent writes them
        if self._changing:
            self._table, self._changing = Table(), False


def _all_there(entries: list[landed.Entry], seen: int, tail: int) -> bool:
    """Whether nothing after `seen` is missing; else a compaction took it out, and with it perhaps what deleted more."""
    newest = entries[-1].sequence if entries else seen
    return len(entries) == max(tail, newest) - seen


def _touches(touched: dict[str, int]) -> list[landed.Record]:
    """The fewest records that say when these were recalled."""
    return [
        landed.Record(as_json({"at": at, "ids": [name for name, when in touched.items() if when == at]}), kind=TOUCHED)
        for at in sorted(set(touched.values()))
    ]


def _placed(record: landed.Record, sequence: int, receipt: landed.Appended) -> landed.Entry | Made:
    """A record that was appended, as an entry."""
    if isinstance(record, Made):
        record.sequence = sequence
        return record
    return landed.Entry(sequence, record, receipt.position)


def _kept(entry: landed.Entry, live: dict[str, tuple[int, bytes]]) -> bool | landed.Record:
    """What a compaction keeps of an entry: the memories that there are."""
    if entry.kind not in {MEMORY, REVISED}:
        return False
    sequence, text = live.get(entry.key.decode(errors="surrogatepass"), (0, b""))
    if sequence != entry.sequence:
        return False
    return landed.Record(joined(text, parted(entry.data)[1]), entry.key, MEMORY)


# One store for each place: crews and flows make a memory each, and share the table.

_stores: WeakValueDictionary[str, Store] = WeakValueDictionary()
_stores_guard = threading.Lock()


def store_at(path: str) -> Store:
    """This process's store for a directory or an address."""
    where = path if is_address(path) else os.path.realpath(path)
    with _stores_guard:
        store = _stores.get(where)
        if store is None:
            store = _stores[where] = Store(where)
        return store


def _forked() -> None:
    global _stores_guard  # noqa: PLW0603 - a thread of the parent may have held it
    _stores_guard = threading.Lock()
    for store in list(_stores.values()):
        store.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
