"""As many threads as calls are under way, whatever the standard library's pools count."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from landed.threads import Threads

CLIENTS, CALLS = 2, 1000


def test_no_more_threads_than_calls_under_way() -> None:
    """One pool of the standard library has hundreds after as many calls, on CPython 3.12."""
    threads = Threads(CALLS, "counted")

    def client() -> None:
        for _ in range(CALLS):
            ended = threading.Event()
            threads.submit(ended.set)
            assert ended.wait(20)

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    assert threads._made <= 2 * CLIENTS  # of a call that has ended, the thread may not be idle yet


def test_calls_beyond_the_limit_wait_for_a_thread_and_are_run_in_order() -> None:
    threads, go_on, ended = Threads(1, "one"), threading.Event(), threading.Event()
    ran: list[int] = []
    threads.submit(lambda: go_on.wait(20))
    for number in range(6):
        threads.submit(lambda number=number: ran.append(number))
    threads.submit(ended.set)
    assert (threads._made, ran) == (1, [])
    go_on.set()
    assert ended.wait(20)
    assert ran == [*range(6)]


def test_a_thread_that_cannot_be_had_is_told_and_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    threads, ended = Threads(1, "none"), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(ThreadPoolExecutor, "submit", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            threads.submit(ended.set)
    threads.submit(ended.set)
    assert ended.wait(20)
