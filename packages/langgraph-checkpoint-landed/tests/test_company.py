"""Writes that wait for the put which follows them: one batch for both, none lost when it fails or never comes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from drafts import Thread

import landed
from landed.aio import outcome
from landed.local.collection import LocalCollection
from langgraph.checkpoint.landed import LandedSaver, company
from langgraph.checkpoint.landed.history import History


@pytest.fixture
def worker() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.fixture
def history(thread: Thread) -> History:
    """Of a thread with one checkpoint, where a put has been seen to meet writes on their way."""
    thread.put({"a": 1})
    history = thread.saver._threads.find("1")
    assert history is not None
    history.company.set_out()
    history.company.leave(history.company.board())
    history.company.arrive()
    return history


def wait_for(history: History, number: int) -> None:
    """Until so many writes wait for a put."""
    deadline = monotonic() + 30
    while len(history.company.waiting) < number:
        assert monotonic() < deadline
        sleep(0.001)


def write_and_wait(
    worker: ThreadPoolExecutor, thread: Thread, history: History, values: list[str]
) -> list[Future[None]]:
    """Writes, one task's after another's, until all wait."""
    started = []
    for number, value in enumerate(values):
        started.append(worker.submit(thread.saver.put_writes, thread.where, [("x", value)], f"{value}"))
        wait_for(history, number + 1)
    return started


def pending(root: Path, where: dict[str, Any]) -> list[Any]:
    found = LandedSaver(root).get_tuple(where)
    assert found is not None
    return [value for _, _, value in found.pending_writes or []]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company, "MOMENT", 60.0)
    monkeypatch.setattr(company, "TURNS", 1 << 60)


@pytest.mark.usefixtures("patient")
def test_a_put_takes_the_writes_of_its_parent_along(
    thread: Thread, root: Path, history: History, worker: ThreadPoolExecutor
) -> None:
    before, parent = history.seen, thread.where
    started = write_and_wait(worker, thread, history, ["one", "two"])
    assert history.journal.tail == before  # nothing yet
    latest = thread.put({"a": 2})
    for each in started:
        each.result()
    batches = {entry.position for entry in history.journal.read(before + 1)}
    assert len(batches) == 1
    assert pending(root, parent) == ["one", "two"]
    found = LandedSaver(root).get_tuple(thread.config)
    assert found is not None
    assert (found.config["configurable"]["checkpoint_id"], found.pending_writes) == (latest, [])


@pytest.mark.usefixtures("patient")
def test_nothing_is_acknowledged_before_the_put_is(
    thread: Thread, history: History, worker: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    [started] = write_and_wait(worker, thread, history, ["one"])
    append = landed.Journal.append

    def watched(journal: landed.Journal, *args: Any, **options: Any) -> Any:
        assert not started.done()
        appended = append(journal, *args, **options)
        wait([started], 0.5)  # time enough for one that was let go early
        assert not started.done()
        return appended

    monkeypatch.setattr(landed.Journal, "append", watched)
    thread.put({"a": 2})
    started.result()


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("error", [landed.StaleWrite, landed.Full, landed.NotLanded, KeyboardInterrupt])
def test_when_the_put_fails_the_writes_go_by_themselves(
    thread: Thread,
    root: Path,
    history: History,
    worker: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    started = write_and_wait(worker, thread, history, ["one"])
    append = History.append
    parent = thread.where

    def failing(history: History, records: list[Any], expect: int | None) -> None:
        if len(records) > 1 and expect is not None:
            monkeypatch.setattr(History, "append", append)
            raise error("no")
        append(history, records, expect)

    monkeypatch.setattr(History, "append", failing)
    if error in {landed.StaleWrite, landed.Full}:
        thread.put({"a": 2})  # it is tried again, with what has come in between, or without the writes
    else:
        with pytest.raises(error):
            thread.put({"a": 2})
    started[0].result()
    assert pending(root, parent) == ["one"]


def test_without_a_put_the_writes_go_by_themselves_all_at_once_and_wait_no_more(
    thread: Thread, root: Path, history: History, worker: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(company, "MOMENT", 3.0)
    appended: list[Any] = []
    append = History.append

    def noted(history: History, records: list[Any], expect: int | None) -> None:
        appended.extend(records)
        append(history, records, expect)

    monkeypatch.setattr(History, "append", noted)
    first = worker.submit(thread.saver.put_writes, thread.where, [("__error__", "first")], "t")
    wait_for(history, 1)
    sleep(1.5)
    last = worker.submit(thread.saver.put_writes, thread.where, [("__error__", "last")], "t")
    wait_for(history, 2)
    first.result()
    last.result(1.3)
    assert len(appended) == 2
    assert len(pending(root, thread.where)) == 1
    monkeypatch.setattr(company, "MOMENT", 60.0)
    thread.write(("y", 1))  # would wait for a minute
    for _ in range(company.DISAPPOINTED):
        history.company.set_out()
        assert history.company.board() == []
        history.company.arrive()
    assert not history.company.ride(appended[0])
    history.company.set_out()
    history.company.board()
    assert history.company._hope == 1


def test_a_lone_writer_waits_for_nobody(thread: Thread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company, "MOMENT", 60.0)
    for number in range(3):
        thread.put({"a": number})
        thread.write(("x", number))
    assert thread.tuple.pending_writes == [("task", "x", 2)]


@pytest.mark.usefixtures("patient")
def test_a_removed_thread_is_not_written_to_by_those_who_waited(
    thread: Thread, history: History, worker: ThreadPoolExecutor
) -> None:
    thread.load()
    [started] = write_and_wait(worker, thread, history, ["one"])
    thread.saver.delete_thread("1")
    history.company.turn_away(history.company.board())
    with pytest.raises(landed.StaleWrite):
        started.result()


def test_writes_that_a_put_took_and_forgot_go_by_themselves(
    thread: Thread, root: Path, history: History, worker: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where Control-C comes between the moment in which it takes them and the one in which it would let them go."""
    monkeypatch.setattr(company, "MOMENT", 0.5)
    monkeypatch.setattr(company, "LIMIT", 0.1)
    [started] = write_and_wait(worker, thread, history, ["one"])
    history.company.board()
    started.result(timeout=30)
    assert pending(root, thread.where) == ["one"]


