"""Anything in any order: handles in several processes, appends, groups, compactions, kills, failed flushes, power cuts.

Hypothesis drives a journal on the model disk beside a plain list of what must be there, and shrinks what it finds.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from model_calls import Fault
from model_crash import crash_states
from model_fs import oserror
from model_journal import (
    BOOT,
    PATH,
    Boot,
    Expectation,
    Process,
    commit_of,
    fresh_disk,
    keep_odd,
    model_machine,
)
from model_world import Killed

from landed._fs import Directory
from landed.errors import LandedError, NotLanded, OutcomeUnknown, StaleWrite

__all__ = ["model_machine"]

LOG_OFF = 60
EXAMPLES, STEPS = 60, 25

SIZES = st.sampled_from([0, 10, 300, 700, 2000, 3900, 5000])
COUNTS = st.sampled_from([1, 1, 2, 5])
WHO = st.integers(0, 1)
SEEDS = st.integers(0, 2**16)


class JournalMachine(RuleBasedStateMachine):
    """Two processes with one journal, and what it must hold."""

    def __init__(self) -> None:
        super().__init__()
        BOOT.number = 1
        self.disk = fresh_disk()
        self.processes = [Process(self.disk), Process(self.disk)]
        self.expected = Expectation()
        self.number = 0

    def _next(self) -> int:
        self.number += 1
        return self.number

    def _tail(self) -> int:
        return self.processes[0].run(lambda each: each.journal.tail)

    # What programs do.

    @rule(who=WHO, count=COUNTS, size=SIZES)
    def append(self, who: int, count: int, size: int) -> None:
        number = self._next()
        self.expected.acknowledged[number] = self.processes[who].append(number, count, size)

    @rule(who=WHO, size=SIZES)
    def append_on_top(self, who: int, size: int) -> None:
        tail, number = self._tail(), self._next()
        first = self.processes[who].append(number, 1, size, expect=tail)
        assert first > tail
        self.expected.acknowledged[number] = first

    @rule(who=WHO, behind=st.integers(1, 3))
    def append_on_something_old(self, who: int, behind: int) -> None:
        tail = self._tail()
        if tail >= behind:
            with pytest.raises(StaleWrite) as told:
                self.processes[who].append(0, expect=tail - behind)
            assert told.value.found == str(tail)

    @rule(who=WHO, sizes=st.lists(SIZES, min_size=2, max_size=5), stale=st.booleans())
    def group(self, who: int, sizes: list[int], stale: bool) -> None:
        numbers = [self._next() for _ in sizes]
        commits = [commit_of(number, 1, size) for number, size in zip(numbers, sizes, strict=True)]
        if stale:
            commits[0].expect = 2**40

        def decide(process: Process) -> None:
            rest = commits
            while rest:
                rest = rest[process.log.commit(rest, 0.0) :]

        self.processes[who].run(decide)
        for number, commit in zip(numbers, commits, strict=True):
            assert (commit.error is None) == (commit.expect is None)
            if commit.error is None:
                self.expected.acknowledged[number] = commit.sequence

    @rule(who=WHO)
    def compact(self, who: int) -> None:
        self.processes[who].run(lambda each: each.journal.compact(keep_odd))
        self.expected.compacted = self.expected.compacting = self.number

    @rule(who=WHO)
    def open_again(self, who: int) -> None:
        self.processes[who].reopen()

    @rule(who=WHO)
    def owner(self, who: int) -> None:
        self.processes[who].run(lambda each: each.journal.claim())
        with pytest.raises(LandedError):
            self.processes[1 - who].append(0)
        with pytest.raises(LandedError):
            self.processes[1 - who].append(0)
        self.processes[who].reopen()

    # What befalls them.

    @rule(who=WHO, size=SIZES, at=st.integers(1, 40))
    def killed_in_an_append(self, who: int, size: int, at: int) -> None:
        number = self._next()
        process = self.processes[who]
        process.kill_at(at)
        try:
            self.expected.acknowledged[number] = process.append(number, 1, size)
        except Killed:
            self.expected.possible.add(number)
        self._replace(who)

    @rule(who=WHO, at=st.integers(1, 120))
    def killed_in_a_compaction(self, who: int, at: int) -> None:
        process = self.processes[who]
        process.kill_at(at)
        try:
            process.run(lambda each: each.journal.compact(keep_odd))
            self.expected.compacted = self.expected.compacting = self.number
        except Killed:
            self.expected.compacting = self.number
            self._replace(who)
            self._pass_time()
            self._settle_compaction()
            return
        self._replace(who)

    @rule(who=WHO, size=SIZES)
    def flush_that_fails(self, who: int, size: int) -> None:
        """Then everybody opens the journal again."""
        process, number = self.processes[who], self._next()
        process.fs.fault = lambda call: Fault(oserror(5)) if call.name == "fdatasync" else None
        try:
            process.append(number, 1, size)
            raise AssertionError("a failed flush was acknowledged")
        except OutcomeUnknown:
            self.expected.possible.add(number)
        except NotLanded:
            pass  # it was the flush before a roll
        process.fs.fault = None
        with pytest.raises(OutcomeUnknown):
            process.append(0)
        for each in self.processes:
            each.reopen()
        self._settle_possible()

    @rule(who=WHO, size=SIZES, name=st.sampled_from(["open", "pwrite", "link", "fsync", "stat", "scandir", "flock"]))
    def call_that_fails(self, who: int, size: int, name: str) -> None:
        process, number = self.processes[who], self._next()
        process.append(self._acknowledge_next())  # opens it
        process.fs.fault = lambda call: Fault(oserror(28)) if call.name == name else None
        try:
            self.expected.acknowledged[number] = process.append(number, 1, size)
        except NotLanded:
            pass
        except OutcomeUnknown:
            self.expected.possible.add(number)
        process.fs.fault = None
        process.reopen()

    def _acknowledge_next(self) -> int:
        number = self._next()
        self.expected.acknowledged[number] = self._tail() + 1
        return number

    @rule(seed=SEEDS)
    def power_cut(self, seed: int) -> None:
        self._cut(seed)

    @rule(who=WHO, size=SIZES, at=st.integers(1, 40), seed=SEEDS)
    def power_cut_in_an_append(self, who: int, size: int, at: int, seed: int) -> None:
        number = self._next()
        self.processes[who].kill_at(at)
        try:
            self.expected.acknowledged[number] = self.processes[who].append(number, 2, size)
        except Killed:
            self.expected.possible.add(number)
        self._cut(seed)

    @rule(who=WHO, at=st.integers(1, 120), seed=SEEDS)
    def power_cut_in_a_compaction(self, who: int, at: int, seed: int) -> None:
        self.processes[who].kill_at(at)
        self.expected.compacting = self.number
        try:
            self.processes[who].run(lambda each: each.journal.compact(keep_odd))
            self.expected.compacted = self.number
        except Killed:
            pass
        self._cut(seed)
        self._settle_compaction()

    def _replace(self, who: int) -> None:
        self.processes[who].die()
        self.processes[who] = Process(self.disk)

    def _cut(self, seed: int) -> None:
        rng = Random(seed)
        for process in self.processes:
            process.die()
        self.disk = rng.choice(crash_states(self.disk, 12, rng))
        BOOT.reboot()
        self.processes = [Process(self.disk), Process(self.disk)]
        self._settle_possible()

    def _pass_time(self) -> None:
        """The kernel flushes names in time; till then a power cut may take back what a dead compaction put in place."""
        with Directory(PATH, Process(self.disk).fs) as directory:
            directory.sync()

    def _settle_possible(self) -> None:
        """What nobody heard of is there or is not, and stays so."""
        self.processes[0].append(self._acknowledge_next())
        held = {int(entry.data.split(b":")[0]): entry.sequence for entry in reversed(self.processes[0].read())}
        assert self.expected.problems(self.processes[0].read()) == []
        for number in list(self.expected.possible):
            if number in held:
                self.expected.acknowledged[number] = held[number]
            if number > self.expected.compacting:
                self.expected.possible.discard(number)

    def _settle_compaction(self) -> None:
        entries = self.processes[0].read()
        assert self.expected.problems(entries) == []
        done = self.expected.copy()
        done.compacted = done.compacting
        undone = self.expected.copy()
        undone.compacting = undone.compacted
        self.expected = done if done.problems(entries) == [] else undone

    # What always holds.

    @invariant()
    def everything_is_there(self) -> None:
        for process in self.processes:
            entries = process.read()
            assert self.expected.problems(entries) == []
            backwards = process.run(lambda each: list(each.journal.read(newest_first=True)))
            assert [entry.sequence for entry in backwards] == [entry.sequence for entry in entries][::-1]
            assert process.run(lambda each: each.journal.tail) >= max((e.sequence for e in entries), default=0)


@pytest.mark.parametrize("seed", [1])
def test_any_order(seed: int, model_machine: Boot, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(LOG_OFF)
    run_state_machine_as_test(
        JournalMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            suppress_health_check=[*HealthCheck],  # pyright: ignore[reportArgumentType] - it is an enum
            print_blob=False,
        ),
    )
