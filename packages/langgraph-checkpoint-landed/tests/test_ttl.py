"""Threads that end some time after their last put."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from drafts import Thread

import landed
from langgraph.checkpoint.landed import LandedSaver, threads

HOUR = 3600


def let_an_hour_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "time", lambda: time.time() + HOUR)
    monkeypatch.setattr(threads, "_elapsed", lambda: time.monotonic() + HOUR)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    let_an_hour_pass(monkeypatch)


def entries(root: Path) -> list[str]:
    return sorted(landed.Journals(root).names())


@pytest.mark.parametrize("ttl", [1800, timedelta(minutes=30)])
def test_an_expired_thread_is_no_more(root: Path, later: None, ttl: float | timedelta) -> None:
    thread = Thread(LandedSaver(root))
    thread.put({"a": 1})
    saver = LandedSaver(root, ttl=ttl)
    mine = Thread(saver)
    assert mine.load() is None
    assert entries(root) == []
    mine.put({"a": "anew"})
    assert Thread(LandedSaver(root)).values == {"a": "anew"}


@pytest.mark.parametrize("nothing", ["3", 0, -1, float("nan"), timedelta(0)])
def test_what_is_no_length_of_time_is_refused(root: Path, nothing: Any) -> None:
    with pytest.raises(ValueError, match="ttl is a number of seconds above 0"):
        LandedSaver(root, ttl=nothing)


def test_a_run_under_way_goes_on(root: Path, later: None) -> None:
    thread = Thread(LandedSaver(root, ttl=1800))
    thread.put({"a": 1})
    thread.write(("x", 1))
    thread.put({"a": 2})
    assert Thread(LandedSaver(root)).values == {"a": 2}


@pytest.mark.parametrize("jump", [400 * 86_400, -400 * 86_400])
def test_a_clock_that_is_set_meanwhile_removes_nothing_that_is_young(
    root: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    monkeypatch.setattr(threads, "_elapsed", time.monotonic)
    saver = LandedSaver(root, ttl=1800)
    Thread(saver, "before").put({"a": 1})
    monkeypatch.setattr(threads, "time", lambda: time.time() + jump)
    Thread(saver, "after").put({"a": 1})
    saver.delete_expired()
    assert entries(root) == ["after", "before"]
    assert Thread(saver, "before").values == {"a": 1}


def test_delete_expired(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saver = LandedSaver(root, ttl=1800)
    for name in ("1", "2"):
        Thread(saver, name).put({"a": 1})
    saver.delete_expired()
    assert len(entries(root)) == 2
    let_an_hour_pass(monkeypatch)
    asyncio.run(saver.adelete_expired())
    assert entries(root) == []
    assert list(saver.list(None)) == []


def test_a_put_at_the_last_moment_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, saver = LandedSaver(root), LandedSaver(root, ttl=1800)
    writer_thread = Thread(writer)
    writer_thread.put({"a": 1})
    remove = saver._threads.journals.remove
    calls = []

    def put_first(name: str, *, expect: int | None = None) -> bool:
        calls.append(name)
        writer_thread.put({"a": 2})
        monkeypatch.setattr(threads, "time", time.time)
        return remove(name, expect=expect)

    monkeypatch.setattr(saver._threads.journals, "remove", put_first)
    let_an_hour_pass(monkeypatch)
    assert Thread(saver).values == {"a": 2}
    assert calls == ["1"]


def test_a_thread_counts_from_its_last_put_in_whatever_namespace(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subgraph may work for longer than the ttl while the graph itself puts nothing."""
    writer = LandedSaver(root)
    long_ago = time.time() - HOUR
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: long_ago)
        Thread(writer).put({"a": 1})
        Thread(writer, "other").put({"a": 1})
    Thread(writer, ns="child:1").put({"b": 1})
    saver = LandedSaver(root, ttl=1800)
    saver.delete_expired()
    assert entries(root) == ["1"]
    assert Thread(saver).values == {"a": 1}
    assert Thread(saver, ns="child:1").values == {"b": 1}


def test_a_copy_counts_from_when_it_was_made(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LandedSaver(root)
    long_ago = time.time() - HOUR
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: long_ago)
        Thread(writer, "old").put({"a": "old"})
        Thread(writer, "other").put({"a": "other"}, source="fork")
    for name in ("new", "other"):
        writer.copy_thread("old", name)
    LandedSaver(root, ttl=1800).delete_expired()
    assert entries(root) == ["new", "other"]


def test_a_copy_brings_nothing_back_that_has_expired_in_its_place(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saver = LandedSaver(root, ttl=1800)
    long_ago = time.time() - HOUR
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: long_ago)
        Thread(saver, "target").put({"a": "expired"})
    kept = Thread(saver, "source").put({"a": 1})
    saver.copy_thread("source", "target")
    assert Thread(saver, "target").ids == [kept]


def test_a_thread_counts_from_a_put_that_was_taken_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thread = Thread(LandedSaver(root))
    long_ago = time.time() - HOUR
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: long_ago)
        thread.put({"a": "old"}, run_id="a")
    thread.put({"a": "young"}, run_id="b")
    thread.saver.delete_for_runs(["b"])
    thread.saver.delete_for_runs(["c"])
    assert Thread(LandedSaver(root, ttl=1800)).values == {"a": "old"}
