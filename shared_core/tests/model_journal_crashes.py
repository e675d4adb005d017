"""Histories of one journal with a power cut and a death at every call boundary of every step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import NamedTuple

from model_calls import Call
from model_crash import crash_states, survivor
from model_disk import Disk
from model_journal import BOOT, DIFFERENT, Expectation, Process, batch_of, commit_of, examine, fresh_disk, keep_odd
from model_world import LOOKS

NEXT, AGAIN = 1000, 1001
"""Numbers of the batches that are appended after a power cut or a death."""
DEEP_SAMPLE = 10
"""States of one step on which the power is cut again inside the recovery."""


class Step(NamedTuple):
    """One operation. `batches` are the sizes (records, bytes each) of the batches that it appends."""

    how: str
    batches: tuple[tuple[int, int], ...] = ()


def append(count: int = 1, size: int = 20) -> Step:
    return Step("append", ((count, size),))


def group(*sizes: int) -> Step:
    return Step("group", tuple((1, size) for size in sizes))


COMPACT, REOPEN, OTHER = Step("compact"), Step("reopen"), Step("other process")


@contextmanager
def next_boot() -> Iterator[None]:
    """What happens in the block happens after a reboot; the run that goes on afterwards is still in this boot."""
    before = BOOT.number
    BOOT.number = before + 1
    try:
        yield
    finally:
        BOOT.number = before


class JournalHistory:
    """Steps on one disk, with what was acknowledged so far.

    Attributes:
        found: what is wrong, each with where.
        examined: how many disks were looked at.
    """

    def __init__(self, *, limit: int = 8, seed: int = 1) -> None:
        self.disk = fresh_disk()
        self.process = Process(self.disk)
        self.expected = Expectation()
        self.limit = limit
        self.rng = Random(seed)
        self.numbers = iter(range(1, NEXT))
        self.found: list[str] = []
        self.examined = 0

    def run(self, steps: list[Step], *, cuts: bool = True, deaths: bool = False, deep: bool = False) -> list[str]:
        """Do the steps.

        Args:
            cuts: cut the power at every call boundary.
            deaths: let the process die at every call boundary; another one goes on, and the power is cut then.
            deep: cut the power again inside the recovery from a power cut, on a sample.
        """
        for index, step in enumerate(steps):
            self._step(step, f"step {index}, {step.how}", cuts=cuts, deaths=deaths, deep=deep)
        return self.found

    def _step(self, step: Step, where: str, *, cuts: bool, deaths: bool, deep: bool) -> None:
        numbers = [next(self.numbers) for _ in step.batches]
        during = self.expected.copy()
        during.possible |= set(numbers)
        if step.how == "compact":
            during.compacting = max(self.expected.acknowledged, default=0)
        states: list[tuple[str, Disk]] = []
        known: set[object] = set()
        died: list[tuple[str, Disk]] = []

        def gather(call: Call | None = None) -> None:
            if call is not None and call.name in LOOKS:
                return
            at = f"{where}, after {call}"
            if deaths:
                died.append((at, survivor(self.disk)))
            if cuts:
                states.extend((at, disk) for disk in crash_states(self.disk, self.limit, self.rng, known=known))

        gather()
        self.process.fs.boundary = gather
        receipts = self.process.run(lambda process: _do(process, step, numbers))
        self.process.fs.boundary = None
        for at, disk in died:
            self._after_death(disk, during, at)
        for at, disk in self.rng.sample(states, min(len(states), DEEP_SAMPLE)) if deep else states:
            self._after_cut(disk, during, at, deep=deep)
        self._settle(step, receipts, during)
        for disk in crash_states(self.disk, 2 * self.limit, self.rng) if cuts else ():
            self._after_cut(disk, self.expected, f"{where}, acknowledged", deep=False)

    def _settle(self, step: Step, receipts: dict[int, int], during: Expectation) -> None:
        self.expected.acknowledged.update(receipts)
        if step.how == "compact":
            self.expected.compacted = self.expected.compacting = during.compacting
        if step.how == "other process":
            self.process.die()
            self.process = Process(self.disk)

    def _after_cut(self, disk: Disk, expected: Expectation, where: str, *, deep: bool) -> None:
        """A reboot: everything acknowledged is there, the next append lands and survives the next power cut."""
        self.examined += 1
        with next_boot():
            program = Process(disk)
            inside: list[Disk] = []
            if deep:
                program.fs.boundary = lambda call: (
                    None if call.name in LOOKS else inside.extend(crash_states(disk, 3, self.rng))
                )
            problems = examine(program, expected, append=NEXT)
            program.fs.boundary = None
            self._note(problems, where)
            if any(not problem.startswith(DIFFERENT) for problem in problems):
                return
            after = expected.copy()
            after.possible.add(NEXT)
            self._again(inside, after, f"{where}, and again in the recovery")
            first = program.run(
                lambda each: next(e.sequence for e in each.journal.read() if e.data == batch_of(NEXT, 2)[0])
            )
            after.acknowledged[NEXT] = first
            self._again(crash_states(disk, 3, self.rng), after, f"{where}, and again after the recovery")

    def _after_death(self, disk: Disk, expected: Expectation, where: str) -> None:
        """Another process goes on at once; what it is told survives a power cut."""
        self.examined += 1
        program = Process(disk)
        problems = examine(program, expected, append=NEXT)
        self._note(problems, f"{where}, death")
        if any(not problem.startswith(DIFFERENT) for problem in problems):
            return
        after = expected.copy()
        after.acknowledged[NEXT] = _first_of(program, NEXT)
        self._again(crash_states(disk, 4, self.rng), after, f"{where}, death, then a power cut after another's append")

    def _again(self, disks: list[Disk], expected: Expectation, where: str) -> None:
        with next_boot():
            for disk in disks:
                self.examined += 1
                self._note(examine(Process(disk), expected, append=AGAIN), where)

    def _note(self, problems: list[str], where: str) -> None:
        self.found += [f"{problem} ({where})" for problem in problems]


def _first_of(process: Process, number: int) -> int:
    return next(entry.sequence for entry in process.read() if entry.data == batch_of(number, 2)[0])


def _do(process: Process, step: Step, numbers: list[int]) -> dict[int, int]:
    """Carry a step out; the first sequence number of each batch that it appended."""
    if step.how == "append":
        ((count, size),) = step.batches
        return {numbers[0]: process.journal.append(batch_of(numbers[0], count, size)).first}
    if step.how == "group":
        commits = [commit_of(number, *size) for number, size in zip(numbers, step.batches, strict=True)]
        rest = commits
        while rest:
            rest = rest[process.log.commit(rest, 0.0) :]
        return {number: commit.sequence for number, commit in zip(numbers, commits, strict=True)}
    if step.how == "compact":
        process.journal.compact(keep_odd)
    elif step.how == "reopen":
        process.reopen()
        assert process.journal.tail >= 0
    return {}
