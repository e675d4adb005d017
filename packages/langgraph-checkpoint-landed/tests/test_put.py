"""put and get_tuple: what was put is what is read, by whichever saver, and nothing of it is shared with the caller."""

from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from drafts import Thread, new_id
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from landed import Corrupt, Full, NotLanded, Refused
from langgraph.checkpoint.landed import LandedSaver
from langgraph.checkpoint.landed.records import CODES, LARGE, ValueRecord, WritesRecord, decode, encode

THREADS = ["1", 7, "a/b", "../x", "", " ", "\0", "a" * 3000, "Case", "case", "é", "\n", "con", "."]
NAMESPACES = ["", "node", "node:1f0", "a:1|b:2|c:3|d:4|e:5|" + "f:" * 200, "sub|1", "é"]


def test_what_was_put(thread: Thread, root: Path) -> None:
    big = [{"n": number, "text": "x" * 100} for number in range(50)]
    checkpoint, new = thread.draft({"n": 1, "none": None, "text": "short", "long": "l" * 5000, "list": big})
    config = {"configurable": {**thread.config["configurable"], "user": "me", "__private": "x"}, "metadata": {"k": 1}}
    put = thread.saver.put(config, checkpoint, {"source": "loop", "step": 3, "parents": {}, "run_id": "r"}, new)
    assert put == {"configurable": {"thread_id": "1", "checkpoint_ns": "", "checkpoint_id": checkpoint["id"]}}
    for saver in (thread.saver, LandedSaver(root)):
        found = saver.get_tuple(thread.config)
        assert found is not None
        assert found.checkpoint == checkpoint
        assert found.config == put
        assert found.metadata == {"source": "loop", "step": 3, "parents": {}, "run_id": "r", "user": "me", "k": 1}
        assert found.parent_config is None
        assert found.pending_writes == []


@pytest.mark.parametrize("asked", [None, ""])
def test_no_id_is_the_latest(thread: Thread, asked: str | None) -> None:
    thread.put({"a": 1})
    latest = thread.put({"a": 2})
    found = thread.saver.get_tuple({"configurable": {"thread_id": "1", "checkpoint_id": asked}})
    assert found is not None
    assert found.checkpoint["id"] == latest


def test_an_id_is_that_one(thread: Thread) -> None:
    first = thread.put({"a": [1]})
    thread.put({"a": [2]})
    found = thread.saver.get_tuple({"configurable": {"thread_id": "1", "checkpoint_id": first}})
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": [1]}
    assert thread.tuple.parent_config == found.config
    assert thread.saver.get_tuple({"configurable": {"thread_id": "1", "checkpoint_id": new_id()}}) is None
    assert thread.saver.get_tuple({"configurable": {"thread_id": "2"}}) is None


def test_any_thread_and_namespace(saver: LandedSaver, root: Path) -> None:
    for name in THREADS:
        for ns in NAMESPACES:
            Thread(saver, name, ns).put({"who": [str(name), ns]})
    for each in (saver, LandedSaver(root)):
        for name in THREADS:
            for ns in NAMESPACES:
                assert Thread(each, name, ns).values == {"who": [str(name), ns]}
    longest = max(len(entry) for _, names, files in os.walk(root) for entry in names + files)
    assert longest < 100


def test_an_int_thread_is_its_text(saver: LandedSaver) -> None:
    Thread(saver, 7).put({"a": 1})
    assert Thread(saver, "7").values == {"a": 1}


def test_put_again_replaces(thread: Thread, root: Path) -> None:
    checkpoint, new = thread.draft({"a": ["old" * 200]})
    metadata: Any = {"source": "loop", "step": 1, "parents": {}}
    thread.saver.put(thread.config, checkpoint, metadata, new)
    again = {**checkpoint, "channel_values": {"a": ["new" * 200]}}
    thread.saver.put(thread.config, again, {**metadata, "step": 2}, new)
    for saver in (thread.saver, LandedSaver(root)):
        (found,) = saver.list(thread.config)
        assert found.checkpoint == again
        assert found.metadata["step"] == 2


