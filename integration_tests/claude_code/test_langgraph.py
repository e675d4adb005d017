"""A tool of LangGraph that holds a file with landed, and an agent of Claude Code: each waits for the other."""

from __future__ import annotations

import threading
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest
from claude import finish
from model import use

import landed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from claude import Claude
    from model import Model

    Script = Callable[..., Model]

pytest.importorskip("langgraph.prebuilt", reason="LangGraph is not installed here: `tox -e claude-code` has it")

SOON = 20
"""Seconds in which something must have happened."""


def reviewer(path: Path, entered: threading.Event, leave: threading.Event) -> Any:
    """A graph whose one node runs a tool that adds a line to the plan."""
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode

    @tool
    def review() -> str:
        """Review the plan."""
        with landed.edit(path, timeout=SOON) as plan:
            entered.set()
            leave.wait(SOON)
            plan.text += "reviewed\n"
        return f"version {plan.receipt.version}"

    def model(_: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("", tool_calls=[{"name": "review", "args": {}, "id": "1"}])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", model)
    graph.add_node("tools", ToolNode([review]))
    graph.add_edge(START, "model")
    graph.add_edge("model", "tools")
    graph.add_edge("tools", END)
    return graph.compile()


def test_the_agent_waits_for_the_tool_and_builds_on_its_bytes(claude: Claude, script: Script) -> None:
    path = claude.work / "plan.md"
    landed.write(path, "one\n")
    entered, leave = threading.Event(), threading.Event()
    graph = reviewer(path, entered, leave)
    thread = threading.Thread(target=graph.invoke, args=({"messages": []},))

    def meanwhile():
        thread.start()
        entered.wait(SOON)
        threading.Timer(1, leave.set).start()
        return [use("Write", file_path=str(path), content="mine\n")]

    model = script(
        main=[
            [use("Read", file_path=str(path))],
            meanwhile,
            [use("Read", file_path=str(path))],
            [use("Edit", file_path=str(path), old_string="one", new_string="1")],
        ]
    )
    claude.run(model.url)
    thread.join()
    _, denied, _, edited = model.results()
    assert "Nothing was written." in denied
    assert "successfully" in edited
    assert path.read_text() == "1\nreviewed\n"


def test_the_tool_waits_for_the_agent_and_builds_on_its_bytes(claude: Claude, script: Script) -> None:
    path = claude.work / "plan.md"
    claude.hook("uninstall")
    ran, go = claude.work / "ran", claude.work / "go"
    slow = {"type": "command", "command": f"touch {ran}; while [ ! -e {go} ]; do sleep 0.05; done"}
    claude.settings(PreToolUse=[{"matcher": "Write", "hooks": [slow]}])
    claude.hook("install", "--scope", "project")
    landed.write(path, "one\n")
    entered, leave = threading.Event(), threading.Event()
    leave.set()
    thread = threading.Thread(target=reviewer(path, entered, leave).invoke, args=({"messages": []},))
    model = script(
        main=[[use("Read", file_path=str(path))], [use("Write", file_path=str(path), content="the agent's\n")]]
    )
    process = claude.start(model.url)
    deadline = monotonic() + SOON
    while not ran.exists() or "may be writing" not in claude.hook("status", check=False).stdout:
        assert monotonic() < deadline
        sleep(0.05)
    thread.start()
    assert not entered.wait(1), "the agent's tool may be writing now"
    go.touch()
    finish(process)
    thread.join()
    assert "successfully" in model.results()[1]
    assert path.read_text() == "the agent's\nreviewed\n", "neither is lost"
