"""Workflows that will never end, and the sessions that died on them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from landed.process import Owner, me, start_token
from landed_claude_code import workflows
from landed_claude_code.adapter import Agent
from landed_claude_code.ledger import SEEN, Fact, Ledger, agents_directory

STARTED = [{"type": "launched"}, {"type": "started", "agentId": "a1"}, {"type": "started", "agentId": "a2"}]
ENDED = [{"type": "result", "agentId": "a1"}, {"type": "result", "agentId": "a2"}]


@pytest.fixture
def journal(tmp_path: Path):
    def make(session: str, events: list[dict]) -> Path:
        path = tmp_path / f"claude/projects/-p/{session}/subagents/workflows/wf_1/journal.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(event) + "\n" for event in events) + '{"type": "resu')
        return path

    return make


def runs(tmp_path: Path, session: str, pid: int, started: str) -> None:
    directory = tmp_path / "claude" / "sessions"
    directory.mkdir(exist_ok=True)
    entry = {"pid": pid, "sessionId": session, "procStart": started, "cwd": "/project"}
    (directory / f"{pid}.json").write_text(json.dumps(entry))


def test_a_session_that_runs_is_at_work(journal, tmp_path: Path) -> None:
    journal("s1", STARTED)
    runs(tmp_path, "s1", os.getpid(), start_token(os.getpid()).rpartition(".")[2])
    assert not list(workflows.frozen())
    (found,) = workflows.audit("/project", level="read")
    assert (found.verdict, found.bad) == ("in progress", False)
    assert not list(workflows.audit("/elsewhere", level="read"))


@pytest.mark.parametrize("pid_in_use", [True, False])
def test_a_dead_session(journal, tmp_path: Path, pid_in_use: bool) -> None:
    path = journal("s1", STARTED + ENDED[:1])
    runs(tmp_path, "s1", os.getpid() if pid_in_use else 2**22 - 1, "1")
    (found,) = workflows.frozen()
    assert (found.path, found.pending, found.alive) == (str(path), {"a2"}, False)
    (finding,) = workflows.audit("", level="read")
    assert finding.bad
    assert "1 of 2 agents started and never ended (a2)" in finding.detail


def test_a_session_of_which_only_the_ledger_knows(journal, tmp_path: Path) -> None:
    journal("s1", STARTED)
    agent = Agent("s1", "", "", "/project", "")
    gone = Owner(2**22 - 1, me().started.rpartition(".")[0] + ".1", me().host, "gone")
    Ledger(agent, gone, agents_directory()).add(Fact(SEEN, "/a"))
    (found,) = workflows.frozen()
    assert found.owner == gone
    assert found.directory == "/project"


@pytest.mark.parametrize("listed", [True, False], ids=["in Claude Code's list", "in the ledger alone"])
def test_a_session_in_a_container_is_not_called_dead(journal, tmp_path: Path, listed: bool) -> None:
    journal("s1", STARTED)
    boot, _, _ = me().started.split(".")
    inside = Owner(2**22 - 1, f"{boot}.4026539999.77", me().host, "in a container")
    Ledger(Agent("s1", "", "", "/project", ""), inside, agents_directory()).add(Fact(SEEN, "/a"))
    if listed:
        runs(tmp_path, "s1", inside.pid, "77")
    (found,) = workflows.journals()
    assert (found.owner, found.alive, found.is_frozen) == (inside, None, False)


def test_a_workflow_that_ended(journal) -> None:
    journal("s1", STARTED + ENDED)
    assert not list(workflows.frozen())
    (found,) = workflows.audit("", level="read")
    assert found.verdict == "intact"
