"""Agents of Claude Code that write under the hook: each event is a process, as Claude Code starts it.

The tool itself writes as Claude Code does: a temp file, fsync, rename, and no flush of the directory, which is left to
the hook. A write counts as acknowledged when ``PostToolBatch`` has been answered: until then the model hears of none.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from lab.workloads import Workload

if TYPE_CHECKING:
    from pathlib import Path

    from lab.workloads import Mark

PATHS = ("plan.md", "notes.md", "new/deep.md")
SIZES = (40, 3000)
AGENTS = ("", "a1")
LIMIT = 60
"""Seconds for one event."""


class Silent(Exception):
    """The hook said nothing, or that it failed."""


class Work(Workload):
    """Two agents of one session write and edit files; each reads before it writes what the other wrote."""

    steps = 8
    errors = (Silent, OSError)

    def start(self) -> None:
        from landed_claude_code.hook import LAUNCHER
        from landed_claude_code.settings import command, here

        words = command(*here())
        self._command = [words["command"], *(word.replace(LAUNCHER, self.prelude + LAUNCHER) for word in words["args"])]

    def step(self) -> None:
        chance, number = self.chance, self.number
        path = os.path.join(self.directory, chance.choice(PATHS))
        agent = chance.choice(AGENTS)
        before = self._bytes(path)
        text = f"operation {number}\n" * (chance.choice(SIZES) // 20)
        edits = before is not None and chance.random() < 1 / 2
        if edits:
            assert before is not None
            text = before.decode() + f"operation {number}\n"
        call = {
            "agent_id": agent,
            "tool_name": "Edit" if edits else "Write",
            "tool_input": {"file_path": path},
            "tool_use_id": f"toolu_{number}",
        }
        self.say({"begin": number, "path": os.path.relpath(path, self.directory), "text": text})
        if before is not None:
            shown = {"content": before.decode(), "startLine": 1}
            self._hook("PostToolUse", {**call, "tool_name": "Read", "tool_response": {"type": "text", "file": shown}})
        denied = self._hook("PreToolUse", call)
        if denied:
            raise Silent(f"an agent that has read {path} may not write it: {denied}")
        try:
            self._write(path, text.encode())
        except OSError as error:
            self._hook("PostToolUseFailure", {**call, "error": str(error)})
            raise
        response: dict[str, Any] = {"filePath": path, "content": text}
        if edits:
            response = {"originalFile": "", "structuredPatch": [], "oldString": "", "newString": text}
        said = self._hook("PostToolUse", {**call, "tool_response": response})
        said = said or self._settle(path, {"agent_id": agent})
        if said:
            raise Silent(f"a write that landed is found fault with: {said}")
        self.say({"acked": number})

    def _settle(self, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        """What is said of `path`; that other agents have changed other files is no complaint."""
        said = self._hook("PostToolBatch", {**fields, "tool_calls": []})
        return said if path in str(said) else {}

    def _write(self, path: str, data: bytes) -> None:
        """As Claude Code's tools do."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temp = f"{path}.tmp.{os.getpid()}"
        with open(temp, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temp, path)

    def _hook(self, event: str, fields: dict[str, Any]) -> dict[str, Any]:
        payload = {"session_id": "5e5510", "cwd": str(self.directory), "hook_event_name": event, **fields}
        ended = subprocess.run(
            self._command,
            input=json.dumps(payload).encode(),
            capture_output=True,
            timeout=LIMIT,
            env={**os.environ, "CLAUDE_PID": str(os.getpid())},
            check=False,
        )
        if ended.returncode == -signal.SIGKILL:
            os.kill(os.getpid(), signal.SIGKILL)  # whoever kills the hook means Claude Code with it
        if ended.returncode or not ended.stdout.endswith(b"\n"):
            raise Silent(f"{event}: it ended with {ended.returncode}: {ended.stdout!r} {ended.stderr!r}")
        answer: dict[str, Any] = json.loads(ended.stdout)
        if "systemMessage" in answer:
            raise Silent(f"{event}: {answer['systemMessage']}")
        return answer

    def _bytes(self, path: str | os.PathLike[str]) -> bytes | None:
        try:
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def examine(self, directory: Path, marks: list[Mark]) -> list[str]:
        """Each file holds the last acknowledged write, or one that was begun after it; nobody is locked out of it."""
        acked = {mark["acked"] for mark in marks if "acked" in mark}
        allowed: dict[str, set[bytes | None]] = {}
        for mark in marks:
            if "begin" in mark:
                text = mark["text"].encode()
                possible = allowed.setdefault(mark["path"], {None})
                if mark["begin"] in acked:
                    possible.clear()
                possible.add(text)
        problems = []
        for name, possible in allowed.items():
            found = self._bytes(directory / name)
            if found not in possible:
                problems.append(f"{name}: {found!r:.60}, where {len(possible)} other contents may stand")
        return problems + self._locked_out(directory, list(allowed)[-1:])

    def _locked_out(self, directory: Path, names: list[str]) -> list[str]:
        """A new agent, in a new process of Claude Code, reads each of these files and may write it at once."""
        self.directory = directory
        self.start()
        problems = []
        for number, name in enumerate(names):
            path = os.path.join(directory, name)
            found = self._bytes(path)
            call = {"session_id": "next", "tool_name": "Write", "tool_input": {"file_path": path}}
            try:
                if found is not None:
                    file = {"content": found.decode(), "startLine": 1}
                    shown = {"tool_name": "Read", "tool_response": {"type": "text", "file": file}}
                    self._hook("PostToolUse", {**call, **shown})
                denied = self._hook("PreToolUse", {**call, "tool_use_id": f"next-{number}"})
                said = self._settle(path, {"session_id": "next"})
            except Silent as error:
                problems.append(f"{name}: {error}")
            else:
                problems += [f"{name}: {one}" for one in (denied, said) if one]
        return problems
