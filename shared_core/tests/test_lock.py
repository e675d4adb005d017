"""The lock excludes, is fair, gives up in time, and ends with its holder."""

from __future__ import annotations

import _thread
import errno
import json
import os
import signal
import sys
import threading
import time
from bisect import bisect
from typing import TYPE_CHECKING

import filelock
import pytest
from recording import Recording, failing

from landed import Lock, LockTimeout, NotLanded, Refused, aside, waiting
from landed import lock as lock_module
from landed.lock import StoreLock

if TYPE_CHECKING:
    from pathlib import Path

    from programs import Program, Programs

HOLD = """
    import sys
    from landed import Lock
    lock = Lock(sys.argv[1])
    lock.acquire()
    print("held", flush=True)
    sys.stdin.readline()
    lock.release()
    print("released", flush=True)
"""
TRY = """
    import sys
    from landed import Lock, LockTimeout
    lock = Lock(sys.argv[1])
    try:
        lock.acquire(float(sys.argv[2]))
        print("acquired")
    except LockTimeout as error:
        print("timeout", error.holder)
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "a.lock")


def held_elsewhere(programs: Programs, path: str) -> Program:
    """A program that holds the lock until it is told to stop."""
    holder = programs.start(HOLD, path)
    assert holder.hear() == "held"
    return holder


def descriptors_of(path: str) -> list[str]:
    """The descriptors of this process that lead to `path`."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # the one that listed the directory
            continue
        if target.removesuffix(" (deleted)") == path:
            found.append(fd)
    return found


def eventually(condition: object, seconds: float = 10) -> bool:
    """Whether `condition()` comes true; the limit only guards against hangs."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def is_free(path: str) -> bool:
    """Whether the kernel's lock is free, asked by other code than ours."""
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return False
    lock.release()
    return True


# Exclusion.


def test_a_thread_that_waits_in_vain_leaves_the_hold_of_another(path: str) -> None:
    """The threads that use one journal share its lock's object."""
    lock = Lock(path)

    def wait() -> None:
        with pytest.raises(LockTimeout):
            lock.acquire(0.01)

    with lock:
        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join()
        assert lock.still_ours()
    assert is_free(path)


