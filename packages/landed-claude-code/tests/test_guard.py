"""Who may write, what is said, and who may not stop."""

from __future__ import annotations

import os
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from recorded import PAYLOADS

import landed
from landed import _fs
from landed.process import Owner, me, start_token
from landed_claude_code import guard, ledger

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def dead() -> Owner:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as program:  # which ends with its input
        return Owner(program.pid, start_token(program.pid), me().host, "agent dead")


def test_who_has_seen_the_bytes_may_write(work: Path, actor, brief) -> None:
    path = work / "plan.md"
    one, two = actor(), actor(id="a2")
    assert one.write(path, "one") == ""
    assert one.write(path, "one more") == ""
    assert one.settle() == ""
    denied = two.write(path, "two")
    assert "Nothing was written." in denied
    assert "exists, and you have not read it" in denied
    assert re.search(r"agent main wrote at [:\d]{8} UTC \(", denied)
    assert path.read_text() == "one more"
    assert two.write(path, "two") == denied, "the same words again"
    assert two.read(path) == ""
    assert two.write(path, "two") == ""
    assert path.read_text() == "two"
    assert "has changed since you wrote it" in one.write(path, "three")


def test_agents_of_other_sessions_with_the_same_id_are_others(work: Path, actor, brief) -> None:
    path = work / "plan.md"
    assert actor("left", "a1").write(path, "one") == ""
    assert "have not read it" in actor("right", "a1").write(path, "two")


def test_times_decide_nothing(work: Path, actor) -> None:
    path = work / "plan.md"
    one = actor()
    one.write(path, "one")
    one.settle()
    at = one.ledger().of(str(path)).wrote.at
    os.utime(path, (1, 1))
    assert one.settle() == ""
    assert one.ledger().of(str(path)).wrote.at == pytest.approx(at, abs=0.001), "it is no other write"
    path.write_text("one")
    assert one.write(path, "two") == "", "the same bytes, written again by somebody"
    times = path.stat()
    path.write_text("own")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "has changed since" in one.write(path, "three"), "other bytes with the old times and the old size"


def test_another_agent_waits_and_is_then_denied_by_name(work: Path, actor, impatient) -> None:
    path = work / "plan.md"
    one, two = actor(), actor(id="a2")
    assert one.ask(path) == ""
    busy = two.ask(path)
    assert "is being written by agent main" in busy
    assert two.ask(path) == busy, "the same words again"
    one.hook("PostToolUseFailure", tool_name="Write", tool_input={"file_path": str(path)}, error="no")
    assert two.ask(path) == ""


def test_the_lease_ends_in_every_way(work: Path, actor, impatient) -> None:
    path = work / "plan.md"
    two = actor(id="a2")
    for end in (
        lambda one: one.settle(),
        lambda one: one.stop(),
        lambda one: one.hook("UserPromptSubmit", prompt="go on"),
        lambda one: one.hook("SessionStart", source="compact"),
        lambda one: one.hook("SessionEnd", reason="other"),
        lambda one: one.ask(work / "another.md"),  # a person said no to the first
    ):
        one = actor()
        assert one.ask(path) == ""
        assert two.ask(path) != ""
        end(one)
        assert two.ask(path) == ""
        two.settle()


def test_a_write_that_was_made_is_held_until_the_batch_ends(work: Path, actor, impatient) -> None:
    """However many the agent makes: the other hooks may be at it."""
    one, two = actor(), actor(id="a2")
    for name in ("one.md", "two.md", "three.md"):
        assert one.write(work / name, name) == ""
    assert "is being written by agent main" in two.ask(work / "one.md")
    one.settle()
    assert "exists, and you have not read it" in two.ask(work / "one.md")


def test_the_lease_of_a_dead_process_holds_nobody(work: Path, actor, impatient) -> None:
    path = work / "plan.md"
    gone = actor(owner=dead())
    assert "has ended" in gone.ask(path), "a hook that outlived its Claude Code grants nothing"
    with guard.Desk(str(path), "agent", timeout=1) as desk:
        desk.lend("call", dead(), 60)
    assert actor().write(path, "one") == ""


