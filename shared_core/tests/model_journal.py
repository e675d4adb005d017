"""Programs that use one journal on a model disk, and what a journal must hold after whatever befell them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any, NamedTuple

import pytest
from model_crash import survivor
from model_disk import Disk
from model_fs import ModelFS
from model_world import Killed, Program, new_disk

from landed import lock, process
from landed.engine import Commit
from landed.entries import Entry, Record, encode_records
from landed.errors import LandedError
from landed.files import Files
from landed.journal import Journal
from landed.local import claim, pool, segments
from landed.local import log as local_log
from landed.local.log import LocalLog

HOME = "/model/work"
PATH = f"{HOME}/journal"

LOST = "an acknowledged batch is gone, or not whole"
GHOST = "a record that was never appended, or that was given up, is there"
DISORDER = "sequence numbers do not grow, or are not those that were acknowledged"
DIFFERENT = "reading newest first gives something else than reading"
STUCK = "the journal cannot be opened, read or appended to"


class Boot:
    """Which boot of the model machine runs."""

    number = 1

    def id(self) -> str:
        return f"boot-{self.number}"

    def reboot(self) -> None:
        self.number += 1


BOOT = Boot()


@pytest.fixture
def model_machine(monkeypatch: pytest.MonkeyPatch, small_segments: None) -> Boot:
    """A machine whose boots the test decides; nobody there waits for a lock, because nobody else runs meanwhile."""
    for module in (local_log, segments):
        monkeypatch.setattr(module, "boot_id", BOOT.id)
    monkeypatch.setattr(local_log, "DEFAULT_TIMEOUT", 0.0)
    for name in ("TIMEOUT", "GLANCE"):
        monkeypatch.setattr(claim, name, 0.0)
    monkeypatch.setattr(process, "_me", process.Owner(1, "boot.1", "model", "model"))
    BOOT.number = 1
    return BOOT


class JournalFS(ModelFS):
    """A process's view of a disk whose kernel tells a failed flush to every descriptor that was open then, as Linux
    does since 4.13. Whoever opens the file later hears nothing."""

    def __init__(self, disk: Disk | None = None) -> None:
        super().__init__(disk)
        self._told: dict[int, int] = {}

    def open(self, path: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
        fd = super().open(path, flags, mode, dir_fd=dir_fd)
        self._told[fd] = self._description(fd).node.flush_failures
        return fd

    def fdatasync(self, fd: int) -> None:
        self._flush(super().fdatasync, fd)

    def fsync(self, fd: int) -> None:
        self._flush(super().fsync, fd)

    def drop_cache(self, fd: int) -> None:
        """What the device answers now is what it has: bytes that a failed flush lost do not come back later."""
        super().drop_cache(fd)
        self._description(fd).node.lost.clear()

    def _flush(self, flush: Callable[[int], None], fd: int) -> None:
        node = self._description(fd).node
        before = node.flush_failures
        try:
            flush(fd)
        except OSError:
            node.flush_failures = self._told[fd] = before + 1
            raise
        if self._told[fd] < before:
            self._told[fd] = before
            raise OSError(5, "Input/output error")


class Process(Program):
    """A process on the model machine that has one journal open."""

    def __init__(self, disk: Disk, path: str = PATH, *, max_bytes: int | None = None) -> None:
        super().__init__(disk)
        self.fs = JournalFS(disk)
        self._guards = threading.Lock(), threading.Lock()
        self._open: dict[int, Any] = {}
        self.path = path
        self.max_bytes = max_bytes
        self._journal: Journal | None = None

    @property
    def journal(self) -> Journal:
        if self._journal is None:
            log = LocalLog(self.path, max_bytes=self.max_bytes, fs=self.fs)
            self._journal = Journal(self.path, timeout=0.0, log=log)
        return self._journal

    @property
    def log(self) -> LocalLog:
        log = self.journal._log
        assert isinstance(log, LocalLog)
        return log

    @contextmanager
    def running(self) -> Iterator[Files]:
        before = lock._guard, pool._guard, pool._open
        lock._guard, pool._guard, pool._open = self._guards[0], self._guards[1], self._open
        try:
            with super().running() as files:
                yield files
        finally:
            lock._guard, pool._guard, pool._open = before

    def run(self, operation: Callable[[Process], Any]) -> Any:
        """Let the process do something."""
        try:
            with self.running():
                return operation(self)
        except Killed:
            self.die()
            raise

    def append(self, number: int, count: int = 1, size: int = 20, expect: int | None = None) -> int:
        """Append one of our batches; its first sequence number."""
        return self.run(lambda each: each.journal.append(batch_of(number, count, size), expect=expect).first)

    def read(self) -> list[Entry]:
        return self.run(lambda each: list(each.journal.read()))

    def reopen(self) -> None:
        if self._journal is not None:
            self._journal.close()
        self._journal = None


def fresh_disk() -> Disk:
    return new_disk(work=HOME)


def rebooted(disk: Disk) -> Process:
    """A new process after the power came back. The disk is one of `model_crash.crash_states`."""
    BOOT.reboot()
    return Process(disk)


def neighbour(disk: Disk) -> Process:
    """A new process after all others died, on a machine that goes on."""
    return Process(survivor(disk))


# Batches that tell which they are.


CYCLE = bytes(range(251))
"""A prime number of bytes: no power of two repeats it."""


def record(batch: int, index: int, count: int, size: int) -> bytes:
    """A record that says of which batch it is: its place, how many there are, and bytes that fill it."""
    start = (batch * 7 + index) % len(CYCLE)
    return b"%d:%d:%d:" % (batch, index, count) + (CYCLE * (size // len(CYCLE) + 2))[start : start + size]


def batch_of(number: int, count: int = 1, size: int = 20) -> list[bytes]:
    return [record(number, index, count, size) for index in range(count)]


def commit_of(number: int, count: int = 1, size: int = 20, expect: int | None = None) -> Commit:
    records = [Record(data) for data in batch_of(number, count, size)]
    return Commit(encode_records(enumerate(records)), count, expect, inf)


def keep_odd(entry: Entry) -> bool:
    """What compactions of the model keep: batches of odd numbers, and of those the records of even index."""
    batch, index = (int(part) for part in entry.data.split(b":")[:2])
    return batch % 2 == 1 and index % 2 == 0


class Held(NamedTuple):
    """A batch as it was found: its number, the sequence numbers of its records by index, and how many it had."""

    batch: int
    sequences: dict[int, int]
    count: int


class Expectation:
    """What a journal must hold and what it may hold.

    Attributes:
        acknowledged: the first sequence number of each batch, by batch number.
        possible: batches whose appender never heard.
        given_up: batches that were refused with the old state intact.
        compacted: batches up to this number went through an acknowledged compaction (by `keep_odd`).
        compacting: batches up to this number may have gone through one.
    """

    def __init__(self) -> None:
        self.acknowledged: dict[int, int] = {}
        self.possible: set[int] = set()
        self.compacted = 0
        self.compacting = 0

    def copy(self) -> Expectation:
        twin = Expectation()
        twin.acknowledged = dict(self.acknowledged)
        twin.possible = set(self.possible)
        twin.compacted, twin.compacting = self.compacted, self.compacting
        return twin

    def problems(self, entries: Iterable[Entry]) -> list[str]:
        """What is wrong with what was read, oldest first."""
        entries = list(entries)
        sequences = [entry.sequence for entry in entries]
        found = [DISORDER] if sequences != sorted(set(sequences)) else []
        held = _batches(entries)
        if held is None:
            return [*found, GHOST]
        answers = [self._compare(held, compacted) for compacted in {self.compacted, self.compacting}]
        return found + min(answers, key=len)

    def _compare(self, held: dict[int, Held], compacted: int) -> list[str]:
        found = []
        for number, first in self.acknowledged.items():
            batch = held.get(number)
            if batch is None:
                if number > compacted or number % 2:
                    found.append(f"{LOST}: batch {number}")
            elif batch.sequences[min(batch.sequences)] != first + min(batch.sequences):
                found.append(f"{DISORDER}: batch {number}")
        for batch in held.values():
            if batch.batch not in self.acknowledged and batch.batch not in self.possible:
                found.append(f"{GHOST}: batch {batch.batch}")
            indexes = set(range(0, batch.count, 2)) if batch.batch <= compacted else set(range(batch.count))
            if batch.batch <= compacted and batch.batch % 2 == 0:
                found.append(f"{GHOST}: batch {batch.batch}, which was compacted away")
            elif set(batch.sequences) != indexes:
                found.append(f"{LOST}: batch {batch.batch} has records {sorted(batch.sequences)} of {batch.count}")
        return found


def _batches(entries: list[Entry]) -> dict[int, Held] | None:
    """The batches among entries; None when a record is none of ours."""
    held: dict[int, Held] = {}
    for entry in entries:
        parts = entry.data.split(b":", 3)
        try:
            batch, index, count = (int(part) for part in parts[:3])
        except ValueError:
            return None
        if entry.data != record(batch, index, count, len(parts[3])):
            return None
        known = held.setdefault(batch, Held(batch, {}, count))
        if index in known.sequences:
            return None  # twice
        known.sequences[index] = entry.sequence
    return held


def examine(program: Process, expected: Expectation, *, append: int | None = 1000) -> list[str]:
    """Let a process read everything both ways and append; what is wrong.

    Args:
        append: the number of the batch to append, or None for reading alone.
    """
    try:
        return program.run(lambda each: _examine(each, expected, append))
    except LandedError as error:
        return [f"{STUCK}: {type(error).__name__}: {error}"]


def _examine(program: Process, expected: Expectation, append: int | None) -> list[str]:
    journal = program.journal
    before = list(journal.read())
    found = expected.problems(before)
    tail = journal.tail
    if tail < max([*expected.acknowledged.values(), *(entry.sequence for entry in before)], default=0):
        found.append(f"{DISORDER}: the tail is {tail}")
    found += _newest_first(journal, before)
    if append is None:
        return found
    receipt = journal.append(batch_of(append, 2), expect=tail)
    after = list(journal.read())
    if [entry.data for entry in after] != [entry.data for entry in before] + batch_of(append, 2):
        found.append(f"{LOST}: the next append changed what was there")
    if receipt.first <= tail:
        found.append(f"{DISORDER}: the next append got {receipt.first} after {tail}")
    return found


def _newest_first(journal: Journal, entries: list[Entry]) -> list[str]:
    try:
        backwards = [(entry.sequence, entry.data) for entry in journal.read(newest_first=True)]
    except LandedError as error:
        return [f"{DIFFERENT}: {type(error).__name__}: {error}"]
    return [] if backwards == [(entry.sequence, entry.data) for entry in entries][::-1] else [DIFFERENT]


def judge(found: list[str], known: dict[str, str] | None = None) -> None:
    """Pass when nothing is wrong; an expected failure when just the problems are found that are known, and all of them.

    Args:
        known: the problems that are known, with the reason of each.
    """
    known = known or {}
    unexpected = [each for each in found if not each.startswith(tuple(known))]
    assert not unexpected, f"{len(unexpected)} problems, first " + "\n".join(unexpected[:3])
    mended = [problem for problem in known if not any(each.startswith(problem) for each in found)]
    assert not mended, f"no longer found, and need not be expected any more: {mended}"
    if known:
        pytest.xfail("; ".join(sorted(set(known.values()))))
