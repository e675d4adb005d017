"""Operations on a journal with failing calls, and what must hold afterwards."""

from __future__ import annotations

import errno
import gc
import stat
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

from model_calls import Call, Fault
from model_crash import crash_states, survivor
from model_disk import Disk
from model_faults import faults
from model_fs import oserror
from model_journal import BOOT, DIFFERENT, Expectation, Process, batch_of, examine, fresh_disk, keep_odd
from model_journal_crashes import next_boot
from model_world import Killed

from landed.errors import Corrupt, LandedError, NotLanded, OutcomeUnknown
from landed.local.frames import PAGE

RAW = "something else than a LandedError is raised"
BLAMED = "a call failed, and damage is what is said"
WRONG = "the state is not what the error says"
NOT_POISONED = "the outcome is unknown, and the same handle goes on"
NOT_USABLE = "nothing was written, and the same handle cannot go on"
STUCK = "after opening again it does not work"
OTHERS = "another process cannot go on"
RETRIED = "a file is flushed again after its flush failed"
LEAK = "a descriptor is left open after closing"
SWALLOWED = "an interrupt is swallowed"
LITTER = "files are left that nobody needs"

OURS, THEIRS, LATER = 500, 600, 700
"""Batch numbers: of the operation, of another process afterwards, of this one afterwards."""


LOOKS = {"pread", "read", "lseek", "stat", "fstat", "listdir", "scandir"}


class Case(NamedTuple):
    """An operation on a journal.

    `prepare` leaves a disk and says what is there. `warm` opens the journal and appends to it before calls fail.
    """

    prepare: Callable[[Process, Expectation], Disk | None]
    operation: Callable[[Process], Any]
    warm: bool = True
    appends: bool = True
    compacts: bool = False


def some(process: Process, expected: Expectation) -> None:
    """Two segments, three batches."""
    for number, size in ((1, 3000), (2, 2000), (3, 500)):
        expected.acknowledged[number] = process.append(number, 2 if number == 3 else 1, size)


def grown(process: Process, expected: Expectation) -> None:
    """A newest segment of several pages, with room."""
    some(process, expected)
    for number, size in ((4, 1000), (5, 2000)):
        expected.acknowledged[number] = process.append(number, 1, size)


def nothing(process: Process, expected: Expectation) -> None:
    """No journal."""


def torn(process: Process, expected: Expectation) -> None:
    """A writer that was killed in the middle of a frame."""
    grown(process, expected)
    killed_in_a_frame(process)
    _killed(process)


def killed_in_a_frame(process: Process) -> None:
    """Let a process die in the next frame that it writes, at the end of the frame's first page."""

    def die(call: Call) -> Fault | None:
        if call.name != "pwrite" or call.node is None or len(call.node.now.data) < PAGE:
            return None  # the lock file
        process.fs.fault = lambda _: Fault(Killed())
        return Fault(short=PAGE - process.log.follower.newest.end % PAGE)

    process.fs.fault = die


def crashed(process: Process, expected: Expectation) -> Disk:
    """A power cut in the middle of an append: something of a frame is there, and not all of it."""
    grown(process, expected)
    process.fs.fault = lambda call: Fault(Killed()) if call.name == "fdatasync" else None
    _killed(process)
    BOOT.reboot()
    for disk in crash_states(process.fs.disk, 50, Random(1)):
        if Process(survivor(disk)).run(lambda each: each.log.follower.recovered):
            return disk
    raise AssertionError("no crash tail")


def _killed(process: Process) -> None:
    try:
        process.append(6, 1, 3000)
    except Killed:
        process.fs.fault = None
        return
    raise AssertionError("the writer lives")


def suspect(process: Process, expected: Expectation) -> None:
    """A writer whose flush failed."""
    some(process, expected)
    process.fs.fault = lambda call: Fault(oserror(errno.EIO)) if call.name == "fdatasync" else None
    try:
        process.append(4, 1, 300)
    except OutcomeUnknown:
        expected.possible.add(4)
        process.fs.fault = None
        return
    raise AssertionError("the flush did not fail")