def test_a_person_who_is_asked_has_time(work: Path, actor) -> None:
    path = work / "plan.md"
    one = actor()
    one.ask(path)
    one.hook("PermissionRequest", tool_name="Write", tool_input={"file_path": str(path)})
    with guard.Desk(str(path), "x", timeout=1, patient=False) as desk:
        assert desk.lease is not None
        assert desk.lease.until > time.time() + guard.BOUND
    assert one.done(path, {"content": ""}) != "", "nothing was written"


RECORDED = {
    f"{event['hook_event_name']}, {version}": event
    for version, events in PAYLOADS.items()
    for event in events
    if event["hook_event_name"] in {"PermissionRequest", "PostToolUseFailure"} and event["tool_name"] == "Write"
}


@pytest.mark.parametrize("event", RECORDED.values(), ids=RECORDED)
def test_a_recorded_question_prolongs_the_lease_and_a_recorded_failure_ends_it(
    work: Path, actor, event: dict[str, Any]
) -> None:
    path = work / "plan.md"
    one = actor(event["session_id"])
    assert one.ask(path) == ""
    recorded = {**event, "cwd": str(work), "tool_input": {**event["tool_input"], "file_path": str(path)}}
    recorded["tool_use_id"] = one.ledger().of(str(path)).asked.call
    assert one.hook(recorded.pop("hook_event_name"), **recorded) == {}
    with guard.Desk(str(path), "x", timeout=1, patient=False) as desk:
        if event["hook_event_name"] == "PermissionRequest":
            assert desk.lease is not None
            assert desk.lease.until > time.time() + guard.BOUND
        else:
            assert desk.lease is None
    assert one.settle() == "", "a tool that did not write claims nothing"
    assert one.stop() == ""
    assert actor("another").write(path, "two") == ""


@pytest.mark.parametrize(
    ("found", "said"),
    [(None, "is not there"), ("", "is empty"), ("old", "holds the bytes that it held before")],
)
def test_a_write_that_is_not_there_is_said_at_once(work: Path, actor, found: str | None, said: str) -> None:
    path = work / "plan.md"
    one = actor()
    one.write(path, "old")
    one.settle()
    assert one.ask(path) == ""
    path.unlink()
    if found is not None:
        path.write_text(found)
    assert said in one.done(path, {"content": "new"})
    assert one.stop() == "", "it knows"


def test_bytes_that_changed_after_the_tool(work: Path, actor) -> None:
    path = work / "plan.py"
    one = actor()
    one.ask(path)
    path.write_text("x = 1\n")
    assert one.done(path, {"content": "x=1\n"}) == "", "a formatter may be at it"
    assert "does not hold what you wrote" in one.settle()
    assert "has changed since" in one.write(path, "more") or "have not read" in one.write(path, "more")
    one.read(path)
    assert one.write(path, "more") == ""


@pytest.mark.parametrize("before", [True, False], ids=["before the check", "after the check"])
@pytest.mark.parametrize("length", [1, 500], ids=["a small file", "a longer one"])
def test_what_a_formatter_did_is_shown_and_counts_as_seen(
    work: Path, actor, black: Callable[[str], None], before: bool, length: int
) -> None:
    black("Write|Edit")
    path = work / "plan.py"
    rest = "".join(f"pass  # {number}\n" for number in range(length))
    raw, formatted = f"x=1\n{rest}", f"x = 1\n{rest}"
    one = actor()
    one.ask(path)
    path.write_text(formatted if before else raw)
    assert one.done(path, {"content": raw}) == "", "a formatter may be at it"
    path.write_text(formatted)
    said = one.settle()
    assert "by a hook as it seems (black)" in said
    assert "does not hold" not in said, "no alarm"
    shown = length == 1 or not before  # what the tool wrote was gone before anybody looked, and is not known
    assert ("x = 1" in said) is shown
    assert len(said) < 500, "the difference, not the file"
    assert one.settle() == ""
    if not shown:
        assert "Read it before" in said
        assert "Nothing was written" in one.write(path, "x = 2\n")
        one.read(path)
    assert one.write(path, "x = 2\n") == ""
    assert one.stop() == ""
    assert not list(one.ledger_directory().glob("main.[0-9a-f]*")), "no copy is kept"


