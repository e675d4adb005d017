"""`landed-hook status` and `report`: who wrote what, what was denied and why, and what is left of it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

import landed
from landed_claude_code.cli import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]):
    def run(*words: str, code: int = 0) -> str:
        assert main(list(words)) == code
        return capsys.readouterr().out

    return run


def test_nobody_yet(said, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no agent yet" in said("status")
    assert main(["report"]) == 1
    assert "has seen no session yet" in capsys.readouterr().err


def test_who_holds_what_and_what_was_denied(work: Path, actor, said) -> None:
    plan, notes = work / "plan.md", work / "notes.md"
    one, two = actor(), actor(id="a2")
    one.write(plan, "one")
    one.settle()
    one.ask(notes)
    assert two.write(plan, "two")
    text = said("status")
    assert f"may be writing {notes}" in text
    assert re.search(rf"wrote {plan} at [-\d]{{10}} [:\d]{{8}} UTC\b", text)
    assert f"was denied at {text.partition('was denied at ')[2].split(': ')[0]}: Nothing was written. {plan}" in text
    agents = {agent["id"]: agent for agent in json.loads(said("status", "--json"))["agents"]}
    assert [held["path"] for held in agents[None]["holds"]] == [str(notes)]
    assert [wrote["path"] for wrote in agents[None]["wrote"]] == [str(plan)]
    assert agents["a2"]["runs"]
    assert not agents["a2"]["holds"]
    assert len(agents["a2"]["denied"]) == 1


def test_what_is_left_of_a_session(work: Path, actor, said) -> None:
    one = actor()
    kept, gone, changed, continued = (work / name for name in ("kept", "gone", "changed", "continued"))
    for path in (kept, gone, changed, continued):
        one.write(path, "one")
    one.settle()
    two = actor(id="a2")
    two.read(gone)
    two.write(gone, "two")
    two.settle()
    gone.unlink()
    changed.write_text("other")
    with landed.edit(continued) as doc:
        doc.text += " and two"
    rows = json.loads(said("report", "--json", code=1))["writes"]
    assert len(rows) == 5
    assert {row["path"]: row["state"] for row in rows} == {
        str(kept): "on the disk",
        str(gone): "gone",
        str(changed): "changed",
        str(continued): "continued",
    }
    text = said("report", "5e55", code=1)
    assert text.count(f"{gone}: something outside") == 1, "once, whoever wrote it"
    assert main(["report", "other"]) == 1
    gone.write_text("two")
    changed.write_text("one")
    assert "on the disk" in said("report")


def test_a_file_that_cannot_be_looked_at_hides_no_other(work: Path, actor, said) -> None:
    one = actor()
    for name in ("gone", "loop"):
        one.write(work / name, "one")
        (work / name).unlink()
    (work / "loop").symlink_to("loop")
    rows = {row["path"]: row for row in json.loads(said("report", "--json", code=1))["writes"]}
    assert [rows[str(work / name)]["state"] for name in ("gone", "loop")] == ["gone", "changed"]
    assert "loop of symbolic links" in rows[str(work / "loop")]["by"]
