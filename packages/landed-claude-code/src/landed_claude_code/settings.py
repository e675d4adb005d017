"""Our entries in Claude Code's settings: put in, found and taken out again, without touching a byte of anything else.

The file is edited as text. What is not ours keeps its spelling, its order and its spaces, and taking our entries out
gives back the bytes that were there before they were put in (but for lists that were empty).
"""

from __future__ import annotations

import json
import os
import re
import sys

import landed
from landed.errors import Refused
from landed_claude_code.adapter import WRITERS
from landed_claude_code.hook import LAUNCHER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

MARK: Final = "landed_claude_code"
"""What tells our own hooks from others."""
_WRITERS: Final = "|".join(WRITERS)
PATIENT: Final = 15
"""Seconds that a hook may take: it waits up to 5 for another agent."""
QUICK: Final = 5
EVENTS: Final = (
    ("PreToolUse", _WRITERS, PATIENT),
    ("PermissionRequest", _WRITERS, PATIENT),
    ("PostToolUse", f"{_WRITERS}|Read", PATIENT),
    ("PostToolUseFailure", _WRITERS, PATIENT),
    ("PostToolBatch", "", PATIENT),
    ("SubagentStop", "", PATIENT),
    ("Stop", "", PATIENT),
    ("UserPromptSubmit", "", PATIENT),
    ("SessionStart", "", QUICK),
    ("SessionEnd", "", QUICK),
)
"""Event, matcher and time limit of each entry."""
SCOPES: Final = ("user", "project", "local")
MANAGED: Final = (
    "/Library/Application Support/ClaudeCode/managed-settings.json"
    if sys.platform == "darwin"
    else "/etc/claude-code/managed-settings.json"
)
"""The settings of whoever administers the machine, which go before all others."""
_BOM: Final = "\ufeff"
"""Claude Code passes over it at the beginning of settings."""
_SPACE: Final = re.compile(rf"{_BOM}?[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder()


def claude_directory() -> str:
    """Where Claude Code keeps its own files."""
    return os.environ.get("CLAUDE_CONFIG_DIR") or os.path.join(os.path.expanduser("~"), ".claude")


def path_of(scope: str, project: str) -> str:
    """The settings file of a scope."""
    if scope == "user":
        return os.path.join(claude_directory(), "settings.json")
    return os.path.join(project, ".claude", "settings.json" if scope == "project" else "settings.local.json")


def command(python: str, libraries: list[str]) -> dict[str, Any]:
    """How the hook is started: no shell, no site-packages, no module that a bare interpreter does not have.

    Names of files are UTF-8, as Claude Code has them, whatever the locale says.
    """
    return {"type": "command", "command": python, "args": ["-I", "-S", "-X", "utf8", "-c", LAUNCHER, *libraries]}


def entries(python: str, libraries: list[str]) -> dict[str, dict[str, Any]]:
    """Our entry for each event."""
    groups = {}
    for event, matcher, timeout in EVENTS:
        hook = {**command(python, libraries), "timeout": timeout}
        if event == "PreToolUse":
            hook["onFailure"] = "block"
        groups[event] = {**({"matcher": matcher} if matcher else {}), "hooks": [hook]}
    return groups


def here() -> tuple[str, list[str]]:
    """This interpreter, and the directories that it finds our packages in."""
    import landed_claude_code

    modules = (landed_claude_code, landed)
    homes = [os.path.dirname(os.path.dirname(os.path.abspath(str(module.__file__)))) for module in modules]
    return sys.executable, list(dict.fromkeys(homes))


def parse(text: str, path: str) -> dict[str, Any]:
    """The settings in `text`.

    Raises:
        Refused: they are not what Claude Code reads, and are left alone.
    """
    try:
        text = text.removeprefix(_BOM)
        settings = json.loads(text, parse_constant=_refuse_constant) if text.strip() else {}
    except (ValueError, RecursionError) as error:  # nested too deep
        raise Refused(f"the settings are not JSON: {error}", path=path, step="settings", hint=_REPAIR) from error
    hooks = settings.get("hooks", {}) if isinstance(settings, dict) else None
    lists = list(hooks.values()) if isinstance(hooks, dict) else [None]
    if not all(isinstance(groups, list) and all(map(_is_group, groups)) for groups in lists):
        raise Refused("the settings hold no hooks as Claude Code reads them", path=path, step="settings", hint=_REPAIR)
    return dict(settings)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it says {name}")


def _is_group(group: object) -> bool:
    return isinstance(group, dict) and isinstance(group.get("hooks", []), list)


def text_of(data: bytes, path: str) -> str:
    """The text of a settings file.

    Raises:
        Refused: it is none.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(f"the settings are not UTF-8: {error}", path=path, step="settings", hint=_REPAIR) from error


_REPAIR: Final = "Repair the file by hand first; `claude doctor` says what is wrong with it."


def is_ours(hook: object) -> bool:
    """Whether a hook is one of ours, of whatever version."""
    if not isinstance(hook, dict):
        return False
    args = hook.get("args")
    words = [hook.get("command"), *(args if isinstance(args, list) else [])]
    return any(MARK in word for word in words if isinstance(word, str))


def ours(settings: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Our hooks in `settings`, by event."""
    found: dict[str, list[dict[str, Any]]] = {}
    for event, groups in settings.get("hooks", {}).items():
        for group in groups:
            found.setdefault(event, []).extend(hook for hook in group.get("hooks", []) if is_ours(hook))
    return {event: hooks for event, hooks in found.items() if hooks}


def missing(settings: dict[str, Any]) -> list[str]:
    """The events of which our entries are not told, or not of all their tools."""
    groups = {
        event: [group.get("matcher") for group in groups if any(map(is_ours, group.get("hooks", [])))]
        for event, groups in settings.get("hooks", {}).items()
    }
    return [
        event
        for event, tools, _ in EVENTS
        if not all(any(matches(matcher, tool) for matcher in groups.get(event, [])) for tool in tools.split("|"))
    ]


def matches(matcher: object, tool: str) -> bool:
    """As Claude Code reads it: a list of names, or else a regular expression; nothing and ``*`` stand for all."""
    if not isinstance(matcher, str) or matcher in {"", "*"}:
        return True
    if re.fullmatch(r"[\w\- ,|]*", matcher, re.ASCII):
        return tool in re.split(r"[|,]", matcher.replace(" ", ""))
    try:
        return re.search(matcher, tool) is not None
    except re.error:
        return True  # a pattern of JavaScript's that Python does not know: it may match


def with_ours(text: str, path: str, wanted: dict[str, dict[str, Any]]) -> str:
    """`text` with our entries, each once; `text` itself if it has them.

    Raises:
        Refused: it cannot be edited safely. It is left alone.
    """
    settings = parse(text, path)
    if ours(settings) == {event: group["hooks"] for event, group in wanted.items()} and not missing(settings):
        return text
    bare = without_ours(text, path)
    expected = parse(bare, path)
    edited = bare if bare.removeprefix(_BOM).strip() else "{}\n"
    for event, group in wanted.items():
        edited = _added(edited, event, group)
        expected.setdefault("hooks", {}).setdefault(event, []).append(group)
    return _checked(edited, expected, path)


def without_ours(text: str, path: str) -> str:
    """`text` without our entries.

    Raises:
        Refused: it cannot be edited safely. It is left alone.
    """
    settings = parse(text, path)
    if not ours(settings):
        return text
    edited = text
    while (span := _first_of_ours(edited)) is not None:
        edited = edited[: span[0]] + edited[span[1] :]
    return _checked(edited, _bare(settings), path)


def _bare(settings: dict[str, Any]) -> dict[str, Any]:
    hooks = {}
    for event, groups in settings["hooks"].items():
        kept = []
        for group in groups:
            others = [hook for hook in group.get("hooks", []) if not is_ours(hook)]
            if others or not group.get("hooks"):
                kept.append({**group, "hooks": others} if "hooks" in group else group)
        if kept or not groups:
            hooks[event] = kept
    bare = {key: value for key, value in settings.items() if key != "hooks"}
    return {**bare, "hooks": hooks} if hooks else bare


def _checked(text: str, expected: dict[str, Any], path: str) -> str:
    if parse(text, path) != expected:
        raise Refused(
            "the settings cannot be edited without changing something else (a name that stands there twice?)",
            path=path,
            step="settings",
            hint=_REPAIR,
        )
    return text


# JSON as text: spans of members and elements.


def _members(text: str, at: int) -> Iterator[tuple[str, int, int, int]]:
    """Of the object at `at`: each name, where the member begins, where its value begins and ends."""
    at = _skip(text, at + 1)
    while text[at] != "}":
        name, end = _DECODER.raw_decode(text, at)
        value = _skip(text, _skip(text, end) + 1)
        stop = _DECODER.raw_decode(text, value)[1]
        yield name, at, value, stop
        at = _skip(text, stop)
        at = _skip(text, at + 1) if text[at] == "," else at


def _elements(text: str, at: int) -> Iterator[tuple[int, int]]:
    at = _skip(text, at + 1)
    while text[at] != "]":
        stop = _DECODER.raw_decode(text, at)[1]
        yield at, stop
        at = _skip(text, stop)
        at = _skip(text, at + 1) if text[at] == "," else at


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match is not None else at


def _value(text: str, at: int, name: str) -> int | None:
    """Where the value of the member `name` of the object at `at` begins."""
    return next((value for found, _, value, _ in _members(text, at) if found == name), None)


def _first_of_ours(text: str) -> tuple[int, int] | None:
    """The span that goes to take out the first of our hooks: of the hook, or of what would be left empty without it."""
    root = _skip(text, 0)
    hooks = _value(text, root, "hooks")
    if hooks is None:
        return None
    members = list(_members(text, hooks))
    for number, (_, _, groups, _) in enumerate(members):
        group_spans = list(_elements(text, groups))
        for place, (group, _) in enumerate(group_spans):
            inner = _value(text, group, "hooks")
            hook_spans = list(_elements(text, inner)) if inner is not None else []
            for index, (start, _) in enumerate(hook_spans):
                if not is_ours(_DECODER.raw_decode(text, start)[0]):
                    continue
                if len(hook_spans) > 1:
                    return _cut(hook_spans, index, text)
                if len(group_spans) > 1:
                    return _cut(group_spans, place, text)
                if len(members) > 1:
                    return _cut([(at, end) for _, at, _, end in members], number, text)
                top = [(at, end, name) for name, at, _, end in _members(text, root)]
                return _cut([span[:2] for span in top], [span[2] for span in top].index("hooks"), text)
    return None


def _cut(spans: list[tuple[int, int]], index: int, text: str) -> tuple[int, int]:
    """The span of one of several siblings, with its comma and the space before it."""
    start, stop = spans[index]
    if index:
        return spans[index - 1][1], stop
    if len(spans) > 1:
        return start, spans[1][0]
    before = start  # the only one: the space around it goes as well
    while text[before - 1] in " \t\r\n":
        before -= 1
    return before, _skip(text, stop)


def _added(text: str, event: str, group: dict[str, Any]) -> str:
    root = _skip(text, 0)
    hooks = _value(text, root, "hooks")
    if hooks is None:
        spans = [(at, stop) for _, at, _, stop in _members(text, root)]
        return _put(text, root, spans, {"hooks": {event: [group]}}, 1)
    groups = _value(text, hooks, event)
    if groups is None:
        spans = [(at, stop) for _, at, _, stop in _members(text, hooks)]
        return _put(text, hooks, spans, {event: [group]}, 2)
    return _put(text, groups, list(_elements(text, groups)), group, 3)


def _put(text: str, at: int, spans: list[tuple[int, int]], value: dict[str, Any], depth: int) -> str:
    """`text` with one more sibling at the end of the object or array at `at`.

    Args:
        value: the element; for an object, a dict of the one member.
    """
    unit = _unit(text)
    newline = "\r\n" if "\r\n" in text else "\n"
    shown = json.dumps(value, indent=unit, ensure_ascii=False)
    if text[at] == "{":
        lines = shown.split("\n")[1:-1]  # the member without the braces around it, which indent it once
        lines = [line.removeprefix(unit) for line in lines]
    else:
        lines = shown.split("\n")
    block = newline.join(unit * depth + line for line in lines)
    if spans:
        end = spans[-1][1]
        return f"{text[:end]},{newline}{block}{text[end:]}"
    close = _skip(text, at + 1)
    return f"{text[: at + 1]}{newline}{block}{newline}{unit * (depth - 1)}{text[close:]}"


def _unit(text: str) -> str:
    match = re.search(r"\{\r?\n([ \t]+)", text)
    return match.group(1) if match is not None else "  "
