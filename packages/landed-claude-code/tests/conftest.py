"""What every test of the hook starts from: records of its own, and agents that act on real files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from landed.process import Owner, me, start_token
from landed_claude_code import guard
from landed_claude_code.adapter import Agent, call_of, output_of
from landed_claude_code.guard import answer
from landed_claude_code.ledger import Ledger, agents_directory


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "state"
    monkeypatch.setenv("LANDED_STATE_DIR", str(path))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    monkeypatch.delenv("CLAUDE_PROJECT_DIR", raising=False)
    return path


@pytest.fixture
def work(tmp_path: Path) -> Path:
    path = Path(os.path.realpath(tmp_path)) / "work"
    path.mkdir()
    return path


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PATIENCE", 0.2)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wrote is done soon, also without a PostToolBatch."""
    monkeypatch.setattr(guard, "WINDOW", 0.2)


class Actor:
    """An agent: its tools write as Claude Code's do, and the hook hears of it as it would."""

    def __init__(self, work: Path, session: str = "5e5510", id: str = "", owner: Owner | None = None) -> None:  # noqa: A002
        self.work = work
        self.fields = {"session_id": session, "agent_id": id, "cwd": str(work)}
        self.owner = owner or Owner(os.getpid(), start_token(os.getpid()), me().host, f"agent {id or 'main'}")
        self.calls = 0

    def hook(self, event: str, **fields: object) -> dict[str, Any]:
        """Let the hook hear of an event; what it prints."""
        call = call_of({**self.fields, "hook_event_name": event, **fields})
        ledger = Ledger(call.agent, self.owner, agents_directory())
        return output_of(event, answer(call, ledger))

    def ask(self, path: Path, tool: str = "Write", **fields: object) -> str:
        """Why the tool may not run; "" if it may."""
        self.calls += 1
        name = "notebook_path" if tool == "NotebookEdit" else "file_path"
        said = self.hook(
            "PreToolUse",
            tool_name=tool,
            tool_use_id=f"{self.owner.program}-{self.calls}",
            tool_input={name: str(path), **fields},
        )
        decision = said.get("hookSpecificOutput", {})
        assert decision.get("permissionDecision") in {None, "deny"}
        return str(decision.get("permissionDecisionReason", ""))

    def done(self, path: Path, response: dict[str, Any], tool: str = "Write") -> str:
        """What the hook says of what the tool returned; "" if it agrees."""
        name = "notebook_path" if tool == "NotebookEdit" else "file_path"
        said = self.hook(
            "PostToolUse",
            tool_name=tool,
            tool_use_id=f"{self.owner.program}-{self.calls}",
            tool_input={name: str(path)},
            tool_response=response,
        )
        return str(said.get("reason", "")) or str(said.get("hookSpecificOutput", {}).get("additionalContext", ""))

    def write(self, path: Path, text: str) -> str:
        """Write a file as the tool does, if the hook lets it; what the hook said."""
        if reason := self.ask(path):
            return reason
        temp = path.with_name("temp")
        temp.write_text(text, newline="")
        temp.replace(path)
        return self.done(path, {"type": "create", "content": text})

    def read(self, path: Path) -> str:
        shown = {"content": path.read_bytes().decode(), "startLine": 1}
        return self.done(path, {"type": "text", "file": shown}, "Read")

    def settle(self) -> str:
        said = self.hook("PostToolBatch", tool_calls=[])
        return str(said.get("hookSpecificOutput", {}).get("additionalContext", ""))

    def stop(self, *, again: bool = False) -> str:
        event = "SubagentStop" if self.fields["agent_id"] else "Stop"
        return str(self.hook(event, stop_hook_active=again).get("reason", ""))

    def ledger(self) -> Ledger:
        agent = Agent(self.fields["session_id"], self.fields["agent_id"], "", "", "")
        return Ledger(agent, self.owner, agents_directory()).load()

    def ledger_directory(self) -> Path:
        return Path(self.ledger().path).parent


@pytest.fixture
def actor(work: Path) -> Any:
    """Makes agents."""
    return lambda *words, **more: Actor(work, *words, **more)


@pytest.fixture
def black(work: Path) -> Callable[[str], None]:
    """Puts a hook into the settings that runs after the tools that a matcher names."""

    def put(matcher: str) -> None:
        (work / ".claude").mkdir(exist_ok=True)
        hooks = {"PostToolUse": [{"matcher": matcher, "hooks": [{"type": "command", "command": "black"}]}]}
        text = json.dumps({"hooks": hooks})
        (work / ".claude" / "settings.json").write_text(text, encoding="utf-8-sig")  # Claude Code reads it with a mark

    return put
