"""landed against SqliteSaver: whatever a program does, LangGraph must not be able to tell the two apart.

Twice: random calls of the saver's own methods, with the same ids for both; and random programs on a real graph, whose
ids differ from run to run and are compared by their order.
"""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
from savers import LANDED, SQLITE, opened, thread

from langgraph.checkpoint.landed import LandedSaver

if TYPE_CHECKING:
    from pathlib import Path

    from langgraph.checkpoint.base import BaseCheckpointSaver

RUNS = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)

# Calls.

THREADS = ["t", "t/../x", "T"]
SPACES = ["", "child:1", "child:1|grandchild:2"]
CHANNELS = ["a", "b", "__start__", "branch:to:x"]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.lists(st.integers(0, 3), max_size=40),
    st.dictionaries(st.text("xyz", max_size=2), st.floats(allow_nan=False), max_size=3),
)
SPECIAL = ["__error__", "__interrupt__", "__resume__"]
METADATA = st.fixed_dictionaries(
    {"source": st.sampled_from(["input", "loop", "update"]), "step": st.integers(-1, 3), "parents": st.just({})},
    optional={"user": st.sampled_from(["ann", "bob", None]), "deep": st.just({"level": [1, {"x": 2}]})},
)
PUT = st.tuples(
    st.just("put"),
    st.integers(0, 20),
    st.dictionaries(st.sampled_from(CHANNELS), VALUES, max_size=3),
    st.sets(st.sampled_from(CHANNELS), max_size=2),
    METADATA,
)
WRITES = st.tuples(
    st.just("writes"),
    st.integers(0, 20),
    st.one_of(
        st.lists(st.tuples(st.sampled_from(CHANNELS), VALUES), min_size=1, max_size=3),
        st.lists(st.tuples(st.sampled_from(SPECIAL), VALUES), min_size=1, max_size=2, unique_by=lambda w: w[0]),
    ),
    st.sampled_from(["task 1", "task 2", "00000000-0000-0000-0000-000000000000"]),
)
GET = st.tuples(st.just("get"), st.integers(-1, 20))
LIST = st.tuples(
    st.just("list"),
    st.sampled_from(["all", "thread", "space", "checkpoint"]),
    st.one_of(
        st.none(),
        st.fixed_dictionaries(
            {},
            optional={
                "source": st.sampled_from(["input", "loop", "x"]),
                "step": st.integers(-1, 3),
                "user": st.sampled_from(["ann", "bob"]),
            },
        ),
    ),
    st.one_of(st.none(), st.integers(0, 20)),
    st.one_of(st.none(), st.integers(0, 4)),
)
DELETE = st.tuples(st.just("delete"))
CALLS = st.lists(
    st.tuples(
        st.integers(0, len(THREADS) - 1),
        st.integers(0, len(SPACES) - 1),
        st.one_of(PUT, PUT, PUT, WRITES, WRITES, GET, LIST, LIST, DELETE),
    ),
    min_size=5,
    max_size=40,
)


