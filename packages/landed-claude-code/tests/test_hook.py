"""The program that Claude Code starts: one JSON object out, whatever comes in, and hardly an import."""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from recorded import PAYLOADS

import landed
import landed_claude_code
from landed_claude_code import hook as program
from landed_claude_code import wire
from landed_claude_code.hook import LAUNCHER
from landed_claude_code.settings import command, entries, here

EXPENSIVE = {
    "argparse", "asyncio", "collections", "contextlib", "dataclasses", "enum", "functools", "hashlib", "json", "os",
    "pathlib", "re", "shutil", "subprocess", "tempfile", "threading", "typing",
}  # fmt: skip


def hook(payload: bytes | dict[str, Any], **env: str) -> dict[str, Any]:
    """Run the hook as Claude Code does; the one object that it prints."""
    words = command(*here())
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    ended = subprocess.run(
        [words["command"], *words["args"]],
        input=raw,
        capture_output=True,
        env={**os.environ, "CLAUDE_PID": str(os.getpid()), **env},
        check=True,
    )
    assert ended.stderr == b""
    assert ended.stdout.endswith(b"\n")
    assert ended.stdout.count(b"\n") == 1
    return json.loads(ended.stdout)


@pytest.mark.parametrize("version", PAYLOADS)
def test_every_recorded_event_gets_one_object(version: str) -> None:
    for event in PAYLOADS[version]:
        answer = hook(event)
        if event.get("tool_name") in {"Bash", "Agent"} or event["hook_event_name"] == "SubagentStart":
            assert answer == {}


def test_a_denial(work: Path) -> None:
    path = work / "plan \u00fc\U0001f600.md"
    path.write_text("x")
    event = {"session_id": "s", "hook_event_name": "PreToolUse", "tool_name": "Write", "tool_use_id": "t"}
    answer = hook({**event, "tool_input": {"file_path": str(path), "content": "y"}})
    assert answer["hookSpecificOutput"]["permissionDecision"] == "deny"
    assert str(path) in answer["hookSpecificOutput"]["permissionDecisionReason"]


def test_a_path_is_the_same_in_every_locale(tmp_path: Path, work: Path) -> None:
    """Claude Code's names are UTF-8 everywhere; in this locale Python would make other bytes of them."""
    words = ["localedef", "--no-archive", "-c", "-i", "POSIX", "-f", "ISO-8859-1", str(tmp_path / "en.ISO-8859-1")]
    if shutil.which(words[0]) is None or subprocess.run(words, capture_output=True, check=False).returncode > 1:
        pytest.skip("the locale cannot be made here")
    path = work / "plan \u00fc.md"
    path.write_text("x")
    event = {"session_id": "s", "hook_event_name": "PreToolUse", "tool_name": "Write", "tool_use_id": "t"}
    fields = {"tool_input": {"file_path": str(path), "content": "y"}}
    answer = hook({**event, **fields}, LOCPATH=str(tmp_path), LC_ALL="en.ISO-8859-1")
    assert "you have not read it" in str(answer)


@pytest.mark.parametrize("way", ["pages of a pipe", "a file", "a socket"])
@pytest.mark.parametrize("event", ["PreToolUse", "PostToolUse", "PostToolBatch"])
def test_however_a_large_event_comes(work: Path, way: str, event: str) -> None:
    path = work / "plan.md"
    path.write_text("x")
    tool = {"tool_name": "Write", "tool_input": {"file_path": str(path), "content": "y\n" * 100_000}}
    fields = {"session_id": "s", "hook_event_name": event, **tool, "tool_response": {"content": "x"}}
    raw = json.dumps({**fields, "tool_use_id": "t", "tool_calls": [tool]}, separators=(",", ":")).encode()
    ours, theirs = socket.socketpair() if way == "a socket" else (None, None)
    words = command(*here())
    env = {**os.environ, "CLAUDE_PID": str(os.getpid())}
    (work / "event").write_bytes(raw)
    with (work / "event").open("rb") as file:
        stdin = {"a file": file, "a socket": theirs}.get(way, subprocess.PIPE)
        with subprocess.Popen(
            [words["command"], *words["args"]], stdin=stdin, stdout=subprocess.PIPE, env=env, bufsize=0
        ) as hook:
            if ours is not None and theirs is not None:
                theirs.close()
                ours.sendall(raw)
                ours.close()
            elif hook.stdin is not None:
                for at in range(0, len(raw), 4096):
                    hook.stdin.write(raw[at : at + 4096])
                hook.stdin.close()
            assert hook.stdout is not None
            said = json.loads(hook.stdout.read())
    assert ("you have not read it" in str(said)) == (event == "PreToolUse")
    assert "failed" not in str(said)


