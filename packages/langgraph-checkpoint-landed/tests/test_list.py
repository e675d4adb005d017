"""list: order, filters, limits, and that nothing is held while the caller looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from drafts import Thread

from landed import Corrupt, Journals, Record
from langgraph.checkpoint.landed import LandedSaver


def ids(found: Any) -> list[str]:
    return [each.config["configurable"]["checkpoint_id"] for each in found]


def test_newest_first_with_limits(thread: Thread) -> None:
    put = [thread.put({"a": number}) for number in range(5)][::-1]
    saver, config = thread.saver, thread.config
    assert ids(saver.list(config)) == put
    assert ids(saver.list(config, limit=2)) == put[:2]
    assert ids(saver.list(config, limit=0)) == []
    before: Any = {"configurable": {"checkpoint_id": put[1]}}
    assert ids(saver.list(config, before=before)) == put[2:]
    assert ids(saver.list(config, before=before, limit=1)) == put[2:3]
    thread.at(put[3])
    assert ids(saver.list(thread.where)) == [put[3]]


def test_scopes(saver: LandedSaver) -> None:
    put = {(name, ns): Thread(saver, name, ns).put({"a": 1}) for name in ("1", "2") for ns in ("", "n:1", "n:1|m:2")}
    assert sorted(ids(saver.list(None))) == sorted(put.values())
    assert ids(saver.list(None)) == sorted(put.values(), reverse=True)
    everything = [put["1", ns] for ns in ("n:1|m:2", "n:1", "")]
    assert ids(saver.list({"configurable": {"thread_id": "1"}})) == everything
    assert ids(saver.list({"configurable": {"thread_id": "1", "checkpoint_ns": ""}})) == [put["1", ""]]
    assert ids(saver.list({"configurable": {"thread_id": "1", "checkpoint_ns": "n:1"}})) == [put["1", "n:1"]]
    assert ids(saver.list({"configurable": {"thread_id": "3"}})) == []


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"step": 0}, 1),
        ({"user": {"name": "a"}}, 2),
        ({"user.name": "a"}, 2),
        ({"user.name": "b"}, 0),
        ({"missing": None}, 3),
        ({"tags": ["x", "y"]}, 1),
        ({"step": 0, "user": {"name": "a"}}, 1),
        ({"' OR 1=1 --": "x"}, 0),
        ({"deep.er": 1}, 1),
    ],
)
def test_filters(thread: Thread, wanted: dict[str, Any], count: int) -> None:
    thread.put({"a": 1}, user={"name": "a"})
    thread.put({"a": 2}, user={"name": "a"}, tags=["x", "y"])
    thread.put({"a": 3}, **{"deep.er": 1})
    found = list(thread.saver.list(thread.config, filter=wanted))
    assert len(found) == count
    assert len(list(thread.saver.list(None, filter=wanted, limit=1))) == min(1, count)


def test_with_their_writes(thread: Thread) -> None:
    thread.put({"a": 1})
    thread.write(("x", 1))
    thread.put({"a": 2})
    assert [each.pending_writes for each in thread.saver.list(thread.config)] == [[], [("task", "x", 1)]]


def test_put_while_listing(thread: Thread) -> None:
    put = [thread.put({"a": number}) for number in range(3)][::-1]
    seen = []
    for each in thread.saver.list(thread.config):
        seen.append(each.config["configurable"]["checkpoint_id"])
        thread.put({"a": "more"})
        thread.write(("x", 1))
    assert seen == put
    assert len(thread.ids) == 6


def test_pruned_while_listing(thread: Thread) -> None:
    put = [thread.put({"a": number}) for number in range(5)][::-1]
    listing = iter(thread.saver.list(thread.config))
    assert next(listing).config["configurable"]["checkpoint_id"] == put[0]
    LandedSaver(thread.saver._threads.journals.path).prune(["1"])
    assert ids(listing) == []


def test_another_saver_sees_it_at_once(thread: Thread, root: Path) -> None:
    other = LandedSaver(root)
    assert other.get_tuple(thread.config) is None
    for number in range(3):
        id = thread.put({"a": number})
        found = other.get_tuple(thread.config)
        assert found is not None
        assert found.config["configurable"]["checkpoint_id"] == id
        assert len(ids(other.list(None))) == number + 1


def test_what_another_program_keeps_is_passed_over(thread: Thread, root: Path) -> None:
    with Journals(root) as journals:
        journals.open("memory").append([Record(b"\x02\x00\x00\x00", kind=1)])
    put = thread.put({"a": 1}, run_id="a")
    saver = LandedSaver(root, ttl=60)
    assert ids(saver.list(None)) == [put]
    saver.delete_for_runs(["another"])
    saver.delete_expired()


def test_a_damaged_thread_is_not_passed_over(thread: Thread, root: Path) -> None:
    thread.put({"a": "x" * 200}, run_id="a")
    damaged = thread.saver._threads.find("1")
    assert damaged is not None
    (segment,) = Path(damaged.journal.path).glob("*.seg")
    segment.write_bytes(segment.read_bytes().replace(b"xxx", b"xyx", 1))
    for look in (lambda: ids(LandedSaver(root).list(None)), lambda: LandedSaver(root).delete_for_runs(["a"])):
        with pytest.raises(Corrupt):
            look()