CASES: dict[str, Case] = {
    "create and append": Case(nothing, lambda p: p.journal.append(batch_of(OURS, 2)), warm=False),
    "open and append": Case(some, lambda p: p.journal.append(batch_of(OURS, 2)), warm=False),
    "append": Case(some, lambda p: p.journal.append(batch_of(OURS, 2))),
    "append that rolls": Case(some, lambda p: p.journal.append(batch_of(OURS, 2, 9000))),
    "append after a dead writer": Case(torn, lambda p: p.journal.append(batch_of(OURS, 2)), warm=False),
    "append after a crash": Case(crashed, lambda p: p.journal.append(batch_of(OURS, 2)), warm=False),
    "append after a failed flush": Case(suspect, lambda p: p.journal.append(batch_of(OURS)), warm=False),
    "read": Case(some, lambda p: list(p.journal.read()), appends=False),
    "read newest first": Case(some, lambda p: list(p.journal.read(newest_first=True)), appends=False),
    "compact": Case(some, lambda p: p.journal.compact(keep_odd), appends=False, compacts=True),
    "claim": Case(some, lambda p: p.journal.claim(), appends=False),
}


def start(case: Case) -> tuple[Disk, Expectation]:
    """The disk before the operation, everything that ran before being dead, and what is there."""
    process, expected = Process(fresh_disk()), Expectation()
    disk = process.run(lambda each: case.prepare(each, expected))
    return survivor(disk or process.fs.disk), expected


def begin(case: Case, disk: Disk, expected: Expectation) -> tuple[Process, Expectation]:
    """A process that is about to do the operation."""
    process, expected = Process(survivor(disk)), expected.copy()
    if case.warm:
        expected.acknowledged[50] = process.append(50)
    process.fs.log.clear()
    return process, expected


def calls_of(case: Case, disk: Disk, expected: Expectation) -> list[Call]:
    process, _ = begin(case, disk, expected)
    process.run(case.operation)
    return list(process.fs.log)


