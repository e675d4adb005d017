"""Short calls share a few threads, and none waits for ever behind others that take long."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from landed import aio
from landed.threads import Threads
from landed.workers import AT_ONCE, STUCK, Workers

if TYPE_CHECKING:
    from collections.abc import Callable

MANY = 5 * AT_ONCE


class Clock:
    """Stands in for the clock that `Workers` reads: how busy the machine is must decide nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self._guard = 0.0, threading.Lock()
        monkeypatch.setattr("landed.workers.monotonic", lambda: self.now)

    def advance(self, seconds: float) -> None:
        with self._guard:
            self.now += seconds


class Counted(Threads):
    """Counts how often a thread was asked for, and has none any more once it is told so."""

    hired = 0
    none_left = False

    def submit(self, call: Callable[[], object]) -> None:
        if self.none_left:
            raise RuntimeError("no thread is left")
        self.hired += 1
        super().submit(call)


def submit(workers: Workers, call: Callable[[], Any]) -> Future[Any]:
    """Let them run it, and tell how it ended."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - who waits for it raises it
            future.set_exception(error)

    workers.submit(run)
    return future


@pytest.fixture
def threads() -> Counted:
    return Counted(MANY, "counted")


def test_many_calls_share_a_few_threads(threads: Counted) -> None:
    workers, all_here = Workers(threads), threading.Event()
    futures = [submit(workers, partial(all_here.wait, 20)) for _ in range(MANY)]
    all_here.set()
    assert all(future.result(20) for future in futures)
    assert threads.hired == AT_ONCE


def test_calls_begin_in_their_order() -> None:
    begun: list[int] = []
    workers = Workers(Threads(1, "one"))
    for future in [submit(workers, partial(begun.append, number)) for number in range(MANY)]:
        future.result(20)
    assert begun == [*range(MANY)]


def test_a_thread_stays_for_the_call_that_comes_at_once(threads: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landed.workers.MOMENT", 20.0)
    workers = Workers(threads)
    for number in range(MANY):
        assert submit(workers, lambda number=number: number).result(20) == number
        wait_until_idle(workers)
    assert threads.hired == 1
    held = threading.Event()
    blocked = [submit(workers, lambda: held.wait(20)) for _ in range(MANY)]
    assert threads.hired == AT_ONCE  # the one that stayed is one of them
    monkeypatch.setattr("landed.workers.MOMENT", 0.0)
    held.set()
    assert all(each.result(20) for each in blocked)


def test_a_thread_that_is_called_while_it_leaves_stays(threads: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landed.workers.MOMENT", 0.0)
    workers = Workers(threads)
    for number in range(2000):
        assert submit(workers, lambda number=number: number).result(20) == number


def wait_until_idle(workers: Workers) -> None:
    deadline = time.monotonic() + 20
    while workers._serving:
        assert time.monotonic() < deadline
        time.sleep(0.0001)


def test_a_thread_whose_caller_was_interrupted_waits_no_longer_than_a_moment(
    threads: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between taking its gate and opening it: the call is in the queue, and whoever is free runs it."""
    monkeypatch.setattr("landed.workers.MOMENT", 0.4)
    workers = Workers(threads)
    taken = []

    class Interrupted(list[Any]):
        def pop(self, *_: Any) -> Any:
            taken.append(super().pop())
            raise KeyboardInterrupt

    workers._idle = Interrupted()
    submit(workers, list).result(10)
    wait_until_idle(workers)
    ran: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        workers.submit(lambda: ran.append(1))
    assert len(taken) == 1
    wait_until_idle(workers)
    assert ran == [1]


def test_what_a_call_raises_is_for_who_waits_and_the_next_is_run() -> None:
    def fail() -> None:
        raise ValueError("mine")

    def stop() -> None:
        raise StopIteration

    async def all_of_them() -> list[Any]:
        failing = [aio.finish_short(fail) for _ in range(MANY)]
        return await asyncio.gather(
            *failing, aio.finish_short(stop), aio.finish_short(lambda: "next"), return_exceptions=True
        )

    *failed, stopped, after = asyncio.run(all_of_them())
    assert [(type(each), str(each)) for each in failed] == [(ValueError, "mine")] * MANY
    assert isinstance(stopped, RuntimeError)  # a future takes no StopIteration, and would wait for ever
    assert after == "next"


def test_calls_that_end_together_wake_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def all_of_them() -> tuple[list[int], int]:
        loop, woken = asyncio.get_running_loop(), 0
        wake = loop.call_soon_threadsafe

        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal woken
            woken += 1
            return wake(*args, **kwargs)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        left = threading.Semaphore(0)

        def call(number: int) -> int:
            left.release()
            return number

        waiting = [asyncio.ensure_future(aio.finish_short(partial(call, number))) for number in range(MANY)]
        await asyncio.sleep(0)  # they begin
        for _ in waiting:
            assert left.acquire(timeout=20)  # in the loop: it hears of none before all are done
        return await asyncio.gather(*waiting), woken

    results, woken = asyncio.run(all_of_them())
    assert results == [*range(MANY)]
    assert woken <= AT_ONCE  # threads that ended one at the same time


