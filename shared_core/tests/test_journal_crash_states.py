"""The power fails at every call boundary of every operation on a journal: every acknowledged batch is there, whole.

Histories run on the model file system. Within each operation the power is cut after each call, on every legal state of
the disk (or a seeded sample); on each, a program of the next boot reads both ways and appends, and the power is cut
again. Deaths are the same without a reboot: another process goes on at once, and what it was told survives a cut.
"""

from __future__ import annotations

import itertools
from random import Random
from typing import TYPE_CHECKING

import pytest
from model_calls import Call, Fault
from model_crash import crash_states, survivor
from model_journal import (
    PATH,
    Boot,
    Expectation,
    Process,
    examine,
    fresh_disk,
    judge,
    keep_odd,
    model_machine,
    rebooted,
)
from model_journal_crashes import COMPACT, OTHER, REOPEN, JournalHistory, append, group
from model_world import LOOKS, Killed

from landed.errors import OutcomeUnknown
from landed.local import ahead
from landed.local.frames import PAGE

if TYPE_CHECKING:
    from model_disk import Disk

__all__ = ["model_machine"]

pytestmark = pytest.mark.exhaustive

HISTORIES = {
    "first append": [append()],
    "appends": [append(), append(3), append(2, 700), append()],
    "appends of several pages": [append(1, 3000), append(), append(1, 9000), append()],
    "groups": [group(10, 700, 20), group(3000, 3000, 20), append()],
    "rolls": [append(1, 3500), append(1, 3500), append(1, 20_000)],
    "reopened": [append(2, 700), REOPEN, append(1, 3000), REOPEN, append()],
    "processes in turn": [append(2, 700), OTHER, append(1, 3000), OTHER, append()],
    "compaction": [append(3, 1500), append(2, 3000), append(1, 10), COMPACT, append()],
    "compactions": [append(1, 3000), append(1, 3000), COMPACT, append(1, 3000), append(1, 3000), COMPACT],
}


@pytest.mark.parametrize("name", HISTORIES)
@pytest.mark.parametrize("kind", ["cut", "death"])
def test_at_every_call(kind: str, name: str, model_machine: Boot) -> None:
    history = JournalHistory(limit=3 if COMPACT in HISTORIES[name] else 8)
    history.run(HISTORIES[name], cuts=kind == "cut", deaths=kind == "death")
    assert history.examined > 50, "too few states to mean anything"
    judge(history.found)