def test_an_unchanged_value_is_stored_once(thread: Thread, root: Path) -> None:
    constant = [os.urandom(50).hex() for _ in range(1000)]
    for number in range(50):
        thread.put({"n": number, "constant": constant}, None if number == 0 else {"n"})
    assert size(root) < 2 * 100_000 + 50 * 2000
    assert Thread(LandedSaver(root)).values == {"n": 49, "constant": constant}


def test_references_in_any_order(thread: Thread, root: Path) -> None:
    """Old and new values side by side: which is which does not depend on their numbers."""
    values: dict[str, Any] = {f"c{number}": [f"{number}" * 300] for number in range(8)}
    thread.put(values)
    for number in range(1, 8):
        changed = {f"c{(number + step) % 8}" for step in range(number + 1)}
        values = {**values, **{channel: [f"{channel} {number}" * 100] for channel in changed}}
        thread.put(values, changed)
        for saver in (thread.saver, LandedSaver(root)):
            assert Thread(saver).values == values


def test_a_value_that_grew_costs_what_it_grew_by(thread: Thread, root: Path) -> None:
    said: list[str] = []
    for _ in range(100):
        said = [*said, os.urandom(500).hex()]
        thread.put({"messages": said})
    assert size(root) < 1_000_000  # and 5 MB in full
    for saver in (thread.saver, LandedSaver(root)):
        lengths = [len(each.checkpoint["channel_values"]["messages"]) for each in saver.list(thread.config)]
        assert lengths == list(range(100, 0, -1))
        assert Thread(saver).values == {"messages": said}


def test_chains_of_differences_are_bounded(thread: Thread, monkeypatch: pytest.MonkeyPatch) -> None:
    from langgraph.checkpoint.landed import putting

    monkeypatch.setattr(putting, "CHAIN", 5)
    said: list[str] = []
    for _ in range(20):
        said = [*said, "x" * 600]
        thread.put({"messages": said})
    history = thread.saver._threads.find("1")
    assert sorted({value.depth for value in history.values.values()}) == [0, 1, 2, 3, 4, 5]


def test_a_version_that_was_not_told_is_stored_all_the_same(thread: Thread) -> None:
    checkpoint, _ = thread.draft({"a": ["x" * 300], "b": 1})
    thread.saver.put(thread.config, checkpoint, {}, {})
    assert thread.values == {"a": ["x" * 300], "b": 1}


def test_a_channel_without_a_version_is_stored_each_time(saver: LandedSaver) -> None:
    """Nothing says then that it is unchanged. Checkpoints that are made by hand are such."""
    config = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}
    for value in ("x", "y"):
        checkpoint = {"v": 4, "id": new_id(), "ts": "", "channel_values": {"a": [value]}, "versions_seen": {}}
        config = saver.put(config, {**checkpoint, "channel_versions": {}, "updated_channels": None}, {}, {})
    found = [each.checkpoint["channel_values"]["a"] for each in saver.list({"configurable": {"thread_id": "1"}})]
    assert found == [["y"], ["x"]]


def test_two_children_with_one_version_keep_their_own_values(saver: LandedSaver) -> None:
    """Integer versions are not unique among branches."""
    config = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}
    for value in ("x", "y"):
        checkpoint = {"v": 4, "id": new_id(), "ts": "", "channel_values": {"a": [value]}, "versions_seen": {}}
        saver.put(config, {**checkpoint, "channel_versions": {"a": 1}, "updated_channels": None}, {}, {"a": 1})
    assert [each.checkpoint["channel_values"]["a"] for each in saver.list(config)] == [["y"], ["x"]]


def test_a_removed_channel_is_gone(thread: Thread) -> None:
    thread.put({"a": ["x"], "b": ["y"]})
    thread.put({"a": ["x"]}, {"b"})
    assert thread.values == {"a": ["x"]}


def test_what_the_caller_does_later_changes_nothing(thread: Thread) -> None:
    value = {"deep": [1]}
    thread.put({"a": value})
    value["deep"].append(2)
    thread.values["a"]["deep"].append(3)
    assert thread.values == {"a": {"deep": [1]}}


