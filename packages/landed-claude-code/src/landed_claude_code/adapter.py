"""What Claude Code's hooks say, and what they may answer: the one module that knows its JSON.

A hook's input becomes a `Call` of {agent, operation, paths, phase}; an `Answer` becomes the hook's output. A guard for
another coding agent needs these two functions and nothing else. https://code.claude.com/docs/en/hooks has the contract.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

# Operations.
WRITE: Final = "write"
"""Replaces a whole file."""
EDIT: Final = "edit"
"""Changes a part of a file."""
NOTEBOOK: Final = "notebook"
"""Changes a cell of a notebook."""
READ: Final = "read"
OTHER: Final = "other"

# Phases.
BEFORE: Final = "before"
"""The tool is about to run; it can still be denied."""
ASKING: Final = "asking"
"""A person is being asked whether it may run."""
AFTER: Final = "after"
"""It ran, and says that it succeeded."""
FAILED: Final = "failed"
"""It ran, and says that it did not."""
SETTLE: Final = "settle"
"""All tools that the model asked for at once have run, and so have their hooks; the model hears the results next."""
STOP: Final = "stop"
"""The agent believes that it is done."""
PROMPT: Final = "prompt"
"""Somebody says something to the agent."""
START: Final = "start"
END: Final = "end"
"""A session begins, and ends."""
PASS: Final = "pass"  # noqa: S105 - no secret
"""Anything else, which is none of the guard's business."""

_TOOLS: Final = {
    "Write": (WRITE, "file_path"),
    "Edit": (EDIT, "file_path"),
    "NotebookEdit": (NOTEBOOK, "notebook_path"),
    "Read": (READ, "file_path"),
}
WRITERS: Final = tuple(tool for tool, (operation, _) in _TOOLS.items() if operation != READ)
"""The tools that write, by Claude Code's names."""
_PHASES: Final = {
    "PreToolUse": BEFORE,
    "PermissionRequest": ASKING,
    "PostToolUse": AFTER,
    "PostToolUseFailure": FAILED,
    "PostToolBatch": SETTLE,
    "Stop": STOP,
    "SubagentStop": STOP,
    "UserPromptSubmit": PROMPT,
    "SessionStart": START,
    "SessionEnd": END,
}
_OF_TOOLS: Final = (BEFORE, ASKING, AFTER, FAILED)
CONTEXT_LIMIT: Final = 9_000
"""Characters of what a model is told; Claude Code takes 10,000."""


class Agent:
    """Who calls: the main agent of a session, or a subagent. They share the session's id.

    Attributes:
        session: the session's id.
        id: the subagent's id; "" for the main agent.
        kind: the subagent's type; "" for the main agent.
        directory: where it works now.
        transcript: the file that Claude Code keeps of the session.
    """

    __slots__ = ("directory", "id", "kind", "session", "transcript")

    def __init__(self, session: str, id: str, kind: str, directory: str, transcript: str) -> None:  # noqa: A002 - its name
        self.session = session
        self.id = id
        self.kind = kind
        self.directory = directory
        self.transcript = transcript

    def __str__(self) -> str:
        session = f"Claude Code session {self.session[:8]}"
        if not self.id:
            return session
        words = f"agent {self.id}{f' ({self.kind})' if self.kind else ''} of {session}"
        return " ".join(words.split())  # records have a line for it


class Call:
    """One event of an agent.

    Attributes:
        agent: whose.
        operation: one of the operations above.
        paths: the files that it names, as the tool will use them.
        phase: one of the phases above.
        id: of the tool call; "" where there is none.
        response: what the tool returned, in `AFTER`.
        again: whether the agent goes on because a hook did not let it stop, in `STOP`.
    """

    __slots__ = ("again", "agent", "id", "operation", "paths", "phase", "response")

    def __init__(self, agent: Agent, operation: str, paths: list[str], phase: str, id: str) -> None:  # noqa: A002 - its name
        self.agent = agent
        self.operation = operation
        self.paths = paths
        self.phase = phase
        self.id = id
        self.response: dict[str, Any] = {}
        self.again = False


class Answer:
    """What the hook says. Never that something is allowed: a person may still be asked.

    Attributes:
        deny: why the tool must not run (in `BEFORE`), what is wrong with what it did (in `AFTER`), or why the agent is
            not done (in `STOP`).
        tell: what the model should know.
        notice: what the person should know.
    """

    __slots__ = ("deny", "notice", "tell")

    def __init__(self, *, deny: str = "", tell: str = "", notice: str = "") -> None:
        self.deny = deny
        self.tell = tell
        self.notice = notice


def call_of(event: dict[str, Any]) -> Call:
    """The call that a hook's input tells of; its phase is `PASS` for what the guard does not know.

    Raises:
        ValueError: a tool that the guard knows does not say what file it is about.
    """
    agent = Agent(*(_text(event, name) for name in ("session_id", "agent_id", "agent_type", "cwd", "transcript_path")))
    phase = _PHASES.get(_text(event, "hook_event_name"), PASS)
    operation, field = _TOOLS.get(_text(event, "tool_name"), (OTHER, ""))
    if phase in _OF_TOOLS and operation == OTHER:
        phase = PASS
    call = Call(agent, operation, [], phase, _text(event, "tool_use_id"))
    if phase == PASS:
        return call
    if not agent.session:
        raise ValueError("the event does not say which session it belongs to")
    if phase in _OF_TOOLS:
        path = event["tool_input"].get(field) if isinstance(event.get("tool_input"), dict) else None
        if not isinstance(path, str) or not path:
            raise ValueError(f"the call does not say which file it is about ({field})")
        call.paths.append(path)
    response = event.get("tool_response")
    call.response = response if isinstance(response, dict) else {}
    call.again = event.get("stop_hook_active") is True
    return call


def _text(event: dict[str, Any], name: str) -> str:
    value = event.get(name)
    return value if isinstance(value, str) else ""


def output_of(event: str, answer: Answer) -> dict[str, object]:
    """The JSON object that a hook prints for `answer` to the event of that name."""
    phase = _PHASES.get(event, PASS)
    output: dict[str, object] = {}
    if answer.notice:
        output["systemMessage"] = answer.notice
    if answer.deny and phase == BEFORE:
        output["hookSpecificOutput"] = {
            "hookEventName": event,
            "permissionDecision": "deny",
            "permissionDecisionReason": _cut(answer.deny),
        }
    elif answer.deny and phase in {AFTER, STOP}:
        output["decision"] = "block"
        output["reason"] = _cut(answer.deny)
    elif said := answer.deny or answer.tell:
        output["hookSpecificOutput"] = {"hookEventName": event, "additionalContext": _cut(said)}
    return output


def _cut(text: str) -> str:
    return text if len(text) <= CONTEXT_LIMIT else text[:CONTEXT_LIMIT] + " ... (`landed-hook status` has the rest)"
