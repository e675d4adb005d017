"""Hook JSON in, hook JSON out: as Claude Code gave it, and never that something is allowed."""

from __future__ import annotations

import itertools

import pytest
from recorded import PAYLOADS

from landed_claude_code.adapter import (
    AFTER,
    ASKING,
    BEFORE,
    EDIT,
    END,
    FAILED,
    NOTEBOOK,
    OTHER,
    PASS,
    PROMPT,
    READ,
    SETTLE,
    START,
    STOP,
    WRITE,
    Answer,
    call_of,
    output_of,
)

EXPECTED = {
    ("PreToolUse", "Write"): (BEFORE, WRITE, "/project/plan.md"),
    ("PreToolUse", "Edit"): (BEFORE, EDIT, "/project/plan.md"),
    ("PreToolUse", "Read"): (BEFORE, READ, "/project/plan.md"),
    ("PreToolUse", "NotebookEdit"): (BEFORE, NOTEBOOK, "/project/n.ipynb"),
    ("PreToolUse", "Bash"): (PASS, OTHER, ""),
    ("PreToolUse", "Agent"): (PASS, OTHER, ""),
    ("PostToolUse", "Write"): (AFTER, WRITE, None),
    ("PostToolUse", "Edit"): (AFTER, EDIT, "/project/plan.md"),
    ("PostToolUse", "Read"): (AFTER, READ, None),
    ("PostToolUse", "NotebookEdit"): (AFTER, NOTEBOOK, "/project/n.ipynb"),
    ("PostToolUseFailure", "Write"): (FAILED, WRITE, None),
    ("PostToolUseFailure", "Bash"): (PASS, OTHER, ""),
    ("PermissionRequest", "Write"): (ASKING, WRITE, "/home/ada/outside.md"),
    ("PostToolBatch", None): (SETTLE, OTHER, ""),
    ("UserPromptSubmit", None): (PROMPT, OTHER, ""),
    ("SessionStart", None): (START, OTHER, ""),
    ("SessionEnd", None): (END, OTHER, ""),
    ("SubagentStart", None): (PASS, OTHER, ""),
    ("SubagentStop", None): (STOP, OTHER, ""),
    ("Stop", None): (STOP, OTHER, ""),
}

NOT_FIRED = {"2.1.139": {("PermissionRequest", "Write")}}
"""Without a terminal that version refuses and asks no hook."""


@pytest.mark.parametrize("version", PAYLOADS)
def test_each_recorded_event(version: str) -> None:
    met = set()
    for event in PAYLOADS[version]:
        kind = (event["hook_event_name"], event.get("tool_name"))
        phase, operation, path = EXPECTED[kind]
        call = call_of(event)
        assert (call.phase, call.operation) == (phase, operation), kind
        if path is not None:
            assert call.paths == ([path] if path else []), kind
        assert call.agent.session == event["session_id"]
        assert call.agent.id == event.get("agent_id", "")
        assert call.id == event.get("tool_use_id", "")
        assert not call.again
        assert bool(call.response) == (phase == AFTER), kind
        met.add(kind)
    assert set(EXPECTED) - met == NOT_FIRED.get(version, set())


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"hook_event_name": "SomethingNew", "session_id": "s"},
        {"hook_event_name": "PreToolUse", "session_id": "s", "tool_name": "WriteEverything", "tool_input": 7},
        {"hook_event_name": "PreToolUse", "session_id": "s", "tool_name": "mcp__files__write", "tool_input": {}},
        {"hook_event_name": 7, "session_id": None},
    ],
)
def test_what_is_not_known_passes(event: dict) -> None:
    assert call_of(event).phase == PASS


@pytest.mark.parametrize(
    "event",
    [
        {"hook_event_name": "PreToolUse", "session_id": "s", "tool_name": "Write", "tool_input": {"path": "/a"}},
        {"hook_event_name": "PreToolUse", "session_id": "s", "tool_name": "Write", "tool_input": None},
        {"hook_event_name": "PreToolUse", "tool_name": "Write", "tool_input": {"file_path": "/a"}},
    ],
)
def test_a_known_tool_that_does_not_say_enough_is_an_error(event: dict) -> None:
    with pytest.raises(ValueError, match="does not say"):
        call_of(event)


def test_nothing_is_ever_allowed() -> None:
    events = [name for name, _ in EXPECTED] + ["SomethingNew"]
    for event, deny, tell, notice in itertools.product(events, ["", "no"], ["", "know"], ["", "see"]):
        output = output_of(event, Answer(deny=deny, tell=tell, notice=notice))
        text = repr(output)
        assert "allow" not in text
        assert "approve" not in text
        assert "updatedInput" not in text
        if not (deny or tell or notice):
            assert output == {}


def test_where_each_answer_goes() -> None:
    deny = Answer(deny="no")
    assert output_of("PreToolUse", deny)["hookSpecificOutput"] == {
        "hookEventName": "PreToolUse",
        "permissionDecision": "deny",
        "permissionDecisionReason": "no",
    }
    for event in ("PostToolUse", "Stop", "SubagentStop"):
        assert output_of(event, deny) == {"decision": "block", "reason": "no"}
    told = output_of("PostToolBatch", Answer(tell="know"))["hookSpecificOutput"]
    assert told == {"hookEventName": "PostToolBatch", "additionalContext": "know"}
    assert output_of("SessionStart", Answer(notice="see")) == {"systemMessage": "see"}
    assert len(str(output_of("Stop", Answer(deny="x" * 20_000))["reason"])) < 10_000
