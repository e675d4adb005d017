"""(e) Three subagents of one coding agent write the same new file, and each is told that it succeeded.

On the real Claude Code, where npm can fetch it: it runs offline against a scripted model, first as it is, then with
`landed-hook install`. Where it cannot be had, the same calls are replayed as they were recorded, each hook a process as
there; the outcome says which it was.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from demo.scene import ROOT, Outcome, Scene
from landed.report import model
from landed.report.model import Event

sys.path.append(str(ROOT / "integration_tests" / "claude_code"))

from claude import LATEST, Claude, Network, Unavailable, fetch  # pyright: ignore[reportMissingImports]
from model import Model, use  # pyright: ignore[reportMissingImports]

if TYPE_CHECKING:
    from pathlib import Path

TITLE = "Three subagents write one new file, and each is told that it succeeded"
REPORTS = "anthropics/claude-code #85597, #88862, #87243"

CASES = ("three subagents of Claude Code write plan.md",)
AGENTS = ("one", "two", "three")
FETCH_LIMIT = 20
"""Seconds for npm, in all; after that the recorded calls have to do."""
BOUND = 5
"""Tries. Three subagents write within a hundredth of a second of each other; on a busy machine one may be late."""
SUCCESS = "successfully"
DENIAL = "Nothing was written."


def stock(scene: Scene, _case: str) -> Outcome:
    return _play(scene, hooked=False)


def landed(scene: Scene, _case: str) -> Outcome:
    return _play(scene, hooked=True)


def _play(scene: Scene, *, hooked: bool) -> Outcome:
    program, why = nursery().program()
    name = f"Claude Code {program.parents[3].name}" if program is not None else f"recorded calls ({why})"

    def attempt(outcome: Outcome) -> None:
        directory = scene.empty().resolve()
        answers = _real(program, directory, hooked) if program is not None else _recorded(directory, hooked)
        plan = directory / "work" / "plan.md"
        stored = plan.read_text(encoding="utf-8").strip() if plan.exists() else "nothing"
        told = [agent for agent in AGENTS if SUCCESS in answers[agent]]
        denied = [agent for agent in AGENTS if DENIAL in answers[agent] and "Read it, then redo" in answers[agent]]
        outcome.acknowledged = f"{len(told)} of 3 files"
        outcome.found = f"1 of them: that of agent {stored}" if stored in told else "none of them"
        outcome.heard = (
            f"{len(denied)} agents: not written, who did, and to read it first" if denied else "nothing: 3 x success"
        )
        outcome.kept = told == [stored]
        outcome.shown = len(denied) == len(AGENTS) - 1 if hooked else len(told) > 1
        outcome.artifact = plan.name
        outcome.events = [_event_of(agent, answers[agent], stored, hooked=hooked) for agent in AGENTS]

    return scene.until_shown(Outcome(name + (" with landed-hook" if hooked else "")), BOUND, attempt)


def _event_of(agent: str, answer: str, stored: str, *, hooked: bool) -> Event:
    """What an agent was told, and whether it is so."""
    if SUCCESS not in answer:
        return Event(model.REFUSED, f"agent {agent}", answer)
    if stored != agent:
        return Event(model.LOST, f"agent {agent}", f"{answer}; on the disk is what agent {stored} wrote")
    return Event(model.LANDED if hooked else model.TOLD, f"agent {agent}", answer)


@lru_cache(maxsize=1)
def nursery() -> _Fetching:
    """Claude Code, fetched while other incidents are replayed."""
    return _Fetching()


class _Fetching:
    """Asks npm for Claude Code, in a thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._fetched = self._thread.submit(fetch, LATEST, FETCH_LIMIT)

    def program(self) -> tuple[Path | None, str]:
        """Where it is, once it is there; or why there is none."""
        try:
            return self._fetched.result(), ""
        except Unavailable as why:
            return None, f"no Claude Code: {why}"[:60]

    def close(self) -> None:
        """Wait for npm, which has a limit."""
        self._thread.shutdown()


def _real(program: Path, directory: Path, hooked: bool) -> dict[str, str]:  # noqa: FBT001
    """What each subagent was told by Claude Code."""
    network = Network()
    claude = Claude(program, network, directory)
    if hooked:
        claude.hook("install", "--scope", "project")
    path = str(claude.work / "plan.md")
    start = [
        use("Agent", description=name, prompt=f"SCRIPT:{name}", subagent_type="general-purpose") for name in AGENTS
    ]
    scripts: dict[str, Any] = {name: [[use("Write", file_path=path, content=f"{name}\n")]] for name in AGENTS}
    model = network.run(Model, {"main": [start], **scripts})
    try:
        claude.run(model.url)
        return {name: (model.results(name) or ["nothing"])[0] for name in AGENTS}
    finally:
        model.close()
        network.close()


def _recorded(directory: Path, hooked: bool) -> dict[str, str]:  # noqa: FBT001
    """The same, with the calls that Claude Code made: a hook before, the write, a hook after, three at a time."""
    path = directory / "work" / "plan.md"
    path.parent.mkdir()
    answers: dict[str, str] = {}
    everybody = threading.Barrier(len(AGENTS))

    def agent(name: str) -> None:
        call = {
            "session_id": "3f1f9f1e-recorded",
            "agent_id": name,
            "agent_type": "general-purpose",
            "cwd": str(path.parent),
            "tool_name": "Write",
            "tool_input": {"file_path": str(path), "content": f"{name}\n"},
            "tool_use_id": f"toolu_{name}",
        }
        everybody.wait()
        before = _hook({**call, "hook_event_name": "PreToolUse"}) if hooked else {}
        reason = before.get("hookSpecificOutput", {}).get("permissionDecisionReason")
        if reason:
            answers[name] = reason
            return
        temp = path.with_name(f"{path.name}.tmp.{name}")
        temp.write_text(f"{name}\n", encoding="utf-8")
        os.replace(temp, path)
        response = {"type": "create", "filePath": str(path), "content": f"{name}\n", "originalFile": None}
        after = _hook({**call, "hook_event_name": "PostToolUse", "tool_response": response}) if hooked else {}
        answers[name] = after.get("reason") or f"File created {SUCCESS} at: {path}"
        if hooked:
            _hook({**call, "hook_event_name": "PostToolBatch"})

    threads = [threading.Thread(target=agent, args=(name,)) for name in AGENTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def _hook(event: dict[str, Any]) -> dict[str, Any]:
    """Start the hook as the settings would have it started."""
    from landed_claude_code.settings import entries, here

    entry = entries(*here())[event["hook_event_name"]]
    if "matcher" in entry and not re.fullmatch(entry["matcher"], event["tool_name"]):
        return {}
    (hook,) = entry["hooks"]
    ended = subprocess.run(
        [hook["command"], *hook["args"]],
        input=json.dumps(event).encode(),
        capture_output=True,
        env={**os.environ, "CLAUDE_PID": str(os.getpid())},
        check=True,
    )
    return dict(json.loads(ended.stdout))
