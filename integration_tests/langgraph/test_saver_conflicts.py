"""Two runs that built on the same head: one lands, the other raises; what a program forks on purpose passes."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from graphs import adder, async_adder
from langgraph.checkpoint.memory import InMemorySaver
from program import Program, behind, paused, race
from savers import LANDED, SQLITE, forks, opened, thread

import landed
from langgraph.checkpoint.landed import LandedSaver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DURABILITY = ["sync", "async", "exit"]
TURNS = 25
WAIT = 60


def wait_until_put(saver: LandedSaver, name: str, durability: str) -> None:
    """Until the run that is in its node has put what it puts before; with "async" that is in the background."""
    deadline = time.monotonic() + WAIT
    while durability != "exit" and adder(saver).get_state(thread(name)).next != ("add",):
        assert time.monotonic() < deadline
        time.sleep(0.005)


# Many processes invoke one thread.


def run_race(
    kind: str, directory: Path, processes: int, how: str = "free"
) -> tuple[list[str], list[str], list[str], int]:
    """The turns that were acknowledged, those that were refused, those that survive, and the forks."""
    with opened(kind, directory) as saver:
        saver.get_tuple(thread("t"))  # makes SqliteSaver's tables, which two processes at once cannot
    programs = [Program(race, kind, directory, "t", f"w{n}", TURNS, how) for n in range(processes)]
    try:
        for program in programs:
            assert program.hear() == ("ready",)
        for program in programs:
            program.say("go")
        told = [said for program in programs for said in program.end()]
    finally:
        for program in programs:
            program.__exit__()
    with opened(kind, directory) as saver:
        survived = adder(saver).get_state(thread("t")).values["updates"]
        forked = forks(saver, "t")
    acknowledged = [turn for outcome, turn in told if outcome == "acknowledged"]
    stale = [turn for outcome, turn in told if outcome == "stale"]
    assert len(acknowledged) + len(stale) == processes * TURNS
    return acknowledged, stale, survived, forked


@pytest.mark.parametrize("processes", [2, 4])
def test_what_was_acknowledged_is_what_survives(tmp_path: Path, processes: int) -> None:
    acknowledged, stale, survived, forked = run_race(LANDED, tmp_path, processes)
    assert sorted(acknowledged) == sorted(survived)
    assert forked == 0
    assert acknowledged
    assert stale, "they never met: nothing was shown"


def test_runs_that_take_the_lock_of_the_thread_all_land(tmp_path: Path) -> None:
    acknowledged, stale, survived, forked = run_race(LANDED, tmp_path, 2, "locked")
    assert (stale, forked) == ([], 0)
    assert sorted(acknowledged) == sorted(survived)


def test_the_same_race_loses_updates_elsewhere(tmp_path: Path) -> None:
    """The check can fail: without the comparison, updates are acknowledged and gone."""
    for attempt in range(10):
        acknowledged, _, survived, forked = run_race(SQLITE, tmp_path / str(attempt), 2)
        if set(acknowledged) - set(survived) and forked:
            return
    pytest.fail("no race in ten tries")


# One is slow, another one finishes meanwhile.


@pytest.mark.parametrize("durability", DURABILITY)
def test_a_worker_that_paused_in_another_process_raises(tmp_path: Path, durability: str) -> None:
    saver = LandedSaver(tmp_path)
    graph = adder(saver)
    graph.invoke({"turn": "before"}, thread("some thread"))
    with Program(paused, tmp_path, "some thread", durability) as slow:
        assert slow.hear() == ("ready",)  # in the midst of its node
        wait_until_put(saver, "some thread", durability)
        graph.invoke({"turn": "quick"}, thread("some thread"), durability=durability)
        slow.say("go")
        (said,) = slow.end()
    outcome, expected, found, message = said
    head = saver.get_tuple(thread("some thread")).checkpoint["id"]
    assert (outcome, head in found or head in message) == ("stale", True)
    for part in ("some thread", expected, head, "pid "):
        assert part in message, part
    assert graph.get_state(thread("some thread")).values["updates"] == ["before", "quick"]
    assert forks(saver, "some thread") == 0
    graph.invoke({"turn": "after"}, thread("some thread"))


@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize("durability", DURABILITY)
def test_of_two_threads_exactly_one_raises(tmp_path: Path, durability: str, instances: int) -> None:
    slow_saver = LandedSaver(tmp_path)
    quick_saver = slow_saver if instances == 1 else LandedSaver(tmp_path)
    before = ["before"] * (instances - 1)  # and on a thread that is new
    for turn in before:
        adder(quick_saver).invoke({"turn": turn}, thread("t"))
    working, go = threading.Event(), threading.Event()

    def work(turn: str) -> None:
        if turn == "slow":
            working.set()
            assert go.wait(WAIT)

    heard: list[BaseException | None] = []

    def run_slowly() -> None:
        try:
            adder(slow_saver, work).invoke({"turn": "slow"}, thread("t"), durability=durability)
        except landed.LandedError as error:
            heard.append(error)
        else:
            heard.append(None)

    slow = threading.Thread(target=run_slowly)
    slow.start()
    assert working.wait(WAIT)
    wait_until_put(quick_saver, "t", durability)
    quick = adder(quick_saver, work)
    quick.invoke({"turn": "quick"}, thread("t"), durability=durability)
    go.set()
    slow.join(WAIT)
    assert [type(one) for one in heard] == [landed.StaleWrite]
    assert quick.get_state(thread("t")).values["updates"] == [*before, "quick"]
    assert forks(quick_saver, "t") == 0


@pytest.mark.parametrize("durability", DURABILITY)
def test_of_two_tasks_exactly_one_raises(tmp_path: Path, durability: str) -> None:
    async def main() -> None:
        working, go = asyncio.Event(), asyncio.Event()

        async def work(turn: str) -> None:
            if turn == "slow":
                working.set()
                await asyncio.wait_for(go.wait(), WAIT)

        async with LandedSaver(tmp_path) as saver:
            graph = async_adder(saver, work)
            slow = asyncio.create_task(graph.ainvoke({"turn": "slow"}, thread("t"), durability=durability))
            await asyncio.wait_for(working.wait(), WAIT)
            await asyncio.to_thread(wait_until_put, saver, "t", durability)
            await graph.ainvoke({"turn": "quick"}, thread("t"), durability=durability)
            go.set()
            with pytest.raises(landed.StaleWrite):
                await slow
            assert (await graph.aget_state(thread("t"))).values["updates"] == ["quick"]
            assert forks(saver, "t") == 0

    asyncio.run(main())


@pytest.mark.parametrize("durability", DURABILITY)
def test_a_saver_told_to_fork_lets_both_land_as_others_do(tmp_path: Path, durability: str) -> None:
    slow_saver, quick_saver = (LandedSaver(tmp_path, on_conflict="fork") for _ in range(2))
    quick = adder(quick_saver)

    def work(_: str) -> None:
        quick.invoke({"turn": "quick"}, thread("t"), durability=durability)

    quick.invoke({"turn": "before"}, thread("t"))
    adder(slow_saver, work).invoke({"turn": "slow"}, thread("t"), durability=durability)
    assert quick.get_state(thread("t")).values["updates"] == ["before", "slow"]
    assert forks(quick_saver, "t") == 1


# Time.


@pytest.mark.parametrize(("kind", "outcome"), [(LANDED, "refused"), (SQLITE, "acknowledged")])
def test_a_clock_that_is_behind(tmp_path: Path, kind: str, outcome: str) -> None:
    """An id that sorts below the head's would never be the head: elsewhere the run returns and nobody sees it."""
    with opened(kind, tmp_path) as saver:
        adder(saver).invoke({"turn": "before"}, thread("t"))
    with Program(behind, kind, tmp_path, "t", 60) as program:
        (said,) = program.end()
    assert said[0] == outcome
    with opened(kind, tmp_path) as saver:
        assert adder(saver).get_state(thread("t")).values["updates"] == ["before"]
    if kind == LANDED:
        assert "clock" in said[1]


