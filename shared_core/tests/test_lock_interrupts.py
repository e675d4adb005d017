"""A signal handler that raises (Ctrl-C) may strike anywhere: the lock is free afterwards and no descriptor is lost."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest
from recording import Recording
from test_lock import HOLD, descriptors_of, eventually, is_free

from landed import Lock

if TYPE_CHECKING:
    from pathlib import Path

    from programs import Programs


def interrupt(_: object = None) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "a.lock")


def test_interrupt_while_waiting_for_another_process(programs: Programs, path: str) -> None:
    holder = programs.start(HOLD, path)
    assert holder.hear() == "held"
    threading.Timer(0.1, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        Lock(path).acquire(60)
    holder.say()
    assert holder.hear() == "released"
    assert eventually(lambda: descriptors_of(path) == [])
    assert is_free(path)


def test_interrupt_while_waiting_for_another_thread(path: str) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with Lock(path):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    threading.Timer(0.1, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        Lock(path).acquire(60)
    leave.set()
    thread.join()
    with Lock(path):
        assert not is_free(path)
    assert is_free(path)


@pytest.mark.parametrize("operation", ["open", "fstat", "flock", "stat", "pwrite"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_interrupt_at_each_step_of_acquiring(path: str, operation: str, when: str) -> None:
    fs = Recording()
    getattr(fs, when)(operation, interrupt)
    lock = Lock(path, fs=fs)
    with pytest.raises(KeyboardInterrupt):
        lock.acquire()
    assert not lock.held
    assert is_free(path)
    if (operation, when) != ("open", "after"):  # there the descriptor never reached anybody
        assert descriptors_of(path) == []
    with Lock(path, fs=fs):
        assert not is_free(path)


@pytest.mark.parametrize("when", ["before", "after"])
def test_interrupt_while_releasing(path: str, when: str) -> None:
    fs = Recording()
    lock = Lock(path, fs=fs)
    lock.acquire()
    getattr(fs, when)("funlock", interrupt)
    with pytest.raises(KeyboardInterrupt):
        lock.release()
    assert not lock.held
    assert is_free(path)


STORM = """
    import random, signal, sys, time
    import filelock
    from landed import Lock
    path = sys.argv[1]
    class Interrupt(BaseException): pass
    def strike(*_):
        raise Interrupt
    signal.signal(signal.SIGALRM, strike)
    random.seed(7)
    struck = 0
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        lock = Lock(path)
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 2e-5))
            for _ in range(20):
                lock.acquire(10)
                lock.release()
        except Interrupt:
            struck += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        lock.release()
        probe = Lock(path)
        try:
            probe.acquire(0.5)
        except Exception as error:
            print("stuck after", struck, error)
            break
        probe.release()
    print("storm over", struck > 100)
"""


def test_a_storm_of_interrupts_never_leaves_the_lock_taken(programs: Programs, path: str) -> None:
    assert programs.run(STORM, path) == ["storm over True"]
    assert is_free(path)