def test_the_first_put_and_the_first_writes_make_one_journal(
    thread: Thread, root: Path, worker: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = LocalCollection._make, []

    def noted(collection: LocalCollection, path: str, name: str) -> None:
        made.append(name)
        sleep(0.2)  # time enough for the others to find none
        make(collection, path, name)

    monkeypatch.setattr(LocalCollection, "_make", noted)
    checkpoint, new = thread.draft({"a": 1})
    where: Any = {"configurable": {"thread_id": "1", "checkpoint_ns": "", "checkpoint_id": checkpoint["id"]}}
    started = [worker.submit(thread.saver.put_writes, where, [("x", number)], f"{number}") for number in range(3)]
    thread.saver.put(thread.config, checkpoint, {"source": "input", "step": -1, "parents": {}}, new)
    for each in started:
        each.result()
    assert made == ["1"]
    assert pending(root, where) == [0, 1, 2]


# The same in an event loop.


async def awrite_and_wait(thread: Thread, history: History) -> asyncio.Task[None]:
    """Writes of a task that waits for a put."""
    task = asyncio.create_task(thread.saver.aput_writes(thread.where, [("x", "one")], "t"))
    deadline = monotonic() + 30
    while not history.company.waiting:
        assert monotonic() < deadline
        await asyncio.sleep(0.001)
    return task


def test_a_put_that_comes_in_the_same_turn_takes_the_writes_of_tasks_along(
    thread: Thread, root: Path, history: History
) -> None:
    """As LangGraph has them: the writes of the tasks that end a super-step, and its checkpoint."""
    before, parent = history.seen, thread.where
    checkpoint, new = thread.draft({"a": 2})
    metadata: Any = {"source": "loop", "step": 1, "parents": {}}

    async def run() -> None:
        await asyncio.gather(
            thread.saver.aput_writes(parent, [("x", "one")], "one"),
            thread.saver.aput_writes(parent, [("x", "two")], "two"),
            thread.saver.aput(parent, checkpoint, metadata, new),
        )

    asyncio.run(run())
    assert len({entry.position for entry in history.journal.read(before + 1)}) == 1
    assert pending(root, parent) == ["one", "two"]


def test_the_first_put_of_a_task_takes_the_first_writes_along(thread: Thread, root: Path) -> None:
    checkpoint, new = thread.draft({"a": 1})
    where: Any = {"configurable": {"thread_id": "1", "checkpoint_ns": "", "checkpoint_id": checkpoint["id"]}}

    async def run() -> None:
        await asyncio.gather(
            thread.saver.aput_writes(where, [("x", "one")], "one"),
            thread.saver.aput(thread.config, checkpoint, {"source": "input", "step": -1, "parents": {}}, new),
        )

    asyncio.run(run())
    history = thread.saver._threads.find("1")
    assert history is not None
    assert len({entry.position for entry in history.journal.read()}) == 1
    assert pending(root, where) == ["one"]


@pytest.mark.parametrize("another", [True, False])
def test_writes_that_come_while_a_put_is_under_way_wait_for_it_and_go_with_the_next(
    thread: Thread, root: Path, history: History, monkeypatch: pytest.MonkeyPatch, another: bool
) -> None:
    """As LangGraph has them with ``durability="async"``, where the next put begins as soon as one has ended."""
    append, begun, go_on = landed.Journal.append, threading.Event(), threading.Event()

    def slowly(journal: landed.Journal, *args: Any, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(30)
        return append(journal, *args, **options)

    async def put(value: int) -> None:
        checkpoint, new = thread.draft({"a": value})
        thread.where = await thread.saver.aput(thread.where, checkpoint, {"source": "loop", "step": 1}, new)

    async def puts() -> None:
        await put(2)
        parents.append(thread.where)
        if another:
            await asyncio.sleep(0)  # while it is told
            await put(3)

    async def run() -> None:
        monkeypatch.setattr(landed.Journal, "append", slowly)
        task = asyncio.create_task(puts())
        assert await asyncio.to_thread(begun.wait, 30)
        where = parents[0]
        writes = [asyncio.create_task(thread.saver.aput_writes(where, [("x", each)], each)) for each in ("one", "two")]
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(history.company.waiting) == 2
        go_on.set()
        await asyncio.gather(task, *writes)

    parents, before = [thread.where], history.seen
    asyncio.run(run())
    batches = {entry.position for entry in history.journal.read(before + 1)}
    assert len(batches) == (2 if another else 3)
    assert pending(root, parents[0]) == ["one", "two"]


def test_a_put_that_fails_lets_the_writes_go_that_it_took_in_its_loop(thread: Thread, root: Path) -> None:
    first = thread.put({"a": 1})
    parent = thread.where
    landed_meanwhile = Thread(LandedSaver(root))
    landed_meanwhile.load()
    landed_meanwhile.put({"a": 2})
    checkpoint, new = thread.draft({"a": 3})
    metadata: Any = {"source": "loop", "step": 1, "parents": {}}

    async def run() -> list[Any]:
        writes = thread.saver.aput_writes(parent, [("x", "one")], "one")
        put = thread.saver.aput(parent, checkpoint, metadata, new)
        return await asyncio.gather(writes, put, return_exceptions=True)

    started = monotonic()
    written, refused = asyncio.run(run())
    assert written is None
    assert isinstance(refused, landed.StaleWrite)
    assert pending(root, {"configurable": {"thread_id": "1", "checkpoint_ns": "", "checkpoint_id": first}}) == ["one"]
    assert monotonic() - started < company.LIMIT / 2


@pytest.mark.usefixtures("patient")
def test_a_put_in_another_thread_takes_the_writes_of_a_task_along(thread: Thread, root: Path, history: History) -> None:
    before, parent = history.seen, thread.where

    async def run() -> company.Rider:
        writes = await awrite_and_wait(thread, history)
        [rider] = history.company.waiting
        await asyncio.sleep(0.1)
        assert not writes.done()
        await asyncio.to_thread(thread.put, {"a": 2})
        await writes
        return rider

    rider = asyncio.run(run())
    assert len({entry.position for entry in history.journal.read(before + 1)}) == 1
    assert pending(root, parent) == ["one"]
    rider.let_go()  # the loop is closed by now: whoever put must not hear of it


@pytest.mark.usefixtures("patient")
def test_a_task_that_is_cancelled_while_it_waits_ends_with_the_put(
    thread: Thread, root: Path, history: History
) -> None:
    parent = thread.where

    async def run() -> None:
        writes = await awrite_and_wait(thread, history)
        writes.cancel()
        await asyncio.sleep(0.1)
        assert not writes.done()
        await asyncio.to_thread(thread.put, {"a": 2})
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await writes
        ended = outcome(cancelled.value)
        assert ended is not None
        assert ended.error is None

    asyncio.run(run())
    assert pending(root, parent) == ["one"]


@pytest.mark.usefixtures("patient")
def test_when_the_put_fails_the_writes_of_a_task_go_by_themselves(thread: Thread, root: Path, history: History) -> None:
    async def run() -> None:
        writes = await awrite_and_wait(thread, history)
        history.company.turn_away(history.company.board())
        await writes

    asyncio.run(run())
    assert pending(root, thread.where) == ["one"]


def test_without_a_put_the_writes_of_a_task_go_by_themselves(thread: Thread, root: Path, history: History) -> None:
    asyncio.run(thread.saver.aput_writes(thread.where, [("x", "one")], "t"))
    assert not history.company.waiting
    assert pending(root, thread.where) == ["one"]


def test_writes_of_a_task_that_a_put_took_and_forgot_go_by_themselves(
    thread: Thread, root: Path, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(company, "LIMIT", 0.1)

    async def run() -> None:
        writes = asyncio.create_task(thread.saver.aput_writes(thread.where, [("x", "one")], "t"))
        await asyncio.sleep(0)
        assert len(history.company.board()) == 1
        await writes

    asyncio.run(run())
    assert pending(root, thread.where) == ["one"]
