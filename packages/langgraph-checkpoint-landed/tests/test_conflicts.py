"""Two runs on one head: exactly one lands. Deliberate forks pass."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from drafts import Thread

from landed import NotLanded, StaleWrite
from langgraph.checkpoint.landed import LandedSaver
from langgraph.checkpoint.landed.conflicts import Head, Memory


@pytest.fixture(params=["one saver", "two savers", "a copy"])
def two(saver: LandedSaver, root: Path, request: pytest.FixtureRequest) -> tuple[Thread, Thread]:
    other = {"one saver": saver, "two savers": LandedSaver(root), "a copy": copy.copy(saver)}[request.param]
    Thread(saver).put({"a": 0})
    return Thread(saver), Thread(other)


def chain(thread: Thread) -> list[str]:
    """The history by parents, from the latest; equal to the list when there is no fork."""
    found = thread.saver.get_tuple(thread.config)
    ids = []
    while found is not None:
        ids.append(found.config["configurable"]["checkpoint_id"])
        found = thread.saver.get_tuple(found.parent_config) if found.parent_config else None
    return ids


def test_of_two_runs_on_one_head_one_lands(two: tuple[Thread, Thread]) -> None:
    first, second = two
    head = first.load()
    second.load()
    landed = second.put({"a": 2})
    with pytest.raises(StaleWrite, match="thread '1'") as told:
        first.put({"a": 1})
    assert head is not None
    assert told.value.expected == head.config["configurable"]["checkpoint_id"]
    assert told.value.found == landed
    assert told.value.writer is not None
    assert "pid" in told.value.writer
    assert told.value.outcome == "not_written"
    assert first.values == {"a": 2}
    assert chain(first) == first.ids
    first.load()
    first.put({"a": 3})
    assert first.values == {"a": 3}


def test_a_run_that_slept_after_its_own_puts(two: tuple[Thread, Thread]) -> None:
    first, second = two
    first.load()
    first.put({"a": 1})
    second.load()
    second.put({"a": 2})
    second.put({"a": 3})
    with pytest.raises(StaleWrite):
        first.put({"a": 4})
    second.put({"a": 5})
    assert chain(first) == first.ids


def test_two_runs_that_both_found_nothing(saver: LandedSaver, root: Path) -> None:
    for other in (saver, LandedSaver(root)):
        name = f"new {id(other)}"
        first, second = Thread(saver, name), Thread(other, name)
        assert first.load() is None
        assert second.load() is None
        first.put({"a": 1})
        with pytest.raises(StaleWrite, match="no checkpoint"):
            second.put({"a": 2})
        assert first.values == {"a": 1}


def test_forks_on_request(two: tuple[Thread, Thread]) -> None:
    first, second = two
    (old,) = first.ids
    second.load()
    second.put({"a": 1})
    assert first.saver.get_tuple({"configurable": {"thread_id": "1", "checkpoint_id": old}}) is not None
    first.at(old)
    first.put({"a": "fork"})
    first.put({"a": "goes on"})
    assert first.values == {"a": "goes on"}
    assert len(first.ids) == 4


def test_a_fork_that_says_so(two: tuple[Thread, Thread]) -> None:
    first, second = two
    first.load()
    second.load()
    second.put({"a": 1})
    first.put({"a": "fork"}, source="fork")
    assert first.values == {"a": "fork"}


def test_a_fork_of_what_this_saver_put_itself(thread: Thread) -> None:
    """Time travel: the checkpoint was asked for by its id."""
    old = thread.put({"a": 1})
    thread.put({"a": 2})
    assert thread.saver.get_tuple({"configurable": {"thread_id": "1", "checkpoint_id": old}}) is not None
    thread.at(old)
    thread.put({"a": "fork"})
    assert thread.values == {"a": "fork"}


def test_subgraphs_replay(saver: LandedSaver) -> None:
    child = Thread(saver, ns="child:1")
    old = child.put({"a": 1})
    child.put({"a": 2})
    child.at(old)
    child.put({"a": 3})
    assert len(child.ids) == 3


def test_only_the_root_namespace_is_compared(saver: LandedSaver, root: Path) -> None:
    assert Thread(saver).load() is None
    Thread(LandedSaver(root)).put({"a": 1})
    child = Thread(saver, ns="child:1")
    child.put({"a": 1})
    assert child.values == {"a": 1}


def test_fork_as_other_savers_do(root: Path) -> None:
    first, second = Thread(LandedSaver(root, on_conflict="fork")), Thread(LandedSaver(root))
    second.put({"a": 0})
    first.load()
    second.put({"a": 1})
    first.put({"a": 2})
    assert first.values == {"a": 2}
    assert len(first.ids) == 3


def test_an_id_that_sorts_before_its_parents(two: tuple[Thread, Thread]) -> None:
    first, _ = two
    first.load()
    checkpoint, new = first.draft({"a": 1})
    checkpoint["id"] = "0" + checkpoint["id"][1:]
    with pytest.raises(NotLanded, match="clock"):
        first.saver.put(first.where, checkpoint, {"source": "loop", "step": 0, "parents": {}}, new)
    assert first.values == {"a": 0}


def test_deleted_under_a_subgraph(saver: LandedSaver, root: Path) -> None:
    """It would bring back what was deleted, in a thread that has no latest checkpoint."""
    start = Thread(saver).put({"a": 1})
    child = Thread(saver, ns="child:1")
    child.config["configurable"]["checkpoint_map"] = {"": start}
    child.put({"b": 1})
    other = LandedSaver(root)
    other.delete_thread("1")
    with pytest.raises(StaleWrite):
        child.write(("x", 1))
    with pytest.raises(StaleWrite):
        child.put({"b": 2})
    assert list(other.list(None)) == []
    anew = Thread(other).put({"a": 2})
    child.at(start)
    with pytest.raises(StaleWrite):
        child.put({"b": 3})
    assert [each.config["configurable"]["checkpoint_id"] for each in other.list(None)] == [anew]


def test_deleted_under_a_run(two: tuple[Thread, Thread]) -> None:
    first, second = two
    first.load()
    first.put({"a": 1})
    second.saver.delete_thread("1")
    with pytest.raises(StaleWrite, match="no checkpoint"):
        first.write(("a", 1))
    with pytest.raises(StaleWrite, match="no checkpoint"):
        first.put({"a": 2})
    assert first.saver.get_tuple(first.config) is None
    again = Thread(first.saver)
    assert again.load() is None
    again.put({"a": "anew"})
    assert again.values == {"a": "anew"}


def test_threads_at_once(saver: LandedSaver, root: Path) -> None:
    Thread(saver).put({"count": 0})
    barrier = Barrier(4)

    def increment(number: int) -> int:
        mine = saver if number % 2 else LandedSaver(root)
        landed = 0
        barrier.wait()
        for _ in range(20):
            thread = Thread(mine)
            found = thread.load()
            assert found is not None
            try:
                thread.put({"count": found.checkpoint["channel_values"]["count"] + 1})
                landed += 1
            except StaleWrite:
                continue
        return landed

    with ThreadPoolExecutor(4) as threads:
        landed = sum(threads.map(increment, range(4)))
    assert Thread(saver).values == {"count": landed}
    assert len(chain(Thread(saver))) == len(Thread(saver).ids) == landed + 1


def test_a_head_is_an_id(thread: Thread) -> None:
    id = thread.put({"a": 1})
    found = thread.saver.get_tuple(thread.config)
    assert found is not None
    head: Any = found.config["configurable"]["checkpoint_id"]
    assert type(head) is Head
    assert head == id
    assert id == head
    assert (head != id) is False
    assert {id: 1}[head] == 1
    assert type(pickle.loads(pickle.dumps(head))) is str
    assert type(copy.deepcopy(head)) in {str, Head}

    class AnyString(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return isinstance(other, str)

        __hash__ = str.__hash__

    assert head == AnyString()
    assert AnyString() == head
    (listed,) = thread.saver.list(thread.config)
    assert type(listed.config["configurable"]["checkpoint_id"]) is str


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from langgraph.checkpoint.landed import conflicts

    monkeypatch.setattr(conflicts, "REMEMBERED", 3)
    memory = Memory()
    for number in range(10):
        memory.put("t", str(number), None)
        memory.read_head(str(number), empty=True)
    assert [number for number in range(10) if memory.has_put("t", str(number))] == [7, 8, 9]
    assert not memory.follows_head("0", None)
    assert memory.follows_head("9", None)
