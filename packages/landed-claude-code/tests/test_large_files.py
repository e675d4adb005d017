"""A large file is compared after each tool, and its digest taken once, when all have run: it guards as any other."""

from __future__ import annotations

import json
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

import landed
from landed import _fs
from landed.artifact import Artifact
from landed_claude_code import expected, guard, ledger, long_strings, wire
from landed_claude_code.ledger import DIGEST_LATER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXT = "a line\n" * (DIGEST_LATER // 7 + 1)
SECOND = TEXT.replace("a", "b", 1)
READ_ALL = _fs.read_all
A_TICK = 0.02
"""Seconds: the clock of the file system has gone on."""


def put(path: Path, text: str) -> None:
    temp = path.with_name("temp")
    temp.write_text(text)
    temp.replace(path)


def write(agent: Any, path: Path, text: str, pause: float = A_TICK) -> str:
    if reason := agent.ask(path):
        return reason
    put(path, text)
    time.sleep(pause)
    return agent.done(path, {"type": "create", "content": text})


def edit(agent: Any, path: Path, old: str, new: str) -> str:
    if reason := agent.ask(path, "Edit"):
        return reason
    before = path.read_text()
    put(path, before.replace(old, new, 1))
    time.sleep(A_TICK)
    patch = [{"oldStart": 1, "oldLines": 1, "newStart": 1, "newLines": 1, "lines": [f"-{old}", f"+{new}"]}]
    response = {"originalFile": before, "oldString": old, "newString": new, "structuredPatch": patch}
    return agent.done(path, response, "Edit")


def test_the_digest_is_taken_when_all_tools_have_run(work: Path, actor) -> None:
    path = work / "plan.md"
    one, two = actor(), actor(id="a2")
    assert write(one, path, TEXT) == ""
    assert one.ledger().of(str(path)).wrote is None
    assert one.done(path, {"type": "create", "content": TEXT}) == "", "another copy of the hook"
    assert one.settle() == ""
    wrote = one.ledger().of(str(path)).wrote
    assert wrote is not None
    assert wrote.digest == sha256(TEXT.encode()).hexdigest()
    assert landed.verify(path).version == wrote.detail
    assert "agent main wrote at" in write(two, path, SECOND)
    assert write(one, path, SECOND) == ""
    assert one.stop() == ""


def test_own_batch_is_undisturbed(work: Path, actor) -> None:
    path = work / "plan.md"
    one = actor()
    assert write(one, path, TEXT) == ""
    assert edit(one, path, "a line", "one line") == ""
    assert one.read(path) == ""
    assert edit(one, path, "one line", "two lines") == ""
    assert one.settle() == ""
    wrote = one.ledger().of(str(path)).wrote
    assert wrote is not None
    assert landed.read(path).text.startswith("two lines\n")
    assert landed.read(path).version == wrote.detail
    assert one.stop() == ""


@pytest.mark.parametrize("same_size", [False, True])
def test_what_changes_before_all_have_run_is_said(work: Path, actor, black: Callable[[str], None], same_size) -> None:
    path = work / "plan.md"
    one = actor()
    assert write(one, path, TEXT) == ""
    path.write_text(SECOND if same_size else TEXT + "more")
    assert "does not hold what you wrote" in one.settle()
    assert "has changed since you wrote it" in write(one, path, TEXT)
    one.read(path)
    black("Write")
    assert write(one, path, TEXT) == ""
    path.write_text(SECOND)
    assert "by a hook as it seems (black). Read it" in one.settle()
    assert "has changed since you wrote it" in write(one, path, TEXT)


def test_a_change_while_the_clock_stood_still_is_seen(work: Path, actor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times could not tell it, so the digest is taken at once."""
    path = work / "plan.md"
    one = actor()
    assert one.ask(path) == ""
    put(path, TEXT)
    monkeypatch.setattr(guard, "tick", lambda: max(path.stat().st_mtime_ns, path.stat().st_ctime_ns))
    assert one.done(path, {"type": "create", "content": TEXT}) == ""
    assert one.ledger().of(str(path)).wrote is not None


@pytest.mark.parametrize("end", ["PostToolUseFailure", "SessionEnd", "UserPromptSubmit", "Stop"])
def test_however_it_ends_the_write_is_the_agents(work: Path, actor, end: str) -> None:
    path = work / "plan.md"
    one = actor()
    assert write(one, path, TEXT) == ""
    one.hook(end, tool_name="Edit", tool_input={"file_path": str(path)}, error="no", reason="other", prompt="go on")
    wrote = one.ledger().of(str(path)).wrote
    assert wrote is not None
    assert landed.verify(path).version == wrote.detail


def test_whether_it_still_stands_there_is_asked_piece_by_piece(
    work: Path, actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = work / "plan.md"
    one = actor()
    assert write(one, path, TEXT) == ""
    assert one.settle() == ""
    monkeypatch.setattr(_fs, "read_all", lambda *_: pytest.fail("it was read as a whole"))
    assert one.stop() == ""
    path.write_text(SECOND)
    assert "has changed since you wrote it" in one.settle()


def test_a_large_write_that_is_not_there_is_said_at_once(work: Path, actor) -> None:
    path = work / "plan.md"
    one = actor()
    assert write(one, path, TEXT) == ""
    one.settle()
    assert one.ask(path) == ""
    time.sleep(A_TICK)
    assert "holds the bytes that it held before" in one.done(path, {"type": "update", "content": SECOND})


@pytest.mark.parametrize("start", [1, 2, 40_000])
def test_a_part_of_a_large_file_is_read(work: Path, actor, monkeypatch: pytest.MonkeyPatch, start: int) -> None:
    monkeypatch.setattr(guard, "stat_of", lambda *_: "")  # it has just changed, however slow the machine is
    path = work / "plan.md"
    text = "".join(f"{line}: a line\n" for line in range(50_000))
    path.write_text(text)
    one = actor()
    shown = "".join(text.splitlines(keepends=True)[start - 1 : start + 99])
    file = {"content": shown, "startLine": start}
    assert one.done(path, {"type": "text", "file": file}, "Read") == ""
    assert write(one, path, TEXT) == ""
    path.write_text(text.replace(shown, shown.replace("a", "b")))
    assert "changed while it was read" in one.done(path, {"type": "text", "file": file}, "Read")


def test_a_file_that_no_event_repeats_is_not_read_while_it_comes(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = work / "log"
    path.write_text(TEXT)
    event = {"hook_event_name": "PostToolUse", "tool_name": "Read", "tool_input": {"file_path": str(path)}}
    raw = json.dumps({**event, "tool_response": {"content": TEXT}}, separators=(",", ":")).encode()
    monkeypatch.setattr(_fs, "read_all", lambda *_: pytest.fail("it was read"))
    monkeypatch.setattr(long_strings, "MOST", len(TEXT) - 1)
    assert wire.decode([raw])["tool_response"]["content"] == TEXT.encode()


def test_a_read_of_a_file_that_is_too_large_to_search_does_not_count(
    work: Path, actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = work / "log"
    path.write_text(TEXT, newline="\r\n")
    one = actor()
    monkeypatch.setattr(expected, "SEARCHED", len(TEXT))
    with monkeypatch.context() as context:
        context.setattr(expected, "shows", None)
        shown = {"type": "text", "file": {"content": "a line\na line", "startLine": 5}}
        assert one.done(path, shown, "Read") == ""
    assert "you have not read it" in one.ask(path)


def test_what_is_too_large_to_be_seen_is_never_read_and_the_way_on_works(
    work: Path, actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = work / "log"
    path.write_text("small")
    one = actor()
    one.read(path)
    with path.open("r+b") as file:
        file.truncate(guard.HUGE + 1)
    with monkeypatch.context() as context:
        context.setattr(Artifact, "look", None)
        assert "holds over 1 GiB" in one.settle()
        assert one.settle() == "", "once"
        assert one.done(path, {"type": "text", "file": {"content": "", "startLine": 1}}, "Read") == ""
        denied = one.write(path, "new")
        assert denied.startswith("Nothing was written.")
        assert "move it away" in denied
        assert "Read it" not in denied
    path.rename(work / "old")
    assert one.write(path, "new") == ""


@pytest.mark.parametrize("change", ["none", "another file", "the same file"])
def test_what_was_read_with_the_event_is_not_read_again_unless_it_changed(
    work: Path, actor, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = work / "plan.md"
    one = actor()
    assert one.ask(path) == ""
    put(path, TEXT)
    time.sleep(A_TICK)
    assert long_strings._standing(str(path)) == TEXT.encode()
    reads: list[int] = []
    monkeypatch.setattr(_fs, "read_all", lambda *words: reads.append(words[2]) or READ_ALL(*words))
    if change == "another file":
        put(path, SECOND)
    elif change == "the same file":
        path.write_text(SECOND)
    said = one.done(path, {"type": "create", "content": TEXT})
    assert said == "", "a formatter may be at it"
    assert reads == ([] if change == "none" else [len(SECOND)])
    known = one.ledger().of(str(path))
    assert (known.odd is None, known.fits is None) == ((True, False) if change == "none" else (False, True))


def test_bytes_whose_times_cannot_vouch_for_them_are_read_again(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = work / "plan.md"
    put(path, TEXT)
    time.sleep(A_TICK)
    long_strings._standing(str(path))
    assert wire.standing() is not None
    monkeypatch.setattr(ledger, "tick", lambda: path.stat().st_ctime_ns)
    long_strings._standing(str(path))
    assert wire.standing() is None
