"""Group commit: threads share flushes, a lone writer pays for one, and what stops one append stops no other."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from appenders import Appender, queued
from memory_log import MemoryLog, MemoryStore
from programs import PATIENCE, Programs
from recording import Call, Recording, failing

from landed import journal as journal_module
from landed.errors import Full, LockTimeout, NotLanded, OutcomeUnknown, StaleWrite
from landed.journal import Appended, Journal
from landed.local.log import LocalLog
from landed.local.segments import CATCH_UP, MARK
from landed.local.sizes import FIRST_SIZE

THREADS, TURNS = 8, 10


class Stage:
    """A journal whose next flush waits until the test lets it go on."""

    def __init__(self, path: Path, fs: Recording, **options: float) -> None:
        self.fs = fs
        self.journal = Journal(path, log=LocalLog(str(path), fs=fs), **options)  # type: ignore[arg-type]
        self.journal.append([b"first"])
        self.reached, self.go_on = threading.Event(), threading.Event()
        fs.forget()

    def settle(self) -> None:
        """As if the directory had last changed long ago; after a recent change everybody looks again each time."""
        os.utime(self.journal.path, (1, 1))
        self.journal.append([b"warm"])
        self.fs.forget()

    def hold(self, name: str = "fdatasync", then: Callable[[Call], object] | None = None) -> None:
        def wait(call: Call) -> None:
            self.reached.set()
            assert self.go_on.wait(PATIENCE)
            if then is not None:
                then(call)

        self.fs.before(name, wait, on=".seg")

    def leader(self, data: bytes = b"leader") -> Appender:
        thread = Appender(self.journal, data)
        assert self.reached.wait(PATIENCE)
        return thread

    def followers(self, count: int) -> list[Appender]:
        threads = []
        for number in range(count):
            threads.append(Appender(self.journal, b"follower %d" % number))
            queued(self.journal, number + 1)
        return threads

    def data(self) -> list[bytes]:
        return [entry.data for entry in self.journal.read(2)]


@pytest.fixture
def stage(tmp_path: Path, fs: Recording) -> Stage:
    return Stage(tmp_path / "journal", fs)


def changes(fs: Recording) -> list[str]:
    return [call.name for call in fs.calls if call.name in {"pwrite", "write", "fsync", "fdatasync", "rename", "link"}]


# What it costs.


def test_lone_writer_flushes_once_and_waits_for_nobody(stage: Stage) -> None:
    stage.settle()
    threads = set(threading.enumerate())  # those of tests before this one may still be ending
    for _ in range(5):
        stage.journal.append([b"x" * 100])
    assert changes(stage.fs).count("fdatasync") == 5
    assert changes(stage.fs).count("fsync") == 0
    assert [call.name for call in stage.fs.calls if call.path.endswith(".seg") and call.name in {"stat", "fstat"}] == []
    assert set(threading.enumerate()) <= threads


def test_calls_of_an_append(stage: Stage) -> None:
    """Lock, look at the directory, read the tail, write, unlock; flush; read back, look at the directory again."""
    stage.settle()
    stage.journal.append([b"x" * 100])
    names = [call.name for call in stage.fs.calls if not (call.name == "pwrite" and call.path.endswith("lock"))]
    assert names == ["flock", "stat", "pread", "pwrite", "funlock", "fdatasync", "pread", "stat"]


def test_frames_of_others_are_caught_up_with_in_one_read(stage: Stage) -> None:
    """Also by the process that made the segment, which has never looked for its end."""
    stage.journal.append([bytes(FIRST_SIZE)])  # rolls
    with Journal(stage.journal.path) as other:
        for _ in range(2):
            for _ in range(8):
                other.append([b"x" * 1000])
            stage.fs.forget()
            stage.journal.append([b"x" * 100])
        assert [call.args[1] for call in stage.fs.named("pread", on=".seg")[:-1]] == [MARK + CATCH_UP]


def test_flush_is_outside_the_lock(stage: Stage) -> None:
    stage.fs.forget()
    stage.journal.append([b"x"])
    order = [call.name for call in stage.fs.calls]
    assert order.index("flock") < order.index("funlock") < order.index("fdatasync")


def test_those_that_wait_share_one_flush(stage: Stage) -> None:
    stage.hold()
    leader = stage.leader()
    followers = stage.followers(6)
    stage.go_on.set()
    assert [leader.done().receipt.tail, *sorted(each.done().receipt.tail for each in followers)] == list(range(2, 9))
    assert changes(stage.fs).count("fdatasync") == 2  # the leader's, and one for the six
    assert stage.data() == [b"leader", *(b"follower %d" % number for number in range(6))]


def test_followers_are_written_at_once_and_in_their_order(stage: Stage) -> None:
    stage.hold()
    stage.leader()
    followers = stage.followers(4)
    stage.go_on.set()
    assert [each.done().receipt.first for each in followers] == [3, 4, 5, 6]
    assert len(stage.fs.named("pwrite", on=".seg")) == 2


def test_threads_share_flushes(tmp_path: Path, fs: Recording) -> None:
    journal = Journal(tmp_path / "journal", log=LocalLog(str(tmp_path / "journal"), fs=fs))
    journal.append([b"0"])
    fs.forget()
    fs.before("fdatasync", lambda _: threading.Event().wait(0.002), always=True)  # a device that takes its time
    landed: list[Appended] = []

    def work() -> None:
        landed.extend(journal.append([b"x" * 50]) for _ in range(TURNS))

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(receipt.first for receipt in landed) == list(range(2, THREADS * TURNS + 2))
    rolls = len(fs.named("link"))
    assert changes(fs).count("fdatasync") - rolls < THREADS * TURNS // 2
    assert [entry.sequence for entry in journal.read()] == list(range(1, THREADS * TURNS + 2))


def test_group_larger_than_a_segment(stage: Stage) -> None:
    stage.hold()
    stage.leader()
    followers = [Appender(stage.journal, b"%d" % number * 3000) for number in range(5)]
    queued(stage.journal, 5)
    stage.go_on.set()
    assert sorted(each.done().receipt.first for each in followers) == [3, 4, 5, 6, 7]
    assert len(stage.data()) == 6


# The queue has an end.


def test_queue_limit(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "QUEUE_LIMIT", 3)
    stage.hold()
    leader = stage.leader()
    followers = stage.followers(3)
    with pytest.raises(LockTimeout, match="3 appends wait already"):
        stage.journal.append([b"one too many"])
    stage.go_on.set()
    assert all(each.done().receipt for each in [leader, *followers])
    assert len(stage.data()) == 4
    stage.journal.append([b"after"])


def test_timeout_in_the_queue(tmp_path: Path, fs: Recording) -> None:
    stage = Stage(tmp_path / "journal", fs, timeout=0.2)
    stage.hold()
    leader = stage.leader()
    (follower,) = stage.followers(1)
    assert isinstance(follower.done().error, LockTimeout)
    assert "Nothing was changed." in str(follower.error)
    stage.go_on.set()
    assert leader.done().receipt
    stage.journal.append([b"after"])
    assert stage.data() == [b"leader", b"after"]


# What stops one stops no other.


def test_stale_append_in_a_group(stage: Stage) -> None:
    stage.hold()
    stage.leader()
    first = Appender(stage.journal, b"stale", expect=1)
    queued(stage.journal, 1)
    second = Appender(stage.journal, b"good", expect=2)
    queued(stage.journal, 2)
    third = Appender(stage.journal, b"any")
    queued(stage.journal, 3)
    stage.go_on.set()
    assert isinstance(first.done().error, StaleWrite)
    assert second.done().receipt.first == 3
    assert third.done().receipt.first == 4


def test_one_that_is_too_large_for_the_limit(tmp_path: Path, fs: Recording) -> None:
    path = tmp_path / "journal"
    stage = Stage(path, fs)
    stage.journal = Journal(path, log=LocalLog(str(path), fs=fs, max_bytes=8192))
    stage.hold()
    stage.leader()
    large = Appender(stage.journal, bytes(100_000))
    queued(stage.journal, 1)
    (small,) = [Appender(stage.journal, b"small")]
    queued(stage.journal, 2)
    stage.go_on.set()
    assert isinstance(large.done().error, Full)
    assert small.done().receipt.first == 3


def test_a_leader_whose_write_fails(stage: Stage) -> None:
    stage.hold()
    stage.leader()
    followers = stage.followers(3)
    stage.fs.before("pwrite", failing(28), on=".seg")
    stage.go_on.set()
    errors = [each.done().error for each in followers]
    assert isinstance(errors[0], NotLanded)
    assert errors[1:] == [None, None]
    assert stage.data() == [b"leader", b"follower 1", b"follower 2"]


def test_a_flush_that_fails_fails_all_that_it_covered_and_no_one_else(stage: Stage) -> None:
    stage.hold()
    leader = stage.leader()
    followers = stage.followers(3)
    flushes: list[Call] = []
    stage.fs.before("fdatasync", lambda call: (flushes.append(call), failing(5)(call)), on=".seg")
    stage.go_on.set()
    assert leader.done().receipt
    for each in followers:
        error = each.done().error
        assert type(error) is OutcomeUnknown
        assert error.outcome == "unknown"
    assert len(flushes) == 1
    with pytest.raises(OutcomeUnknown, match="earlier append"):
        stage.journal.append([b"poisoned"])
    assert len(stage.fs.named("fdatasync")) == 2


def test_a_group_of_which_a_part_was_written_and_cannot_be_erased(stage: Stage) -> None:
    """What may be there must not be said not to be."""
    stage.hold()
    stage.leader()
    followers = stage.followers(3)
    seen: list[Call] = []

    def short(call: Call) -> None:
        seen.append(call)
        if len(seen) == 1:
            os.pwrite(call.args[0], call.args[1], call.args[2])  # all of it is written, and then ...
        raise OSError(5, "Input/output error")

    stage.fs.before("pwrite", short, on=".seg", always=True)
    stage.go_on.set()
    for each in followers:
        assert isinstance(each.done().error, OutcomeUnknown)
        assert "Nothing of this append" not in str(each.error)


# Interrupts.


def test_interrupt_of_a_leader(stage: Stage) -> None:
    stage.hold(then=lambda _: (_ for _ in ()).throw(KeyboardInterrupt()))
    leader = stage.leader()
    followers = stage.followers(2)
    stage.go_on.set()
    assert isinstance(leader.done().error, KeyboardInterrupt)
    assert [each.done().receipt.first for each in followers] == [3, 4]
    assert stage.data() == [b"leader", b"follower 0", b"follower 1"]


def test_interrupt_of_a_leader_in_the_middle_of_its_group(stage: Stage) -> None:
    stage.hold()
    stage.leader()
    followers = stage.followers(3)

    def interrupt(_: Call) -> None:
        raise KeyboardInterrupt

    stage.fs.after("pwrite", interrupt, on=".seg")
    stage.go_on.set()
    errors = [each.done().error for each in followers]
    assert isinstance(errors[0], KeyboardInterrupt)
    assert all(isinstance(error, OutcomeUnknown) for error in errors[1:])
    stage.journal.append([b"after"])
    assert stage.data()[0] == b"leader"
    assert stage.data()[-1] == b"after"


def test_interrupt_of_a_follower(stage: Stage) -> None:
    """The main thread waits in the queue and Control-C comes: it leaves, nothing of its append is written."""
    stage.hold()
    leader = stage.leader()

    def interrupt() -> None:
        queued(stage.journal, 1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        stage.journal.append([b"interrupted"])
    after = Appender(stage.journal, b"after")
    queued(stage.journal, 1)
    stage.go_on.set()
    assert leader.done().receipt
    assert after.done().receipt
    assert stage.data() == [b"leader", b"after"]


def test_interrupt_of_one_that_was_taken_along(stage: Stage) -> None:
    """Who was to be woken by it is woken all the same."""
    stage.hold()
    stage.leader()
    leads = Appender(stage.journal, b"leads")
    queued(stage.journal, 1)
    left = threading.Event()
    behind: list[Appender] = []

    def interrupt() -> None:
        queued(stage.journal, 2)
        behind.append(Appender(stage.journal, b"behind"))
        queued(stage.journal, 3)
        taken = threading.Event()
        stage.fs.before("fdatasync", lambda _: (taken.set(), left.wait(PATIENCE)), on=".seg")
        stage.go_on.set()
        assert taken.wait(PATIENCE)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        stage.journal.append([b"interrupted"])
    left.set()
    assert leads.done().receipt
    assert behind[0].done().receipt
    assert stage.data() == [b"leader", b"leads", b"interrupted", b"behind"]


# Readers, compactions and closing beside a flush.


def test_reader_beside_a_flush_when_another_process_has_rolled(stage: Stage, programs: Programs) -> None:
    stage.hold()
    leader = stage.leader()
    programs.run("import sys, landed.journal as j; j.Journal(sys.argv[1]).append([bytes(9000)])", stage.journal.path)
    assert stage.journal.tail == 3
    stage.go_on.set()
    assert leader.done().error is None
    assert stage.journal.append([b"after"]).first == 4


def test_compaction_beside_a_flush(stage: Stage) -> None:
    """Thread one has written and is flushing; thread two compacts the same journal meanwhile."""
    stage.hold()
    leader = stage.leader()
    stage.journal.compact(lambda _: True)
    stage.go_on.set()
    assert leader.done().error is None
    assert [entry.data for entry in stage.journal.read()] == [b"first", b"leader"]
    stage.journal.append([b"after"])


def test_compaction_of_another_process_beside_a_flush(stage: Stage, programs: Programs) -> None:
    stage.hold()
    leader = stage.leader()
    programs.run("import sys, landed.journal as j; j.Journal(sys.argv[1]).compact(lambda _: True)", stage.journal.path)
    stage.go_on.set()
    assert leader.done().error is None
    assert [entry.data for entry in stage.journal.read()] == [b"first", b"leader"]


def test_close_beside_a_flush(stage: Stage) -> None:
    """Whoever closes too early hurts at most this append, and no other process."""
    stage.hold()
    leader = stage.leader()
    closer = threading.Thread(target=stage.journal.close, daemon=True)
    closer.start()
    closer.join(0.1)  # it may wait for the append
    stage.go_on.set()
    leader.done()
    closer.join(PATIENCE)
    assert not (Path(stage.journal.path) / "suspect").exists()
    again = Journal(stage.journal.path)
    assert b"leader" in [entry.data for entry in again.read()]


def test_group_on_another_engine() -> None:
    """The queue is the journal's: an engine that decides some of a group is asked again for the rest."""
    journal = Journal("memory", log=MemoryLog(MemoryStore()))
    threads = [Appender(journal, b"%d" % number) for number in range(40)]
    assert sorted(each.done().receipt.first for each in threads) == list(range(1, 41))