@pytest.mark.parametrize("kind", ["cut", "death"])
def test_with_zeros_ahead_of_large_batches(kind: str, model_machine: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LARGE", "LARGE_PIECE"):
        monkeypatch.setattr(ahead, name, PAGE)
    history = JournalHistory(limit=8)
    history.run([append(1, 20_000), append(1, 5000), append(1, 5000)], cuts=kind == "cut", deaths=kind == "death")
    newest = history.process.log.follower.newest
    assert newest is not None
    assert newest.ahead.filled > newest.end + 5000
    history.run([append(1, 5000), append(1, 5000), append()], cuts=kind == "cut", deaths=kind == "death")
    assert history.examined > 50
    judge(history.found)


def test_power_cut_inside_the_recovery_from_a_power_cut(model_machine: Boot) -> None:
    history = JournalHistory(limit=6)
    history.run([append(2, 700), append(1, 3000), append()], deep=True)
    assert history.examined > 500
    judge(history.found)


# Directed: a failed flush, then everything that may follow.


def failing_flush(process: Process, number: int, size: int = 400) -> None:
    """Append a batch whose flush fails."""
    process.fs.fault = lambda call: Fault(OSError(5, "Input/output error")) if call.name == "fdatasync" else None
    with pytest.raises(OutcomeUnknown):
        process.append(number, 1, size)
    process.fs.fault = None


def after_a_failed_flush() -> tuple[Process, Expectation]:
    """A journal with two acknowledged batches, and one whose flush failed."""
    process, expected = Process(fresh_disk()), Expectation()
    for number in (1, 2):
        expected.acknowledged[number] = process.append(number, 1, 3000)
    expected.possible.add(3)
    failing_flush(process, 3)
    return process, expected


def test_power_cut_after_a_failed_flush(model_machine: Boot) -> None:
    process, expected = after_a_failed_flush()
    problems = []
    for disk in crash_states(process.fs.disk, 40, Random(1)):
        problems += examine(rebooted(disk), expected)
    assert problems == []


def test_power_cut_after_a_recovery_beside_a_frame_that_nobody_flushed(model_machine: Boot) -> None:
    """Its writer was killed before its flush. The recovery goes on behind it, so it is on the device before that."""
    failing, expected = Process(fresh_disk()), Expectation()
    for number in (1, 2):
        expected.acknowledged[number] = failing.append(number, 1, 3000)
    dying = Process(failing.fs.disk)
    dying.read()
    expected.possible |= {3, 4}

    def fault(call: Call) -> Fault | None:
        if call.name == "open" and call.path.endswith("suspect"):
            dying.die_at("fdatasync")
            with pytest.raises(Killed):
                dying.append(4)
        if call.name != "fdatasync":
            return None
        assert call.node is not None
        call.node.persist(metadata=False)  # the bytes are there, and the device fails to say so
        return Fault(OSError(5, "Input/output error"))

    failing.fs.fault = fault
    with pytest.raises(OutcomeUnknown):
        failing.append(3, 1, 400)
    recovering = Process(failing.fs.disk)
    expected.acknowledged[5] = recovering.append(5)
    problems = []
    for disk in crash_states(recovering.fs.disk, 40, Random(1)):
        problems += examine(rebooted(disk), expected)
    assert problems[:3] == []


def test_death_and_power_cut_at_every_call_of_the_recovery_from_a_failed_flush(model_machine: Boot) -> None:
    process, expected = after_a_failed_flush()
    process.die()
    disk = process.fs.disk
    calls = Process(survivor(disk))
    assert examine(calls, expected) == []
    rng, problems = Random(1), []
    for number in range(1, len(calls.fs.log) + 1):
        dying = Process(survivor(disk))
        dying.kill_at(number)
        during = expected.copy()
        during.possible.add(1000)
        try:
            problems += examine(dying, expected)
        except Killed:
            dying.die()
        for again in crash_states(dying.fs.disk, 4, rng):
            problems += examine(rebooted(again), during, append=1001)
        model_machine.number = 1
        problems += examine(Process(survivor(dying.fs.disk)), during, append=1001)
    assert problems[:3] == []
    assert len(calls.fs.log) > 40


def test_recovering_twice_is_recovering_once(model_machine: Boot) -> None:
    """Whoever only looks changes nothing, however often; the next to look finds the same."""
    process = Process(fresh_disk())
    process.append(1)
    seen = []
    process.fs.boundary = lambda call: seen.extend(crash_states(process.fs.disk, 6, Random(1))) if call else None
    process.append(2, 3, 3000)
    assert len(seen) > 10
    for disk in seen:
        program = rebooted(disk)
        first = [(entry.sequence, entry.data) for entry in program.read()]
        names = sorted(program.fs.listdir(PATH))
        for _, another in itertools.product(range(2), [Process(disk), rebooted(disk)]):
            assert [(entry.sequence, entry.data) for entry in another.read()] == first
        assert sorted(program.fs.listdir(PATH)) == names


def test_what_compaction_drops_stays_dropped(model_machine: Boot) -> None:
    process = Process(fresh_disk())
    for number in range(1, 6):
        process.append(number, 2, 1500)
    process.run(lambda each: each.journal.compact(keep_odd))
    for disk in crash_states(process.fs.disk, 40, Random(1)):
        assert [entry.data[:3] for entry in rebooted(disk).read()] == [b"1:0", b"3:0", b"5:0"]


def test_what_compaction_drops_of_one_segment_stays_dropped(model_machine: Boot) -> None:
    """The compacted segment takes the name of the one that it replaces: no other name changes, or would be flushed."""
    process = Process(fresh_disk())
    for number in (1, 2, 3):
        process.append(number, 2)
    process.run(lambda each: each.journal.compact(keep_odd))
    process.run(lambda each: each.journal.compact(keep_odd))
    for disk in crash_states(process.fs.disk, 40, Random(1)):
        assert [entry.data[:3] for entry in rebooted(disk).read()] == [b"1:0", b"3:0"]


# Directed: a process dies, another goes on at once, and the power is cut under that one.


def test_roll_after_a_death_before_the_flush(model_machine: Boot) -> None:
    """The frame of the dead one stays, and so the next segment is built on it: it is flushed before that."""
    dying = Process(fresh_disk())
    dying.append(1)
    dying.die_at("fdatasync")
    with pytest.raises(Killed):
        dying.append(2)
    expected = Expectation()
    expected.acknowledged[1] = 1
    expected.possible.add(2)
    next_one = Process(dying.fs.disk)
    expected.acknowledged[3] = next_one.append(3, 1, 20_000)
    assert len([name for name in next_one.fs.listdir(PATH) if name.endswith(".seg")]) == 2
    problems = []
    for disk in crash_states(next_one.fs.disk, 40, Random(1)):
        problems += examine(rebooted(disk), expected)
    assert problems == []


def test_append_after_a_death_in_a_compaction(model_machine: Boot) -> None:
    """The old segments go only when the name that replaces them is on the device, whoever gave it that name."""
    dying, expected = Process(fresh_disk()), Expectation()
    for number in range(1, 6):
        expected.acknowledged[number] = dying.append(number, 2, 1500)
    expected.compacting = 5
    other = Process(dying.fs.disk)
    assert examine(other, expected, append=None) == []
    dying.fs.boundary = lambda call: dying.kill_at(1) if call.name == "link" and "compacting" in call.path else None
    with pytest.raises(Killed):
        dying.run(lambda each: each.journal.compact(keep_odd))
    rng = Random(1)
    states: list[Disk] = []
    other.fs.boundary = lambda call: None if call.name in LOOKS else states.extend(crash_states(other.fs.disk, 20, rng))
    other.append(6)
    other.fs.boundary = None
    assert [call.path for call in other.fs.log if call.name == "unlink"], "it removed nothing"
    expected.possible.add(6)
    assert [problem for state in states for problem in examine(rebooted(state), expected)][:3] == []


def test_compaction_after_a_death_in_a_roll(model_machine: Boot) -> None:
    """What it puts in place is never there without the segment behind it, whoever gave that one its name."""
    dying, expected = Process(fresh_disk()), Expectation()
    for number in (1, 2):
        expected.acknowledged[number] = dying.append(number, 1, 1500)
    dying.fs.boundary = lambda call: dying.kill_at(1) if call.name == "unlink" and call.path.endswith(".tmp") else None
    with pytest.raises(Killed):
        dying.append(3, 1, 5000)
    expected.possible.add(3)
    expected.compacting = 2
    other, rng = Process(dying.fs.disk), Random(1)
    states: list[Disk] = []
    other.fs.boundary = lambda call: None if call.name in LOOKS else states.extend(crash_states(other.fs.disk, 20, rng))
    other.run(lambda each: each.journal.compact(keep_odd))
    other.fs.boundary = None
    assert len([name for name in other.fs.listdir(PATH) if name.endswith(".seg")]) == 2
    assert [problem for state in states for problem in examine(rebooted(state), expected)][:3] == []