def test_what_is_not_shown_is_not_overwritten(work: Path, actor, black: Callable[[str], None]) -> None:
    """A hook may have done it. Somebody else may have, as well: nothing says who."""
    black("*")
    path = work / "plan.py"
    one = actor()
    one.write(path, "x=1\n")
    path.write_text("somebody's work\n" * 1000)
    said = one.settle()
    assert "by a hook as it seems" in said
    assert "Read it before" in said
    assert "has changed since you wrote it" in one.write(path, "x=2\n")


@pytest.mark.parametrize(("files", "length"), [(21, 1), (4, 3500)])
def test_what_a_long_message_does_not_show_is_not_overwritten(
    work: Path, actor, black: Callable[[str], None], files: int, length: int
) -> None:
    black("")
    one = actor()
    paths = [work / f"{number}.py" for number in range(files)]
    for path in paths:
        one.write(path, "x=1\n")
        path.write_text("y" * length + path.name)
    said = one.settle()
    shown = [path.read_text() in said for path in paths]
    assert 1 < sum(shown) < files
    assert (f"{paths[-1]} has changed" in one.settle()) == (files > 20)  # else it was named
    assert [one.write(path, "x=2\n") == "" for path in paths] == shown


@pytest.mark.parametrize(
    ("matcher", "runs"),
    [("", True), ("*", True), ("Edit, Write", True), ("Bash|Read", False), ("Writer", False), ("^W.*", True),
     ("(?<n>Edit)", True), ("mcp__.*", False)],
)  # fmt: skip
def test_a_hook_after_other_tools_is_no_formatter(
    work: Path, actor, black: Callable[[str], None], matcher: str, runs: bool
) -> None:
    black(matcher)
    path = work / "plan.py"
    one = actor()
    one.write(path, "x=1\n")
    path.write_text("x = 1\n")
    said = one.settle()
    assert ("by a hook as it seems" in said) is runs
    assert ("does not hold what you wrote" in said) is not runs


@pytest.mark.parametrize(
    "settings", ["[" * 100_000, '{"hooks": {"PostToolUse": [{"hooks": 7}, {"hooks": [{"command": 7, "args": 7}, 7]}]}}']
)
def test_settings_that_say_nothing_hide_nothing(work: Path, actor, settings: str) -> None:
    (work / ".claude").mkdir()
    (work / ".claude" / "settings.json").write_text(settings)
    path = work / "plan.py"
    one = actor()
    one.write(path, "x=1\n")
    path.write_text("x = 1\n")
    assert "does not hold what you wrote" in one.settle()


def test_a_write_whose_check_never_came_is_not_taken_for_seen(work: Path, actor) -> None:
    """The hook after the tool was killed, or took too long: nobody compared the bytes."""
    path = work / "plan.md"
    one = actor()
    assert one.ask(path) == ""
    path.write_text("one")
    assert one.write(work / "another.md", "of the same batch") == ""
    assert "did not run, so that nothing says whether these are your bytes" in one.settle()
    assert one.settle() == "", "once"
    assert "Nothing was written" in one.write(path, "two")
    one.read(path)
    assert one.write(path, "two") == ""


def test_another_writer_is_no_formatter(work: Path, actor, black: Callable[[str], None]) -> None:
    black("")
    path = work / "plan.py"
    one = actor()
    one.write(path, "x=1\n")
    with guard.Desk(str(path), "other", timeout=1, patient=False):
        path.write_text("other\n")
    with guard.Desk(str(path), "other", timeout=1, patient=False) as desk:
        desk.landed(Owner(os.getpid(), "now", me().host, "a program"))
    said = one.settle()
    assert "does not hold what you wrote" in said
    assert "a program wrote at" in said


