"""A fresh process reads the end of a thread, and sees the same as one that read all of it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from drafts import Thread

from landed import Journal
from langgraph.checkpoint.landed import LandedSaver


def read_whole(saver: LandedSaver) -> bool:
    history = saver._threads.find("1")
    assert history is not None
    return history.complete


def test_only_the_end_is_read(thread: Thread, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constant = ["constant" * 100]
    said: list[str] = []
    for number in range(200):
        said = [*said, f"{number}" * 100][-20:]
        thread.put({"n": number, "constant": constant, "said": said}, None if not number else {"n", "said"})
        thread.write(("x", number))
    wanted = thread.tuple
    fetched: list[Any] = []
    fetch = Journal.fetch
    monkeypatch.setattr(Journal, "fetch", lambda self, place: fetched.append(place) or fetch(self, place))
    fresh = LandedSaver(root)
    assert fresh.get_tuple(thread.config) == wanted
    assert not read_whole(fresh)
    assert len(fetched) < 80
    mine = Thread(fresh)
    mine.load()
    mine.put({"n": 200, "constant": constant, "said": said}, {"n"})
    mine.write(("x", 200))
    assert not read_whole(fresh)
    assert mine.values == {"n": 200, "constant": constant, "said": said}
    assert Thread(LandedSaver(root)).tuple == mine.tuple
    assert len(mine.ids) == 201
    assert read_whole(fresh)
    assert fresh.get_tuple(thread.where) == wanted


def test_what_came_after(thread: Thread, root: Path) -> None:
    for number in range(5):
        thread.put({"a": [number] * 300})
    child = Thread(thread.saver, ns="child:1")
    child.put({"c": ["x" * 300]})
    child.write(("c", 1))
    thread.write(("x", 1))
    fresh = LandedSaver(root)
    found = fresh.get_tuple(thread.config)
    assert found == thread.tuple
    assert not read_whole(fresh)
    assert Thread(fresh, ns="child:1").tuple == child.tuple
    assert read_whole(fresh)


def test_writes_that_came_before(thread: Thread, root: Path) -> None:
    thread.put({"a": 0})
    checkpoint, new = thread.draft({"a": ["x" * 300]})
    before = thread.where
    thread.at(checkpoint["id"])
    thread.write(("x", "early"))
    thread.saver.put(before, checkpoint, {"source": "loop", "step": 0, "parents": {}}, new)
    fresh = LandedSaver(root)
    found = fresh.get_tuple(thread.config)
    assert found is not None
    assert found.pending_writes == [("task", "x", "early")]
    assert not read_whole(fresh)


def test_writes_that_came_before_the_checkpoint_before(thread: Thread, root: Path) -> None:
    """A slow disk and ``durability="async"``: tasks are done long before the checkpoints that they build on."""
    on = [thread.where]
    drafts = []
    for step in range(3):
        drafts.append(thread.draft({"a": [step] * 300}))
        thread.at(drafts[-1][0]["id"])
        thread.write(("x", step))
        on.append(thread.where)
    for step, (checkpoint, new) in enumerate(drafts):
        fresh = LandedSaver(root)  # as when the index was dropped to make room for another thread's
        fresh.put(on[step], checkpoint, {"source": "loop", "step": step, "parents": {}}, new)
        found = LandedSaver(root).get_tuple(thread.config)
        assert found is not None
        assert found.checkpoint["id"] == checkpoint["id"]
        assert found.pending_writes == [("task", "x", step)]
    assert not read_whole(fresh)


def test_the_last_put_is_not_the_latest(thread: Thread, root: Path) -> None:
    older, new = thread.draft({"a": ["older"]})
    latest = thread.put({"a": ["latest"]})
    thread.saver.put(thread.config, older, {"source": "loop", "step": 0, "parents": {}}, new)
    found = LandedSaver(root).get_tuple(thread.config)
    assert found is not None
    assert found.checkpoint["id"] == latest
    assert found == thread.tuple


@pytest.mark.parametrize("again", [False, True])
def test_writes_of_one_that_is_put_below_the_latest(thread: Thread, root: Path, again: bool) -> None:
    """They stand before the end, which is all that the other saver has read."""
    checkpoint, new = thread.draft({"a": ["older"]})
    metadata = {"source": "fork", "step": 0, "parents": {}}
    addressed = {"configurable": {**thread.config["configurable"], "checkpoint_id": checkpoint["id"]}}
    if again:
        thread.saver.put(thread.config, checkpoint, metadata, new)
    thread.saver.put_writes(addressed, [("x", "early")], "task")
    for number in range(2):
        thread.put({"a": [number]}, source="fork")
    other = LandedSaver(root)
    assert Thread(other).values == {"a": [1]}
    thread.saver.put(thread.config, checkpoint, metadata, new)
    assert Thread(other).values == {"a": [1]}
    found = other.get_tuple(addressed)
    assert found is not None
    assert found.pending_writes == [("task", "x", "early")]
    assert found == thread.saver.get_tuple(addressed)


def test_another_process_goes_on_meanwhile(thread: Thread, root: Path) -> None:
    constant = ["constant" * 100]
    thread.put({"a": [0], "constant": constant})
    for number in range(5):
        thread.put({"a": [number] * 300, "constant": constant}, {"a"})
    fresh = LandedSaver(root)
    assert Thread(fresh).values == thread.values
    old = thread.ids[-1]
    found = thread.saver.get_tuple({"configurable": {"thread_id": "1", "checkpoint_id": old}})
    assert found is not None
    thread.at(old)
    thread.versions = dict(found.checkpoint["channel_versions"])
    thread.put({"a": [0], "constant": constant}, set())  # refers to values that the fresh one has not read
    assert Thread(fresh).tuple == thread.tuple
    thread.saver.prune(["1"])
    assert Thread(fresh).tuple == thread.tuple
    mine = Thread(fresh)
    mine.load()
    mine.put({"a": ["mine"], "constant": constant}, {"a"})
    assert thread.values == {"a": ["mine"], "constant": constant}


def test_a_thread_that_was_pruned_or_copied(thread: Thread, root: Path) -> None:
    said: list[str] = []
    for _ in range(5):
        said = [*said, "x" * 300]
        thread.put({"said": said})
    thread.saver.copy_thread("1", "2")
    assert Thread(LandedSaver(root), "2").values == {"said": said}
    thread.saver.prune(["1"])
    assert Thread(LandedSaver(root)).values == {"said": said}
    thread.load()
    thread.put({"said": [*said, "more"]})
    assert Thread(LandedSaver(root)).values == {"said": [*said, "more"]}


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_all_savers_agree(root: Path, seed: int) -> None:
    """Savers that read the end, savers that read all, and one that was there from the start."""
    chance = random.Random(seed)
    savers = [LandedSaver(root) for _ in range(3)]
    values: dict[str, Any] = {"constant": ["c" * 400], "said": [], "n": 0}
    Thread(savers[0]).put(values)
    for number in range(60):
        mine = Thread(chance.choice(savers), ns=chance.choice(["", "", "", "child:1"]))
        found = mine.load()
        if found is not None and chance.random() < 0.2:
            listed = list(mine.saver.list(mine.config))
            found = chance.choice(listed)
            mine.saver.get_tuple(found.config)
            mine.at(found.config["configurable"]["checkpoint_id"])
        values = dict(found.checkpoint["channel_values"]) if found is not None else values
        values = {**values, "said": [*values["said"], f"{number}" * 200], "n": number}
        mine.put(values, {"said", "n"} if found is not None else None, run_id=str(number % 7))
        mine.write(("said", number), task=f"task {number}")
        if chance.random() < 0.1:
            chance.choice(savers).prune(["1"])
        if chance.random() < 0.05:
            chance.choice(savers).delete_for_runs([str(number % 7)])
        if chance.random() < 0.3:
            savers[chance.randrange(3)] = LandedSaver(root)
        check = [LandedSaver(root), *savers]
        for ns in ("", "child:1"):
            latest = [each.get_tuple({"configurable": {"thread_id": "1", "checkpoint_ns": ns}}) for each in check]
            assert all(each == latest[0] for each in latest), number
        if number % 10 == 0:
            lists = [list(each.list(None)) for each in check]
            assert all(each == lists[0] for each in lists), number