def test_a_thread_that_gives_back_leaves_the_hold_of_the_next(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Lock(path)
    acquired, end = threading.Event(), lock_module._end

    def slowly(*args: object, **options: object) -> None:
        end(*args, **options)  # type: ignore[arg-type]
        acquired.wait(10)

    def follow() -> None:
        lock.acquire()
        acquired.set()

    lock.acquire()
    following = threading.Thread(target=follow)
    following.start()
    assert eventually(lambda: lock_module._slots[path].waiters)
    with monkeypatch.context() as patch:
        patch.setattr(lock_module, "_end", slowly)
        lock.release()
    following.join()
    assert lock.still_ours()
    lock.release()
    assert is_free(path)


def test_threads_exclude_each_other(path: str) -> None:
    inside: list[int] = []
    most = []

    def work() -> None:
        for _ in range(50):
            with Lock(path):
                inside.append(1)
                time.sleep(0.0001)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 400
    assert max(most) == 1


def test_processes_exclude_each_other(programs: Programs, path: str) -> None:
    holder = held_elsewhere(programs, path)
    with pytest.raises(LockTimeout):
        Lock(path).acquire(0)
    holder.say()
    Lock(path).acquire(30)  # comes through as soon as the holder lets go


def test_we_block_another_process(programs: Programs, path: str) -> None:
    with Lock(path):
        assert programs.run(TRY, path, 0)[0].startswith("timeout")
    assert programs.run(TRY, path, 0) == ["acquired"]


def test_filelock_blocks_us(path: str) -> None:
    theirs = filelock.FileLock(path)
    with theirs, pytest.raises(LockTimeout):
        Lock(path).acquire(0.05)
    Lock(path).acquire(30)  # the wait that was given up still passes the lock on


def test_we_block_filelock(path: str) -> None:
    with Lock(path), pytest.raises(filelock.Timeout):
        filelock.FileLock(path).acquire(timeout=0.05)
    with filelock.FileLock(path, timeout=0):
        pass


def test_filelock_releases_to_our_waiter(path: str) -> None:
    theirs = filelock.FileLock(path, thread_local=False)
    theirs.acquire()
    threading.Timer(0.05, theirs.release).start()
    ours = Lock(path)
    ours.acquire(30)
    assert ours.held
    ours.release()


def test_a_lock_is_not_reentrant(path: str) -> None:
    with Lock(path):
        with pytest.raises(Refused, match="would wait for itself"):
            Lock(path).acquire(1)
        assert not is_free(path)
    assert is_free(path)


def test_who_is_refused_through_the_holders_own_object_takes_nothing_from_it(path: str) -> None:
    lock = Lock(path)
    with lock:
        with pytest.raises(Refused):
            lock.acquire(1)
        with pytest.raises(LockTimeout):
            lock.acquire(0, owner="another thread")
        assert lock.held
    assert is_free(path)


def test_owners_that_are_named_are_told_apart_and_recognized(path: str) -> None:
    first = Lock(path)
    first.acquire(owner="task 1")
    with pytest.raises(LockTimeout):
        Lock(path).acquire(0, owner="task 2")
    with pytest.raises(Refused):
        Lock(path).acquire(0, owner="task 1")
    first.release()


def test_release_without_acquire_does_nothing(path: str) -> None:
    Lock(path).release()
    with Lock(path):
        Lock(path).release()
        assert not is_free(path)


# Order.


def test_threads_come_in_the_order_in_which_they_asked(path: str) -> None:
    order: list[int] = []
    threads: list[threading.Thread] = []

    def work(number: int) -> None:
        with Lock(path):
            order.append(number)

    with Lock(path):
        for number in range(10):
            threads.append(threading.Thread(target=work, args=(number,)))
            threads[-1].start()
            assert eventually(lambda: len(lock_module._slots[path].waiters) == len(threads))
    for thread in threads:
        thread.join()
    assert order == list(range(10))


CONTEND = """
    import json, sys, time
    from landed import Lock
    path, counter = sys.argv[1:]
    waits = []
    print("ready", flush=True)
    sys.stdin.readline()
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        asked = time.monotonic()
        lock = Lock(path)
        lock.acquire(30)
        waits.append((asked, time.monotonic()))
        value = int(open(counter).read())
        time.sleep(0.001)
        open(counter, "w").write(str(value + 1))
        lock.release()
    print(json.dumps(waits))
"""


BUSY = """
    import time
    print("busy", flush=True)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        pass
"""


@pytest.mark.parametrize("busy", [0, 2], ids=["idle machine", "busy machine"])
def test_eight_processes_count_exactly_and_nobody_starves(
    programs: Programs, path: str, tmp_path: Path, busy: int
) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    hogs = [programs.start(BUSY) for _ in range(busy * (os.cpu_count() or 1))]
    contenders = [programs.start(CONTEND, path, counter) for _ in range(8)]
    assert [each.hear() for each in hogs] == ["busy"] * len(hogs)
    assert [each.hear() for each in contenders] == ["ready"] * 8
    for each in contenders:
        each.say()
    waits = [json.loads(each.finish()[0]) for each in contenders]
    for hog in hogs:
        hog.kill()
    counts = [len(its) for its in waits]
    assert int(counter.read_text()) == sum(counts)
    turns = sorted(got for its in waits for _, got in its)
    # Where the machine itself stands still for a while, nobody takes a turn meanwhile.
    overtaken = sorted((bisect(turns, got) - bisect(turns, asked), got - asked) for its in waits for asked, got in its)
    starved = [(others, seconds) for others, seconds in overtaken if others > 8 * len(waits) and seconds > 1]
    assert not starved, "turns of others, seconds waited"
    # A lock that polls gives one process hundreds of turns and another a handful.
    assert min(counts) * 8 > max(counts), counts
    # One that its last holder takes again before whoever was woken for it makes the others wait for a hundred turns.
    most, _ = overtaken[len(overtaken) * 99 // 100]
    assert most < 7 * len(waits), overtaken[-10:]


@pytest.mark.parametrize("watched", [False, True])
def test_who_had_to_wait_stays_back_a_few_times_but_never_beyond_its_timeout(
    programs: Programs, path: str, monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(waiting, "sleep", slept.append)
    lock = StoreLock(path, watched=watched)

    def acquire(timeout: float) -> bool:
        slept.clear()
        lock.acquire(timeout)
        lock.release()
        return waiting.COURTESY in slept

    holder = held_elsewhere(programs, path)
    threading.Timer(0.1, holder.say).start()
    acquire(30)
    assert not acquire(0)
    assert not acquire(waiting.COURTESY / 2)
    assert [acquire(10) for _ in range(4)] == ([False] * 4 if watched else [True, True, False, False])


# Timeouts.

FOREIGN = """
    import fcntl, os, sys
    fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_timeout_names_the_holder(programs: Programs, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANDED_PROGRAM", "the slow one")
    holder = held_elsewhere(programs, path)
    with pytest.raises(LockTimeout) as caught:
        Lock(path).acquire(0.05)
    error = caught.value
    assert f"the slow one (pid {holder.pid} on {os.uname().nodename})" in str(error.holder)
    assert str(error.holder) in str(error)
    assert error.path == path
    assert error.step == "lock"
    assert error.outcome == "not_written"


def test_timeout_does_not_name_a_dead_process(programs: Programs, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = held_elsewhere(programs, path)
    dead.signal(signal.SIGKILL)
    dead.kill()
    monkeypatch.setattr("landed.process.locker", lambda _: None)  # as where the kernel does not say
    with filelock.FileLock(path), pytest.raises(LockTimeout) as caught:
        Lock(path).acquire(0)
    assert caught.value.holder is None
    assert "does not say who it is" in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's list of locks is read from /proc")
def test_timeout_names_a_holder_that_wrote_nothing_down(programs: Programs, path: str) -> None:
    """It signed long ago, or never did: the kernel knows it."""
    with StoreLock(path, watched=True):
        pass
    sleeper = programs.start(FOREIGN, path)
    assert sleeper.hear() == "held"
    with pytest.raises(LockTimeout) as caught:
        Lock(path).acquire(0)
    assert f"(pid {sleeper.pid} on {os.uname().nodename})" in str(caught.value.holder)
    assert str(os.getpid()) not in str(caught.value.holder)


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_timeout_among_threads(path: str, timeout: float) -> None:
    outcome: list[object] = []

    def ask() -> None:
        try:
            Lock(path).acquire(timeout)
        except LockTimeout as error:
            outcome.append(error)

    with Lock(path):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        assert len(outcome) == 1
        assert f"pid {os.getpid()}" in str(outcome[0])
        assert lock_module._slots[path].waiters == []
    assert is_free(path)


def test_zero_timeout_starts_no_thread(programs: Programs, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held_elsewhere(programs, path)

    def no_thread(*_: object) -> None:
        pytest.fail("a try that does not wait needs no thread")

    monkeypatch.setattr(_thread, "start_new_thread", no_thread)
    with pytest.raises(LockTimeout):
        Lock(path).acquire(0)


def test_abandoned_waiter_leaves_nothing_behind(programs: Programs, path: str) -> None:
    holder = held_elsewhere(programs, path)
    before = _thread._count()
    with pytest.raises(LockTimeout):
        Lock(path).acquire(0.05)
    assert _thread._count() == before + 1  # it waits in the kernel, which nothing can interrupt
    holder.say()
    assert holder.hear() == "released"
    assert eventually(lambda: _thread._count() == before)
    assert descriptors_of(path) == []
    assert is_free(path)


def test_a_waiter_behind_an_abandoned_one_still_gets_the_lock(programs: Programs, path: str) -> None:
    holder = held_elsewhere(programs, path)
    with pytest.raises(LockTimeout):
        Lock(path).acquire(0.05)
    threading.Timer(0.05, holder.say).start()
    ours = Lock(path)
    ours.acquire(30)
    assert ours.held
    ours.release()
    assert eventually(lambda: is_free(path))


def test_a_failing_lock_call_is_reported_and_closes_the_descriptor(path: str) -> None:
    fs = Recording()
    fs.before("flock", failing(errno.ENOLCK))
    with pytest.raises(NotLanded) as caught:
        Lock(path, fs=fs).acquire()
    assert caught.value.errno == errno.ENOLCK
    assert descriptors_of(path) == []
    Lock(path, fs=fs).acquire(0)


def test_a_lock_call_that_fails_while_waiting_is_reported(programs: Programs, path: str) -> None:
    held_elsewhere(programs, path)
    fs = Recording()

    def fail_when_blocking(call: object) -> None:
        if call.kwargs["blocking"]:  # type: ignore[attr-defined]
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fs.before("flock", fail_when_blocking, always=True)
    with pytest.raises(NotLanded) as caught:
        Lock(path, fs=fs).acquire(30)
    assert caught.value.errno == errno.ENOLCK
    assert descriptors_of(path) == []


def test_no_thread_to_wait_in_is_reported(programs: Programs, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held_elsewhere(programs, path)

    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(aside, "_idle", [])  # of an earlier wait, which may have ended this moment
    monkeypatch.setattr(_thread, "start_new_thread", no_thread)
    with pytest.raises(NotLanded, match="can't start new thread"):
        Lock(path).acquire(1)
    assert descriptors_of(path) == []


# The end of the holder.


def test_the_kernel_frees_the_lock_of_a_killed_holder(programs: Programs, path: str) -> None:
    holder = held_elsewhere(programs, path)
    threading.Timer(0.05, holder.signal, [signal.SIGKILL]).start()
    ours = Lock(path)
    ours.acquire(30)
    assert ours.held
    ours.release()


def test_a_stopped_holder_keeps_the_lock(programs: Programs, path: str) -> None:
    holder = held_elsewhere(programs, path)
    holder.signal(signal.SIGSTOP)
    with pytest.raises(LockTimeout) as caught:
        Lock(path).acquire(0.2)
    assert f"pid {holder.pid}" in str(caught.value)
    assert not is_free(path)
    holder.signal(signal.SIGCONT)
    holder.say()
    Lock(path).acquire(30)