def test_changes_from_outside_are_told_once(work: Path, actor) -> None:
    path, other = work / "plan.md", work / "other.md"
    other.write_text("read only\n")
    one = actor()
    one.write(path, "one")
    one.read(other)
    one.settle()
    path.write_text("two, by a shell\n")
    other.unlink()
    said = one.settle()
    assert f"{path} has changed since you wrote it" in said
    assert f"{other}, which you read, is not there any more" in said
    assert one.settle() == ""
    assert "has changed since" in one.write(path, "three")
    path.write_text("one")
    assert one.settle() == ""
    assert one.write(path, "three") == "", "what it had seen is back"
    path.write_text("again\n")
    assert one.hook("UserPromptSubmit", prompt="go on")["hookSpecificOutput"]["additionalContext"].startswith(str(path))


@pytest.mark.parametrize("name", ["", f"{'deep' * 50}/{'down' * 50}"], ids=["short", "long"])
@pytest.mark.parametrize("lost", [False, True], ids=["changed", "lost"])
def test_of_many_files_the_next_message_names_the_others(work: Path, actor, lost: bool, name: str) -> None:
    (work / name).mkdir(parents=True, exist_ok=True)
    paths = [work / name / f"{number}.md" for number in range(25)]
    one = actor()
    for path in paths:
        one.write(path, "one")
    one.settle()
    for path in paths:
        path.unlink()
    said = [one.stop() if lost else one.settle()]
    assert ("25 of the files" in said[0]) == lost
    while said[-1]:
        said.append(one.settle())
    assert {path for path in paths if any(f"{path}" in words for words in said)} == set(paths)
    assert one.stop() == ""


def test_what_was_told_is_not_read_again(work: Path, actor, monkeypatch: pytest.MonkeyPatch) -> None:
    path = work / "plan.md"
    one = actor()
    one.write(path, "one")
    one.settle()
    path.write_text("two, by a shell\n")
    one.settle()
    time.sleep(2 * ledger.LATE / 1e9)
    one.settle()
    with monkeypatch.context() as patch:
        patch.setattr(guard, "_stands", lambda _: pytest.fail("it was read again"))
        assert one.settle() == ""
    path.write_text("three, by a shell\n")
    assert "has changed since you wrote it" in one.settle()


def test_who_stops_hears_of_lost_writes_once(work: Path, actor) -> None:
    lost, changed, continued, kept = (work / name for name in ("lost", "changed", "continued", "kept"))
    one = actor(id="a1")
    for path in (lost, changed, continued, kept):
        assert one.write(path, "one") == ""
    one.settle()
    lost.unlink()
    changed.write_text("other")
    with landed.edit(continued) as doc:
        doc.text += " and two"
    said = one.stop()
    assert "2 of the files that you wrote" in said
    assert f"{lost}: it is gone" in said
    assert f"{changed}: it holds what something outside" in said
    assert str(continued) not in said
    assert one.stop(again=True) == ""
    assert one.stop() == ""


def test_a_write_over_what_came_in_between_is_said(work: Path, actor) -> None:
    """The lease was over, because a person took long, and somebody else wrote meanwhile."""
    path = work / "plan.md"
    one, two = actor(), actor(id="a2")
    assert one.ask(path) == ""
    one_call = one.calls
    with guard.Desk(str(path), "x", timeout=1, patient=False) as desk:
        assert desk.record.lease is not None
        desk.record.lease.until = 0
        desk._artifact.save(desk.record)
    assert two.write(path, "two") == ""
    two.settle()
    path.write_text("one")
    one.calls = one_call
    assert "This write replaced bytes that agent a2 had written" in one.done(path, {"content": "one"})


@pytest.mark.parametrize("later", [0.0, 0.5, 9.0])
def test_what_changes_while_it_is_read_was_not_seen(work: Path, actor, monkeypatch, later: float) -> None:
    """However long it takes until the hook looks: a busy machine starts it late."""
    path = work / "plan.md"
    one = actor()
    path.write_text("new\n")
    monkeypatch.setattr(ledger, "time_ns", lambda: time.time_ns() + int(later * 1e9))
    assert "changed while it was read" in one.done(path, {"type": "text", "file": {"content": "old\n"}}, "Read")
    assert "have not read it" in one.write(path, "mine")


