"""Whether another PostToolUse hook may have rewritten a file: asked only when a file changed right after its write."""

from __future__ import annotations

import json
import os
from itertools import pairwise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MARK = "landed_claude_code"
"""What tells our own hooks from others."""


def formatter(directory: str, pid: int) -> str:
    """The first PostToolUse hook in the settings that is not ours, in a few words; "" for none.

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
    home = os.environ.get("CLAUDE_CONFIG_DIR") or os.path.join(os.path.expanduser("~"), ".claude")
    projects = {directory, os.environ.get("CLAUDE_PROJECT_DIR") or directory}
    paths = [os.path.join(home, "settings.json"), "/etc/claude-code/managed-settings.json"]
    for project in projects:
        paths += [os.path.join(project, ".claude", name) for name in ("settings.json", "settings.local.json")]
    for root, directories, files in os.walk(os.path.join(home, "plugins")):
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
            with open(path, encoding="utf-8") as file:
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
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) else {}


def _commands(settings: dict[str, Any]) -> Iterator[str]:
    hooks = settings.get("hooks")
    groups = hooks.get("PostToolUse") if isinstance(hooks, dict) else None
    for group in groups if isinstance(groups, list) else []:
        for hook in group.get("hooks", []) if isinstance(group, dict) else []:
            if isinstance(hook, dict):
                words = [hook.get("command"), *(hook.get("args") or [])]
                command = " ".join(word for word in words if isinstance(word, str))
                if command:
                    yield command
