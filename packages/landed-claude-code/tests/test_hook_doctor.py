"""The doctor: it gives the installed command some work, and fails loudly where that does not come out."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from landed.doctor import Check
from landed_claude_code import settings
from landed_claude_code.cli import doctor, main
from landed_claude_code.settings import path_of


@pytest.fixture
def project(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(work)
    assert main(["install", "--scope", "local"]) == 0
    capsys.readouterr()
    return work


def claude(directory: Path, says: str) -> str:
    path = directory / "claude-says"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return str(path)


def checks(project: Path, says: str = "2.1.400 (Claude Code)") -> dict[str, str]:
    return {check.name: check.status for check in doctor.examine(str(project), claude(project, says))}


def edit(project: Path, change) -> None:
    path = Path(path_of("local", str(project)))
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_all_is_well(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checks(project) == {"installed": "ok", "self-test": "ok", "Claude Code": "ok", "records": "ok"}
    assert main(["doctor", "--claude", claude(project, "2.1.400 (Claude Code)")]) == 0
    assert "the hook works" in capsys.readouterr().out
    assert main(["doctor", "--json", "--claude", claude(project, "2.1.400")]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]


@pytest.mark.parametrize(
    ("says", "status"),
    [
        ("1.0.100", "fail"),
        ("2.1.138", "fail"),
        ("2.1.139", "warn"),
        ("2.1.294", "warn"),
        ("2.1.295", "ok"),
        ("?", "warn"),
    ],
)
def test_versions(project: Path, says: str, status: str) -> None:
    assert checks(project, says)["Claude Code"] == status


def test_no_claude_code_at_all(project: Path) -> None:
    for named, said in (("no-such-program", "is not on the PATH"), (str(project), "is no program")):
        found = {check.name: check for check in doctor.examine(str(project), named)}
        assert (found["Claude Code"].status, said in found["Claude Code"].detail) == ("warn", True)


def test_not_installed(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checks(work)["installed"] == "fail"


def test_hooks_are_switched_off(project: Path) -> None:
    edit(project, lambda document: document.update(disableAllHooks=True))
    assert checks(project)["hooks"] == "fail"


@pytest.mark.parametrize("name", ["disableAllHooks", "allowManagedHooksOnly"])
def test_hooks_are_switched_off_for_the_machine(project: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    managed = project / "managed-settings.json"
    monkeypatch.setattr(settings, "MANAGED", str(managed))
    managed.write_text(json.dumps({name: True}))
    assert checks(project)["hooks"] == "fail"


@pytest.fixture
def plugin(work: Path) -> Path:
    """The plugin as Claude Code keeps it, offered and copied."""
    plugins = Path(settings.claude_directory()) / "plugins"
    home = plugins / "cache" / "landed"
    entries = settings.entries(sys.executable, [*settings.here()[1], "${CLAUDE_PLUGIN_ROOT}/lib"])
    for directory in (plugins / "marketplaces" / "landed", home):
        (directory / "hooks").mkdir(parents=True)
        hooks = {event: [group] for event, group in entries.items()}
        (directory / "hooks" / "hooks.json").write_text(json.dumps({"hooks": hooks}))
    (work / ".claude").mkdir()
    (work / ".claude" / "settings.json").write_text(json.dumps({"enabledPlugins": {"landed@landed": True}}))
    return home


def test_a_plugin_counts_where_it_is_installed_and_enabled(plugin: Path, project: Path, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "_tried", lambda *_: Check("self-test", "ok", ""))
    assert "once" not in checks(project)
    installed = Path(settings.claude_directory()) / "plugins" / "installed_plugins.json"
    installed.write_text(json.dumps({"plugins": {"landed@landed": [{"installPath": str(plugin)}]}}))
    assert checks(project)["once"] == "fail"
    edit(project, lambda document: document.update(enabledPlugins={"landed@landed": False}))
    assert "once" not in checks(project)
    installed.write_text("[]")
    assert "once" not in checks(project)


def test_the_command_of_a_plugin_is_tried(plugin: Path, work: Path) -> None:
    installed = Path(settings.claude_directory()) / "plugins" / "installed_plugins.json"
    installed.write_text(json.dumps({"plugins": {"landed@landed": [{"installPath": str(plugin)}]}}))
    assert checks(work) == {"installed": "ok", "self-test": "ok", "Claude Code": "ok", "records": "ok"}
    hooks = plugin / "hooks" / "hooks.json"
    hooks.write_text(hooks.read_text().replace(json.dumps(sys.executable), '"${CLAUDE_PLUGIN_ROOT}/python3"'))
    (failed,) = (check for check in doctor.examine(str(work), claude(work, "2.1.400")) if check.status == "fail")
    assert f"{plugin}/python3 cannot be started" in failed.detail
    assert "python3 on the PATH" in failed.hint


@pytest.mark.parametrize(
    "change",
    [lambda hooks: hooks.pop("PostToolBatch"), lambda hooks: hooks["PreToolUse"][0].update(matcher="Write|Edit")],
    ids=["event", "tool"],
)
def test_an_event_or_a_tool_is_missing(project: Path, change) -> None:
    edit(project, lambda document: change(document["hooks"]))
    assert checks(project)["installed"] == "fail"
    assert main(["install", "--scope", "local"]) == 0
    assert checks(project)["installed"] == "ok"


@pytest.mark.parametrize(
    "command",
    [["/gone/python"], ["/bin/false"], ["/bin/cat"], ["/bin/sh", "-c", "echo '{}'"], ["/bin/sh", "-c", "echo no"], [5]],
    ids=["gone", "fails", "echoes", "denies nothing", "no JSON", "a number"],
)
def test_a_command_that_does_no_work_fails(project: Path, command: list[str]) -> None:
    def change(document):
        for groups in document["hooks"].values():
            hook = groups[0]["hooks"][0]
            hook["command"], hook["args"] = command[0], [*command[1:], "landed_claude_code"]

    edit(project, change)
    assert checks(project)["self-test"] == "fail"


def test_records_that_others_can_read(project: Path, state_dir: Path) -> None:
    (state_dir / "agents").mkdir(parents=True)
    os.chmod(state_dir / "agents", 0o755)
    assert checks(project)["records"] == "warn"


@pytest.mark.parametrize("data", [b"{oops", b"\xff{}", b'{"hooks": {"Stop": [{"hooks": 1}]}}', b'{"x": NaN}'])
def test_malformed_settings(project: Path, data: bytes) -> None:
    Path(path_of("project", str(project))).write_bytes(data)
    assert checks(project)["settings"] == "fail"


@pytest.mark.timeout(20)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no FIFOs")
def test_settings_that_nobody_writes(project: Path) -> None:
    path = Path(path_of("project", str(project)))
    os.mkfifo(path)
    assert checks(project)["settings"] == "fail"