def test_what_is_not_found_in_the_file_counts_as_read_if_it_had_rested(work: Path, actor, monkeypatch) -> None:
    """What is shown of odd bytes need not be what stands there; it must not shut the agent out for ever."""
    path = work / "plan.md"
    one = actor()
    path.write_bytes(b"\xe9t\xe9\n")
    monkeypatch.setattr(ledger, "time_ns", lambda: time.time_ns() + guard.RESTED)
    assert one.done(path, {"type": "text", "file": {"content": "\u00e9t\u00e9\n"}}, "Read") == ""
    assert one.ask(path) == ""


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-8"])
def test_utf16_was_read_however_it_is_shown(work: Path, actor, encoding: str) -> None:
    """The latest Claude Code decodes it; others show its bytes."""
    path = work / "plan.md"
    path.write_bytes("\ufeffone\ntwo\n".encode("utf-16-le"))
    shown = {"content": path.read_bytes().decode(encoding, "replace").removeprefix("\ufeff"), "startLine": 1}
    one = actor()
    assert one.done(path, {"type": "text", "file": shown}, "Read") == ""
    assert one.ask(path, "Edit") == ""


def test_a_part_that_was_read_counts(work: Path, actor) -> None:
    path = work / "plan.md"
    path.write_text("".join(f"line {number}\n" for number in range(100)))
    part = {"content": "line 9\nline 10", "startLine": 10, "numLines": 2, "totalLines": 101}
    one = actor()
    assert one.done(path, {"type": "text", "file": part}, "Read") == ""
    assert one.ask(path, "Edit") == ""


def test_two_copies_of_the_hook_are_one(work: Path, actor) -> None:
    path = work / "plan.md"
    one = actor()
    one.write(path, "one")
    before = landed.Files().read(path).version
    assert one.done(path, {"content": "one"}) == ""
    assert landed.Files().read(path).version == before
    one.settle()
    assert one.settle() == ""


def test_directories_and_devices_are_the_tools_business(work: Path, actor) -> None:
    assert actor().ask(work) == ""
    os.mkfifo(work / "pipe")
    for path in (work, work / "pipe"):
        one = actor()
        assert one.ask(path) == ""
        assert one.hook("PermissionRequest", tool_name="Write", tool_input={"file_path": str(path)}) == {}


def test_what_a_neighbour_planted_does_not_leave_a_write_unguarded(work: Path, actor, monkeypatch) -> None:
    work.chmod(0o1777)
    (work / "plan.md").write_text("unread")
    (work / "link.md").symlink_to("plan.md")
    if os.geteuid() == 0:
        os.lchown(work / "link.md", 4321, -1)  # of root's links all are followed
    monkeypatch.setattr(_fs, "is_ours", lambda _: False)
    denied = actor().ask(work / "link.md")
    assert denied.startswith("Nothing was written.")
    assert denied.endswith("Name the file that it leads to.")
    assert actor().ask(work / "link.md") == denied


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make another user's directory")
def test_a_store_of_another_user_does_not_leave_a_write_unguarded(work: Path, actor) -> None:
    (work / "plan.md").write_text("unread")
    (work / ".landed" / "artifacts").mkdir(parents=True)
    os.chown(work / ".landed", 4321, -1)
    assert "belongs to user 4321" in actor().ask(work / "plan.md")


@pytest.mark.parametrize("name", ["\ud800.md", "a\0b", "loop"])
def test_what_is_no_files_path_is_denied(work: Path, actor, name: str) -> None:
    """Half a surrogate pair is another character in the path that Claude Code writes."""
    (work / "loop").symlink_to("loop")
    denied = actor().ask(f"{work}/{name}")
    assert denied.startswith("Nothing was written.")


def test_a_new_file_in_a_new_directory(work: Path, actor) -> None:
    path = work / "new" / "plan.md"
    one, two = actor(), actor(id="a2")
    assert one.ask(path) == ""
    path.parent.mkdir()
    path.write_text("one")
    assert one.done(path, {"content": "one"}) == ""
    one.settle()
    assert "have not read it" in two.ask(path)
