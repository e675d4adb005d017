"""Real graphs on landed: people in the loop, time travel, graphs in graphs, branches, deltas, kills."""

from __future__ import annotations

import operator
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from graphs import Log, adder, approval, branches, ladder, nested
from langgraph.graph import START, StateGraph
from langgraph.types import Command
from program import Program, answer, ask, climb
from savers import chain_of, forks, thread

from langgraph.checkpoint.landed import LandedSaver

if TYPE_CHECKING:
    from pathlib import Path

DURABILITY = ["sync", "async", "exit"]


def test_one_process_asks_and_another_answers(tmp_path: Path) -> None:
    with Program(ask, tmp_path, "launch") as asking:
        assert asking.end() == [(["proposed launch"],)]
    with LandedSaver(tmp_path) as saver:
        (task,) = approval(saver).get_state(thread("launch")).tasks
        assert task.interrupts[0].value == {"question": "really launch?"}
    with Program(answer, tmp_path, "launch", "yes") as answering:
        assert answering.end() == [(["proposed launch", "answered yes", "did launch"],)]
    with LandedSaver(tmp_path) as saver:
        assert approval(saver).get_state(thread("launch")).next == ()
        assert forks(saver, "launch") == 0


@pytest.mark.parametrize("durability", DURABILITY)
def test_time_travel(tmp_path: Path, durability: str) -> None:
    saver = LandedSaver(tmp_path)
    graph = adder(saver)
    for turn in "abc":
        graph.invoke({"turn": turn}, thread("t"), durability=durability)
    past = next(
        state for state in graph.get_state_history(thread("t")) if state.values["updates"] == ["a"] and not state.next
    )
    # On from the past: with new input, with a change by hand, and once more as it was.
    graph.invoke({"turn": "x"}, past.config, durability=durability)
    assert graph.get_state(thread("t")).values["updates"] == ["a", "x"]
    changed = graph.update_state(past.config, {"updates": ["by hand"]})
    assert graph.get_state(thread("t")).values["updates"] == ["a", "by hand"]
    graph.invoke({"turn": "y"}, changed, durability=durability)
    assert graph.get_state(thread("t")).values["updates"] == ["a", "by hand", "y"]
    graph.invoke(None, past.config, durability=durability)
    # And from the new head, in this saver and in another one.
    graph.invoke({"turn": "z"}, thread("t"), durability=durability)
    with LandedSaver(tmp_path) as other:
        adder(other).invoke({"turn": "other"}, thread("t"), durability=durability)
        assert adder(other).get_state(thread("t")).values["updates"][-2:] == ["z", "other"]
        assert forks(other, "t") >= 2
    updates = [state.values.get("updates") for state in graph.get_state_history(thread("t"))]
    assert ["a", "b", "c"] in updates, "the line that was left is still there"


@pytest.mark.parametrize("durability", DURABILITY)
def test_graphs_six_deep(tmp_path: Path, durability: str) -> None:
    depth = 6
    with LandedSaver(tmp_path) as saver:
        nested(saver, depth).invoke({"turn": "dive"}, thread("t"), durability=durability)
        spaces = {
            one.config["configurable"]["checkpoint_ns"] for one in saver.list({"configurable": {"thread_id": "t"}})
        }
        assert max(space.count("|") for space in spaces) == depth - 2
    with LandedSaver(tmp_path) as saver:
        after = nested(saver, depth).invoke(Command(resume="very"), thread("t"), durability=durability)
    into, out = [f"into {level}" for level in range(depth)], [f"out of {level}" for level in reversed(range(depth))]
    assert after["updates"] == [*into, "answered very", *out]


@pytest.mark.parametrize("durability", DURABILITY)
def test_a_branch_that_failed_is_the_only_one_that_runs_again(tmp_path: Path, durability: str) -> None:
    ran: Counter[str] = Counter()

    def work(turn: str) -> None:
        ran[turn] += 1
        if turn == "3" and ran[turn] == 1:
            deadline = time.monotonic() + 20
            while (len(ran) < 5 or not told()) and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.5)  # until LangGraph has told the saver what the others wrote
            raise ValueError("the third is out of order")

    def told() -> bool:
        """Whether the saver has heard of one that ended; with "exit" it hears of them when the run ends."""
        head = saver.get_tuple(thread("t")) if durability != "exit" else None
        return durability == "exit" or bool(head and head.pending_writes)

    with LandedSaver(tmp_path) as saver, pytest.raises(ValueError, match="out of order"):
        branches(saver, work).invoke({"turn": ""}, thread("t"), durability=durability)
    first = Counter(ran)
    with LandedSaver(tmp_path) as saver:
        head = saver.get_tuple(thread("t"))
        assert head is not None
        ended = {task for task, channel, _ in head.pending_writes or () if channel == "updates"}
        after = branches(saver, work).invoke(None, thread("t"), durability=durability)
    assert after["updates"] == ["0", "1", "2", "3", "4", "joined 5"]
    # LangGraph cancels what had not started when one failed, and may drop what had ended at that moment; what it has
    # told the saver of is not done twice.
    assert ran["3"] == 2
    assert ended
    assert sum(ran[turn] - first[turn] for turn in "01234") == 5 - len(ended)


