"""SIGKILL at the hook's system calls: no byte is lost, nobody is locked out, and no false word is said afterwards.

`hooks.Work` drives longer stories; here each event is one process, killed at each of its calls on records and files.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from injection import HARMLESS, STORAGE, strace, why_not
from results import note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
pytest.importorskip("landed_claude_code", reason="needs landed-claude-code")

OLD, NEW = "old\n", "new\n"
STORY = ("Read", "PreToolUse", "tool", "PostToolUse", "PostToolBatch", "Stop")
"""One write, from beginning to end; all but ``tool`` are events."""
STRIDE = 4
"""Every so many calls; a window between two writes of records is wider than that."""
LIMIT = 60


class Scene:
    """A file that holds `OLD`, and two agents; the first has a Claude Code that can be killed."""

    def __init__(self, directory: Path) -> None:
        from landed_claude_code.settings import command, here

        words = command(*here())
        self.command = [words["command"], *words["args"]]
        self.work, self.state = directory / "work", directory / "state"
        self.work.mkdir(parents=True)
        self.path = self.work / "plan.md"
        self.path.write_text(OLD)
        self.claude = subprocess.Popen(["sleep", str(LIMIT)])

    def close(self) -> None:
        self.claude.kill()
        self.claude.wait()

    def event(self, step: str, agent: str = "first", tracer: tuple[str, ...] = ()) -> tuple[int, dict[str, Any]]:
        """Let the hook hear of a step; its exit code and its answer."""
        text = self.path.read_text()
        call = {"tool_name": "Write", "tool_use_id": f"{agent}'s", "tool_input": {"file_path": str(self.path)}}
        response: dict[str, Any] = {"content": NEW}
        if step == "Read":
            call["tool_name"], response = "Read", {"type": "text", "file": {"content": text, "startLine": 1}}
        payload = {
            **({} if step in {"PostToolBatch", "Stop"} else call),
            "session_id": agent,
            "cwd": str(self.work),
            "hook_event_name": "PostToolUse" if step == "Read" else step,
            "tool_response": response,
        }
        owner = self.claude.pid if agent == "first" else os.getpid()
        ended = subprocess.run(
            [*tracer, *self.command],
            input=json.dumps(payload).encode(),
            capture_output=True,
            timeout=LIMIT,
            env={**os.environ, "LANDED_STATE_DIR": str(self.state), "CLAUDE_PID": str(owner)},
            check=False,
        )
        return ended.returncode, json.loads(ended.stdout or b"{}")

    def tell(self, upto: str) -> None:
        """Play the story up to a step."""
        for step in STORY[: STORY.index(upto)]:
            if step == "tool":
                self.tool()
            else:
                assert self.event(step) == (0, {}), step

    def tool(self) -> None:
        temp = self.path.with_name("temp")
        temp.write_text(NEW)
        temp.replace(self.path)

    def judge(self, killed: str, *, claude_dies: bool) -> list[str]:
        """What is wrong after the hook was killed in the step `killed`."""
        problems = []
        expected = OLD if STORY.index(killed) < STORY.index("tool") else NEW
        if claude_dies:
            self.close()
        else:  # a write whose PreToolUse was killed is blocked; the batch ends in every case
            code, said = self.event("PostToolBatch")
            unchecked = killed == "PostToolUse" and "did not run" in str(said)
            if code or (said and not unchecked):
                problems.append(f"PostToolBatch: {said}")
            if (stop := self.event("Stop")) != (0, {}):
                problems.append(f"Stop: {stop}")
        before = time.monotonic()
        said_to_next = {step: self.event(step, "second") for step in ("Read", "PreToolUse")}
        problems += [f"the next agent, {step}: {said}" for step, said in said_to_next.items() if said != (0, {})]
        if time.monotonic() - before > LIMIT / 20:
            problems.append("the next agent has to wait")
        if self.path.read_text() != expected:
            problems.append(f"the file holds {self.path.read_text()!r}")
        return problems


@pytest.fixture
def scenes(tmp_path: Path) -> Iterator[Any]:
    made: list[Scene] = []

    def make() -> Scene:
        made.append(Scene(tmp_path / str(len(made))))
        return made[-1]

    yield make
    for scene in made:
        scene.close()


def points(scene: Scene, step: str, trace: Path) -> list[tuple[str, int]]:
    """The calls of a step's process that touch records or the file: name, and which of that name it is."""
    code, _ = scene.event(step, tracer=(*strace(trace, "-y"), "-e", "trace=all"))
    assert code == 0
    counts: Counter[str] = Counter()
    found = []
    for line in trace.read_text().splitlines():
        call = re.match(r"\d+ +(\w+)\(", line)
        if call is None:
            continue
        counts[call[1]] += 1
        ours = str(scene.state.parent) in line
        assert call[1] in STORAGE | HARMLESS or not ours, line
        if ours and call[1] in STORAGE:
            found.append((call[1], counts[call[1]]))
    return found


@pytest.mark.parametrize("claude_dies", [True, False], ids=["Claude Code dies with it", "Claude Code goes on"])
@pytest.mark.parametrize("step", [step for step in STORY if step != "tool"])
def test_kill(scenes: Any, tmp_path: Path, step: str, claude_dies: bool) -> None:
    compiling = scenes()  # the hook's modules: a recording of that would have calls that no other run has
    compiling.tell(step)
    compiling.event(step)
    first = scenes()
    first.tell(step)
    every = points(first, step, tmp_path / "trace")
    killed, problems = 0, []
    for name, when in every[::STRIDE]:
        scene = scenes()
        scene.tell(step)
        inject = ("-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={when}")
        code, _ = scene.event(step, tracer=(*strace("/dev/null"), *inject))
        if code == -signal.SIGKILL:
            killed += 1
            found = scene.judge(step, claude_dies=claude_dies)
            problems += [f"killed at {name} {when}: {one}" for one in found]
        scene.close()
    note(
        "kills of the hook",
        what=f"{step}, claude {'dies' if claude_dies else 'lives'}",
        calls=len(every),
        killed=killed,
    )
    assert problems == []
    assert killed > 0.8 * len(every[::STRIDE]) > 0, f"{killed} of {len(every)}"
