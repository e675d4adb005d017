"""The asynchronous operations finish what they began before a cancellation gets through."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import landed
from landed import _fs, aio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

HANG = 20
"""Seconds after which a test counts as hung; the locks' own timeout is longer."""


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(work(), HANG)

    return asyncio.run(limited())


def outcome_of(error: BaseException) -> aio.Outcome:
    outcome = aio.outcome(error)
    assert outcome is not None, "nobody says what the operation came to"
    return outcome


class Gate:
    """Holds a write in its flush until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        real = _fs.FileOps.fsync

        def fsync(fs: _fs.FileOps, fd: int) -> None:
            self.reached.set()
            self.opened.wait(HANG)
            real(fs, fd)

        monkeypatch.setattr(_fs.FileOps, "fsync", fsync)

    async def is_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, HANG)


@pytest.fixture
def gate(work: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    landed.write(work / "earlier", b"")  # makes the store, which is flushed too
    return Gate(monkeypatch)


def test_the_operations_are_those_of_the_package(work: Path) -> None:
    async def story() -> None:
        first = await aio.write(work / "a", "todo")
        assert (await aio.read(work / "a")).version == first.version
        async with aio.edit(work / "a") as doc:
            doc.text = doc.text.replace("todo", "done")
        assert doc.receipt is not None
        assert (await aio.verify(work / "a")).version == doc.receipt.version
        with pytest.raises(landed.StaleWrite):
            await aio.write(work / "a", "x", expect=first)
        await aio.delete(work / "a", expect=doc.receipt)
        with pytest.raises(FileNotFoundError):
            await aio.read(work / "a")

    run(story)


def test_the_loop_runs_while_a_write_is_under_way(work: Path, gate: Gate) -> None:
    async def story() -> None:
        writing = asyncio.create_task(aio.write(work / "a", b"x"))
        await gate.is_reached()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not writing.done()
        gate.opened.set()
        assert (await writing).size == 1

    run(story)


@pytest.mark.parametrize("times", [1, 3])
def test_a_cancelled_write_ends_before_the_task_does(work: Path, gate: Gate, times: int) -> None:
    async def story() -> None:
        writing = asyncio.create_task(aio.write(work / "a", b"landed"))
        await gate.is_reached()
        for _ in range(times):
            writing.cancel()
            await asyncio.sleep(0.02)
            assert not writing.done()
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await writing
        assert writing.cancelled()
        assert isinstance(outcome_of(caught.value).result, landed.Receipt)
        assert outcome_of(caught.value).error is None

    run(story)
    assert (work / "a").read_bytes() == b"landed"


def test_wait_for_shows_the_receipt(work: Path, gate: Gate) -> None:
    async def story() -> BaseException:
        asyncio.get_running_loop().call_later(0.2, gate.opened.set)
        with pytest.raises(asyncio.TimeoutError) as caught:
            await asyncio.wait_for(aio.write(work / "a", b"landed"), 0.05)
        return caught.value

    receipt = outcome_of(asyncio.run(story())).result
    assert isinstance(receipt, landed.Receipt)
    assert receipt.version == landed.Files().read(work / "a").version


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout() came with Python 3.11")
def test_a_timeout_block_shows_the_receipt(work: Path, gate: Gate) -> None:
    async def story() -> BaseException:
        asyncio.get_running_loop().call_later(0.2, gate.opened.set)
        with pytest.raises(asyncio.TimeoutError) as caught:
            async with asyncio.timeout(0.05):  # pyright: ignore[reportAttributeAccessIssue]
                await aio.write(work / "a", b"landed")
        return caught.value

    assert isinstance(outcome_of(asyncio.run(story())).result, landed.Receipt)


def test_other_errors_have_no_outcome() -> None:
    for error in (None, ValueError(), asyncio.CancelledError(), asyncio.TimeoutError()):
        assert aio.outcome(error) is None


def test_a_cancelled_operation_that_failed_carries_its_error(work: Path) -> None:
    async def story() -> aio.Outcome:
        async with aio.edit(work / "a") as doc:
            writing = asyncio.create_task(aio.write(work / "a", b"create only", expect=landed.ABSENT))
            await asyncio.sleep(0.05)
            writing.cancel()
            await asyncio.sleep(0.02)
            assert not writing.done()
            doc.text = "first"
        with pytest.raises(asyncio.CancelledError) as caught:
            await writing
        return outcome_of(caught.value)

    cancelled = run(story)
    assert isinstance(cancelled.error, landed.StaleWrite)
    assert cancelled.result is None


def test_cancelled_while_leaving_an_edit_writes_first(work: Path, gate: Gate) -> None:
    async def change() -> None:
        async with aio.edit(work / "a") as doc:
            doc.text = "changed"

    async def story() -> None:
        task = asyncio.create_task(change())
        await gate.is_reached()
        task.cancel()
        await asyncio.sleep(0.02)
        assert not task.done()
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (work / "a").read_text() == "changed"
        await aio.write(work / "a", b"the lock is free", expect=landed.ANY, timeout=1)

    run(story)


def test_cancelled_in_the_block_of_an_edit_writes_nothing(work: Path) -> None:
    async def change() -> None:
        async with aio.edit(work / "a") as doc:
            doc.text = "half"
            await asyncio.sleep(HANG)

    async def story() -> None:
        task = asyncio.create_task(change())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await aio.write(work / "a", b"the lock is free", timeout=1)

    run(story)


def test_cancelled_while_waiting_for_the_lock_gives_it_back(work: Path) -> None:
    async def change() -> None:
        async with aio.edit(work / "a") as doc:
            doc.text = "never"

    async def story() -> None:
        async with aio.edit(work / "a") as doc:
            task = asyncio.create_task(change())
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.sleep(0.02)
            doc.text = "first"
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (work / "a").read_text() == "first"
        await aio.write(work / "a", b"the lock is free", expect=landed.ANY, timeout=1)

    run(story)


def test_an_exception_in_the_block_of_an_edit_writes_nothing(work: Path) -> None:
    async def story() -> None:
        with pytest.raises(ZeroDivisionError):
            async with aio.edit(work / "a") as doc:
                doc.text = str(1 / 0)
        assert not (work / "a").exists()
        await aio.write(work / "a", b"the lock is free", timeout=1)

    run(story)


def test_64_tasks_edit_one_file(work: Path) -> None:
    """More tasks than the loop has threads: those that wait must not keep the one that holds from leaving."""

    async def count() -> None:
        async with aio.edit(work / "counter") as doc:
            await asyncio.sleep(0)
            doc.text = str(int(doc.text or "0") + 1)

    async def story() -> None:
        await asyncio.gather(*(count() for _ in range(64)))

    run(story)
    assert (work / "counter").read_text() == "64"


def test_the_holder_of_an_edit_may_use_the_loops_threads(work: Path) -> None:
    (work / "other").write_bytes(b"x")

    async def count() -> None:
        async with aio.edit(work / "counter", timeout=1) as doc:
            await aio.read(work / "other")
            doc.text = str(int(doc.text or "0") + 1)

    async def story() -> list[object]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(4))
        return await asyncio.gather(*(count() for _ in range(8)), return_exceptions=True)

    assert run(story) == [None] * 8
    assert (work / "counter").read_text() == "8"


def test_gathered_writes_of_one_path_are_one_after_the_other(work: Path) -> None:
    async def story() -> list[object]:
        return await asyncio.gather(
            *(aio.write(work / "a", b"%d" % number, expect=landed.ANY) for number in range(20)),
        )

    receipts = run(story)
    assert len({receipt.version for receipt in receipts}) == 20
    assert len({str(receipt.replaced) for receipt in receipts}) == 20  # each on top of another
    (last,) = {receipt.version for receipt in receipts} - {receipt.replaced for receipt in receipts}
    assert landed.Files().read(work / "a").version == last


def test_of_two_tasks_that_read_the_same_exactly_one_lands(work: Path) -> None:
    landed.write(work / "a", b"start")

    both_have_read = threading.Barrier(2)

    async def change(name: str) -> object:
        data = (await aio.read(work / "a")).data
        await asyncio.to_thread(both_have_read.wait, HANG)
        return await aio.write(work / "a", data + name.encode())

    async def story() -> list[object]:
        return list(await asyncio.gather(change("x"), change("y"), return_exceptions=True))

    outcomes = run(story)
    assert sorted(type(each).__name__ for each in outcomes) == ["Receipt", "StaleWrite"]


def test_a_new_task_does_not_inherit_what_an_ended_one_saw(work: Path) -> None:
    """An object that is gone leaves its id() to the next; what the task had seen must not go with it."""

    async def story() -> None:
        for number in range(50):
            await asyncio.create_task(aio.write(work / "a", b"first %d" % number))
            idle = asyncio.create_task(asyncio.sleep(HANG))  # takes the place in memory that is free now
            await asyncio.create_task(aio.write(work / "a", b"second %d" % number))
            idle.cancel()
            await asyncio.wait([idle])

    run(story)


def test_a_nested_edit_of_one_task_is_refused(work: Path) -> None:
    async def story() -> None:
        async with aio.edit(work / "a") as doc:
            with pytest.raises(landed.Refused, match="would wait for itself"):
                await aio.write(work / "a", b"x")
            doc.text = "outer"

    run(story)
    assert (work / "a").read_text() == "outer"


def test_one_edit_may_be_entered_again_and_by_another_task(work: Path) -> None:
    async def story() -> None:
        edit = aio.edit(work / "a", timeout=5)

        async def add() -> None:
            async with edit as doc:
                await asyncio.sleep(0.01)
                doc.text += "x"

        await asyncio.gather(*(add() for _ in range(5)))
        await add()
        await aio.write(work / "a", (work / "a").read_bytes(), expect=landed.ANY, timeout=0)

    run(story)
    assert (work / "a").read_text() == "xxxxxx"


def test_an_edit_waits_in_vain_for_its_timeout_only(work: Path) -> None:
    async def story() -> None:
        async with aio.edit(work / "a") as doc:
            other = asyncio.create_task(aio.write(work / "a", b"x", timeout=0.05))
            with pytest.raises(landed.LockTimeout) as caught:
                await other
            assert f"pid {os.getpid()}" in str(caught.value.holder)
            doc.text = "kept"

    run(story)
    assert (work / "a").read_text() == "kept"


def test_an_edit_is_left_where_the_system_has_no_more_threads(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def story() -> None:
        async with aio.edit(work / "a") as doc:
            doc.text = "kept"
            monkeypatch.setattr(threading.Thread, "start", none_left)

    run(story)
    assert (work / "a").read_text() == "kept"
    landed.write(work / "a", b"the lock is free", expect=landed.ANY, timeout=0)


def test_edits_leave_no_threads_behind(work: Path) -> None:
    async def story() -> None:
        for number in range(20):
            async with aio.edit(work / "a") as doc:
                doc.text = str(number)
        with pytest.raises(landed.Refused):
            async with aio.edit(work):
                pass

    run(story)
    deadline = time.monotonic() + HANG
    while any("landed-leave" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
