"""(f) Two workers run a LangGraph graph on one thread.

Each reads the thread's latest checkpoint, works, and puts the next one on it. Who reads before the other has put builds
on a checkpoint that is the latest no more: the thread forks, the one whose id is higher counts, and what the other run
was told is stored is in no state that anybody reads.
"""

from __future__ import annotations

import operator
import os
import sys
from contextlib import ExitStack, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from demo.nursery import Nursery
from demo.scene import Outcome, Program, Scene, tell
from landed.report import model
from landed.report.model import Event

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

TITLE = "Two runs of a LangGraph graph on one thread"
REPORTS = "langchain-ai/langgraph #8796; aegra/aegra #253"

TURNS = 20
"""That each of them adds."""
TRIES = 50
"""Runs of a turn until it counts as one that never lands."""
CASES = (f"each adds {TURNS} turns to one thread",)
BOUND = 10
"""Tries. Two workers meet within the first few turns."""
WORKERS = ("left", "right")
THREAD: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}


def stock(scene: Scene, _case: str) -> Outcome:
    return scene.until_shown(Outcome("SqliteSaver"), BOUND, lambda outcome: _attempt(scene, outcome, stock_worker))


def landed(scene: Scene, _case: str) -> Outcome:
    return scene.until_shown(Outcome("LandedSaver"), BOUND, lambda outcome: _attempt(scene, outcome, landed_worker))


@lru_cache(maxsize=1)
def nursery() -> Nursery:
    """It has imported LangGraph and both savers."""
    return Nursery("langgraph.graph", "langgraph.checkpoint.sqlite", "langgraph.checkpoint.landed")


def _attempt(scene: Scene, outcome: Outcome, worker: Callable[[str, str], None]) -> None:
    directory = str(scene.empty())
    programs = []
    with ExitStack() as stack:
        for name in WORKERS:
            programs.append(stack.enter_context(Program(worker, directory, name, nursery=nursery())))
            programs[-1].hear()  # it is ready; two that make SqliteSaver's tables at once lock each other out
        for program in programs:
            program.say("go")
        told = [line.split() for program in programs for line in program.lines()]
    acknowledged = [turn for what, turn in told if what == "acknowledged"]
    refused = sum(what == "refused" for what, _ in told)
    with Program(stock_reader if worker is stock_worker else landed_reader, directory, nursery=nursery()) as reader:
        found, forks = reader.hear().split(), int(reader.hear())
    lost = set(acknowledged) - set(found)
    outcome.acknowledged = f"{len(acknowledged)} turns"
    outcome.found = f"{len(found)} turns, {len(lost)} lost, {forks} forks"
    if worker is landed_worker:
        outcome.heard = f"StaleWrite {refused} times; ran the turn again, and it landed" if refused else "nothing"
        outcome.kept = sorted(found) == sorted(acknowledged) and not forks and len(found) == TURNS * len(WORKERS)
        outcome.shown = refused > 0
    else:
        outcome.heard = f"database is locked, {refused} times; ran the turn again" if refused else "nothing"
        outcome.kept = not lost
        outcome.shown = bool(lost)
    outcome.artifact, outcome.events = "thread t", []
    told_it_is = model.LANDED if worker is landed_worker else model.TOLD
    for name, program in zip(WORKERS, programs, strict=True):
        for at, words in program.told[1:]:
            what, _, turn = words.partition(" ")
            kind = model.REFUSED if what == "refused" else model.LOST if turn in lost else told_it_is
            outcome.events.append(Event(kind, name, turn, at))


# In the workers.


class State(TypedDict):
    turn: str
    turns: Annotated[list[str], operator.add]


def _graph(saver: Any) -> Any:  # noqa: ANN401 - LangGraph is there where the demo runs, not where it is read
    from langgraph.graph import START, StateGraph  # pyright: ignore[reportMissingImports]

    def add(state: State) -> dict[str, list[str]]:
        return {"turns": [state["turn"]]}

    builder = StateGraph(State)
    builder.add_node("add", add)
    builder.add_edge(START, "add")
    return builder.compile(checkpointer=saver)


def _sqlite(directory: str) -> AbstractContextManager[Any]:
    from langgraph.checkpoint.sqlite import SqliteSaver  # pyright: ignore[reportMissingImports]

    return SqliteSaver.from_conn_string(os.path.join(directory, "checkpoints.sqlite"))


def _landed(directory: str) -> AbstractContextManager[Any]:
    from langgraph.checkpoint.landed import LandedSaver  # pyright: ignore[reportMissingImports]

    return LandedSaver(directory)


def stock_worker(directory: str, name: str) -> None:
    _run(_sqlite(directory), name)


def landed_worker(directory: str, name: str) -> None:
    _run(_landed(directory), name)


def stock_reader(directory: str) -> None:
    _read(_sqlite(directory))


def landed_reader(directory: str) -> None:
    _read(_landed(directory))


def _read(opened: AbstractContextManager[Any]) -> None:
    """Tell the turns in the thread's latest state, and how many checkpoints begin where another began."""
    with opened as saver:
        found = _graph(saver).get_state(THREAD).values["turns"]
        configs = [one.parent_config for one in saver.list(THREAD)]
    # None is a parent as well: two workers that both find the thread empty begin it twice.
    parents = [config["configurable"]["checkpoint_id"] if config else None for config in configs]
    tell(*found)
    tell(len(parents) - len(set(parents)))


def _run(opened: AbstractContextManager[Any], name: str) -> None:
    from sqlite3 import OperationalError

    from landed import StaleWrite

    with opened as saver:
        graph = _graph(saver)
        graph.get_state(THREAD)
        tell("ready")
        sys.stdin.readline()
        for number in range(TURNS):
            for _ in range(TRIES):
                with suppress(StaleWrite, OperationalError):  # SQLite's: the database is locked
                    graph.invoke({"turn": f"{name}-{number}"}, THREAD, durability="sync")
                    tell("acknowledged", f"{name}-{number}")
                    break
                tell("refused", f"{name}-{number}")
