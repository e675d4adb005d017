"""Threads for jobs that block: kept for a moment, gone after it, and not inherited by a forked child."""

from __future__ import annotations

import _thread
import os
import queue
import time

import pytest

from landed import aside

PATIENCE = 20.0


def ident_of_a_job() -> int:
    """The thread in which a job ran."""
    answers: queue.SimpleQueue[int] = queue.SimpleQueue()
    aside.run(lambda: answers.put(_thread.get_ident()))
    return answers.get(timeout=PATIENCE)


def until(condition: object) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def alone() -> None:
    until(lambda: not aside._idle)


def test_a_thread_is_kept_for_the_next_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "IDLE", PATIENCE)
    first = ident_of_a_job()
    until(lambda: len(aside._idle) == 1)
    monkeypatch.setattr(aside, "IDLE", 0.05)
    assert ident_of_a_job() == first


def test_a_thread_ends_when_there_is_no_job() -> None:
    before = _thread._count()
    ident_of_a_job()
    until(lambda: not aside._idle and _thread._count() <= before)


def test_jobs_at_the_same_time_have_threads_of_their_own() -> None:
    gate, answers = _thread.allocate_lock(), queue.SimpleQueue[int]()
    gate.acquire()

    def wait() -> None:
        with gate:
            answers.put(_thread.get_ident())

    for _ in range(3):
        aside.run(wait)
    gate.release()
    assert len({answers.get(timeout=PATIENCE) for _ in range(3)}) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are POSIX's")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # forking with threads is what is tried here
def test_a_child_has_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "IDLE", 0.5)
    ident_of_a_job()
    until(lambda: len(aside._idle) == 1)
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if not aside._idle and ident_of_a_job() else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
