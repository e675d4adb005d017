"""put_writes: which write counts, in which order they come, and that none is lost whenever it arrives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from drafts import Thread, new_id

from langgraph.checkpoint.landed import LandedSaver


def pending(saver: LandedSaver, thread: Thread) -> list[tuple[str, str, object]]:
    found = saver.get_tuple(thread.where)
    assert found is not None
    assert found.pending_writes is not None
    return found.pending_writes


def test_order(thread: Thread, root: Path) -> None:
    thread.put({"a": 1})
    thread.write(("x", 1), ("y", 2), task="b", path="~2")
    thread.write(("x", 3), task="c", path="~1")
    thread.write(("x", 4), task="a", path="~2")
    thread.write(("x", 5), task="z")
    wanted = [("z", "x", 5), ("c", "x", 3), ("a", "x", 4), ("b", "x", 1), ("b", "y", 2)]
    for saver in (thread.saver, LandedSaver(root)):
        assert pending(saver, thread) == wanted


def test_the_first_regular_write_counts_and_the_last_special_one(thread: Thread, root: Path) -> None:
    thread.put({"a": 1})
    thread.write(("x", "first"), ("__interrupt__", "first"))
    thread.write(("x", "second"), ("__interrupt__", "second"), ("y", "new"))
    thread.write(("__error__", "e1"), task="t2")
    thread.write(("__error__", "e2"), task="t2")
    wanted = [
        ("task", "__interrupt__", "second"),
        ("task", "x", "first"),
        ("task", "y", "new"),
        ("t2", "__error__", "e2"),
    ]
    for saver in (thread.saver, LandedSaver(root)):
        assert sorted(pending(saver, thread)) == sorted(wanted)


def test_before_and_after_the_checkpoint_and_after_the_next(thread: Thread, root: Path) -> None:
    thread.put({"a": 1})
    checkpoint, new = thread.draft({"a": 2})
    before = thread.where
    thread.where = {"configurable": {**thread.config["configurable"], "checkpoint_id": checkpoint["id"]}}
    thread.write(("x", "early"), task="1")
    assert thread.saver.get_tuple(thread.where) is None
    thread.saver.put(before, checkpoint, {"source": "loop", "step": 0, "parents": {}}, new)
    thread.write(("x", "in time"), task="2")
    middle = thread.where
    thread.put({"a": 3})
    thread.where = middle
    thread.write(("x", "late"), task="3")
    for saver in (thread.saver, LandedSaver(root)):
        assert [value for _, _, value in pending(saver, thread)] == ["early", "in time", "late"]
        latest = saver.get_tuple(thread.config)
        assert latest is not None
        assert latest.pending_writes == []


def test_writes_alone_make_no_checkpoint(saver: LandedSaver) -> None:
    saver.put_writes({"configurable": {"thread_id": "1", "checkpoint_id": new_id()}}, [("x", 1)], "task")
    assert saver.get_tuple({"configurable": {"thread_id": "1"}}) is None
    assert list(saver.list(None)) == []


def test_no_writes(thread: Thread) -> None:
    thread.put({"a": 1})
    thread.write()
    assert pending(thread.saver, thread) == []


def test_namespaces_apart(saver: LandedSaver) -> None:
    root, child = Thread(saver), Thread(saver, ns="child:1")
    root.put({"a": 1})
    child.put({"a": 1})
    root.write(("x", "root"))
    child.write(("x", "child"))
    assert pending(saver, root) == [("task", "x", "root")]
    assert pending(saver, child) == [("task", "x", "child")]


def test_from_many_threads_at_once(thread: Thread, root: Path) -> None:
    thread.put({"a": 1})
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda number: thread.write(("x", number), task=f"{number:03}"), range(200)))
    for saver in (thread.saver, LandedSaver(root)):
        assert [value for _, _, value in pending(saver, thread)] == list(range(200))