def test_what_cannot_be_serialized_leaves_nothing(thread: Thread) -> None:
    thread.put({"a": 1})
    before = thread.ids
    with pytest.raises(TypeError):
        thread.put({"a": [1], "b": [lambda: None]})
    thread.at(before[0])
    with pytest.raises(TypeError):
        thread.write(("a", 1), ("b", lambda: None))
    assert thread.ids == before
    assert thread.tuple.pending_writes == []


def test_versions(saver: LandedSaver) -> None:
    first = saver.get_next_version(None, None)
    second = saver.get_next_version(first, None)
    assert first < second < saver.get_next_version(second, None)
    assert saver.get_next_version(first, None) != saver.get_next_version(first, None)
    assert saver.get_next_version(3, None).split(".")[0].endswith("4")


def test_a_config_without_a_thread(saver: LandedSaver) -> None:
    with pytest.raises(Refused, match="thread_id"):
        saver.get_tuple({"configurable": {}})
    with pytest.raises(Refused, match="checkpoint_id"):
        saver.put_writes({"configurable": {"thread_id": "1"}}, [("a", 1)], "task")


def test_growth_limit(root: Path) -> None:
    thread = Thread(LandedSaver(root, max_bytes=100_000))
    for _ in range(5):
        thread.put({"a": os.urandom(5000)})
    with pytest.raises(Full) as caught:
        thread.put({"a": os.urandom(100_000)})
    assert "thread '1': " in str(caught.value)
    assert "Prune the thread" in str(caught.value)
    assert len(thread.ids) == 5
    Thread(thread.saver, "2").put({"a": os.urandom(5000)})


def test_copies_share_everything(saver: LandedSaver) -> None:
    """LangGraph copies the saver for each run in strict mode."""
    clone = copy.copy(saver)
    Thread(saver).put({"a": 1})
    assert Thread(clone).values == {"a": 1}
    strict = saver.with_allowlist({("drafts", "Thread")}) if hasattr(saver, "with_allowlist") else clone
    Thread(strict, "2").put({"a": 2})
    assert Thread(saver, "2").values == {"a": 2}


def test_a_serializer_assigned_later_is_used(saver: LandedSaver) -> None:
    calls: list[object] = []

    class Counting(JsonPlusSerializer):
        def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
            calls.append(obj)
            return super().dumps_typed(obj)

    saver.serde = Counting()
    Thread(saver).put({"a": ["x" * 300]})
    assert len(calls) == 3


def test_nothing_is_plain_with_an_encrypting_serializer(saver: LandedSaver, root: Path) -> None:
    pytest.importorskip("Crypto", reason="pycryptodome is not installed")
    from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

    saver.serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    thread = Thread(saver)
    said: list[str] = []
    for number in range(5):
        said = [*said, f"secret-message-{number}" * 30]
        thread.put({"messages": said, "short": "secret-short"}, note="secret-note")
        thread.write(("messages", "secret-write"))
    stored = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    assert b"secret" not in stored
    other = LandedSaver(root, serde=saver.serde)
    assert Thread(other).values == {"messages": said, "short": "secret-short"}
    assert Thread(other).tuple.metadata["note"] == "secret-note"
    assert list(other.list(None, filter={"note": "secret-note"}, limit=1))


def test_the_directory_is_removed_under_a_run(thread: Thread, root: Path) -> None:
    thread.put({"a": 1})
    shutil.rmtree(root)
    for change in (lambda: thread.put({"a": 2}), lambda: thread.write(("a", 1))):
        with pytest.raises(NotLanded, match="gone"):
            change()
    assert not root.exists()
    root.mkdir()
    with pytest.raises(NotLanded, match="another directory"):
        thread.put({"a": 2})
    with pytest.raises(NotLanded):
        thread.saver.get_tuple(thread.config)


