"""Files that cannot be looked at any more, and what is said of them and of the others."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

import landed
from landed.artifact import Artifact
from landed_claude_code import guard
from landed_claude_code.adapter import Agent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def below_a_file(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("a file")


def without_its_directory(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()


def another_files_record(path: Path) -> None:
    path.unlink()
    other = path.parent.with_name("other.md")
    landed.write(other, "other")
    shutil.copy(Artifact(str(other)).shelf.record_path, Artifact(str(path)).shelf.record_path)


ODDITIES = (a_directory, a_loop, below_a_file, without_its_directory, another_files_record)


@pytest.mark.parametrize("becomes", ODDITIES)
@pytest.mark.parametrize("settled", [False, True])
def test_a_file_that_cannot_be_looked_at_hides_no_other(
    work: Path, actor, becomes: Callable[[Path], None], settled: bool
) -> None:
    odd, lost = work / "sub" / "odd.md", work / "lost.md"
    odd.parent.mkdir()
    one, two = actor(), actor(id="a2")
    assert one.write(odd, "odd") == one.write(lost, "lost") == ""
    if settled:
        assert one.settle() == ""
    becomes(odd)
    lost.unlink()
    said = one.stop() if settled else one.settle()
    assert str(odd) in said
    assert str(lost) in said
    assert two.ask(lost) == ""  # nobody holds it any more
    assert one.stop(again=settled) == one.settle() == one.stop() == ""


def test_a_write_that_another_hook_sent_elsewhere_is_said_and_flushed(
    work: Path, actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All hooks are told of the path that the model named, and the tool of what one of them made of it."""
    path = work / "plan.md"
    one = actor()
    flushed = []
    monkeypatch.setattr(guard.Desk, "flush", lambda desk, _: flushed.append(desk.path))
    assert one.ask(work / "asked.md") == ""
    path.write_text("mine")
    assert "What it held is gone" in one.done(path, {"content": "mine", "originalFile": "theirs"})
    assert one.settle() == ""
    assert flushed == [str(path)]
    assert one.write(path, "more") == one.settle() == ""
    assert one.ask(work / "asked.md") == ""
    assert one.done(work / "new.md", {"content": "", "originalFile": None}) != "", "it is not there"


def test_a_file_that_becomes_a_directory_is_named_once(work: Path, actor) -> None:
    path = work / "plan.md"
    path.write_text("x")
    one = actor()
    one.read(path)
    a_directory(path)
    assert f"{path}, which you read, is not there any more." in one.settle()
    assert one.settle() == ""


def test_files_that_others_hold_hide_nothing_and_are_tried_again(work: Path, actor, monkeypatch) -> None:
    monkeypatch.setattr(guard, "PATIENCE", 0.2)
    monkeypatch.setattr(guard, "WINDOW", 0.2)
    held, lost = work / "held.md", work / "lost.md"
    one = actor()
    assert one.write(held, "held") == one.write(lost, "lost") == ""
    lost.unlink()
    with landed.edit(held):
        said = one.settle()
    assert f"{held} is being written by" in said
    assert f"{lost}, which you wrote, is not there any more" in said
    assert one.settle() == ""
    assert not any(known.open for known in one.ledger().known.values())


def a_done(one, path: Path) -> None:
    one.done(path, {"content": "mine"})


def a_failure(one, path: Path) -> None:
    tool = {"tool_name": "Write", "tool_use_id": f"{one.owner.program}-{one.calls}"}
    one.hook("PostToolUseFailure", **tool, tool_input={"file_path": str(path)}, error="no")


ENDS = {
    "the tool is done": a_done,
    "it failed": a_failure,
    "all are done": lambda one, _: one.settle(),
    "the agent stops": lambda one, _: one.stop(again=True),
    "it asks for another file": lambda one, path: one.ask(path.parent.parent / "other.md"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("gone", [False, True], ids=["a link", "a link to nothing"])
def test_a_directory_that_becomes_a_link_keeps_no_lease(
    work: Path, actor, end: Callable[[object, Path], None], gone: bool
) -> None:
    docs, aside = work / "docs", work / "aside"
    path = docs / "plan.md"
    docs.mkdir()
    one = actor()
    assert one.ask(path) == ""
    docs.rename(aside)
    docs.symlink_to("nowhere" if gone else "aside")
    if not gone and end is not ENDS["it asks for another file"]:
        (aside / "plan.md").write_text("mine")
    end(one, path)
    docs.unlink()
    aside.rename(docs)
    with guard.Desk(str(path), "another", timeout=1, patient=False) as desk:
        assert desk.lease is None
    assert not one.ledger().of(str(path)).open


def test_a_read_that_shows_nothing_counts_for_what_was_seen_before(work: Path, actor) -> None:
    """Claude Code goes by the time that it knows of a file."""
    path = work / "plan.md"
    nothing = {"type": "file_unchanged", "file": {"filePath": str(path)}}
    path.write_text("one")
    times = path.stat()
    one = actor()
    one.read(path)
    assert one.done(path, nothing, "Read") == one.ask(path) == one.settle() == ""
    path.write_text("two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "Read it with another limit" in one.done(path, nothing, "Read")
    assert "has changed since you read it" in one.ask(path)
    one.read(path)
    assert one.ask(path) == ""


def test_a_file_that_cannot_be_read_is_denied_with_that_reason(work: Path, actor) -> None:
    said = actor().ask(work / ("n" * 300))
    assert said.startswith(f"Nothing was written. {work}")
    assert "too long" in said


def test_names_of_agents_are_one_line_of_a_record(work: Path, actor) -> None:
    one = actor(id="a1")
    one.owner.program = str(Agent("5e5510", "a1", "re\nviewer\t", "", ""))
    assert one.write(work / "plan.md", "one") == one.settle() == ""
    assert "it holds what agent a1 (re viewer ) of Claude Code session 5e5510 wrote" in actor().ask(work / "plan.md")