class Script:
    """Calls with ids that both savers get; what they answer is compared after each."""

    def __init__(self) -> None:
        self.checkpoints: list[tuple[str, str, Any]] = []
        self.calls = 0

    def at(self, name: str, ns: str, index: int) -> str | None:
        """The id of the checkpoint that stands for `index` in this thread and namespace; None where there is none."""
        ids = [checkpoint["id"] for where, space, checkpoint in self.checkpoints if (where, space) == (name, ns)]
        return ids[index % len(ids)] if ids and index >= 0 else None

    def do(self, savers: list[BaseCheckpointSaver], name: str, ns: str, call: tuple[Any, ...]) -> None:
        answers = self._answers(savers, name, ns, call)
        assert answers[0] == answers[1], call

    def _answers(self, savers: list[BaseCheckpointSaver], name: str, ns: str, call: tuple[Any, ...]) -> list[Any]:
        what, *rest = call
        if what == "put":
            index, changed, dropped, metadata = rest
            parent = self.at(name, ns, index)
            checkpoint = self._next(name, ns, parent, changed, dropped)
            versions = {channel: checkpoint["channel_versions"][channel] for channel in changed}
            self.checkpoints.append((name, ns, checkpoint))
            return [saver.put(thread(name, parent, ns), checkpoint, metadata, versions) for saver in savers]
        if what == "writes":
            index, writes, task = rest
            checkpoint_id = self.at(name, ns, index)
            if checkpoint_id is None:
                return [None, None]
            for saver in savers:
                saver.put_writes(thread(name, checkpoint_id, ns), writes, task)
            return [seen(saver.get_tuple(thread(name, checkpoint_id, ns))) for saver in savers]
        if what == "get":
            config = thread(name, self.at(name, ns, rest[0]), ns)
            return [seen(saver.get_tuple(config)) for saver in savers]
        if what == "list":
            return [self._list(saver, name, ns, *rest) for saver in savers]
        for saver in savers:
            saver.delete_thread(name)
        self.checkpoints = [one for one in self.checkpoints if one[0] != name]
        return [list(saver.list(thread(name))) for saver in savers]

    def _list(self, saver: Any, name: str, ns: str, scope: str, wanted: Any, before: int | None, limit: Any) -> Any:
        config: Any = {
            "all": None,
            "thread": {"configurable": {"thread_id": name}},
            "space": thread(name, None, ns),
            "checkpoint": thread(name, self.at(name, ns, 3), ns),
        }[scope]
        older = None if before is None else self.at(name, ns, before)
        earlier = thread(name, older, ns) if older else None
        found = [seen(one) for one in saver.list(config, filter=wanted, before=earlier, limit=limit)]
        # Of several threads and namespaces the order is no part of the contract, and so neither is what a limit cuts.
        if scope in {"all", "thread"}:
            return len(found) if limit is not None else sorted(found, key=lambda one: sorted(one["config"].items()))
        return found

    def _next(self, name: str, ns: str, parent: str | None, changed: dict, dropped: set) -> Any:
        self.calls += 1
        checkpoint = empty_checkpoint()
        for where, space, one in self.checkpoints:
            if (where, space, one["id"]) == (name, ns, parent):
                checkpoint["channel_values"] = {k: v for k, v in one["channel_values"].items() if k not in dropped}
                checkpoint["channel_versions"] = dict(one["channel_versions"])
        checkpoint["channel_values"] |= changed
        checkpoint["channel_versions"] |= dict.fromkeys(changed, f"{self.calls:032}.{0.5:016}")
        checkpoint["versions_seen"] = {"node": dict(checkpoint["channel_versions"])}
        return checkpoint


def seen(found: Any) -> Any:
    """A tuple as far as LangGraph may rely on it: an older SqliteSaver gives pending writes in an order of its own."""
    if found is None:
        return None
    parts = {**found._asdict(), "pending_writes": sorted(found.pending_writes, key=repr)}
    for config in ("config", "parent_config"):
        if parts[config] is not None:
            parts[config] = {key: str(value) for key, value in parts[config]["configurable"].items()}
    return parts


def in_order(found: list[Any]) -> list[Any]:
    return sorted((seen(one) for one in found), key=lambda one: sorted(one["config"].items()))