class Trial:
    """One run of a case with faults, and what is wrong after it."""

    def __init__(self, case: Case, disk: Disk, expected: Expectation, planned: dict[int, Fault]) -> None:
        self.case = case
        self.process, self.expected = begin(case, disk, expected)
        self.planned = planned
        self.interrupted = any(isinstance(fault.error, KeyboardInterrupt) for fault in planned.values())
        self.error: BaseException | None = None
        self.answer: Any = None
        self.problems: list[str] = []

    def run(self) -> list[str]:
        self.process.fs.fault = lambda call: self.planned.get(call.number)
        try:
            self.answer = self.process.run(self.case.operation)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - which one it is, is what is checked
            self.error = error
        self.process.fs.fault = None
        where = ", ".join(repr(call) for call in self.process.fs.log if call.number in self.planned)
        self._check_error()
        self._expect()
        self._check_disk(survivor(self.process.fs.disk))
        self._check_power_cut()
        self._check_same_handle()
        self._check_others()
        self._check_flushes()
        said, self.error = repr(self.error), None
        self._check_descriptors()
        return [f"{problem} ({where}: {said})" for problem in self.problems]

    def _check_error(self) -> None:
        if self.interrupted:
            if not isinstance(self.error, KeyboardInterrupt):
                self.problems.append(SWALLOWED)
        elif isinstance(self.error, Corrupt):
            self.problems.append(BLAMED)
        elif self.error is not None and not isinstance(self.error, LandedError):
            self.problems.append(RAW)

    def _expect(self) -> None:
        """What the error says of the state."""
        unknown = self.error is not None and not isinstance(self.error, (NotLanded, Corrupt))
        if self.case.appends and unknown:
            self.expected.possible.add(OURS)
        elif self.case.appends and self.error is None:
            self.expected.acknowledged[OURS] = self.answer.first
        if self.case.compacts and (unknown or self.error is None):
            self.expected.compacting = 50
            self.expected.compacted = 50 if self.error is None else 0

    def _check_disk(self, disk: Disk) -> None:
        self._note(examine(Process(disk), self.expected, append=None), WRONG)

    def _check_power_cut(self) -> None:
        with next_boot():
            for disk in crash_states(self.process.fs.disk, 2, Random(1)):
                self._note(examine(Process(disk), self.expected, append=None), WRONG)

    def _note(self, found: list[str], problem: str) -> None:
        self.problems += [f"{problem}: {each}" for each in found if not each.startswith(DIFFERENT)][:1]

    def _check_same_handle(self) -> None:
        try:
            self.expected.acknowledged[LATER] = self.process.append(LATER)
        except OutcomeUnknown:
            if not isinstance(self.error, (OutcomeUnknown, KeyboardInterrupt)) and not self._flush_failed():
                self.problems.append(NOT_USABLE)
        except (LandedError, OSError) as error:
            self.problems.append(f"{NOT_USABLE}: {error!r}")
        else:
            if isinstance(self.error, OutcomeUnknown) and self.case.appends and self.case.warm:
                self.problems.append(NOT_POISONED)
        self.process.reopen()
        found = examine(self.process, self.expected, append=LATER + 1)
        self._note(found, STUCK)
        if not found:
            self.expected.possible.add(LATER + 1)

    def _flush_failed(self) -> bool:
        """A failed flush of the newest segment ends the handle, also where it only made room for a new one."""
        return any(call.name == "fdatasync" and isinstance(call.error, OSError) for call in self.process.fs.log)

    def _check_others(self) -> None:
        self.process.reopen()
        other = Process(self.process.fs.disk)
        try:
            other.append(THEIRS)
        except LandedError as error:
            self.problems.append(f"{OTHERS}: {error!r}")
        if not self.problems:
            other.append(THEIRS + 1, 1, 50_000)  # a new segment, with which leftovers are swept
        self.process.fs.log += other.fs.log
        other.die()
        names = self.process.fs.disk.root.entries["model"].entries["work"].entries["journal"].entries
        if any(name.startswith(".landed-") for name in names) and not self.problems:
            self.problems.append(f"{LITTER}: {sorted(names)}")

    def _check_flushes(self) -> None:
        failed: set[int] = set()
        for call in self.process.fs.log:
            if call.name == "drop_cache":
                failed.discard(id(call.node))  # what the flush lost is gone: the next one is of what is written since
            if call.name in {"fsync", "fdatasync"} and call.node is not None and stat.S_ISREG(call.node.kind):
                if id(call.node) in failed:
                    self.problems.append(RETRIED)
                    return
                if isinstance(call.error, OSError):
                    failed.add(id(call.node))

    def _check_descriptors(self) -> None:
        # Lock files stay open for the next time. An interrupt between open(2) and Python loses any descriptor.
        kept = len(self.process._descriptors)
        if self.process.fs.open_descriptors > kept:
            # What a constructor that raised had opened goes with its error, and our record of the calls keeps that.
            self.process.fs.log.clear()
            for fault in self.planned.values():
                if fault.error is not None:
                    fault.error.__traceback__ = None
            gc.collect()
        if self.process.fs.open_descriptors > kept and not self.interrupted:
            self.problems.append(LEAK)


def single_faults(calls: list[Call]) -> Iterator[dict[int, Fault]]:
    """Every call, failing in every way."""
    for call in calls:
        for fault in faults(call):
            yield {call.number: fault}


def double_faults(calls: list[Call]) -> Iterator[dict[int, Fault]]:
    """Every call failing, and one of the calls that follow it."""
    for call in calls:
        for second in range(call.number + 1, call.number + 3):
            yield {number: Fault(oserror(errno.EIO)) for number in (call.number, second)}


def interrupts(calls: list[Call]) -> Iterator[dict[int, Fault]]:
    """Control-C before every call, and after those that change something; after a look is before the next call."""
    for call in calls:
        for after in (False, True) if call.name not in LOOKS else (False,):
            yield {call.number: Fault(KeyboardInterrupt(), after=after)}


KINDS = {"one failure": single_faults, "two failures": double_faults, "interrupt": interrupts}


def problems_of(name: str, kind: str) -> list[str]:
    """What is wrong after a case has met each of these faults."""
    case = CASES[name]
    disk, expected = start(case)
    found: list[str] = []
    trials = 0
    for planned in KINDS[kind](calls_of(case, disk, expected)):
        trials += 1
        found += Trial(case, disk, expected, planned).run()
    assert trials > 10, "too few faults to mean anything"
    return found