@pytest.mark.parametrize("raw", [b"", b"{not json", b"[]", b"\xff\xfe", b'{"a": 1} {"b": 2}', b"7"])
def test_what_is_no_event_is_said(raw: bytes) -> None:
    answer = hook(raw)
    assert set(answer) == {"systemMessage"}
    assert "landed-hook failed" in answer["systemMessage"]


@pytest.mark.parametrize("raw", [b'"\xff"}', b'"cut', b'"NaN": NaN}', b'"a": 1}} {"b": 2}', b"[" * 100_000])
def test_a_write_that_cannot_be_read_is_denied(raw: bytes) -> None:
    begun = b'{"session_id":"s","hook_event_name":"PreToolUse","tool_name":"Edit","tool_input":{"file_path":"/a","x":'
    reason = hook(begun + raw)["hookSpecificOutput"]["permissionDecisionReason"]
    assert "Nothing was written. landed-hook failed" in reason
    assert set(hook(begun.replace(b"Edit", b"Read") + raw)) == {"systemMessage"}
    assert set(hook(begun.replace(b"Pre", b"Post") + raw)) == {"systemMessage"}


def test_an_error_before_a_write_denies_it_and_says_why(tmp_path: Path, work: Path) -> None:
    artifacts = tmp_path / "state" / "artifacts"
    artifacts.parent.mkdir()
    artifacts.write_text("in the way")
    event = {"session_id": "s", "tool_name": "Write", "tool_input": {"file_path": str(work / "a")}, "tool_use_id": "t"}
    answer = hook({**event, "hook_event_name": "PreToolUse"})
    reason = answer["hookSpecificOutput"]["permissionDecisionReason"]
    assert "Nothing was written. landed-hook failed" in reason
    assert "landed-hook doctor" in reason
    assert "uninstall" not in reason, "a model does not take its guard out"
    after = hook({**event, "hook_event_name": "PostToolUse", "tool_response": {"content": ""}})
    assert "was not checked" in after["systemMessage"]


@pytest.mark.parametrize("left", ["", "*", "hook.py"], ids=["none", "all but landed", "what is imported first"])
def test_a_package_that_is_gone_says_so_and_blocks_nothing(tmp_path: Path, left: str) -> None:
    """Also where the one that was installed by name was taken out (``pip uninstall landed``), or while it goes."""
    (tmp_path / "landed_claude_code").mkdir()
    for path in Path(landed_claude_code.__file__).parent.glob(left) if left else []:
        (tmp_path / "landed_claude_code" / path.name).symlink_to(path)
    words = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(tmp_path)]
    event = {"session_id": "s", "hook_event_name": "PreToolUse", "tool_name": "Write", "tool_use_id": "t"}
    raw = json.dumps({**event, "tool_input": {"file_path": "/a"}}).encode()
    said = json.loads(subprocess.run(words, input=raw, capture_output=True, check=True).stdout)
    assert f"is not in ['{tmp_path}'] any more" in said.pop("systemMessage")
    assert said == {}


def test_a_python_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    event = {"hook_event_name": "PreToolUse", "tool_name": "Write"}
    for what in (event, {**event, "tool_name": "Read"}):
        said = str(program._failed(what, AttributeError("removesuffix")))
        assert f"It needs Python 3.10 or newer, and {sys.executable} is {platform.python_version()}." in said
    (tmp_path / "landed_claude_code").mkdir()
    (tmp_path / "landed_claude_code" / "hook.py").write_text("as Python 3.7 reads it")
    words = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(tmp_path)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 1, "which blocks a write"
    assert ended.stderr.startswith(f"landed-hook needs Python 3.10 or newer, not {sys.version[:6]}: ")
    assert ended.stderr.count("\n") == 1


