"""Tests that cannot fail show nothing: with a bug planted in the saver, the test that claims to see it has to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from test_saver_conflicts import test_of_two_threads_exactly_one_raises as two_threads
from test_saver_graphs import test_a_branch_that_failed_is_the_only_one_that_runs_again as failed_branch
from test_saver_graphs import test_time_travel as time_travel

from langgraph.checkpoint.landed import conflicts, saver
from langgraph.checkpoint.landed.history import History

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Plant = Callable[[pytest.MonkeyPatch], None]


def heads_are_not_compared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(conflicts, "check", lambda *_, **__: None)


def heads_are_not_marked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(saver, "Head", str)


def own_puts_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(conflicts.Memory, "has_put", lambda *_: False)


def an_empty_thread_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(conflicts.Memory, "read_head", lambda *_, **__: None)


def addressed_checkpoints_count_as_heads(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(conflicts.Memory, "follows_head", lambda *_: True)


def writes_are_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(History, "_add_writes", lambda *_: None)


@pytest.mark.parametrize(
    ("plant", "test", "arguments"),
    [
        (heads_are_not_compared, two_threads, ("sync", 2)),
        (heads_are_not_marked, two_threads, ("exit", 2)),
        (own_puts_are_forgotten, two_threads, ("sync", 1)),
        (an_empty_thread_is_forgotten, two_threads, ("exit", 1)),
        (addressed_checkpoints_count_as_heads, time_travel, ("sync",)),
        (writes_are_lost, failed_branch, ("sync",)),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_a_planted_bug_is_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plant: Plant, test: Callable[..., None], arguments: tuple
) -> None:
    plant(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017, PT011 - an assertion of the test, or what the saver raises for the bug
        test(tmp_path, *arguments)


@pytest.mark.parametrize(
    ("test", "arguments"),
    [(two_threads, ("sync", 2)), (two_threads, ("exit", 1)), (time_travel, ("sync",)), (failed_branch, ("sync",))],
)
def test_without_it_they_pass(tmp_path: Path, test: Callable[..., None], arguments: tuple) -> None:
    test(tmp_path, *arguments)
