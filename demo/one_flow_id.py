"""(g) Four processes run a CrewAI flow by one id, and each run counts.

Each run loads the state, adds one and saves it. Who loads before another has saved overwrites what that one has added:
every run was told that its state is saved, and most of them are in no state that anybody loads.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from demo.offline_crewai import nursery, prepare
from demo.scene import Outcome, Program, Scene, tell
from landed.report import model
from landed.report.model import Event

if TYPE_CHECKING:
    from collections.abc import Callable

TITLE = "Four processes run a CrewAI flow by one id"
REPORTS = "crewAIInc/crewAI #5802"

PROCESSES = ("one", "two", "three", "four")
RUNS = 4
"""Of each."""
TRIES = 200
"""Of a run until it counts as one that never lands."""
CASES = (f"each adds one to its state, {RUNS} times",)
BOUND = 10
"""Tries. Four processes meet within their first runs."""
FLOW = "the-flow"


def stock(scene: Scene, _case: str) -> Outcome:
    outcome = Outcome("SQLiteFlow- Persistence")
    return scene.until_shown(outcome, BOUND, lambda outcome: _attempt(scene, outcome, stock_runs, stock_reader))


def landed(scene: Scene, _case: str) -> Outcome:
    outcome = Outcome("LandedFlow- Persistence")
    return scene.until_shown(outcome, BOUND, lambda outcome: _attempt(scene, outcome, landed_runs, landed_reader))


def _attempt(scene: Scene, outcome: Outcome, runs: Callable[[str, str], None], reader: Callable[[str], None]) -> None:
    directory = str(scene.empty())
    with ExitStack() as stack:
        programs = [stack.enter_context(Program(runs, directory, name, nursery=nursery())) for name in PROCESSES]
        for program in programs:
            program.hear()  # it is ready
        for program in programs:
            program.say("go")
        told = [line.split() for program in programs for line in program.lines()]
    with Program(reader, directory, nursery=nursery()) as program:
        found = program.hear().split()
    saved = [run for what, run, *_ in told if what == "saved"]
    stale = sum(what == "stale" for what, *_ in told)
    outcome.acknowledged = f"{len(saved)} runs"
    outcome.found = f"{len(found)} of them in the state"
    outcome.heard = f"StaleWrite {stale} times; ran again, and it landed" if stale else "nothing"
    outcome.kept = sorted(found) == sorted(saved) and len(found) == len(PROCESSES) * RUNS
    outcome.shown = stale > 0 if runs is landed_runs else len(found) < len(saved)
    kept = model.LANDED if runs is landed_runs else model.TOLD
    outcome.artifact, outcome.events = "the state of one flow", []
    for name, program in zip(PROCESSES, programs, strict=True):
        for at, words in program.told[1:]:
            what, run, *_ = words.split()
            kind = model.REFUSED if what != "saved" else kept if run in found else model.LOST
            outcome.events.append(Event(kind, f"process {name}", run, at))


# In the programs.


def stock_runs(directory: str, name: str) -> None:
    _runs(_stock(directory), name)


def landed_runs(directory: str, name: str) -> None:
    _runs(_landed(directory), name)


def stock_reader(directory: str) -> None:
    tell(*_stock(directory).load_state(FLOW)["runs"])


def landed_reader(directory: str) -> None:
    tell(*_landed(directory).load_state(FLOW)["runs"])


def _stock(directory: str) -> Any:  # noqa: ANN401 - CrewAI is there where the demo runs, not where it is read
    prepare(directory)
    from crewai.flow.persistence.sqlite import SQLiteFlowPersistence  # pyright: ignore[reportMissingImports]

    return SQLiteFlowPersistence(os.path.join(directory, "flows.db"))


def _landed(directory: str) -> Any:  # noqa: ANN401
    prepare(directory)
    from crewai_landed import LandedFlowPersistence  # pyright: ignore[reportMissingImports]

    return LandedFlowPersistence(path=directory)


def _runs(store: Any, name: str) -> None:  # noqa: ANN401
    import lancedb  # pyright: ignore[reportMissingImports] # noqa: F401 - every flow does, when it first runs

    tell("ready")
    sys.stdin.readline()
    for number in range(RUNS):
        run = f"{name}-{number}"
        flow = _counter(store, run)
        for _ in range(TRIES):
            try:
                flow().kickoff(inputs={"id": FLOW})
            except Exception as error:  # noqa: BLE001 - told by name
                tell("stale" if type(error).__name__ == "StaleWrite" else "failed", run, repr(error).split("\n")[0])
            else:
                tell("saved", run)
                break


def _counter(store: Any, run: str) -> Any:  # noqa: ANN401
    from crewai.flow.flow import Flow, start  # pyright: ignore[reportMissingImports]
    from crewai.flow.persistence import persist  # pyright: ignore[reportMissingImports]

    @persist(store)
    class Counter(Flow[dict]):  # type: ignore[type-arg, misc]
        suppress_flow_events: bool = True

        @start()
        def count(self) -> None:
            self.state["runs"] = [*self.state.get("runs", []), run]

    return Counter
