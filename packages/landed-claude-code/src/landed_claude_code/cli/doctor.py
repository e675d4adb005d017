"""``landed-hook doctor``: whether the hook that is installed does its work, by giving it some."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from importlib.util import cache_from_source
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import landed
from landed.cli import output
from landed.cli.doctor import tell
from landed.digest import sha256
from landed.doctor import FAIL, OK, WARN, Check
from landed.errors import LandedError
from landed_claude_code import guard, settings
from landed_claude_code import ledger as ledgers

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

DESCRIPTION: Final = """\
Look for the hook in Claude Code's settings of this directory and in its plugins, and give the command
that stands there a test of its own: a file that an agent has not read must be denied, one that it has
read must not. Also: is Claude Code new enough, is the hook there twice, may hooks run at all, can
records be kept. Exits with 1 when a check fails.
"""
FLOOR: Final = (2, 1, 139)
"""The oldest Claude Code that starts the hook as the settings say."""
FAIL_CLOSED: Final = (2, 1, 295)
"""The oldest one that denies a write when the hook dies or takes too long."""
TIME_LIMIT: Final = 30
"""Seconds for a program that is tried."""
_INSTALL: Final = "Run `landed-hook install`."
_UPDATE: Final = "The plugin needs Python 3.10 or newer as python3 on the PATH. Update it, or install it again."


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add the command."""
    parser = output.add_command(subparsers, "doctor", "try whether the installed hook works", DESCRIPTION)
    parser.add_argument("--claude", metavar="PROGRAM", default="claude", help="Claude Code (default: claude)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Try."""
    examined = examine(os.getcwd(), args.claude)
    return tell(args, examined, "the hook works", "writes are not guarded as they should be")


def examine(project: str, claude: str) -> Iterator[Check]:
    """Every check, in the order in which they make sense."""
    found: dict[str, dict[str, Any]] = {}
    enabled: dict[str, Any] = {}
    for path in (*(settings.path_of(scope, project) for scope in settings.SCOPES), settings.MANAGED):
        try:
            parsed = settings.parse(settings.text_of(landed.read(path).data, path), path)
        except FileNotFoundError:
            continue
        except LandedError as error:
            hint = "Repair the file; Claude Code cannot read it either."
            yield Check("settings", FAIL, f"{path}: {error.what}", hint)
            continue
        if parsed.get("disableAllHooks"):
            yield Check("hooks", FAIL, f"{path} has disableAllHooks", "Take it out: it turns off this hook as well.")
        hooks = settings.ours(parsed)
        if path == settings.MANAGED and parsed.get("allowManagedHooksOnly") and not hooks:
            hint = "Have the hook put there: whoever administers this machine turned off all others."
            yield Check("hooks", FAIL, f"{path} has allowManagedHooksOnly", hint)
        if hooks:
            found[path] = parsed
        plugins_here = parsed.get("enabledPlugins")
        enabled.update(plugins_here if isinstance(plugins_here, dict) else {})
    plugins = _plugins(enabled)
    if not found and not plugins:
        yield Check("installed", FAIL, f"the hook is in no settings that count in {project}", _INSTALL)
    for path, parsed in found.items():
        yield from _installed(path, parsed, _INSTALL)
    for path, parsed in plugins.items():
        yield from _installed(path, parsed, _UPDATE)
    if len(found) + bool(plugins) > 1:
        places = ", ".join([*found, *list(plugins)[:1]])
        hint = "Nothing goes wrong, but every call costs twice: keep one (`landed-hook uninstall --scope ...`)."
        yield Check("once", FAIL, f"the hook is active more than once: {places}", hint)
    yield _version(claude)
    yield _state()


def _installed(path: str, parsed: dict[str, Any], hint: str) -> Iterator[Check]:
    hooks = settings.ours(parsed)
    if missing := settings.missing(parsed):
        yield Check("installed", FAIL, f"{path} lacks the hook for {', '.join(missing)}, or for a tool of it", hint)
    else:
        yield Check("installed", OK, path)
    commands = {json.dumps([hook.get("command"), hook.get("args")]) for each in hooks.values() for hook in each}
    if len(commands) > 1:
        yield Check("command", FAIL, f"{path} starts the hook in {len(commands)} ways", hint)
    for words in sorted(commands):
        program, arguments = json.loads(words)
        yield _tried([program, *(arguments or [])], hint)
    if not any(hook.get("onFailure") == "block" for hook in hooks.get("PreToolUse", [])):
        yield Check("on failure", WARN, "a hook that dies lets the write through", hint)


def _tried(command: list[str], hint: str) -> Check:
    """Run the installed command on a write of an unread file, on a read of it, and on the write again."""
    with tempfile.TemporaryDirectory(prefix="landed-hook-doctor-") as made:
        path = os.path.join(os.path.realpath(made), "unread.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write("one\n")
        env = {**os.environ, "LANDED_STATE_DIR": os.path.join(made, "state"), "CLAUDE_PID": str(os.getpid())}
        write = {"tool_name": "Write", "tool_input": {"file_path": path, "content": "two\n"}}
        shown = {"type": "text", "file": {"content": "one\n", "startLine": 1, "numLines": 2}}
        read = {"tool_name": "Read", "tool_input": {"file_path": path}, "tool_response": shown}
        took = []
        steps = (("PreToolUse", write, True), ("PostToolUse", read, False), ("PreToolUse", write, False))
        for number, (event, fields, denied) in enumerate(steps):
            payload = {"session_id": "doctor", "hook_event_name": event, "tool_use_id": str(number), **fields}
            started = monotonic()
            try:
                ended = subprocess.run(
                    command,
                    input=json.dumps(payload).encode(),
                    capture_output=True,
                    timeout=TIME_LIMIT,
                    env=env,
                    check=False,
                )
                answer = json.loads(ended.stdout)
            except OSError as error:
                moved = f"The interpreter moved. {hint}"
                return Check("self-test", FAIL, f"{command[0]} cannot be started: {error.strerror}", moved)
            except (ValueError, TypeError, subprocess.TimeoutExpired) as error:
                return Check("self-test", FAIL, f"{command[0]} gave no answer: {error}", hint)
            took.append(monotonic() - started)
            said = answer.get("hookSpecificOutput", {}).get("permissionDecision") == "deny"
            if said != denied or "systemMessage" in answer:
                what = answer.get("systemMessage") or f"step {number + 1}: {answer or 'no denial'}"
                return Check("self-test", FAIL, what, hint)
    speed = f"{min(took) * 1e3:.0f} ms a call"
    detail = f"{command[0]}: an unread file is denied, a read one is not; {speed}"
    if not os.path.exists(cache_from_source(guard.__file__)):
        return Check("self-test", WARN, f"{detail}; the bytecode is not cached", f"Its directory is read-only? {hint}")
    return Check("self-test", OK, detail)


def _plugins(enabled: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The hooks file of the plugin, where it is installed and enabled: it counts beside what the settings say.

    It keeps a copy of one that was taken out, or that a marketplace only offers.
    """
    try:
        with open(os.path.join(settings.claude_directory(), "plugins", "installed_plugins.json"), "rb") as file:
            installed = json.load(file)["plugins"]
        homes = [copy["installPath"] for name, copies in installed.items() if enabled.get(name) for copy in copies]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
    found = {}
    for home in dict.fromkeys(homes):
        path = os.path.join(home, "hooks", "hooks.json")
        with contextlib.suppress(OSError, LandedError), open(path, encoding="utf-8", errors="replace") as file:
            text = file.read().replace("${CLAUDE_PLUGIN_ROOT}", json.dumps(home)[1:-1])
            if settings.ours(parsed := settings.parse(text, path)):
                found[path] = parsed
    return found


def _version(claude: str) -> Check:
    program = shutil.which(claude)
    if program is None:
        where = "no program" if os.path.dirname(claude) else "not on the PATH"
        hint = "Name the program with --claude."
        return Check("Claude Code", WARN, f"{claude} is {where}, so that its version is not known", hint)
    try:
        ended = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("Claude Code", FAIL, f"{program} cannot be started: {error}", "Install Claude Code again.")
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", ended.stdout)
    if match is None:
        return Check("Claude Code", WARN, f"{program} does not say which version it is")
    version = tuple(map(int, match.groups()))
    if version < FLOOR:
        hint = f"Update it: before {_dotted(FLOOR)} it starts the bare interpreter instead of the hook."
        return Check("Claude Code", FAIL, f"{match[0]} is too old", hint)
    if version < FAIL_CLOSED:
        hint = f"Update to {_dotted(FAIL_CLOSED)}: before it, a hook that is killed or too slow lets the write through."
        return Check("Claude Code", WARN, f"{match[0]} does not know onFailure", hint)
    return Check("Claude Code", OK, match[0])


def _state() -> Check:
    directory = ledgers.agents_directory()
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        probe = os.path.join(directory, sha256(str(os.getpid()).encode())[:8])
        os.mkdir(probe)
        os.rmdir(probe)
    except OSError as error:
        hint = "Set LANDED_STATE_DIR to a directory that this user can write, for Claude Code as well."
        return Check("records", WARN, f"{directory}: {error.strerror}; they go to the temporary files", hint)
    mode = os.stat(directory).st_mode & 0o777
    if mode & 0o077:
        return Check("records", WARN, f"{directory} is open to others ({mode:03o})", f"chmod 700 {directory}")
    return Check("records", OK, directory)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
