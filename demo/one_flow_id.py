"""(g) Four processes run a CrewAI flow by one id, and each run counts.

Each run loads the state, adds one and saves it. Who loads before another has saved overwrites what that one has added:
every run was told that its state is saved, and most of them are in no state that anybody loads.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from demo.offline_crewai import prepare
from demo.scene import Outcome, Program, Scene, tell

if TYPE_CHECKING:
    from collections.abc import Callable

TITLE = "Four processes run a CrewAI flow by one id"
REPORTS = "crewAIInc/crewAI #5802"

PROCESSES = 4
RUNS = 5
"""Of each."""
TRIES = 200
"""Of a run until it counts as one that never lands."""
CASES = (f"each adds one to its state, {RUNS} times",)
BOUND = 3
"""Tries. Four processes meet within their first runs."""
FLOW = "the-flow"


def stock(scene: Scene, _case: str) -> Outcome:
    outcome = Outcome("SQLiteFlow- Persistence")
    return scene.until_shown(outcome, BOUND, lambda outcome: _attempt(scene, outcome, stock_runs))


def landed(scene: Scene, _case: str) -> Outcome:
    outcome = Outcome("LandedFlow- Persistence")
    return scene.until_shown(outcome, BOUND, lambda outcome: _attempt(scene, outcome, landed_runs))


def _attempt(scene: Scene, outcome: Outcome, runs: Callable[[str], None]) -> None:
    with Program(runs, str(scene.empty())) as program:
        told = [line.split() for line in program.lines()]
    saved = sum(what == "saved" for what, *_ in told)
    stale = sum(what == "stale" for what, *_ in told)
    found = next((int(number) for what, *rest in told if what == "found" for number in rest), 0)
    outcome.acknowledged = f"{saved} runs"
    outcome.found = f"a count of {found}"
    outcome.heard = f"StaleWrite {stale} times; ran again, and it landed" if stale else "nothing"
    outcome.kept = found == saved == PROCESSES * RUNS
    outcome.shown = stale > 0 if runs is landed_runs else found < saved


# In the program: CrewAI takes seconds to import, so it is imported once, and then there are four.


def stock_runs(directory: str) -> None:
    prepare(directory)
    from crewai.flow.persistence.sqlite import SQLiteFlowPersistence  # pyright: ignore[reportMissingImports]

    _run(lambda: SQLiteFlowPersistence(os.path.join(directory, "flows.db")))


def landed_runs(directory: str) -> None:
    prepare(directory)
    from crewai_landed import LandedFlowPersistence  # pyright: ignore[reportMissingImports]

    _run(lambda: LandedFlowPersistence(path=directory))


def _run(store: Callable[[], Any]) -> None:
    import crewai.flow.flow  # pyright: ignore[reportMissingImports]  # noqa: F401 - before there are four

    ready, go = os.pipe()
    children = []
    for _ in range(PROCESSES):
        child = os.fork()
        if child == 0:
            os.read(ready, 1)
            try:
                _runs(store())
            finally:
                os._exit(0)  # it has no threads of CrewAI's to wait for, and would
        children.append(child)
    os.write(go, b"x" * PROCESSES)
    for child in children:
        os.waitpid(child, 0)
    tell("found", store().load_state(FLOW)["n"])


def _runs(store: Any) -> None:  # noqa: ANN401 - CrewAI is there where the demo runs, not where it is read
    kind = _counter(store)
    for _ in range(RUNS):
        for _ in range(TRIES):
            try:
                kind().kickoff(inputs={"id": FLOW})
            except Exception as error:  # noqa: BLE001 - told by name
                tell("stale" if type(error).__name__ == "StaleWrite" else f"failed {error!r}")
            else:
                tell("saved")
                break


def _counter(store: Any) -> Any:  # noqa: ANN401
    from crewai.flow.flow import Flow, start  # pyright: ignore[reportMissingImports]
    from crewai.flow.persistence import persist  # pyright: ignore[reportMissingImports]

    @persist(store)
    class Counter(Flow[dict]):  # type: ignore[type-arg, misc]
        suppress_flow_events: bool = True

        @start()
        def count(self) -> None:
            self.state["n"] = self.state.get("n", 0) + 1

    return Counter
