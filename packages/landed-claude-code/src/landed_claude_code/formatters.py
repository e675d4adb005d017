"""A file that changed right after its write: may a hook have done it, and what can its agent be shown of it?

Nothing says who wrote the bytes; the settings say only that there is a hook that may have. So that is what the agent is
told, and it may write the file again for another reason: because it is shown what the file holds now. Whoever the bytes
are from, they are not overwritten unseen. All this is asked for only when a file did change.
"""

from __future__ import annotations

import difflib
import json
import os
from itertools import pairwise

from landed_claude_code.adapter import WRITERS
from landed_claude_code.settings import MANAGED, MARK, claude_directory, matches, path_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Final

WHOLE: Final = 4_000
"""Bytes of a file that is shown as a whole."""
DIFFERENCE: Final = 4_000
"""Characters of a difference that is shown."""


def shown(data: bytes, before: bytes | None) -> str:
    """What an agent must know of `data` to have seen it; "" if that is too much to tell.

    Args:
        data: what the file holds now.
        before: what the agent had written; None where that was not kept.
    """
    try:
        now, was = data.decode("utf-8"), None if before is None else before.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    if was is not None:
        lines = list(difflib.unified_diff(was.splitlines(), now.splitlines(), "written", "now", lineterm="", n=1))
        difference = "\n".join(lines)
        if difference and len(difference) <= DIFFERENCE:
            return f"What changed:\n{difference}"
    return f"It holds now:\n{now}" if len(data) <= WHOLE else ""


def formatter(directory: str, pid: int) -> str:
    """The first hook in the settings that runs after a write and is not ours, in a few words; "" for none.

    Args:
        directory: where the agent works.
        pid: of Claude Code, whose command line may name more settings.
    """
    for settings in _settings(directory, pid):
        for command in _commands(settings):
            if MARK not in command:
                return command[:80]
    return ""


def _settings(directory: str, pid: int) -> Iterator[dict[str, Any]]:
    projects = {directory, os.environ.get("CLAUDE_PROJECT_DIR") or directory}
    paths = [path_of("user", directory), MANAGED]
    for project in projects:
        paths += [path_of("project", project), path_of("local", project)]
    for root, directories, files in os.walk(os.path.join(claude_directory(), "plugins")):
        directories[:] = [name for name in directories if name not in {"node_modules", ".git"}]
        if os.path.basename(root) == "hooks" and "hooks.json" in files:
            paths.append(os.path.join(root, "hooks.json"))
    for argument in _arguments(pid):
        if argument.lstrip().startswith("{"):
            yield _parsed(argument)
        else:
            paths.append(os.path.join(directory, argument))
    for path in paths:
        try:
            with open(path, encoding="utf-8-sig") as file:
                yield _parsed(file.read())
        except (OSError, UnicodeDecodeError):
            continue


def _arguments(pid: int) -> list[str]:
    """What follows ``--settings`` on Claude Code's command line, and the hooks of ``--plugin-dir``."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = os.fsdecode(file.read()).split("\0")
    except OSError:
        return []
    following = list(pairwise(words))
    settings = [after for word, after in following if word == "--settings"]
    settings += [word.partition("=")[2] for word in words if word.startswith("--settings=")]
    plugins = [os.path.join(after, "hooks", "hooks.json") for word, after in following if word == "--plugin-dir"]
    return settings + plugins


def _parsed(text: str) -> dict[str, Any]:
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _commands(settings: dict[str, Any]) -> Iterator[str]:
    hooks = settings.get("hooks")
    groups = hooks.get("PostToolUse") if isinstance(hooks, dict) else None
    for group in _list(groups):
        if not isinstance(group, dict) or not any(matches(group.get("matcher"), tool) for tool in WRITERS):
            continue
        for hook in _list(group.get("hooks")):
            if isinstance(hook, dict):
                words = [hook.get("command"), *_list(hook.get("args"))]
                command = " ".join(word for word in words if isinstance(word, str))
                if command:
                    yield command


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
