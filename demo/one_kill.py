"""(b) One kill takes a runtime with many workflows, and nothing says what was under way.

A runtime runs 28 workflows, each of which saves its state again and again. One signal ends it. Afterwards the question
is which state each workflow has, and which saves were begun and never ended.
"""

from __future__ import annotations

import json
import threading
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from demo.scene import Outcome, Program, Scene, tell
from landed import verify, write
from landed.audit import UNFINISHED, audit
from landed.report import model
from landed.report.model import Event
from landed.state import user_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TITLE = "One kill ends a runtime with 28 workflows under way"
REPORTS = "anthropics/claude-code #69856, #75651, #76955"

WORKFLOWS = 28
CASES = ("SIGKILL while they save",)
ARTIFACT = f"{WORKFLOWS} files, one of each workflow"
BOUND = 20
"""Tries. At almost any moment most of the workflows are in the middle of a save."""


def stock(scene: Scene, _case: str) -> Outcome:
    def attempt(outcome: Outcome) -> None:
        directory = scene.empty()
        acknowledged, begun, told = _run_and_kill(scene, stock_runtime, directory)
        found = {name: _step_in(directory / name) for name in acknowledged}
        torn = sum(step is None for step in found.values())
        lost = {name for name, step in found.items() if step is None}
        outcome.events = list(_events(told, model.TOLD, lost, begun))
        outcome.acknowledged = f"a state of each of {WORKFLOWS}"
        outcome.found = f"{WORKFLOWS - torn} whole, {torn} empty or cut off"
        outcome.heard = "nothing; no trace of what was begun"
        outcome.shown = torn > 0
        outcome.kept = torn == 0

    return scene.until_shown(Outcome("json.dump() into open()", artifact=ARTIFACT), BOUND, attempt)


def landed(scene: Scene, _case: str) -> Outcome:
    def attempt(outcome: Outcome) -> None:
        directory = scene.empty()
        acknowledged, begun, told = _run_and_kill(scene, landed_runtime, directory)
        found = {name: _step_in(directory / name) for name in acknowledged}
        reported = {
            Path(finding.path).name: finding
            for finding in audit(user_store(), under=str(directory.resolve()))
            if finding.verdict == UNFINISHED
        }
        whole = [name for name, step in found.items() if step in {acknowledged[name], begun.get(name)}]
        dead = [name for name, finding in reported.items() if finding.owner_alive is False and name in begun]
        outcome.events = list(_events(told, model.LANDED, set(), {name: begun[name] for name in dead}))
        outcome.acknowledged = f"a state of each of {WORKFLOWS}"
        outcome.found = f"{len(whole)} whole, as acknowledged or as begun"
        outcome.heard = f"{len(dead)} saves begun by a dead owner, each by name"
        outcome.shown = len(dead) > 0
        outcome.kept = len(whole) == WORKFLOWS and len(dead) == len(reported) and _settled(directory, found)

    return scene.until_shown(Outcome("landed.write()", artifact=ARTIFACT), BOUND, attempt)


def _run_and_kill(
    scene: Scene, runtime: Callable[[str], None], directory: Path
) -> tuple[dict[str, int], dict[str, int], list[tuple[float, str]]]:
    """Kill the runtime once every workflow has saved.

    Returns:
        For each workflow the step that was acknowledged last; for those with a later one begun, that; all that it told.
    """
    acknowledged: dict[str, int] = {}
    begun: dict[str, int] = {}
    more = scene.chance.randrange(WORKFLOWS)
    with Program(runtime, str(directory)) as program:
        for line in program.lines():
            word, name, step = line.split()
            (begun if word == "begin" else acknowledged)[name] = int(step)
            if len(acknowledged) == WORKFLOWS and more >= 0:
                more -= 1
                if more < 0:
                    program.kill()  # what it had said until then is still in the pipe
    return acknowledged, {name: step for name, step in begun.items() if step > acknowledged[name]}, program.told


def _events(told: list[tuple[float, str]], kind: str, lost: set[str], begun: dict[str, int]) -> Iterator[Event]:
    """What was acknowledged last in each workflow, and what was under way."""
    last = {tuple(words.split()[:2]): (at, int(words.split()[2])) for at, words in told}
    for (word, name), (at, step) in last.items():
        if word == "done":
            is_lost = name in lost
            what = f"step {step}" + (", of which no whole state is left" if is_lost else "")
            yield Event(model.LOST if is_lost else kind, name, what, at)
        elif name in begun:
            yield Event(model.FAILED, name, f"step {step}, when the kill came", at)


def _step_in(path: Path) -> int | None:
    """The step that a saved state holds; None when it is not a whole state."""
    try:
        state = json.loads(path.read_bytes())
    except ValueError:
        return None
    return int(state["step"]) if state["log"] == _state(state["step"])["log"] else None


def _settled(directory: Path, found: dict[str, int | None]) -> bool:
    """Whether the next opener finds every file as it was, and after it nothing is left over or unfinished."""
    for name, step in found.items():
        verify(directory / name)
        if _step_in(directory / name) != step:
            return False
    left = [entry.name for entry in directory.iterdir() if entry.name not in found]
    return not left and all(finding.verdict != UNFINISHED for finding in audit(user_store(), under=str(directory)))


def stock_runtime(directory: str) -> None:
    def save(path: Path, state: dict[str, object]) -> None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(state, file)

    _run(Path(directory), save)


def landed_runtime(directory: str) -> None:
    _run(Path(directory), lambda path, state: write(path, json.dumps(state)))


def _run(directory: Path, save: Callable[[Path, dict[str, object]], object]) -> None:
    def workflow(name: str) -> None:
        for step in count(1):
            state = _state(step)
            tell("begin", name, step)
            save(directory / name, state)
            tell("done", name, step)

    for number in range(WORKFLOWS):
        threading.Thread(target=workflow, args=(f"workflow-{number:02}.json",)).start()


def _state(step: int) -> dict[str, object]:
    return {"step": step, "log": [f"step {step}, tool call {call}" for call in range(1000)]}
