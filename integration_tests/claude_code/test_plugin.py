"""The plugin folder: Claude Code finds it good, installs it from this repository, and is guarded by it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from claude import ROOT, Claude
from model import Model, use

if TYPE_CHECKING:
    from collections.abc import Callable

    Script = Callable[..., Model]

PLUGIN = ROOT / "packages" / "landed-claude-code" / "plugin"
LIMIT = 60


def run(claude: Claude, *words: str) -> str:
    ended = claude.network.run(
        subprocess.run,
        [str(claude.program), "plugin", *words],
        cwd=claude.work,
        env={**claude.env, "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_claude_code_finds_it_valid(bare: Claude) -> None:
    for directory in (PLUGIN, ROOT):
        assert "Validation passed" in run(bare, "validate", str(directory))
    assert "warning" not in run(bare, "validate", str(PLUGIN), "--profile", "directory")


def test_installed_from_the_repository_it_guards(bare: Claude, script: Script) -> None:
    run(bare, "marketplace", "add", str(ROOT))
    run(bare, "install", "landed@landed")
    copied = next((bare.config / "plugins" / "cache").glob("**/lib/landed_claude_code/hook.py"))
    assert not copied.is_symlink()
    assert not copied.parent.is_symlink()
    path = bare.work / "plan.md"
    path.write_text("somebody's\n")
    doctor = use("Bash", command=f"landed-hook doctor --json --claude {bare.program}")
    model = script(main=[[use("Write", file_path=str(path), content="mine\n")], [doctor]])
    bare.run(model.url)
    denied, told = model.results()
    assert "and you have not read it" in denied
    assert path.read_text() == "somebody's\n"
    found = {check["name"]: check["status"] for check in json.loads(told)["checks"]}
    assert (found["installed"], found["self-test"]) == ("ok", "ok")
    bare.hook("install")
    twice = bare.hook("doctor", "--claude", str(bare.program), check=False)
    assert "active more than once" in twice.stdout
    assert twice.returncode == 1
