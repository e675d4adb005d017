"""The modules of the hook in one file: made when a session starts, used while it says what the sources say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import landed
import landed_claude_code
from landed_claude_code.bundle import OTHERS
from landed_claude_code.cli import install, main
from landed_claude_code.hook import BUNDLE_HEAD, LAUNCHER

if TYPE_CHECKING:
    from collections.abc import Callable

TELL = (
    "import posix, sys\n"
    "def tell(_):\n"
    "    modules = {name: type(getattr(module, '__loader__', 0)).__name__ for name, module in sys.modules.items()}\n"
    "    posix.write(2, repr(modules).encode())\n"
    "posix._exit = tell\n"
)
"""Before the launcher: says at the end what has loaded each module."""


class Installed:
    """The two packages in a directory of their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for package in (landed, landed_claude_code):
            source = Path(package.__file__ or "").parent
            shutil.copytree(source, path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        self.cache = path / "landed_claude_code" / "__pycache__"
        self.bundle = self.cache / f"hook.{sys.implementation.cache_tag}.bundle"
        self.loaders: dict[str, str] = {}

    def hook(self, event: str, **fields: object) -> dict[str, Any]:
        """What the hook says; `loaders` has then what has loaded the modules."""
        ended = subprocess.run(
            [sys.executable, "-I", "-S", "-c", TELL + LAUNCHER, str(self.path)],
            input=json.dumps({"session_id": "s", "hook_event_name": event, **fields}).encode(),
            capture_output=True,
            env={**os.environ, "CLAUDE_PID": str(os.getpid())},
            check=True,
        )
        self.loaders = eval(ended.stderr)
        return json.loads(ended.stdout)

    def write(self, path: Path) -> str:
        """Why an agent may not write there."""
        said = self.hook("PreToolUse", tool_name="Write", tool_use_id="t", tool_input={"file_path": str(path)})
        return said["hookSpecificOutput"]["permissionDecisionReason"]

    @property
    def used(self) -> bool:
        return self.loaders["landed_claude_code.guard"] == "Bundle"


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path / "lib")


@pytest.fixture
def file(work: Path) -> Path:
    path = work / "plan.md"
    path.write_text("x")
    return path


def test_a_session_that_starts_makes_it(installed: Installed, file: Path) -> None:
    before = installed.write(file)
    assert not installed.used
    assert installed.hook("SessionStart") == {}
    assert os.listdir(installed.cache).count(installed.bundle.name) == 1
    assert not [name for name in os.listdir(installed.cache) if name.startswith(f"{installed.bundle.name}.")]
    assert installed.write(file) == before != ""
    assert installed.used
    made = installed.bundle.stat()
    assert installed.hook("SessionStart") == {}
    assert os.path.samestat(made, installed.bundle.stat()), "one that counts is left alone"


def test_nothing_that_a_call_needs_is_missing_from_it(installed: Installed, file: Path) -> None:
    installed.hook("SessionStart")
    tool = {"tool_name": "Write", "tool_use_id": "t", "tool_input": {"file_path": str(file)}}
    large = {"type": "create", "content": "x" * 300_000}
    for event in ("PreToolUse", "PostToolUse", "PostToolBatch", "Stop"):
        installed.hook(event, **tool, tool_response=large)
        ours = {name for name in installed.loaders if name.partition(".")[0] in {"landed", "landed_claude_code"}}
        assert {installed.loaders[name] for name in ours - OTHERS} == {"Bundle"}


def a_source_that_changed(installed: Installed) -> None:
    words = installed.path / "landed_claude_code" / "words.py"
    text = words.read_text().replace("Nothing was written.", "NOTHING WAS WRITTEN.")  # as long as before
    status = words.stat()
    words.write_text(text)
    os.utime(words, ns=(status.st_atime_ns, status.st_mtime_ns + 2 * 10**9))  # of Python's own, seconds count


def a_source_that_is_gone(installed: Installed) -> None:
    os.unlink(installed.path / "landed" / "holder.py")
    os.unlink(installed.path / "landed_claude_code" / "long_strings.py")


def another_python(installed: Installed) -> None:
    installed.bundle.write_bytes(b"\0\0\r\n" + installed.bundle.read_bytes()[4:])


def another_place(installed: Installed) -> None:
    (installed.path / "moved").mkdir()
    for name in ("landed", "landed_claude_code"):
        shutil.copytree(installed.path / name, installed.path / "moved" / name)
    installed.path /= "moved"


def cut(size: int) -> Callable[[Installed], None]:
    def damage(installed: Installed) -> None:
        installed.bundle.write_bytes(installed.bundle.read_bytes()[:size])

    damage.__name__ = f"cut after {size}"
    return damage


DOUBTS = (a_source_that_changed, a_source_that_is_gone, another_python, another_place)


@pytest.mark.parametrize("doubt", [*DOUBTS, *map(cut, (0, 3, BUNDLE_HEAD - 1, BUNDLE_HEAD, 100, 10_000, -1))])
def test_one_that_does_not_count_is_not_used(installed: Installed, file: Path, doubt: Any) -> None:
    installed.hook("SessionStart")
    doubt(installed)
    reason = installed.write(file)
    assert not installed.used
    assert ("NOTHING WAS WRITTEN" in reason) == (doubt is a_source_that_changed)
    assert "and you have not read it" in reason
    if doubt is a_source_that_is_gone:
        return
    installed.hook("SessionStart")
    assert installed.write(file) == reason
    assert installed.used, "the next session makes another one"


def test_where_it_cannot_be_written_all_goes_on(installed: Installed, file: Path) -> None:
    installed.cache.write_text("in the way")
    assert installed.hook("SessionStart") == {}
    assert "and you have not read it" in installed.write(file)
    assert not installed.used


def test_to_uninstall_removes_it(tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bundle"
    path.write_bytes(b"x")
    monkeypatch.setattr(install, "bundle_path", lambda: str(path))
    monkeypatch.chdir(work)
    assert main(["install", "--scope", "local"]) == 0
    assert main(["uninstall", "--scope", "local", "--dry-run"]) == 0
    assert path.exists()
    assert main(["uninstall", "--scope", "local"]) == 0
    assert not path.exists()