def test_it_imports_hardly_anything(work: Path) -> None:
    homes = [str(Path(module.__file__ or "").parent.parent) for module in (landed_claude_code, landed)]
    path = work / "plan.md"
    tool = {"session_id": "s", "tool_name": "Write", "tool_input": {"file_path": str(path)}, "tool_use_id": "t"}
    program = (
        "import sys, posix\n"
        "before = set(sys.modules)\n"
        f"sys.path += {homes!r}\n"
        "posix._exit = lambda _: print(*(set(sys.modules) - before), file=sys.stderr)\n"
        "from landed_claude_code.hook import main\n"
        "main()\n"
    )
    for event in ("SessionStart", "PreToolUse", "PostToolUse", "PostToolBatch", "Stop"):
        payload = {**tool, "hook_event_name": event, "tool_response": {"content": "x"}}
        ended = subprocess.run(
            [sys.executable, "-I", "-S", "-c", program],
            input=json.dumps(payload).encode(),
            capture_output=True,
            env={**os.environ, "CLAUDE_PID": str(os.getpid())},
            check=True,
        )
        loaded = set(ended.stderr.decode().split())
        if event != "SessionStart":  # the first of all makes the directories
            assert "landed_claude_code.guard" in loaded
            assert not loaded & EXPENSIVE
        path.write_text("x")


@pytest.mark.parametrize("without", [False, True], ids=["C scanner", "json module"])
def test_json(monkeypatch: pytest.MonkeyPatch, without: bool) -> None:
    if without:
        monkeypatch.setitem(sys.modules, "_json", None)
    value = {"a": [True, False, None, '\u00fc\ud83d"\\\n'], "b": {"c": ""}}
    assert json.loads(wire.encode(value)) == value
    raw = json.dumps({**value, "n": [1, -2.5e3]}).encode()
    assert wire.decode([b" ", raw, b"\n"]) == json.loads(raw)
    for bad in (b"", b"{", b"[]", b"{} {}"):
        with pytest.raises(ValueError, match=r"JSON|Expecting"):
            wire.decode([bad])


def test_the_plugin_is_in_step() -> None:
    plugin = Path(__file__).resolve().parents[1] / "plugin"
    if not plugin.exists():
        pytest.skip("the plugin folder is part of the repository, not of the distribution")
    tool = plugin.parents[2] / "tools" / "claude_code_plugin.py"
    checked = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    hooks = json.loads((plugin / "hooks" / "hooks.json").read_text())["hooks"]
    wanted = entries("python3", ["${CLAUDE_PLUGIN_ROOT}/lib"])
    assert hooks == {event: [group] for event, group in wanted.items()}
    for name in ("landed", "landed_claude_code"):
        assert (plugin / "lib" / name / "__init__.py").exists()
    assert json.loads((plugin / ".claude-plugin" / "plugin.json").read_text())["version"] == landed.__version__


def test_a_hook_that_is_killed_at_any_moment_blocks_nobody(work: Path, actor) -> None:
    """Its Claude Code dies with it. Whoever comes next may write at once, and the records are whole."""
    chance = random.Random(6)
    words = command(*here())
    tool = {"session_id": "dead", "hook_event_name": "PreToolUse", "tool_name": "Write"}
    for number in range(25):
        path = work / f"{number}.md"
        event = {**tool, "tool_input": {"file_path": str(path)}, "tool_use_id": f"t{number}"}
        with subprocess.Popen(["sleep", "60"]) as owner:
            env = {**os.environ, "CLAUDE_PID": str(owner.pid)}
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
            with subprocess.Popen([words["command"], *words["args"]], env=env, **pipes) as process:
                assert process.stdin is not None
                process.stdin.write(json.dumps(event).encode())
                process.stdin.close()
                time.sleep(chance.uniform(0, 0.06))
                process.kill()
            owner.kill()
        started = time.monotonic()
        assert actor("living").write(path, "one") == ""
        assert time.monotonic() - started < 5, "nobody waits for the dead"
    assert actor("living").settle() == ""
    assert actor("living").stop() == ""
