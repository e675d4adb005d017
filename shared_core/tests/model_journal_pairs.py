"""Two processes on one journal, the second acting between any two calls of the first."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from model_calls import Call
from model_crash import crash_states, survivor
from model_disk import Disk
from model_journal import Expectation, Process, batch_of, commit_of, examine, fresh_disk, keep_odd
from model_journal_crashes import next_boot

from landed.errors import LandedError, LockTimeout

BEFORE = 3
"""The number of the last batch that is there before."""
FIRST, SECOND, CHECK = 101, 201, 401
"""Numbers of the batches of the first process, of the second, and of the check."""


def _append(number: int, size: int) -> Callable[[Process], dict[int, int]]:
    return lambda process: {number: process.journal.append(batch_of(number, 1, size)).first}


def _group(number: int) -> Callable[[Process], dict[int, int]]:
    def operation(process: Process) -> dict[int, int]:
        commits = [commit_of(number + index, 1, 400) for index in range(3)]
        rest = commits
        while rest:
            rest = rest[process.log.commit(rest, 0.0) :]
        return {number + index: commit.sequence for index, commit in enumerate(commits)}

    return operation


def _compact(process: Process) -> dict[int, int]:
    process.journal.compact(lambda entry: int(entry.data.split(b":")[0]) > BEFORE or keep_odd(entry))
    return {}


def _keep_all(process: Process) -> dict[int, int]:
    process.journal.compact(lambda _: True)
    return {}


def _read(process: Process) -> dict[int, int]:
    sequences = [entry.sequence for entry in process.journal.read()]
    assert sequences == sorted(set(sequences)), sequences
    assert set(sequences) >= {1, 3}, "what was there when it began"
    return {}


def _backwards(process: Process) -> dict[int, int]:
    sequences = [entry.sequence for entry in process.journal.read(newest_first=True)]
    assert sequences == sorted(set(sequences), reverse=True), sequences
    assert set(sequences) >= {1, 3}, "what was there when it began"
    return {}


def _tail(process: Process) -> dict[int, int]:
    assert process.journal.tail >= 3
    return {}


def _open(process: Process) -> dict[int, int]:
    process.reopen()
    assert process.journal.tail >= 3
    return {}


FIRSTS: dict[str, Callable[[Process], dict[int, int]]] = {
    "append": _append(FIRST, 100),
    "append that rolls": _append(FIRST, 6000),
    "group": _group(FIRST),
    "compact": _keep_all,
    "read": _read,
    "read newest first": _backwards,
    "tail": _tail,
    "open": _open,
}
SECONDS: dict[str, Callable[[Process], dict[int, int]]] = {
    "append": _append(SECOND, 100),
    "append that rolls": _append(SECOND, 6000),
    "compact": _compact,
    "open": _open,
}


def prepared() -> tuple[Disk, Expectation]:
    """Three batches in two segments."""
    process, expected = Process(fresh_disk()), Expectation()
    for number, size in ((1, 1000), (2, 2000), (3, 1500)):
        expected.acknowledged[number] = process.append(number, 1, size)
    process.run(lambda each: each.journal.close())
    process.die()
    return process.fs.disk, expected


class Pair:
    """The first process does something, and between two of its calls the second does something whole."""

    def __init__(self, disk: Disk, expected: Expectation, first: str, second: str, at: int) -> None:
        self.disk, self.expected = survivor(disk), expected.copy()
        self.processes = [Process(self.disk), Process(self.disk)]
        for process in self.processes:
            process.run(_tail)
        self.names, self.at = (first, second), at
        self.where = f"{first}, and {second} after call {at}"
        self.problems: list[str] = []
        self.acted = False

    def run(self) -> list[str]:
        first = self.processes[0]
        start = len(first.fs.log)

        def boundary(call: Call) -> None:
            if call.number == start + self.at:
                self.acted = True
                self.where += f" ({call})"
                first.fs.boundary = None
                self._do(1, SECONDS[self.names[1]])

        first.fs.boundary = boundary
        self._do(0, FIRSTS[self.names[0]])
        first.fs.boundary = None
        if not self.acted:
            return []
        self._note(examine(Process(survivor(self.disk)), self.expected, append=CHECK))
        with next_boot():
            for disk in crash_states(self.disk, 2, Random(1)):
                self._note(examine(Process(disk), self.expected, append=CHECK))
        for process in self.processes:
            self._note(examine(process, self.expected, append=None))
        return self.problems

    def _do(self, who: int, operation: Callable[[Process], dict[int, int]]) -> None:
        try:
            self.expected.acknowledged |= self.processes[who].run(operation)
            if operation is _compact:
                self.expected.compacted = self.expected.compacting = BEFORE
        except LockTimeout:
            if who == 0:
                self.problems.append("the first one met a lock that nobody holds for long")
        except (LandedError, AssertionError) as error:
            self.problems.append(f"process {who} failed: {type(error).__name__}: {error}")

    def _note(self, found: list[str]) -> None:
        self.problems += found


def problems_of(first: str, second: str, step: int = 1) -> list[str]:
    """What goes wrong, wherever in the first operation the second comes."""
    disk, expected = prepared()
    found: list[str] = []
    at = 0
    while True:
        at += step
        pair = Pair(disk, expected, first, second, at)
        problems = pair.run()
        if not pair.acted:
            assert at > 1, "the second never came"
            return found
        found += [f"{problem} ({pair.where})" for problem in problems[:1]]
