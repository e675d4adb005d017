"""The asynchronous methods: the same results, the loop free, and no outcome left unknown."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from drafts import Thread

import landed
from landed import LockTimeout, Refused, StaleWrite, aio
from langgraph.checkpoint.landed import LandedSaver
from langgraph.checkpoint.landed.locking import ThreadLock

T = TypeVar("T")
METADATA: Any = {"source": "loop", "step": 0, "parents": {}}


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def test_the_same_as_sync(thread: Thread, root: Path) -> None:
    async def work() -> None:
        saver = thread.saver
        checkpoint, new = thread.draft({"a": ["x" * 300]})
        put = await saver.aput(thread.config, checkpoint, METADATA, new)
        await saver.aput_writes(put, [("x", 1)], "task", "path")
        found = await saver.aget_tuple(thread.config)
        assert found is not None
        assert found.checkpoint == checkpoint
        assert found.pending_writes == [("task", "x", 1)]
        assert [each async for each in saver.alist(None)] == [found]
        assert [each async for each in saver.alist(None, limit=0)] == []
        await saver.acopy_thread("1", "2")
        await saver.aprune(["2"])
        await saver.adelete_for_runs(["unknown"])
        history = await saver.aget_delta_channel_history(config=thread.config, channels=["a"])
        assert history == {"a": {"writes": []}}
        assert len([each async for each in saver.alist(None)]) == 2
        await saver.adelete_thread("1")
        assert await saver.aget_tuple(thread.config) is None
        assert saver.get_tuple({"configurable": {"thread_id": "2"}}) is not None

    run(work())


def test_sync_methods_in_the_loop(thread: Thread) -> None:
    async def work() -> None:
        async with LandedSaver.from_conn_string(str(thread.saver._threads.journals.path)) as saver:
            Thread(saver).put({"a": 1})
            assert await saver.aget_tuple(thread.config) is not None
            assert saver.get_tuple(thread.config) is not None

    run(work())


def test_many_tasks_on_one_head(thread: Thread) -> None:
    async def work() -> int:
        async def attempt(number: int) -> bool:
            mine = Thread(thread.saver)
            found = await thread.saver.aget_tuple(mine.config)
            assert found is not None
            await barrier.wait_all()
            checkpoint, new = mine.draft({"a": number})
            try:
                await thread.saver.aput(found.config, checkpoint, METADATA, new)
            except StaleWrite:
                return False
            return True

        barrier = All(16)
        return sum(await asyncio.gather(*(attempt(number) for number in range(16))))

    thread.put({"a": 0})
    assert run(work()) == 1
    assert len(thread.ids) == 2


class All:
    """Everybody waits for the last."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.event = asyncio.Event()

    async def wait_all(self) -> None:
        self.count -= 1
        if self.count == 0:
            self.event.set()
        await self.event.wait()


def test_a_cancelled_put_ends_first(thread: Thread, monkeypatch: pytest.MonkeyPatch) -> None:
    append, begun, go_on = landed.Journal.append, threading.Event(), threading.Event()

    def slowly(journal: landed.Journal, *args: Any, **kwargs: Any) -> landed.Appended:
        begun.set()
        assert go_on.wait(20)
        return append(journal, *args, **kwargs)

    async def work() -> None:
        checkpoint, new = thread.draft({"a": 1})
        task = asyncio.create_task(thread.saver.aput(thread.where, checkpoint, METADATA, new))
        assert await asyncio.to_thread(begun.wait, 20)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError) as told:
            await task
        ended = aio.outcome(told.value)
        assert ended is not None
        assert ended.error is None
        assert thread.tuple.checkpoint["id"] == checkpoint["id"]

    thread.put({"a": 0})
    monkeypatch.setattr(landed.Journal, "append", slowly)
    run(work())


def test_a_large_state_is_put_and_read_beside_the_loop(thread: Thread, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only serialized in it, before another task can change it; the benchmarks measure for how long it stands."""
    value, at_work = ["x" * 1000] * 1000, []

    def seen(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            at_work.append(threading.get_ident())
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, called)

    async def work() -> None:
        for _ in range(3):
            checkpoint, new = thread.draft({"a": value})
            thread.where = await thread.saver.aput(thread.where, checkpoint, METADATA, new)
            await thread.saver.aget_tuple(thread.config)

    seen(landed.Journal, "append")
    seen(thread.saver.serde, "loads_typed")
    run(work())
    assert len(at_work) >= 6
    assert threading.get_ident() not in at_work


def test_lock_for_whole_runs(saver: LandedSaver, root: Path) -> None:
    other = LandedSaver(root)
    with saver.thread_lock("1"):
        Thread(saver).put({"a": 1})
        with pytest.raises(Refused, match="already"):
            saver.thread_lock("1").__enter__()
        with saver.thread_lock("2"):
            pass

        async def contend() -> None:
            with pytest.raises(LockTimeout):
                async with other.thread_lock("1", timeout=0.05):
                    raise AssertionError

        run(contend())
    run(both(saver, other))


async def both(saver: LandedSaver, other: LandedSaver) -> None:
    inside = 0

    async def one(mine: LandedSaver) -> None:
        nonlocal inside
        async with mine.thread_lock("1"):
            inside += 1
            await asyncio.sleep(0.01)
            assert inside == 1
            inside -= 1

    await asyncio.gather(*(one(mine) for mine in (saver, other) * 4))


class Remote:
    """An engine's lock, which is given back by a request."""

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.free = True

    def acquire(self, timeout: float, *, owner: object) -> None:
        self.free = False

    def release(self) -> None:
        self.free = self.answer.wait(5)


@pytest.mark.parametrize("again", [False, True])
def test_the_loop_runs_while_a_lock_is_given_back(again: bool) -> None:
    lock, put = Remote(), asyncio.CancelledError()
    put.landed_outcome = told = aio.Outcome("a receipt", None)

    async def work() -> None:
        async with ThreadLock(lock, 1.0):
            raise put

    async def meanwhile() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.02)
        assert not lock.free
        if again:
            task.cancel()
        lock.answer.set()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await task
        assert lock.free
        assert aio.outcome(cancelled.value) is told

    run(meanwhile())


def test_a_cancelled_lock_is_free_again(saver: LandedSaver) -> None:
    async def work() -> None:
        async def wait() -> None:
            async with saver.thread_lock("1"):
                await asyncio.sleep(30)

        async with saver.thread_lock("1"):
            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0.05)
            waiting.cancel()
            await asyncio.sleep(0.05)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        async with saver.thread_lock("1", timeout=1):
            pass

    run(work())