def test_the_directory_is_replaced_by_a_copy_under_a_run(thread: Thread, root: Path, tmp_path: Path) -> None:
    thread.put({"a": 1})
    root.rename(tmp_path / "moved")
    shutil.copytree(tmp_path / "moved", root)
    calls = (
        lambda: thread.put({"a": 2}),
        lambda: thread.write(("a", 1)),
        lambda: thread.saver.get_tuple(thread.config),
        lambda: thread.saver.get_tuple(Thread(thread.saver, "not opened yet").config),
    )
    for call in calls:
        with pytest.raises(NotLanded, match="another directory"):
            call()
    assert Thread(LandedSaver(root)).values == {"a": 1}


def test_damage_in_the_middle_is_never_a_shorter_thread(thread: Thread, root: Path) -> None:
    for number in range(3):
        thread.put({"a": ["x" * 100, number]})
    segment = max(root.rglob("*.seg"), key=lambda path: path.name)
    segment.write_bytes(segment.read_bytes().replace(b"xxx", b"xyx", 1))
    saver = LandedSaver(root)
    assert saver.get_tuple(thread.config) is not None  # the latest checkpoint is whole, and needs nothing before it
    with pytest.raises(Corrupt):
        list(saver.list(thread.config))


def test_damage_is_never_an_empty_thread(thread: Thread, root: Path) -> None:
    for number in range(3):
        thread.put({"a": ["x" * 100, number]})
    segment = max(root.rglob("*.seg"), key=lambda path: path.name)
    whole = segment.read_bytes()
    for damaged in (b"", whole[:100], bytes(len(whole)), whole.replace(b"xxx", b"xyx")):
        segment.write_bytes(damaged)
        with pytest.raises(Corrupt):
            LandedSaver(root).get_tuple(thread.config)
        with pytest.raises(Corrupt):
            list(LandedSaver(root).list(None))
    segment.write_bytes(whole)
    for path in root.rglob("*.seg"):
        path.unlink()
    with pytest.raises(Corrupt):
        LandedSaver(root).get_tuple(thread.config)
    thread.saver.delete_thread("1")
    assert LandedSaver(root).get_tuple(thread.config) is None


def test_ways_to_open(root: Path) -> None:
    with LandedSaver.from_conn_string(str(root)) as saver:
        saver.setup()
        Thread(saver).put({"a": 1})
    with pytest.raises(Refused, match="closed"):
        saver.get_tuple({"configurable": {"thread_id": "1"}})
    assert Thread(LandedSaver(root)).values == {"a": 1}
    with pytest.raises(ValueError, match="on_conflict"):
        LandedSaver(root, on_conflict="ignore")  # type: ignore[arg-type]
    with pytest.raises(Refused, match="InMemorySaver"):
        LandedSaver.from_conn_string(":memory:")
    assert not os.path.exists(":memory:")


def size(root: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in root.rglob("*"))


@pytest.mark.parametrize("length", [LARGE - 1, LARGE, LARGE + 1, 3 * LARGE])
@pytest.mark.parametrize("writes", [0, 1, 20])
def test_large_records_are_the_same_msgpack(length: int, writes: int) -> None:
    body = os.urandom(length)
    value = ValueRecord("channel", "1.5", "bytes", 0, 0, [], body)
    several = WritesRecord("", "id", "task", "", [[at, "ü" * 300, "bytes", body] for at in range(writes)])
    for fields in (value, several):
        assert encode(fields) == ormsgpack.packb(list(fields))
        assert decode(CODES[type(fields)], encode(fields)) == fields


def test_a_bytearray_that_is_changed_meanwhile(thread: Thread) -> None:
    value = bytearray(b"as it was" * 100)
    before = bytes(value)
    checkpoint, new = thread.draft({"data": value})
    commit = thread.saver._put(thread.config, checkpoint, {}, new)
    where = {"configurable": {**thread.config["configurable"], "checkpoint_id": checkpoint["id"]}}
    _, _, write = thread.saver._put_writes(where, [("x", value)], "t", "")
    value[:] = b"another"
    commit()
    write()
    found = thread.saver.get_tuple(thread.config)
    assert found is not None
    assert found.checkpoint["channel_values"]["data"] == before
    assert found.pending_writes == [("t", "x", before)]
