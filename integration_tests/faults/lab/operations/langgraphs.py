"""What `LandedSaver` writes, and the commands that come with it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.sqlite import SqliteSaver

from lab.operations import Bug, Operation, Store
from lab.operations.core import command
from landed.local.collection import LocalCollection
from langgraph.checkpoint.landed import LandedSaver, importing, retention
from langgraph.checkpoint.landed.history import History

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from langgraph.checkpoint.base import BaseCheckpointSaver

    from lab.operations import View

    AnySaver = BaseCheckpointSaver[Any]

WAIT = 5.0
"""Seconds for a lock whose owner is dead."""
TEXT = "a value that is too long to stand in its checkpoint, so that it is stored once for all that have it. " * 3
WRITES = [("log", TEXT), ("asked", "short"), ("log", TEXT[::-1])]


def _config(thread: str, wanted: str | None, ns: str = "") -> Any:
    chosen = {} if wanted is None else {"checkpoint_id": wanted}
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, **chosen}}


def _put(at: AnySaver, thread: str, name: str, parent: str | None, *, ns: str = "", run: str = "") -> None:
    """Put a checkpoint with a value of its own, one that it shares, and a short one."""
    values = {"log": f"{name} {TEXT}", "kept": TEXT, "asked": name}
    versions = {"log": name, "kept": "1", "asked": name}
    new = {channel: versions[channel] for channel in ("log", "asked", *(() if parent else ("kept",)))}
    checkpoint: Any = {
        "v": 4,
        "id": name,
        "ts": "2026-01-02T03:04:05+00:00",
        "channel_values": values,
        "channel_versions": versions,
        "versions_seen": {},
        "updated_channels": sorted(new),
    }
    metadata: Any = {"source": "loop", "step": int(name), "parents": {"": parent} if ns and parent else {}}
    at.put(_config(thread, parent, ns), checkpoint, {**metadata, **({"run_id": run} if run else {})}, new)


def _thread(at: AnySaver, thread: str) -> None:
    """Three checkpoints of two runs, the last with pending writes, and one of a subgraph."""
    _put(at, thread, "1", None, run="first")
    _put(at, thread, "2", "1", run="second")
    _put(at, thread, "2", None, ns="child", run="first")
    _put(at, thread, "3", "2", run="second")
    at.put_writes(_config(thread, "3"), WRITES[:2], "earlier task")


def _saver(directory: Path) -> LandedSaver:
    return LandedSaver(directory / "checkpoints")


def _on(act: Callable[[LandedSaver], object], directory: Path) -> None:
    with _saver(directory) as at:
        act(at)


def _threads(*names: str) -> Callable[[Path], None]:
    def begin(directory: Path) -> None:
        with _saver(directory) as at:
            for name in names:
                _thread(at, name)

    return begin


def _look(directory: Path) -> View:
    """Every checkpoint with all that it holds, and each pending write."""
    if not (directory / "checkpoints").exists():
        return {}
    view: View = {}
    with _saver(directory) as at:
        for found in at.list(None):
            where = found.config["configurable"]
            key = f"{where['thread_id']}/{where['checkpoint_ns']}/{found.checkpoint['id']}"
            assert key not in view, f"{key} is there twice"
            parent = found.parent_config["configurable"]["checkpoint_id"] if found.parent_config else None
            view[key] = [parent, found.checkpoint["channel_values"], found.metadata.get("run_id")]
            for number, (task, channel, value) in enumerate(found.pending_writes or []):
                view[f"{key} write {number}"] = [task, channel, value]
            one = at.get_tuple(found.config)
            assert one is not None, f"{key} is listed, and not found"
            assert one.checkpoint == found.checkpoint, f"{key} is listed otherwise than it is found"
    return view


def _go_on(directory: Path) -> None:
    """Go on with a thread from what it has last."""
    with _saver(directory) as at:
        found = at.get_tuple(_config("a", None))
        _put(at, "a", "9", found.checkpoint["id"] if found else None)


def _hold(at: LandedSaver) -> None:
    with at.thread_lock("a", timeout=WAIT):
        _put(at, "a", "4", "3")


def _expired(directory: Path) -> None:
    with LandedSaver(directory / "checkpoints", ttl=1e-6) as at:
        at.delete_expired()


def _database(directory: Path) -> None:
    with closing(sqlite3.connect(directory / "old.sqlite", check_same_thread=False)) as connection:
        old = SqliteSaver(connection)
        _put(old, "a", "1", None)
        _put(old, "a", "2", "1")
        old.put_writes(_config("a", "2"), WRITES, "task")
        _put(old, "b", "1", None, ns="child")


def _by_thread(key: str) -> str:
    return key.partition("/")[0]


def _by_call(key: str) -> str:
    """A checkpoint is put by one call, the writes of its one task by another."""
    checkpoint, _, write = key.partition(" ")
    return f"{checkpoint} writes" if write else checkpoint


STORE = Store(_look, _go_on, frozenset({"a//9"}))
OPERATIONS = {
    "LandedSaver.put, the first": Operation(STORE, partial(_on, lambda at: _put(at, "a", "1", None))),
    "LandedSaver.put": Operation(STORE, partial(_on, lambda at: _put(at, "a", "4", "3")), _threads("a")),
    "LandedSaver.put of a subgraph": Operation(
        STORE, partial(_on, lambda at: _put(at, "a", "3", "2", ns="child")), _threads("a")
    ),
    "LandedSaver.put_writes": Operation(
        STORE, partial(_on, lambda at: at.put_writes(_config("a", "3"), WRITES, "task")), _threads("a")
    ),
    "LandedSaver.delete_thread": Operation(STORE, partial(_on, lambda at: at.delete_thread("a")), _threads("a", "b")),
    "LandedSaver.delete_for_runs": Operation(
        STORE, partial(_on, lambda at: at.delete_for_runs(["first"])), _threads("a", "b"), _by_thread
    ),
    "LandedSaver.copy_thread": Operation(
        STORE, partial(_on, lambda at: at.copy_thread("a", "copy")), _threads("a"), ends_alike=False
    ),
    "LandedSaver.prune, keep_latest": Operation(
        STORE, partial(_on, lambda at: at.prune(["a", "b"])), _threads("a", "b"), _by_thread
    ),
    "LandedSaver.prune, delete": Operation(
        STORE, partial(_on, lambda at: at.prune(["a", "b"], strategy="delete")), _threads("a", "b"), _by_thread
    ),
    "LandedSaver.delete_expired": Operation(STORE, _expired, _threads("a", "b"), _by_thread),
    "LandedSaver.thread_lock": Operation(STORE, partial(_on, _hold), _threads("a")),
    "landed import-sqlite": Operation(
        STORE,
        lambda directory: command("import-sqlite", directory / "old.sqlite", directory / "checkpoints"),
        _database,
        _by_call,
    ),
}
"""The public write operations of the saver; those for asyncio do the same in a thread."""


# Bugs.


def _record_by_record() -> None:
    real = History.append
    History.append = lambda self, records, _: [real(self, [record], None) for record in records]


def _nothing_put() -> None:
    History.append = lambda *_: None


def _write_by_write() -> None:
    real = LandedSaver.put_writes

    def put_writes(self: LandedSaver, config: Any, writes: Any, task: str) -> None:
        for number in range(len(writes)):
            real(self, config, writes[: number + 1], task)

    LandedSaver.put_writes = put_writes


def _removed_file_by_file() -> None:
    LocalCollection._rename = lambda self, path, _: self._clear(path)


def _namespace_by_namespace() -> None:
    def drop(history: History, choose: Callable[[History], dict[str, set[str]]]) -> bool:
        for ns in ("", "child"):
            real(history, lambda history, ns=ns: {ns: choose(history).get(ns, set())})
        return True

    real = retention.drop
    retention.drop = drop


def _nothing_dropped() -> None:
    retention.drop = lambda *_: False


def _copied_without_the_last() -> None:
    real = retention.copied
    retention.copied = lambda history: real(history)[:-1]


def _writes_left_out() -> None:
    importing._verify = lambda *_: None
    LandedSaver.put_writes = lambda *_: None


BUGS = {
    "a task's writes are stored one by one": Bug("LandedSaver.put_writes", _write_by_write),
    "a copy of a thread is stored one by one": Bug("LandedSaver.copy_thread", _record_by_record),
    "a copy lacks the last record": Bug("LandedSaver.copy_thread", _copied_without_the_last),
    "a thread is deleted file by file": Bug("LandedSaver.delete_thread", _removed_file_by_file),
    "a run is deleted namespace by namespace": Bug("LandedSaver.delete_for_runs", _namespace_by_namespace),
    "a pruned thread is left as it is": Bug("LandedSaver.prune, keep_latest", _nothing_dropped),
    "writes are not imported": Bug("landed import-sqlite", _writes_left_out),
    "a put stores nothing": Bug("LandedSaver.put", _nothing_put),
}