def test_an_errand_ends_when_it_was_called_off_or_run() -> None:
    async def errands() -> list[Any]:
        called_off, begun, twice = (aio.Errand(partial(str, number), short=number > 1) for number in range(3))
        seen: list[bool] = []
        called_off.when_ended(lambda: seen.append(called_off.ended))
        called_off.begin_after(0.01)
        called_off.call_off()
        called_off.call_off()
        for each in (begun, twice, twice):
            each.begin()
        ended = await asyncio.gather(called_off.end(), begun.end(), twice.end())
        late = aio.Errand(lambda: "late")
        late.begin_after(0.01)
        return [*ended, await late.end(), *seen]

    assert asyncio.run(errands()) == [None, "1", "2", "late", True]


def test_an_errand_whose_loop_is_closed_is_run_all_the_same() -> None:
    ran = threading.Event()

    async def leave() -> aio.Errand:
        return aio.Errand(ran.set)

    errand = asyncio.run(leave())
    errand.begin()
    assert ran.wait(20)
    errand.call_off()


def test_an_errand_that_no_thread_can_run_raises_so(monkeypatch: pytest.MonkeyPatch, threads: Counted) -> None:
    threads.none_left = True
    monkeypatch.setattr(aio, "_workers", Workers(threads))
    with pytest.raises(RuntimeError, match="no thread is left"):
        asyncio.run(aio.finish_short(lambda: 1))


def test_calls_that_wait_for_one_behind_them_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where some wait for a lock, and its holder has a call to make before it gives it back."""
    for module in ("aio", "workers"):
        monkeypatch.setattr(f"landed.{module}.STUCK", 0.01)
    released = threading.Event()

    async def all_of_them() -> list[bool]:
        waiting = [aio.finish_short(lambda: released.wait(20)) for _ in range(3 * AT_ONCE)]
        first, _ = await asyncio.gather(asyncio.gather(*waiting), aio.finish_short(released.set))
        return first

    started = time.monotonic()
    assert asyncio.run(all_of_them()) == [True] * 3 * AT_ONCE
    assert time.monotonic() - started < 10


def test_one_slow_call_brings_no_more_threads(threads: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    workers, slow, all_here = Workers(threads), threading.Event(), threading.Event()
    blocked = submit(workers, lambda: slow.wait(20))

    def call() -> None:
        all_here.wait(20)
        clock.advance(STUCK / (2 * AT_ONCE))  # so that never STUCK passes in which none ends, and more in all
        workers.help_out()

    futures = [submit(workers, call) for _ in range(MANY)]
    all_here.set()
    for future in futures:
        future.result(20)
    assert clock.now > STUCK
    clock.advance(2 * STUCK)
    workers.help_out()  # nobody waits
    slow.set()
    assert blocked.result(20)
    assert threads.hired == AT_ONCE


def test_another_thread_helps_out_where_none_of_the_calls_ends(
    threads: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    workers = Workers(threads)
    slow = threading.Event()
    blocked = [submit(workers, lambda: slow.wait(20)) for _ in range(AT_ONCE)]
    waiting = submit(workers, lambda: "done")
    workers.help_out()  # too soon
    assert threads.hired == AT_ONCE
    clock.advance(STUCK)
    workers.help_out()
    assert waiting.result(20) == "done"
    assert threads.hired == AT_ONCE + 1
    slow.set()
    assert all(future.result(20) for future in blocked)


def test_a_cancelled_task_hears_how_its_call_ended_also_where_it_had_not_begun() -> None:
    go_on = threading.Event()

    async def cancelled() -> object:
        ahead = [asyncio.create_task(aio.finish_short(lambda: go_on.wait(20))) for _ in range(AT_ONCE)]
        await asyncio.sleep(0)
        task = asyncio.create_task(aio.finish_short(lambda: "landed"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        await asyncio.gather(*ahead)
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        return aio.outcome(caught.value)

    found = asyncio.run(cancelled())
    assert isinstance(found, aio.Outcome)
    assert found.result == "landed"


def test_a_call_that_no_thread_can_run_is_refused(threads: Counted) -> None:
    workers = Workers(threads)
    threads.none_left = True
    ran: list[int] = []
    with pytest.raises(RuntimeError, match="no thread is left"):
        submit(workers, lambda: ran.append(1))
    workers.help_out()
    assert ran == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # forking with threads is what is tried here
def test_a_forked_child_has_workers_of_its_own() -> None:
    assert asyncio.run(aio.finish_short(lambda: 1)) == 1
    pid = os.fork()
    if pid == 0:
        done = submit(aio._workers, lambda: 2).result(20) == 2
        os._exit(0 if done else 1)
    assert os.waitpid(pid, 0)[1] == 0