# What LangGraph has to carry for it.


class Marked(str):
    """An id that says that it was read as the head."""

    __slots__ = ()


class Witness(InMemorySaver):
    """Marks the ids of heads as LandedSaver does, and notes which parents come back with the mark."""

    def __init__(self) -> None:
        super().__init__()
        self.parents: list[bool] = []

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found is None or config["configurable"].get("checkpoint_id"):
            return found
        configurable = found.config["configurable"]
        return found._replace(
            config={"configurable": {**configurable, "checkpoint_id": Marked(configurable["checkpoint_id"])}}
        )

    def put(self, config: Any, *args: Any) -> Any:
        if not config["configurable"].get("checkpoint_ns"):
            self.parents.append(isinstance(config["configurable"].get("checkpoint_id"), Marked))
        return super().put(config, *args)

    async def aget_tuple(self, config: Any) -> Any:
        return self.get_tuple(config)

    async def aput(self, config: Any, *args: Any) -> Any:
        return self.put(config, *args)


def _sync(graph: Any, *args: Any, **options: Any) -> object:
    return graph.invoke(*args, **options)


def _async(graph: Any, *args: Any, **options: Any) -> object:
    return asyncio.run(graph.ainvoke(*args, **options))


@pytest.mark.parametrize("invoke", [_sync, _async], ids=["sync", "async"])
@pytest.mark.parametrize("durability", DURABILITY)
def test_langgraph_carries_the_mark_of_a_head(durability: str, invoke: Callable[..., object]) -> None:
    saver = Witness()
    graph = adder(saver)
    invoke(graph, {"turn": "a"}, thread("t"), durability=durability)
    assert True not in saver.parents
    saver.parents.clear()
    invoke(graph, {"turn": "b"}, thread("t"), durability=durability)
    assert saver.parents[0], "a run that read the head puts with the head's own id"
    head = saver.get_tuple(thread("t")).checkpoint["id"]
    saver.parents.clear()
    invoke(graph, {"turn": "c"}, thread("t", str(head)), durability=durability)
    assert True not in saver.parents, "a run that named its checkpoint does not"


def test_update_state_carries_the_mark_of_a_head() -> None:
    saver = Witness()
    graph = adder(saver)
    graph.invoke({"turn": "a"}, thread("t"))
    saver.parents.clear()
    graph.update_state(thread("t"), {"updates": ["by hand"]})
    assert saver.parents == [True]


def test_the_error_says_what_to_do(tmp_path: Path) -> None:
    first, second = LandedSaver(tmp_path), LandedSaver(tmp_path)
    graph = adder(first, lambda turn: adder(second).invoke({"turn": "quick"}, thread("t")) if turn == "slow" else None)
    with pytest.raises(landed.StaleWrite) as caught:
        graph.invoke({"turn": "slow"}, thread("t"), durability="sync")
    assert caught.value.hint
    assert caught.value.outcome == "not_written"
    assert "Nothing was changed." in str(caught.value)