def test_a_channel_of_deltas(tmp_path: Path) -> None:
    channels = pytest.importorskip("langgraph.channels.delta", reason="LangGraph has DeltaChannel since 1.2")

    def add(state: list[str], writes: list[list[str]]) -> list[str]:
        return [*state, *(line for write in writes for line in write)]

    Chat = TypedDict("Chat", {"said": Annotated[list, channels.DeltaChannel(add, snapshot_frequency=7)]})  # noqa: UP013

    def chat(saver: LandedSaver) -> Any:
        builder = StateGraph(Chat)
        builder.add_node("reply", lambda state: {"said": [f"reply to {state['said'][-1]}"]})
        builder.add_edge(START, "reply")
        return builder.compile(checkpointer=saver)

    expected: list[str] = []
    for number in range(20):
        with LandedSaver(tmp_path) as saver:  # nothing is in memory from the last time
            after = chat(saver).invoke({"said": [f"line {number}"]}, thread("t"), durability=DURABILITY[number % 3])
        expected += [f"line {number}", f"reply to line {number}"]
        assert after["said"] == expected
    with LandedSaver(tmp_path) as saver:
        graph = chat(saver)
        for state in graph.get_state_history(thread("t")):
            assert state.values.get("said", []) == expected[: len(state.values.get("said", []))]
        past = next(s for s in graph.get_state_history(thread("t")) if len(s.values["said"]) == 10)
        graph.invoke({"said": ["another way"]}, past.config)
        assert graph.get_state(thread("t")).values["said"] == [*expected[:10], "another way", "reply to another way"]
        saver.prune(["t"])
        assert graph.get_state(thread("t")).values["said"] == [*expected[:10], "another way", "reply to another way"]


def test_a_run_that_is_killed_goes_on_in_the_next_process(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    steps, kills = 24, 5
    chance = random.Random(1)
    log = tmp_path_factory.mktemp("log") / "log"
    for kill in range(kills + 1):
        heard = chance.randint(1, 5) if kill < kills else steps
        with Program(climb, tmp_path / "checkpoints", "t", steps, log, heard + 1) as climbing:
            if kill == kills:
                assert climbing.end()[-1] == ("done",)
                continue
            for _ in range(heard):
                climbing.hear()
            climbing.kill()
    expected = [str(number) for number in range(steps)]
    with LandedSaver(tmp_path / "checkpoints") as saver:
        state = ladder(saver, steps, lambda _: None).get_state(thread("t"))
        assert state.values["updates"] == expected
        assert state.next == ()
        assert forks(saver, "t") == 0
    ran = log.read_text().splitlines()
    assert list(dict.fromkeys(ran)) == expected, "no step was left out, and none came before its time"
    # A step counts once its checkpoint is put; the one that the kill met runs again, and the next may have begun.
    assert len(ran) <= steps + 2 * kills


@pytest.mark.parametrize("durability", DURABILITY)
def test_all_that_a_run_stored_is_there_for_another_saver(tmp_path: Path, durability: str) -> None:
    first = LandedSaver(tmp_path)
    ladder(first, 10, lambda _: None).invoke({"turn": "up"}, thread("t"), durability=durability)
    with LandedSaver(tmp_path) as second:
        assert chain_of(second, "t") == chain_of(first, "t")
        assert [one._asdict() for one in second.list(None)] == [one._asdict() for one in first.list(None)]
        assert len(chain_of(second, "t")) == (1 if durability == "exit" else 12)


def test_sum(tmp_path: Path) -> None:
    """A reducer that is not a list, and a value that is no string."""

    class Sum(TypedDict):
        total: Annotated[int, operator.add]

    builder = StateGraph(Sum)
    builder.add_node("one", lambda _: {"total": 1})
    builder.add_edge(START, "one")
    with LandedSaver(tmp_path) as saver:
        graph = builder.compile(checkpointer=saver)
        for _ in range(5):
            graph.invoke({"total": 10}, thread("t"))
        assert graph.get_state(thread("t")).values == {"total": 55}


def test_the_state_that_a_node_changes_afterwards_is_not_what_was_stored(tmp_path: Path) -> None:
    shared: list[str] = ["as it was"]
    builder = StateGraph(Log)
    builder.add_node("first", lambda _: {"updates": shared})
    builder.add_node("second", lambda _: shared.append("changed later") or {"updates": ["second"]})
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    with LandedSaver(tmp_path) as saver:
        graph = builder.compile(checkpointer=saver)
        graph.invoke({"turn": ""}, thread("t"), durability="sync")
        stored = [state.values.get("updates") for state in graph.get_state_history(thread("t"))]
    assert stored[0] == ["as it was", "second"]
    assert stored[1] == ["as it was"]
