"""Bugs planted in the journal, one at a time: each must be caught by the check that claims to catch it.

A bug is a line of the source that is replaced. If the line is no longer there, the bug cannot be planted, and that is
an error too. Every check finds nothing on the journal as it is.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable
from operator import attrgetter
from random import Random
from typing import Any, NamedTuple

import pytest
from model_calls import Call, Fault
from model_crash import crash_states, survivor
from model_disk import Disk
from model_fs import oserror
from model_journal import (
    BOOT,
    PATH,
    Boot,
    Expectation,
    JournalFS,
    Process,
    commit_of,
    examine,
    fresh_disk,
    model_machine,
    rebooted,
)
from model_journal_crashes import COMPACT, JournalHistory, append, group
from model_journal_faults import killed_in_a_frame
from model_journal_faults import problems_of as faults_of
from model_journal_pairs import problems_of as pairs_of
from model_world import Killed
from test_journal_damage import RIGHT, TOLD, Victim, flips, frames_end, outcomes

from landed.errors import LandedError, OutcomeUnknown, StaleWrite
from landed.local import doubt, frames, reading, recovery, segments
from landed.local.directory import JournalDirectory
from landed.local.doubt import Doubt
from landed.local.follower import Follower
from landed.local.frames import FRAME_MAGIC
from landed.local.full import FullSegment
from landed.local.log import LocalLog

__all__ = ["model_machine"]

pytestmark = pytest.mark.exhaustive

LOG_OFF = 60
NOTHING = "no longer in the source"


# The checks.


def power_cuts() -> list[str]:
    history = JournalHistory(limit=12)
    return history.run([append(2, 700), append(1, 3000), group(700, 700, 20)])


def power_cuts_in_compaction() -> list[str]:
    history = JournalHistory(limit=4)
    return history.run([append(1, 3000), append(1, 3000), COMPACT, append()])


def deaths() -> list[str]:
    history = JournalHistory(limit=3)
    return history.run([append(), append(1, 3900)], cuts=False, deaths=True)


def deaths_in_compaction() -> list[str]:
    history = JournalHistory(limit=3)
    return history.run([append(1, 3000), append(1, 3000), COMPACT], cuts=False, deaths=True)


def dead_writer_then_a_roll() -> list[str]:
    """A writer dies before its flush, another one rolls and is told that its append landed, and the power fails."""
    process, expected = Process(fresh_disk()), Expectation()
    expected.acknowledged[1] = process.append(1)
    process.fs.fault = lambda call: Fault(Killed()) if call.name == "fdatasync" else None
    expected.possible.add(2)
    with pytest.raises(Killed):
        process.append(2, 1, 1500)
    other = Process(process.fs.disk)
    expected.acknowledged[3] = other.append(3, 1, 5000)
    found = []
    for disk in crash_states(other.fs.disk, 30, Random(1)):
        found += examine(rebooted(disk), expected)
    return found


def failed_flush() -> list[str]:
    """All that the flush covered is unknown; nobody flushes that file again; what is told afterwards stays."""
    process, expected = Process(fresh_disk()), Expectation()
    expected.acknowledged[1] = process.append(1)
    other = Process(process.fs.disk)
    expected.acknowledged[2] = other.append(2)
    process.fs.fault = lambda call: Fault(oserror(5)) if call.name == "fdatasync" else None
    expected.possible.add(3)
    found = []
    try:
        process.append(3, 1, 600)
        found.append("acknowledged")
    except OutcomeUnknown:
        process.fs.fault = None
    for each, number in ((process, 4), (other, 5)):
        try:
            each.append(number)
            found.append("a handle goes on")
            expected.possible.add(number)
        except OutcomeUnknown:
            each.reopen()
    expected.acknowledged[6] = process.append(6)
    for disk in crash_states(process.fs.disk, 20, Random(1)):
        found += examine(rebooted(disk), expected)
    return found


def poisoned_without_a_mark() -> list[str]:
    """The handle itself goes on refusing, whoever removes the mark."""
    process = Process(fresh_disk())
    process.append(1)
    process.fs.fault = lambda call: Fault(oserror(5)) if call.name == "fdatasync" else None
    with pytest.raises(OutcomeUnknown):
        process.append(2)
    process.fs.fault = None
    process.fs.unlink(f"{PATH}/suspect")
    try:
        process.append(3)
    except OutcomeUnknown:
        return []
    return ["a handle goes on"]


def dead_compaction_then_a_power_cut() -> list[str]:
    """A compaction dies as soon as its file has its name; another process sweeps, and the power fails meanwhile."""
    process, expected = Process(fresh_disk()), Expectation()
    for number in (1, 3, 5):
        expected.acknowledged[number] = process.append(number, 1, 3000)
    other = Process(process.fs.disk)
    assert len(other.read()) == len(expected.acknowledged)
    states: list[Disk] = []

    def die(call: Call) -> None:
        if call.name in {"link", "rename"} and "0000000001-0000000003.seg" in process.fs.listdir(PATH):
            process.fs.boundary = None
            process.fs.fault = lambda _: Fault(Killed())

    process.fs.boundary = die
    with pytest.raises(Killed):
        process.run(lambda each: each.journal.compact(lambda _: True))

    def cut(call: Call) -> None:
        """Most of all in the sweep, where some of the old names can be gone and the new one is not there."""
        states.extend(crash_states(other.fs.disk, 40 if call.name == "unlink" else 3, Random(len(states))))

    other.fs.boundary = cut
    other.append(7)
    expected.possible.add(7)
    return [problem for disk in states for problem in examine(rebooted(disk), expected)]


def flips_in_the_same_boot() -> list[str]:
    return _flips(reboot=False)


def flips_and_a_reboot() -> list[str]:
    return _flips(reboot=True)


def _flips(*, reboot: bool) -> list[str]:
    victim = Victim([900, 300, 300, 300, 200])
    if reboot:
        BOOT.reboot()
    name = victim.segments[-1]
    data = victim.data(name)
    last = data.rindex(FRAME_MAGIC) if reboot else frames_end(data)
    found = outcomes(victim, flips(data, range(0, last, 5)), name)
    return [f"{answer}: {places[:3]}" for answer, places in found.items() if answer not in {RIGHT, TOLD}]


def copied_frame() -> list[str]:
    """A good frame behind the last one that belongs elsewhere."""
    victim = Victim([100, 100])
    name = victim.segments[-1]
    data = victim.data(name)
    first, second = data.index(FRAME_MAGIC), data.rindex(FRAME_MAGIC)
    copied = (data[: frames_end(data)] + data[first:second]).ljust(len(data), b"\0")
    with victim.damaged(name, copied):
        answer = victim.outcome()
    return [] if answer == TOLD else [answer]


def read_back() -> list[str]:
    """A device that stores something else than it was given, anywhere in a small frame or a large one."""
    return [
        f"byte {part} of {size} was read back otherwise, and it was acknowledged"
        for size in (100, 200_000)
        for part in (0.0, 0.5, 1.0)
        if not _is_told_of_a_lie(size, part)
    ]


def _is_told_of_a_lie(size: int, part: float) -> bool:
    class Liar(JournalFS):
        def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
            stored = bytearray(data)
            if stored.startswith(FRAME_MAGIC):
                stored[int((len(stored) - 1) * part)] ^= 1
            return super().pwrite(fd, bytes(stored), offset)

    process = Process(fresh_disk())
    process.fs = Liar(process.fs.disk)
    try:
        process.append(1, 1, size)
    except OutcomeUnknown:
        return True
    return False


def unlinked_while_flushing() -> list[str]:
    process = Process(fresh_disk())
    process.append(1)

    def unlink(call: Call) -> None:
        if call.name == "fdatasync":
            process.fs.boundary = None
            process.fs.unlink(f"{PATH}/0000000001-0000000001.seg")

    process.fs.boundary = unlink
    try:
        process.append(2)
    except OutcomeUnknown:
        return []
    return ["acknowledged, and the path leads nowhere"]


def claimed() -> list[str]:
    process = Process(fresh_disk())
    process.append(1)
    other = Process(process.fs.disk)
    other.append(2)
    process.run(lambda each: each.journal.claim())
    found = []
    for number in (3, 4):
        try:
            other.append(number)
            found.append("an append into a claimed journal")
        except LandedError:
            continue
    return found


def stale() -> list[str]:
    process = Process(fresh_disk())
    process.append(1)
    try:
        process.append(2, expect=0)
    except StaleWrite:
        return []
    return ["a stale append landed"]


def torn_writer() -> list[str]:
    return faults_of("append after a dead writer", "interrupt")


def hole_before_a_good_frame() -> list[str]:
    """The power fails in the flush of a group, of which the last frame has reached the device and not the first."""
    process, expected = Process(fresh_disk()), Expectation()
    for number, size in ((1, 3000), (2, 2000), (3, 500), (4, 1000)):
        expected.acknowledged[number] = process.append(number, 1, size)
    process.fs.fault = lambda call: Fault(Killed()) if call.name == "fdatasync" else None
    expected.possible |= {5, 6, 7}
    with pytest.raises(Killed):
        process.log.commit([commit_of(number, 1, 700) for number in (5, 6, 7)], 0.0)
    found = []
    for disk in crash_states(process.fs.disk, 60, Random(1)):
        found += examine(rebooted(disk), expected)
    return found


def torn_beside_another() -> list[str]:
    """A writer is killed in the middle of its frame, and another, which has the journal open, goes on."""
    process, expected = Process(fresh_disk()), Expectation()
    for number, size in ((1, 3000), (2, 2000), (3, 500), (4, 1000), (5, 2000)):
        expected.acknowledged[number] = process.append(number, 1, size)
    other = Process(process.fs.disk)
    assert len(other.read()) == len(expected.acknowledged)
    expected.acknowledged[6] = process.append(6, 1, 100)  # so that the torn frame is not the first that is new
    killed_in_a_frame(process)
    with pytest.raises(Killed):
        process.append(7, 1, 3000)
    process.die()
    expected.acknowledged[8] = other.append(8)
    return examine(Process(survivor(other.fs.disk)), expected)


def hole_left_by_another_host() -> list[str]:
    """Another host loses its power: the first of its frames is lost, the second is there. One that runs on goes on."""
    process, expected = Process(fresh_disk()), Expectation()
    for number, size in ((1, 3000), (2, 2000), (3, 500), (4, 1000), (5, 2000)):
        expected.acknowledged[number] = process.append(number, 1, size)
    BOOT.reboot()
    other = Process(process.fs.disk)
    assert len(other.read()) == len(expected.acknowledged)
    end = other.log.follower.newest.end
    other.fs.fault = lambda call: Fault(Killed()) if call.name == "fdatasync" else None
    expected.possible |= {6, 7}
    with pytest.raises(Killed):
        other.run(lambda each: each.log.commit([commit_of(number, 1, 700) for number in (6, 7)], 0.0))
    other.die()
    fd = process.log.follower.newest.fd
    process.fs.pwrite(fd, bytes(400), end + frames.FRAME_HEADER + 200)
    process.fs.fdatasync(fd)
    BOOT.number -= 1
    expected.acknowledged[8] = process.append(8)
    return examine(Process(survivor(process.fs.disk)), expected)


def one_failure() -> list[str]:
    return [each for each in faults_of("append", "one failure") if not each.startswith("something else")]


def two_processes() -> list[str]:
    return pairs_of("append", "append") + pairs_of("append", "append that rolls")


def missing_newest() -> list[str]:
    victim = Victim([900, 900, 900, 900])
    node = victim.directory.entries.pop(victim.segments[-1])
    answer = victim.outcome()
    victim.directory.entries[victim.segments[-1]] = node
    return [] if answer == TOLD else [answer]


def sealed_once() -> list[str]:
    """Whoever has the old segment open learns that there is a new one, and numbers go on."""
    return pairs_of("append that rolls", "append")


# The bugs.


class Bug(NamedTuple):
    """A piece of the source and what stands in its place; `where` is the function."""

    where: tuple[Any, str]
    old: str
    new: str
    caught_by: Callable[[], list[str]]


SEGMENT, LOG = segments.Segment, LocalLog
BUGS: dict[str, Bug] = {
    "no flush": Bug((SEGMENT, "flush"), "self._fs.fdatasync(self.fd)", "pass", power_cuts),
    "acknowledged before the flush": Bug(
        (LOG, "_acknowledge"), "segment.flush()", "segment.header.size and None", power_cuts
    ),
    "failed flush tried again": Bug(
        (SEGMENT, "flush"),
        "self._fs.fdatasync(self.fd)",
        "try:\n        self._fs.fdatasync(self.fd)\n    except OSError:\n        self._fs.fdatasync(self.fd)",
        one_failure,
    ),
    "failed flush not marked": Bug((Doubt, "flush_failed"), "self._directory.mark_suspect()", "pass", failed_flush),
    "failed flush forgotten": Bug((LOG, "_ready"), "self._doubt.why is not None", "False", poisoned_without_a_mark),
    "cache not dropped in recovery": Bug((doubt, "_continue_after"), "segment.drop_cache()", "pass", failed_flush),
    "recovery goes on in the file that lost a flush": Bug(
        (doubt, "recover_if_suspect"), "_continue_after(segment, directory, boot)", "pass", failed_flush
    ),
    "no read-back": Bug((LOG, "_prove"), "not held", "False", read_back),
    "read back in part": Bug((SEGMENT, "holds"), "range(0, len(data), COMPARED)", "range(1)", read_back),
    "directory not looked at": Bug(
        (LOG, "_prove"), "if self.directory.unchanged():", "if True:", unlinked_while_flushing
    ),
    "no flush before the roll": Bug((LOG, "_roll"), "segment.flush()", "pass", dead_writer_then_a_roll),
    "sealed before the next is there": Bug(
        (LOG, "_roll"),
        "segments.create(self.name",
        "self._seal(segment); segment.flush(); segments.create(self.name",
        power_cuts,
    ),
    "end of the old segment not told": Bug(
        (LOG, "_roll"), "segment.header.id, segment.end, self._boot", "segment.header.id, 0, self._boot", power_cuts
    ),
    "name of a new segment not flushed": Bug((LOG, "_make_durable"), "self.directory.sync()", "pass", deaths),
    "frame not bound to its place": Bug(
        (frames, "_place"), 'segment_id + offset.to_bytes(8, "little")', "segment_id", copied_frame
    ),
    "flushed told too high": Bug((LOG, "_lay_out"), "segment.flushed", "offset", power_cuts),
    "flushed told too low": Bug((LOG, "_lay_out"), "segment.flushed", "HEADER.size", flips_and_a_reboot),
    "damage taken for a crash": Bug((recovery, "judge"), "return DAMAGE", "return CRASH", flips_and_a_reboot),
    "damage taken for a torn write": Bug((recovery, "judge"), "else DAMAGE", "else TORN", flips_in_the_same_boot),
    "boot not looked at": Bug((recovery, "judge"), "boot != running", "True", flips_in_the_same_boot),
    "torn frame not erased": Bug(
        (LOG, "_ready"), "segment.erase(segment.end, segment.header.size - segment.end)", "pass", torn_writer
    ),
    "end of a frame of others not checked": Bug(
        (SEGMENT, "_take_last"), "or frames.decode_body(last, data, at) is None", "", torn_beside_another
    ),
    "hop behind a crash": Bug(
        (SEGMENT, "_take_last"), "head.boot == self.running != frames.NO_BOOT", "True", hole_left_by_another_host
    ),
    "last frame taken for the end, whatever is missing before it": Bug(
        (recovery, "flushed_until"),
        "if last is None:",
        "if last is not None:\n        return last.head.offset\n    else:",
        hole_before_a_good_frame,
    ),
    "crash tail overwritten": Bug(
        (LOG, "_limit"), "if self.follower.found == recovery.END else segment.end", "", power_cuts
    ),
    "payload not checked": Bug(
        (frames, "decode_body"),
        "data[stop : stop + TRAILER] != CHECK.pack(check) + END_MARK",
        "data[stop + CHECK.size : stop + TRAILER] != END_MARK",
        flips_in_the_same_boot,
    ),
    "expectation not compared": Bug((LOG, "_lay_out"), "commit.expect != tail", "False", stale),
    "lock given back before the write": Bug(
        (LOG, "commit"),
        "self.lock.acquire(timeout)",
        "self.lock.acquire(timeout); self.fs.funlock(self.lock._held.slot.fd)",
        two_processes,
    ),
    "others' appends not seen": Bug((SEGMENT, "advance"), "while not self.sealed:", "while False:", two_processes),
    "seal not heeded": Bug((Follower, "catch_up"), "not segment.sealed", "True", missing_newest),
    "claim not looked for": Bug((Follower, "_load"), "CLAIM in names", "False", claimed),
    "refusal counts as a look": Bug((Follower, "reload"), "self._directory.forget()", "pass", claimed),
    "compaction not flushed": Bug((FullSegment, "finish"), "self._fs.fsync(self.fd)", "pass", power_cuts_in_compaction),
    "compaction removes the old first": Bug(
        (LOG, "replace_segments"),
        "publish()",
        "[self.directory.remove(segments.name_of(span)) for span in self.follower.spans[1:-1]]; publish()",
        power_cuts_in_compaction,
    ),
    "old segments removed before the new name is flushed": Bug(
        (JournalDirectory, "sweep"), "self.sync()", "pass", dead_compaction_then_a_power_cut
    ),
    "compaction gives new numbers": Bug(
        (FullSegment, "add"), "sequence=head.sequence", "sequence=head.sequence + 1", power_cuts_in_compaction
    ),
    "reader stops where it likes": Bug((reading, "_frames"), "reached != stop", "False", flips_in_the_same_boot),
}


def plant(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the bug in the place of what is there."""
    owner, name = bug.where
    function = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(function))
    assert bug.old in source, NOTHING
    module = sys.modules[function.__module__]
    scope: dict[str, Any] = {}
    code = compile(
        "from __future__ import annotations\n" + source.replace(bug.old, bug.new), module.__file__ or "", "exec"
    )
    exec(code, vars(module).copy() if owner is not module else vars(module), scope)
    monkeypatch.setattr(owner, name, scope[name])


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(LOG_OFF)


@pytest.mark.parametrize("check", sorted({bug.caught_by for bug in BUGS.values()}, key=attrgetter("__name__")))
def test_check_finds_nothing_without_a_bug(check: Callable[[], list[str]], model_machine: Boot) -> None:
    assert check()[:3] == []


@pytest.mark.parametrize("name", BUGS)
def test_planted_bug_is_caught(name: str, model_machine: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(BUGS[name], monkeypatch)
    try:
        found = BUGS[name].caught_by()
    except (LandedError, AssertionError) as error:
        found = [repr(error)]
    assert found
