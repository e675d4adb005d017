"""Ledgers: they come back as they were written, stay short, and go when their session is long over."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from landed.process import Owner, me, start_token
from landed_claude_code import ledger as ledgers
from landed_claude_code.adapter import Agent
from landed_claude_code.garbage import KEPT, sweep
from landed_claude_code.ledger import ASKED, DENIED, ENDED, SEEN, TOLD, WROTE, Fact, Ledger, agents_directory, read

if TYPE_CHECKING:
    from pathlib import Path

HERE = Owner(os.getpid(), start_token(os.getpid()), me().host, "here")
AGENT = Agent("s\tession", "a\n1", "kind \\ of", "/dir", "/transcript")


def make(owner: Owner = HERE, agent: Agent = AGENT) -> Ledger:
    return Ledger(agent, owner, agents_directory())


def test_facts_come_back() -> None:
    path = "/a\tb\nc\\d\udcff"
    make().add(Fact(SEEN, path, digest="d1"), Fact(ASKED, path, call="c\t1", detail="v"))
    known = make().load().of(path)
    assert known.seen is not None
    assert known.seen.digest == "d1"
    assert known.asked is not None
    assert (known.asked.call, known.open) == ("c\t1", True)
    make().add(Fact(ENDED, path), Fact(WROTE, path, digest="d2"), Fact(TOLD, path, digest="d3"))
    known = read(make().path).of(path)
    assert not known.open
    assert known.seen is not None
    assert known.seen.digest == "d2"
    assert known.told is not None
    agent = read(make().path).agent
    assert (agent.session, agent.id, agent.kind) == (AGENT.session, AGENT.id, AGENT.kind)
    assert os.stat(make().path).st_mode & 0o777 == 0o600


def test_it_is_rewritten_when_it_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "LONG", 4000)
    ledger = make()
    for number in range(300):
        ledger.add(Fact(SEEN, f"/{number % 7}", digest=str(number)), Fact(DENIED, "/x", detail=str(number)))
    assert os.path.getsize(ledger.path) < 4000 + 60 * 100
    assert os.stat(ledger.path).st_mode & 0o777 == 0o600
    again = make().load()
    assert {path: known.seen.digest for path, known in again.known.items() if known.seen} == {
        f"/{number % 7}": str(number) for number in range(293, 300)
    }
    assert [story.detail for story in again.stories][-ledgers.KEPT_STORIES :] == [
        str(number) for number in range(300 - ledgers.KEPT_STORIES, 300)
    ]


def test_one_of_many_files_is_not_rewritten_for_each_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "LONG", 4000)
    early = make()
    early.add(*(Fact(SEEN, f"/{number}") for number in range(200)))
    inodes = set()
    for number in range(30):
        make().add(Fact(SEEN, f"/{number}", digest="again"))
        inodes.add(os.stat(early.path).st_ino)
    assert len(inodes) == 1
    assert early.load().of("/29").seen.digest == "again", "whoever has read it reads what came since"
    assert early.known.keys() == make().load().known.keys()


def test_a_line_that_was_cut_short_takes_nothing_with_it() -> None:
    make().add(Fact(SEEN, "/a", digest="d1"))
    with open(make().path, "a", encoding="utf-8") as file:
        file.write(Fact(WROTE, "/b and more", digest="d2").encode()[: -len(" and more")])
    assert make().load().known.keys() == {"/a"}, "nobody wrote /b"
    make().add(Fact(SEEN, "/c", digest="d3"))
    assert make().load().known.keys() == {"/a", "/c"}


@pytest.mark.parametrize(("age", "vouches"), [(0, False), (1 - 1e-9, True), (4, True)])
def test_times_in_whole_seconds_vouch_later(age: float, vouches: bool) -> None:
    now = time.time_ns()
    changed = now // 10**9 * 10**9 - round(age * 10**9)
    status = SimpleNamespace(st_size=1, st_ino=1, st_mtime_ns=changed, st_ctime_ns=changed)
    assert bool(ledgers.stat_of(status)) is vouches
    assert bool(ledgers.stat_before(status, now)) is vouches


def test_what_a_living_twin_of_the_session_saw_is_its_own() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as twin:
        owner = Owner(twin.pid, start_token(twin.pid), me().host, "twin")
        make(owner).add(Fact(SEEN, "/a", digest="d1"))
        assert make().load().of("/a").seen is None
        assert make(owner).load().of("/a").seen is not None
        twin.communicate(b"\n")
    assert make().load().of("/a").seen is not None, "a session that is resumed goes on from there"


@pytest.mark.parametrize("rewritten", [False, True])
def test_what_a_twin_saw_after_this_one_began_stays_its_own(
    work: Path, actor, monkeypatch: pytest.MonkeyPatch, rewritten: bool
) -> None:
    before, after = work / "before.md", work / "after.md"
    one, over = actor(), actor(owner=Owner(HERE.pid, HERE.started + "0", HERE.host, "over"))
    before.write_text("x")
    over.read(before)
    one.hook("SessionStart", source="resume")
    monkeypatch.setattr(ledgers, "LONG", 0 if rewritten else ledgers.LONG)
    after.write_text("x")
    over.read(after)
    assert one.ask(before) == "", "a session that is resumed goes on from there"
    assert "you have not read it" in one.ask(after)


def test_of_what_two_processes_did_at_once_who_resumes_the_session_has_seen_neither(work: Path, actor) -> None:
    """Claude Code goes on from one of the two conversations."""
    paths = [work / name for name in ("before.md", "left.md", "right.md")]
    with (
        subprocess.Popen(["cat"], stdin=subprocess.PIPE) as one,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE) as another,
    ):
        owners = [Owner(twin.pid, start_token(twin.pid), me().host, "twin") for twin in (one, another)]
        left, right = (actor(owner=owner) for owner in owners)
        for path, twin in zip(paths, (left, left, right), strict=True):
            path.write_text("x")
            twin.read(path)
            right.hook("SessionStart", source="resume")
    third = actor()
    third.hook("SessionStart", source="resume")
    assert [third.ask(path) == "" for path in paths] == [True, False, False]


def test_who_left_the_session_and_lives_on_runs_it_no_more(work: Path, actor) -> None:
    """By ``/clear``, or to resume another; and may come back."""
    before, after = work / "before.md", work / "after.md"
    for path in (before, after):
        path.write_text("x")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as program:
        one, two = actor(owner=Owner(program.pid, start_token(program.pid), me().host, "who left")), actor()
        one.read(before)
        one.hook("SessionEnd", reason="clear")
        two.hook("SessionStart", source="resume")
        assert two.ask(before) == ""
        two.read(after)
        two.hook("SessionEnd", reason="resume")
        one.hook("SessionStart", source="resume")
        assert one.ask(after) == ""
        assert one.write(work / "new.md", "x") == one.settle() == ""
        assert "you have not read it" in two.ask(work / "new.md"), "one is there again"


def test_what_a_process_that_cannot_be_asked_saw_is_its_own() -> None:
    elsewhere = Owner(os.getpid(), start_token(os.getpid()), "another-host", "perhaps a twin")
    make(elsewhere).add(Fact(SEEN, "/a", digest="d1"))
    assert make().load().of("/a").seen is None


def test_old_sessions_go_unless_they_live() -> None:
    over = Owner(HERE.pid, HERE.started + "0", HERE.host, "another process with that number")
    make(over).add(Fact(SEEN, "/a"))
    old = [make(owner, Agent(name, "", "", "", "")) for name, owner in (("over", over), ("waits", HERE))]
    then = time.time() - KEPT - 60
    for ledger in old:
        ledger.add(Fact(SEEN, "/a"))
        directory = os.path.dirname(ledger.path)
        for path in (*(os.path.join(directory, name) for name in os.listdir(directory)), directory):
            os.utime(path, (then, then))
    sweep(agents_directory())
    assert [os.path.exists(os.path.dirname(ledger.path)) for ledger in old] == [False, True]
    assert os.path.exists(make().path)


def test_what_another_start_removes_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    make(Owner(HERE.pid, HERE.started + "0", HERE.host, "over")).add(Fact(SEEN, "/a"))
    monkeypatch.setattr("landed_claude_code.garbage.KEPT", -60)
    unlink = os.unlink

    def twice(path: str) -> None:
        unlink(path)
        unlink(path)

    monkeypatch.setattr(os, "unlink", twice)
    sweep(agents_directory())
