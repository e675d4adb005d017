"""Graphs as programs build them, small enough to know what must come out."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt

if TYPE_CHECKING:
    from collections.abc import Callable

    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph


class Log(TypedDict):
    """`turn` is what this run was asked to add, `updates` what all runs added."""

    turn: str
    updates: Annotated[list[str], operator.add]


def adder(saver: BaseCheckpointSaver, work: Callable[[str], object] = lambda _: None) -> CompiledStateGraph:
    """One node, which does `work` and adds its turn. The turn lands with the last checkpoint of the run, or not."""

    def add(state: Log) -> dict[str, Any]:
        work(state["turn"])
        return {"updates": [state["turn"]]}

    return _of_one(add, saver)


def async_adder(saver: BaseCheckpointSaver, work: Callable[[str], Any]) -> CompiledStateGraph:
    """The same, whose node awaits its `work`."""

    async def add(state: Log) -> dict[str, Any]:
        await work(state["turn"])
        return {"updates": [state["turn"]]}

    return _of_one(add, saver)


def _of_one(node: Any, saver: BaseCheckpointSaver) -> CompiledStateGraph:
    builder = StateGraph(Log)
    builder.add_node("add", node)
    builder.add_edge(START, "add")
    builder.add_edge("add", END)
    return builder.compile(checkpointer=saver)


def ladder(saver: BaseCheckpointSaver, steps: int, work: Callable[[int], object]) -> CompiledStateGraph:
    """`steps` nodes, one after the other; each does its work and adds its number."""

    def node(number: int) -> Callable[[Log], dict[str, Any]]:
        def step(state: Log) -> dict[str, Any]:
            work(number)
            return {"updates": [str(number)]}

        return step

    builder = StateGraph(Log)
    for number in range(steps):
        builder.add_node(f"step {number}", node(number))
        builder.add_edge(START if number == 0 else f"step {number - 1}", f"step {number}")
    return builder.compile(checkpointer=saver)


def approval(saver: BaseCheckpointSaver) -> CompiledStateGraph:
    """Proposes, asks a person, and acts on the answer."""

    def propose(state: Log) -> dict[str, Any]:
        return {"updates": [f"proposed {state['turn']}"]}

    def ask(state: Log) -> dict[str, Any]:
        answer = interrupt({"question": f"really {state['turn']}?"})
        return {"updates": [f"answered {answer}"]}

    def act(state: Log) -> dict[str, Any]:
        return {"updates": [f"did {state['turn']}"]}

    builder = StateGraph(Log)
    for before, name, node in ((START, "propose", propose), ("propose", "ask", ask), ("ask", "act", act)):
        builder.add_node(name, node)
        builder.add_edge(before, name)
    return builder.compile(checkpointer=saver)


def nested(saver: BaseCheckpointSaver, depth: int) -> CompiledStateGraph:
    """A graph in a graph, `depth` deep. Each level adds a line before and after the next; the innermost asks."""

    def innermost(state: Log) -> dict[str, Any]:
        return {"updates": [f"answered {interrupt('how deep?')}"]}

    def line(text: str) -> Callable[[Log], dict[str, Any]]:
        return lambda _: {"updates": [text]}

    inner: Any = innermost
    for level in reversed(range(depth)):
        builder = StateGraph(Log)
        builder.add_node("before", line(f"into {level}"))
        builder.add_node("inner", _alone(inner) if inner is not innermost else inner)
        builder.add_node("after", line(f"out of {level}"))
        builder.add_edge(START, "before")
        builder.add_edge("before", "inner")
        builder.add_edge("inner", "after")
        inner = builder.compile(checkpointer=saver if level == 0 else None)
    return inner


def _alone(graph: CompiledStateGraph) -> Callable[[Log], dict[str, Any]]:
    """Runs a graph on an empty log, so that what it returns is what it added."""

    def run(state: Log) -> dict[str, Any]:
        return {"updates": graph.invoke({"turn": state["turn"], "updates": []})["updates"]}

    return run


def branches(saver: BaseCheckpointSaver, work: Callable[[str], object]) -> CompiledStateGraph:
    """Fans out to five workers at once and joins them; each does its `work`, which may fail."""

    def fan_out(_: Log) -> list[Send]:
        return [Send("worker", {"turn": str(number)}) for number in range(5)]

    def worker(state: Log) -> dict[str, Any]:
        work(state["turn"])
        return {"updates": [state["turn"]]}

    def join(state: Log) -> dict[str, Any]:
        return {"updates": [f"joined {len(state['updates'])}"]}

    builder = StateGraph(Log)
    builder.add_node("worker", worker)
    builder.add_node("join", join)
    builder.add_conditional_edges(START, fan_out, ["worker"])
    builder.add_edge("worker", "join")
    return builder.compile(checkpointer=saver)