@RUNS
@given(calls=CALLS)
def test_any_calls(calls: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("calls")
    script = Script()
    with (
        opened(SQLITE, directory / "sqlite") as theirs,
        opened(LANDED, directory / "landed", on_conflict="fork") as ours,
    ):
        for name, ns, call in calls:
            script.do([theirs, ours], THREADS[name], SPACES[ns], call)
        whole = [list(saver.list(None)) for saver in (theirs, ours)]
    with opened(LANDED, directory / "landed") as again:
        reopened = list(again.list(None))
    for found in (whole[1], reopened):
        assert in_order(found) == in_order(whole[0])


# Programs.


class State(TypedDict):
    ask: str
    lines: Annotated[list[str], operator.add]
    count: Annotated[int, operator.add]


def program_graph(saver: BaseCheckpointSaver, durability: str) -> Any:
    """A graph with a bit of everything: a branch by input, a fan-out, a failure, questions, and a graph inside."""

    def plan(state: State) -> dict[str, Any]:
        return {"lines": [f"plan {state['ask']}"], "count": 1}

    def route(state: State) -> Any:
        if state["ask"] == "fan":
            return [Send("work", {"ask": str(number)}) for number in range(3)]
        return {"question": "question", "boom": "boom", "nested": "inner"}.get(state["ask"], END)

    def work(state: State) -> dict[str, Any]:
        return {"lines": [f"work {state['ask']}"], "count": 10}

    def question(state: State) -> dict[str, Any]:
        return {"lines": [f"answer {interrupt('first?')}", f"answer {interrupt('second?')}"]}

    def boom(state: State) -> dict[str, Any]:
        raise ValueError("boom")

    def inner_question(state: State) -> dict[str, Any]:
        return {"lines": [f"inner answer {interrupt('inner?')}"]}

    inner = StateGraph(State)
    inner.add_node("deep", lambda _: {"count": 100})
    inner.add_node("inner_question", inner_question)
    inner.add_edge(START, "deep")
    inner.add_edge("deep", "inner_question")

    builder = StateGraph(State)
    builder.add_node("plan", plan)
    builder.add_node("work", work)
    builder.add_node("join", lambda state: {"lines": [f"joined {state['count']}"]})
    builder.add_node("question", question)
    builder.add_node("boom", boom)
    builder.add_node("inner", inner.compile())
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", route, ["work", "question", "boom", "inner", END])
    builder.add_edge("work", "join")
    return builder.compile(checkpointer=saver)


ASKS = ["plain", "fan", "question", "boom", "nested"]
STEP = st.one_of(
    st.tuples(st.just("run"), st.sampled_from(ASKS)),
    st.tuples(st.just("run"), st.sampled_from(ASKS)),
    st.tuples(st.just("resume"), st.sampled_from(["yes", "no"])),
    st.tuples(st.just("resume"), st.sampled_from(["yes", "no"])),
    st.tuples(st.just("go on")),
    st.tuples(st.just("update"), st.sampled_from([None, "plan", "join"])),
    st.tuples(st.just("replay"), st.integers(0, 10)),
    st.tuples(st.just("fork"), st.integers(0, 10), st.sampled_from(ASKS)),
    st.tuples(st.just("change the past"), st.integers(0, 10)),
)


def run_step(graph: Any, durability: str, step: tuple[Any, ...]) -> Any:
    """Do one thing as a user would; what came of it, or the error."""
    config = thread("t")
    what, *rest = step
    history = list(graph.get_state_history(config))
    past = history[rest[0] % len(history)].config if history and what in {"replay", "fork", "change the past"} else None
    options = {"durability": durability}
    try:
        if what == "run":
            return graph.invoke({"ask": rest[0], "lines": [], "count": 0}, config, **options)
        if what == "resume":
            return graph.invoke(Command(resume=rest[0]), config, **options)
        if what == "go on":
            return graph.invoke(None, config, **options)
        if what == "update":
            graph.update_state(config, {"lines": ["by hand"]}, as_node=rest[0])
        elif past is None:
            return None
        elif what == "replay":
            return graph.invoke(None, past, **options)
        elif what == "fork":
            return graph.invoke({"ask": rest[1], "lines": ["forked"], "count": 0}, past, **options)
        else:
            graph.update_state(past, {"lines": ["the past, changed"]}, as_node="plan")
    except Exception as error:  # noqa: BLE001 - whatever it is, the other saver must give the same
        return type(error), re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", str(error))
    return None


def without_ids(value: Any) -> Any:
    """A value with what differs from run to run taken out of the objects of LangGraph."""
    if isinstance(value, dict):
        return {key: without_ids(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_ids(one) for one in value]
    if type(value).__name__ == "Interrupt":
        return "Interrupt", value.value
    return value


def picture(graph: Any) -> list[Any]:
    """All that the graph says of its thread, with ids as numbers in their order."""
    history = list(graph.get_state_history(thread("t")))
    number = {state.config["configurable"]["checkpoint_id"]: index for index, state in enumerate(reversed(history))}
    shown = [_picture_of(state, number) for state in history]
    if history:
        deep = graph.get_state(thread("t"), subgraphs=True)
        shown.append([_picture_of(task.state, {}) for task in deep.tasks if hasattr(task.state, "values")])
    return shown


def _picture_of(state: Any, number: dict[str, int]) -> Any:
    parent = state.parent_config and state.parent_config["configurable"]["checkpoint_id"]
    return {
        "values": without_ids(state.values),
        "next": state.next,
        "number": number.get(state.config["configurable"].get("checkpoint_id")),  # a subgraph may have stored nothing
        "parent": number.get(parent) if parent else None,
        "metadata": {key: value for key, value in (state.metadata or {}).items() if key not in {"parents", "run_id"}},
        "tasks": [
            (task.name, repr(task.error), without_ids(task.interrupts), without_ids(task.result))
            for task in state.tasks
        ],
    }


def rows(saver: BaseCheckpointSaver) -> list[Any]:
    """All that the saver holds, with ids and random parts as numbers in their order."""
    found = sorted(saver.list(None), key=lambda one: one.checkpoint["id"])
    number = {one.checkpoint["id"]: index for index, one in enumerate(found)}
    spaces: dict[str, int] = {}
    for one in found:
        spaces.setdefault(one.config["configurable"]["checkpoint_ns"], len(spaces))
    return [
        {
            "space": spaces[one.config["configurable"]["checkpoint_ns"]],
            "parent": number[one.parent_config["configurable"]["checkpoint_id"]] if one.parent_config else None,
            "values": {channel: without_ids(value) for channel, value in one.checkpoint["channel_values"].items()},
            "versions": {
                channel: str(v).partition(".")[0] for channel, v in one.checkpoint["channel_versions"].items()
            },
            "updated": one.checkpoint.get("updated_channels"),
            "source": (one.metadata.get("source"), one.metadata.get("step")),
            "writes": sorted((channel, repr(without_ids(value))) for _, channel, value in one.pending_writes),
        }
        for one in found
    ]


def same_rows(theirs: list[Any], ours: list[Any]) -> None:
    """Hold two savers' rows against each other.

    A task tells all answers that it got again with each of them. Of lists that came with regular writes SqliteSaver
    keeps the one before, which lacks the last answer; InMemorySaver and ours keep the last.
    """
    assert [{**row, "writes": None} for row in theirs] == [{**row, "writes": None} for row in ours]
    for their_row, our_row in zip(theirs, ours, strict=True):
        for (channel, value), (our_channel, our_value) in zip(their_row["writes"], our_row["writes"], strict=True):
            assert channel == our_channel
            assert our_value == value or (
                channel == "__resume__" and our_value.startswith(value.removesuffix("]") + ", ")
            )


@RUNS
@example(steps=[("run", "question"), ("resume", "yes"), ("resume", "no")], durability="sync")
@given(steps=st.lists(STEP, min_size=2, max_size=8), durability=st.sampled_from(["sync", "async", "exit"]))
def test_any_program(steps: Any, durability: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("program")
    with opened(SQLITE, directory / "sqlite") as theirs, opened(LANDED, directory / "landed") as ours:
        graphs = [program_graph(saver, durability) for saver in (theirs, ours)]
        for step in steps:
            outcomes = [run_step(graph, durability, step) for graph in graphs]
            assert without_ids(outcomes[0]) == without_ids(outcomes[1]), step
            pictures = [picture(graph) for graph in graphs]
            assert pictures[0] == pictures[1], step
        same_rows(rows(theirs), rows(ours))
    with opened(LANDED, directory / "landed") as again:
        assert picture(program_graph(again, durability)) == pictures[1]


# The comparison can fail.


class LosesTheLastWrite(SqliteSaver):
    def put_writes(self, config: Any, writes: Any, *args: Any, **options: Any) -> None:
        super().put_writes(config, list(writes)[:-1], *args, **options)


class ListsUpwards(SqliteSaver):
    def list(self, *args: Any, **options: Any) -> Any:
        return iter(list(super().list(*args, **options))[::-1])


@pytest.mark.parametrize("bug", [LosesTheLastWrite, ListsUpwards])
def test_a_difference_shows(bug: type[SqliteSaver], tmp_path: Path) -> None:
    with bug.from_conn_string(str(tmp_path / "bug.sqlite")) as wrong, LandedSaver(tmp_path / "landed") as ours:
        graphs = [program_graph(saver, "sync") for saver in (wrong, ours)]
        for graph in graphs:
            run_step(graph, "sync", ("run", "question"))
        pictures = [picture(graph) for graph in graphs]
        assert pictures[0] != pictures[1]
