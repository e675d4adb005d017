"""The doctor: it gives the installed command some work, and fails loudly where that does not come out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

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


def test_a_plugin_counts_where_it_is_installed_and_enabled(project: Path) -> None:
    plugins = Path(settings.claude_directory()) / "plugins"
    home = plugins / "cache" / "landed"
    for directory in (plugins / "marketplaces" / "landed", home):  # offered, and copied
        (directory / "hooks").mkdir(parents=True)
        (directory / "hooks" / "hooks.json").write_text(settings.MARK)
    edit(project, lambda document: document.update(enabledPlugins={"landed@landed": True}))
    assert "once" not in checks(project)
    installed = plugins / "installed_plugins.json"
    installed.write_text(json.dumps({"plugins": {"landed@landed": [{"installPath": str(home)}]}}))
    assert checks(project)["once"] == "fail"
    edit(project, lambda document: document.update(enabledPlugins={"landed@landed": False}))
    assert "plugin" not in checks(project)
    installed.write_text("[]")
    assert "plugin" not in checks(project)


def test_an_event_is_missing(project: Path) -> None:
    edit(project, lambda document: document["hooks"].pop("PostToolBatch"))
    assert checks(project)["installed"] == "fail"


@pytest.mark.parametrize(
    "command",
    [["/gone/python"], ["/bin/false"], ["/bin/cat"], ["/bin/sh", "-c", "echo '{}'"], ["/bin/sh", "-c", "echo no"]],
    ids=["gone", "fails", "echoes", "denies nothing", "no JSON"],
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


@pytest.mark.parametrize("data", [b"{oops", b"\xff{}", b'{"hooks": {"Stop": [{"hooks": 1}]}}'])
def test_malformed_settings(project: Path, data: bytes) -> None:
    Path(path_of("project", str(project))).write_bytes(data)
    assert checks(project)["settings"] == "fail"


@pytest.mark.timeout(20)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no FIFOs")
def test_settings_that_nobody_writes(project: Path) -> None:
    path = Path(path_of("project", str(project)))
    os.mkfifo(path)
    assert checks(project)["settings"] == "fail"
