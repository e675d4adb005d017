"""prune, delete_thread, delete_for_runs, copy_thread: what goes, what stays, and that the space is given back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drafts import Thread
from test_put import size

from landed import Corrupt, Entry, Full, Journal, LandedError, NotLanded, OutcomeUnknown, Refused
from langgraph.checkpoint.landed import LandedSaver, retention


def savers(saver: LandedSaver, root: Path) -> list[LandedSaver]:
    return [saver, LandedSaver(root)]


def test_keep_latest(thread: Thread, root: Path) -> None:
    constant = ["constant" * 100]
    said: list[str] = []
    for number in range(20):
        said = [*said, os.urandom(300).hex()]
        thread.put({"n": number, "constant": constant, "said": said}, None if not number else {"n", "said"})
        thread.write(("x", number))
    child = Thread(thread.saver, ns="child")
    child.put({"c": [1]})
    kept_child = child.put({"c": [2]})
    other = Thread(thread.saver, "2")
    other.put({"a": 1})
    other.put({"a": 2})
    observer = LandedSaver(root)
    assert len(list(observer.list(thread.config))) == 20
    before = thread.tuple
    thread.saver.prune(["1", "unknown"])
    for saver in (*savers(thread.saver, root), observer):
        (kept,) = saver.list(thread.config)
        assert kept == before._replace(parent_config=None)
        assert [each.config["configurable"]["checkpoint_id"] for each in saver.list(child.config)] == [kept_child]
        assert len(list(saver.list(other.config))) == 2
        mine = Thread(saver)
        mine.load()
        mine.put({"n": 100, "constant": constant, "said": said}, {"n"})
        assert mine.values == {"n": 100, "constant": constant, "said": said}
        saver.prune(["1"])
        before = mine.tuple


@pytest.mark.parametrize("error", [KeyboardInterrupt(), NotLanded("no space left", errno=28), Corrupt("damage")])
def test_space_that_a_failed_prune_left_is_given_back_by_the_next(
    thread: Thread, root: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    for number in range(5):
        thread.put({"a": [number]})
    dropped, compact = [], Journal.compact

    def failing(*_: object) -> None:
        raise error

    def counted(journal: Journal, keep: Any) -> Any:
        compacted = compact(journal, keep)
        dropped.append(compacted.dropped)
        return compacted

    monkeypatch.setattr(Journal, "compact", failing)
    with pytest.raises(OutcomeUnknown if isinstance(error, NotLanded) else type(error)) as caught:
        thread.saver.prune(["1"])
    if isinstance(error, LandedError):
        assert "stays dropped; the next prune" in str(caught.value), "and not that nothing was changed"
    assert len(thread.ids) == 1
    monkeypatch.setattr(Journal, "compact", counted)
    for _ in range(2):
        LandedSaver(root).prune(["1"])
    assert len(dropped) == 1
    assert dropped[0] >= 4


def test_space_is_given_back(thread: Thread, root: Path) -> None:
    for _ in range(50):
        thread.put({"a": os.urandom(20_000)})
        thread.write(("a", os.urandom(5000)))
    full = size(root)
    thread.saver.prune(["1"])
    assert size(root) < full / 10
    thread.saver.delete_thread("1")
    assert size(root) < 20_000


@pytest.mark.parametrize(("take_out", "of"), [("prune", "1"), ("delete_for_runs", "a")])
def test_a_thread_that_is_full_gives_space_back(root: Path, take_out: str, of: str) -> None:
    """What is dropped takes a record first, for which there is no room."""
    thread = Thread(LandedSaver(root, max_bytes=30_000))
    with contextlib.suppress(Full):
        while True:
            thread.put({"n": 1}, run_id="a")
    getattr(thread.saver, take_out)([of])
    mine = Thread(thread.saver)
    mine.load()
    mine.put({"n": 2})
    assert len(mine.ids) <= 2


def test_a_run_goes_on_under_prune(thread: Thread, root: Path) -> None:
    pruner = LandedSaver(root)
    thread.put({"a": [0]})
    for number in range(1, 20):
        thread.put({"a": [number] * 100, "b": ["x" * 500]}, {"a"} if number > 1 else None)
        thread.write(("x", number))
        pruner.prune(["1"])
        assert [value for _, _, value in thread.tuple.pending_writes or []] == [number]
    assert thread.values == {"a": [19] * 100, "b": ["x" * 500]}
    assert len(thread.ids) == 1


def test_a_put_while_the_space_is_given_back(thread: Thread, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pruner = LandedSaver(root)
    for number in range(3):
        thread.put({"a": [number] * 300})
    compact = Journal.compact

    def put_first(journal: Journal, keep: Any) -> Any:
        thread.put({"a": ["put meanwhile"] * 100})
        thread.write(("x", 1))
        return compact(journal, keep)

    monkeypatch.setattr(Journal, "compact", put_first)
    pruner.prune(["1"])
    for saver in (*savers(thread.saver, root), pruner):
        assert Thread(saver).values == {"a": ["put meanwhile"] * 100}
        assert Thread(saver).tuple.pending_writes == [("task", "x", 1)]
        assert len(Thread(saver).ids) == 2


@pytest.mark.parametrize("known", [True, False])
def test_a_compaction_under_a_reader_hides_nothing(
    thread: Thread, root: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """What tells of a drop may be cleared away when the reader comes there, after it has read what was dropped."""
    pruner, reader = LandedSaver(root), LandedSaver(root)
    thread.put({"a": 1})
    assert not known or len(Thread(reader).ids) == 1
    for _ in range(4):
        thread.put({"a": os.urandom(50_000)})  # a segment each
    with monkeypatch.context() as patch:
        patch.setattr(retention, "compact", lambda _: None)
        pruner.prune(["1"])
    thread.put({"a": 2})
    before, read = thread.ids, Journal.read
    with monkeypatch.context() as patch:

        def compacted_meanwhile(*args: Any, **options: Any) -> Iterator[Entry]:
            entries = read(*args, **options)
            yield next(entries)
            patch.undo()
            pruner.prune(["1"])
            yield from entries

        patch.setattr(Journal, "read", compacted_meanwhile)
        seen = reader._threads.look("1", lambda history: history.before("", None), [])
    assert [*reversed(seen)] in (before, thread.ids), "as it stood before, where an engine reads a snapshot, or after"


def test_a_checkpoint_that_was_put_again_under_its_descendant(thread: Thread) -> None:
    first, new = thread.draft({"a": 1})
    metadata: Any = {"source": "loop", "step": 0, "parents": {}}
    thread.saver.put(thread.config, first, metadata, new)
    thread.at(first["id"])
    thread.write(("delta", "own"))
    thread.put({"a": 2})
    thread.write(("delta", "of the descendant"))
    thread.saver.put(thread.where, first, {**metadata, "source": "fork"}, new)
    thread.at(first["id"])
    rebuilt = thread.saver.get_delta_channel_history(config=thread.where, channels=["delta"])
    assert rebuilt == {"delta": {"writes": [("task", "delta", "of the descendant")]}}


def test_what_a_delta_channel_is_rebuilt_from_stays(thread: Thread, root: Path) -> None:
    for number in range(6):
        values: dict[str, Any] = {"n": number}
        if number == 2:
            values["delta"] = ["snapshot"]
        counters = {} if number == 2 else {"counters_since_delta_snapshot": {"delta": [1, 1]}}
        thread.put(values, {"n", "delta"}, **counters)
        thread.write(("delta", number), ("n", number))
    before = thread.saver.get_delta_channel_history(config=thread.config, channels=["delta"])
    assert before == {"delta": {"writes": [("task", "delta", n) for n in (2, 3, 4)], "seed": ["snapshot"]}}
    thread.saver.prune(["1"])
    for saver in savers(thread.saver, root):
        assert saver.get_delta_channel_history(config=thread.config, channels=["delta"]) == before
        assert len(list(saver.list(thread.config))) == 4


def test_the_parent_of_an_old_checkpoint_with_sends_stays(thread: Thread) -> None:
    thread.put({"a": 1})
    kept = thread.put({"a": 2})
    thread.write(("__pregel_tasks", "send"))
    checkpoint, new = thread.draft({"a": 3})
    thread.saver.put(thread.where, {**checkpoint, "v": 3}, {"source": "loop", "step": 2, "parents": {}}, new)
    thread.saver.prune(["1"])
    assert thread.ids == [checkpoint["id"], kept]


def test_a_subgraph_calls_namespace_goes_with_its_root(thread: Thread) -> None:
    start = thread.put({"a": 1})
    Thread(thread.saver, ns="call:1").put({"c": 1}, parents={"": start})
    Thread(thread.saver, ns="kept").put({"c": 1}, parents={"": start})
    Thread(thread.saver, ns="early:1").put({"c": 1}, parents={"": "not stored yet"})
    end = thread.put({"a": 2})
    Thread(thread.saver, ns="call:2").put({"c": 1}, parents={"": end})
    thread.saver.prune(["1"])
    left = {
        each.config["configurable"]["checkpoint_ns"] for each in thread.saver.list({"configurable": {"thread_id": "1"}})
    }
    assert left == {"", "kept", "early:1", "call:2"}


def test_bad_arguments_change_nothing(thread: Thread) -> None:
    thread.put({"a": 1})
    thread.put({"a": 2})
    with pytest.raises(TypeError):
        thread.saver.prune("1")
    with pytest.raises(ValueError, match="strategy"):
        thread.saver.prune(["1"], strategy="keep_some")
    with pytest.raises(TypeError):
        thread.saver.delete_for_runs("run")
    thread.saver.prune([])
    thread.saver.delete_for_runs([])
    assert len(thread.ids) == 2


def test_delete(thread: Thread, root: Path) -> None:
    for name in ("1", "2", "3"):
        Thread(thread.saver, name).put({"a": 1})
        Thread(thread.saver, name, "child:1").put({"a": 1})
    thread.saver.delete_thread("1")
    thread.saver.delete_thread("1")
    thread.saver.prune(["2", "unknown"], strategy="delete")
    for saver in savers(thread.saver, root):
        assert {each.config["configurable"]["thread_id"] for each in saver.list(None)} == {"3"}


def test_delete_for_runs(thread: Thread, root: Path) -> None:
    ids = {}
    for name in ("1", "2"):
        for ns in ("", "child:1"):
            mine = Thread(thread.saver, name, ns)
            for run in ("a", "b", "a"):
                ids.setdefault(run, []).append(mine.put({"x": ["y" * 300]}, run_id=run))
                mine.write(("x", run))
    thread.saver.delete_for_runs(["a", "unknown"])
    for saver in savers(thread.saver, root):
        left = list(saver.list(None))
        assert {each.config["configurable"]["checkpoint_id"] for each in left} == set(ids["b"])
        assert all(each.parent_config is None for each in left)
        assert all(each.pending_writes == [("task", "x", "b")] for each in left)


def test_copy(thread: Thread, root: Path) -> None:
    said: list[str] = []
    for number in range(10):
        said = [*said, "x" * 300]
        thread.put({"said": said, "n": number})
        thread.write(("x", number), path="p")
    Thread(thread.saver, ns="child:1").put({"c": [1]})
    source = list(thread.saver.list({"configurable": {"thread_id": "1"}}))
    thread.saver.copy_thread("1", "2")
    thread.saver.copy_thread("unknown", "3")
    thread.saver.copy_thread("1", "1")
    for saver in savers(thread.saver, root):
        copied = list(saver.list({"configurable": {"thread_id": "2"}}))
        assert [renamed(each) for each in copied] == [renamed(each) for each in source]
        assert list(saver.list({"configurable": {"thread_id": "1"}})) == source
        assert saver.get_tuple({"configurable": {"thread_id": "3"}}) is None
    thread.saver.delete_thread("1")
    mine = Thread(thread.saver, "2")
    mine.load()
    mine.put({"said": [*said, "more"], "n": 11})
    assert Thread(LandedSaver(root), "2").values == {"said": [*said, "more"], "n": 11}


def test_a_copy_into_a_thread_that_is_further_on(thread: Thread, root: Path) -> None:
    thread.put({"a": ["source"]})
    first = thread.ids[0]
    other = Thread(thread.saver, "2")
    other.at(first)
    other.write(("x", "came before"))
    other.put({"a": ["further on"]}, source="fork")
    observer = LandedSaver(root)  # knows the end alone, as a new one does
    assert Thread(observer, "2").values == {"a": ["further on"]}
    thread.saver.copy_thread("1", "2")
    other.at(first)
    for saver in (observer, *savers(thread.saver, root)):
        assert Thread(saver, "2").values == {"a": ["further on"]}
        found = saver.get_tuple(other.where)
        assert found is not None
        assert found.pending_writes == [("task", "x", "came before")]


def renamed(found: Any) -> Any:
    def without(config: Any) -> Any:
        return config and {**config["configurable"], "thread_id": ""}

    return found._replace(config=without(found.config), parent_config=without(found.parent_config))


def test_a_copy_that_is_too_large_leaves_nothing(thread: Thread, monkeypatch: pytest.MonkeyPatch) -> None:
    from landed import entries

    thread.put({"a": ["x" * 5000]})
    monkeypatch.setattr(entries, "PAYLOAD_LIMIT", 1000)
    with pytest.raises(Refused):
        thread.saver.copy_thread("1", "2")
    monkeypatch.undo()
    assert thread.saver.get_tuple({"configurable": {"thread_id": "2"}}) is None


def test_a_put_in_between_is_seen(thread: Thread, root: Path) -> None:
    """Pruning chooses on what is there when the choice is recorded."""
    thread.put({"a": 1})
    thread.put({"a": 2})
    history = LandedSaver(root)._threads.find("1")
    assert history is not None
    chosen = []

    def choose(seen: Any) -> dict[str, set[str]]:
        chosen.append(list(seen.namespaces[""].ids))
        if len(chosen) == 1:
            thread.put({"a": 3})
        return {"": set(seen.namespaces[""].ids[:-1])}

    assert retention.drop(history, choose)
    assert [len(ids) for ids in chosen] == [2, 3]
    assert thread.values == {"a": 3}
    assert len(thread.ids) == 1
