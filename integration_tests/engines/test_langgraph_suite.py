"""The LangGraph package's own tests, and those of whole graphs, on the engines beyond one machine.

All of them run here, by the engine, but those that look at directories and files, which are named with the reason.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("langgraph.checkpoint.landed", reason="langgraph-checkpoint-landed is not installed")
pytest.importorskip("langgraph.checkpoint.sqlite", reason="langgraph-checkpoint-sqlite is not installed")

import test_after_a_failed_put
import test_async
import test_company
import test_conflicts
import test_ending
import test_list
import test_put
import test_references
import test_retention
import test_saver_conflicts
import test_saver_graphs
import test_ttl
import test_writes
from drafts import Thread
from savers import LANDED

from landed.engines import below
from langgraph.checkpoint.landed import LandedSaver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from s3_server import S3Server


class Place(str):
    """An address, from which a test goes on as from a directory."""

    __slots__ = ()

    def __truediv__(self, name: str) -> Place:
        return Place(below(self, name))


@pytest.fixture(params=["postgres", "s3"])
def root(request: pytest.FixtureRequest) -> Place:
    return Place(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def tmp_path(root: Place) -> Place:
    return root


@pytest.fixture(autouse=True)
def _environment(s3: S3Server) -> None:
    """The processes of these tests come from a server of theirs, which must know the way to the store at its start."""


@pytest.fixture(autouse=True)
def _set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_saver_conflicts, "TURNS", 8)
    monkeypatch.setenv("PGUSER", "landed")  # some open what `Journals.path` says, which names no user


@pytest.fixture
def saver(root: Place) -> Iterator[LandedSaver]:
    with LandedSaver(root) as saver:
        yield saver


@pytest.fixture
def thread(saver: LandedSaver) -> Thread:
    return Thread(saver)


worker, history, patient = test_company.worker, test_company.history, test_company.patient
two = test_conflicts.two
later = test_ttl.later

_FILES = "it counts the bytes of files; what an engine stores is measured by benchmarks/engines.py"
_TREE = "it looks at the directory's files"
_SQLITE = "it is about LangGraph's own saver on SQLite"
LOCAL: dict[str, str] = {
    "test_a_put_that_landed_although_it_failed_is_built_on": "it fails the flush of a segment's file",
    "test_a_value_that_grew_costs_what_it_grew_by": _FILES,
    "test_an_unchanged_value_is_stored_once": _FILES,
    "test_space_is_given_back": _FILES,
    "test_any_thread_and_namespace": "it measures the names of files",
    "test_damage_in_the_middle_is_never_a_shorter_thread": _TREE,
    "test_damage_is_never_an_empty_thread": _TREE,
    "test_a_damaged_thread_is_not_passed_over": _TREE,
    "test_nothing_is_plain_with_an_encrypting_serializer": _TREE,
    "test_the_first_put_and_the_first_writes_make_one_journal": "it counts the directories that are made",
    "test_the_directory_is_removed_under_a_run": "it removes the directory",
    "test_the_directory_is_replaced_by_a_copy_under_a_run": "it replaces the directory",
    "test_the_same_race_loses_updates_elsewhere": _SQLITE,
    "test_a_clock_that_is_behind": "its other half is about LangGraph's own saver on SQLite",
}


def of_any_engine(module: ModuleType) -> dict[str, Any]:
    return {
        name: test
        for name, test in inspect.getmembers(module, inspect.isfunction)
        if name.startswith("test_") and name not in LOCAL
    }


MODULES = (
    test_after_a_failed_put,
    test_async,
    test_company,
    test_conflicts,
    test_ending,
    test_list,
    test_put,
    test_references,
    test_retention,
    test_saver_conflicts,
    test_saver_graphs,
    test_ttl,
    test_writes,
)
for module in MODULES:
    globals().update(of_any_engine(module))


def test_a_clock_that_is_behind_is_refused(root: Place) -> None:
    test_saver_conflicts.test_a_clock_that_is_behind(root, LANDED, "refused")


@pytest.mark.parametrize(("test", "why"), LOCAL.items())
def test_not_on_this_engine(test: str, why: str) -> None:
    pytest.skip(f"{test}: {why}")
