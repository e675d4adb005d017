"""A person is asked whether a tool may run, and takes their time."""

from __future__ import annotations

import threading
from time import time
from typing import TYPE_CHECKING

import pytest
from claude import SOON, until
from model import Model, text, use
from terminal import ENTER, ESCAPE, Terminal

import landed
from landed.artifact import Artifact
from landed_claude_code.guard import BOUND

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from claude import Claude

    Script = Callable[..., Model]

SUCCESS = "successfully"
QUESTION = "Do you want to create plan.md?"


def bound(path: Path) -> float:
    """Seconds that the lease on a path has left; 0 without one."""
    lease = Artifact(path).shelf.load().lease
    return 0.0 if lease is None or lease.over else lease.until - time()


@pytest.mark.every_version
def test_while_a_person_is_asked_the_file_waits_for_the_answer(claude: Claude, script: Script) -> None:
    path = claude.work / "plan.md"
    model = script(main=[[use("Write", file_path=str(path), content="one\n")]])
    with Terminal(claude, model.url) as terminal:
        terminal.wait_for(QUESTION)
        until(lambda: bound(path) > BOUND)
        with pytest.raises(landed.LockTimeout, match="Claude Code session"):
            landed.write(path, "program\n", timeout=0.1)
        assert not path.exists(), "the hook has not answered for the person"
        terminal.press(ENTER)
        until(lambda: not bound(path))
        assert path.read_text() == "one\n"
        until(model.results)
    assert SUCCESS in model.results()[0]


@pytest.mark.every_version
def test_after_a_no_the_file_is_free_from_the_next_prompt_on(claude: Claude, script: Script) -> None:
    """No event tells of the no itself."""
    path = claude.work / "plan.md"
    answer = threading.Event()

    def thinks():
        answer.wait(SOON)
        return [text("done")]

    model = script(main=[[use("Write", file_path=str(path), content="one\n")], thinks])
    with Terminal(claude, model.url) as terminal:
        terminal.wait_for(QUESTION)
        until(lambda: bound(path) > BOUND)
        terminal.press(ESCAPE)
        terminal.wait_for("write to plan.md")
        terminal.press(b"go on")
        terminal.wait_for("go on")
        terminal.press(ENTER)
        until(lambda: not bound(path))
        landed.write(path, "program\n", timeout=1)
        answer.set()
    assert path.read_text() == "program\n"
