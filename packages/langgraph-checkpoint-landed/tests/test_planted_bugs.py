"""For each promise of the README a bug that breaks it, and the test that has to see it: a check that cannot fail shows
nothing. Whole graphs have such a table of their own, in integration_tests/langgraph."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import test_company
import test_conflicts
import test_ending
import test_list
import test_put
import test_retention
import test_writes
from drafts import Thread
from test_company import history, worker

import landed
from landed.local.collection import LocalCollection
from langgraph.checkpoint.landed import LandedSaver, ancestry, company, configs, conflicts, putting, saver, threads
from langgraph.checkpoint.landed import history as index
from langgraph.checkpoint.landed.history import History

Plant: TypeAlias = Callable[[pytest.MonkeyPatch], Any]

__all__ = ["history", "worker"]  # fixtures


@pytest.fixture
def two(saver: LandedSaver, root: Path) -> tuple[Thread, Thread]:
    Thread(saver).put({"a": 0})
    return Thread(LandedSaver(root)), Thread(saver)  # the first knows the head by its mark alone


def replaced(where: object, name: str, by: object) -> Plant:
    return lambda patch: patch.setattr(where, name, by)


def metadata_is_plain(patch: pytest.MonkeyPatch) -> None:
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    init = putting.Draft.__init__

    def plain(draft: putting.Draft, serde: Any, ns: str, parent: Any, checkpoint: Any, metadata: Any, new: Any) -> None:
        init(draft, serde, ns, parent, checkpoint, metadata, new)
        draft._metadata = JsonPlusSerializer().dumps_typed(dict(metadata))

    patch.setattr(putting.Draft, "__init__", plain)


def writes_are_acknowledged_early(patch: pytest.MonkeyPatch) -> None:
    board = company.Company.board

    def early(self: company.Company) -> list[company.Rider]:
        riders = board(self)
        for rider in riders:
            rider.landed = True
            rider.let_go()
            rider.let_go = int
        return riders

    patch.setattr(company.Company, "board", early)


def writes_are_lost_with_the_put(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(company.Company, "turn_away", staticmethod(company.Company.leave))


def a_task_waits_for_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(company.Company, "ride_in_loop", lambda _company, _record, errand: errand.begin())


def damage_is_no_thread(patch: pytest.MonkeyPatch) -> None:
    find = threads.Threads.find

    def lenient(self: threads.Threads, name: str) -> History | None:
        try:
            return find(self, name)
        except landed.Corrupt:
            return None

    patch.setattr(threads.Threads, "find", lenient)


def damage_is_the_end(patch: pytest.MonkeyPatch) -> None:
    """What is read of a damaged thread is all that there is."""
    catch_up = History.catch_up

    def lenient(self: History, *, complete: bool = True) -> None:
        with suppress(landed.Corrupt):
            catch_up(self, complete=complete)

    patch.setattr(History, "catch_up", lenient)


def a_record_at_a_time(patch: pytest.MonkeyPatch) -> None:
    append = History.append

    def apart(self: History, records: list[Any], expect: int | None) -> None:
        for record in records:
            append(self, [record], expect)
            expect = None

    patch.setattr(History, "append", apart)


def no_ancestor_is_needed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ancestry, "needed", lambda *_: set())


def the_first_special_write_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(index, "SPECIAL", -100)


def every_run_follows_the_head(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(conflicts.Memory, "follows_head", lambda *_: True)


def nothing_of_others_is_read(patch: pytest.MonkeyPatch) -> None:
    catch_up = History.catch_up

    def once(self: History, *, complete: bool = True) -> None:
        if self.seen == 0:
            catch_up(self, complete=complete)

    patch.setattr(History, "catch_up", once)


FIRST_AND_LAST = test_writes.test_the_first_regular_write_counts_and_the_last_special_one
WITHOUT_THE_PUT = test_company.test_when_the_put_fails_the_writes_go_by_themselves
IN_THE_SAME_TURN = test_company.test_a_put_that_comes_in_the_same_turn_takes_the_writes_of_tasks_along
BEFORE_THE_ONE_BEFORE = test_ending.test_writes_that_came_before_the_checkpoint_before
COPIED = test_put.test_the_directory_is_replaced_by_a_copy_under_a_run
TABLE: list[tuple[str, Plant, Callable[..., Any], dict[str, Any]]] = [
    ("two runs", replaced(conflicts, "check", lambda *_, **__: None), test_conflicts.test_threads_at_once, {}),
    ("two runs", replaced(saver, "Head", str), test_conflicts.test_of_two_runs_on_one_head_one_lands, {}),
    ("forks", every_run_follows_the_head, test_conflicts.test_a_fork_of_what_this_saver_put_itself, {}),
    ("writes", replaced(index, "_order", lambda _: 0), test_writes.test_order, {}),
    ("writes", the_first_special_write_counts, FIRST_AND_LAST, {}),
    ("writes", writes_are_acknowledged_early, test_company.test_nothing_is_acknowledged_before_the_put_is, {}),
    ("writes", writes_are_lost_with_the_put, WITHOUT_THE_PUT, {"error": landed.NotLanded}),
    ("writes", a_record_at_a_time, test_company.test_a_put_takes_the_writes_of_its_parent_along, {}),
    ("writes", replaced(History, "writes_from", History.writes_of), BEFORE_THE_ONE_BEFORE, {}),
    ("writes", a_task_waits_for_nobody, IN_THE_SAME_TURN, {}),
    ("any id", replaced(configs, "namespace_of", lambda _: ""), test_put.test_any_thread_and_namespace, {}),
    ("seen at once", nothing_of_others_is_read, test_list.test_another_saver_sees_it_at_once, {}),
    ("loss", replaced(LocalCollection, "_check_root", lambda _: None), COPIED, {}),
    ("loss", replaced(conflicts, "stale", lambda *_: ValueError()), test_conflicts.test_deleted_under_a_run, {}),
    ("damage", damage_is_no_thread, test_put.test_damage_is_never_an_empty_thread, {}),
    ("damage", damage_is_the_end, test_put.test_damage_in_the_middle_is_never_a_shorter_thread, {}),
    ("encryption", metadata_is_plain, test_put.test_nothing_is_plain_with_an_encrypting_serializer, {}),
    ("prune", no_ancestor_is_needed, test_retention.test_what_a_delta_channel_is_rebuilt_from_stays, {}),
    ("prune", replaced(History, "_release", lambda *_: None), test_retention.test_space_is_given_back, {}),
    ("the end", replaced(index, "read_end", lambda *_: None), test_ending.test_only_the_end_is_read, {}),
]


@pytest.mark.parametrize(("promise", "plant", "test", "arguments"), TABLE)
def test_a_planted_bug_is_seen(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    promise: str,
    plant: Plant,
    test: Callable[..., Any],
    arguments: dict[str, Any],
) -> None:
    given = {name: arguments.get(name) or request.getfixturevalue(name) for name in inspect.signature(test).parameters}
    if test.__module__ == "test_company":
        monkeypatch.setattr(company, "MOMENT", 60.0)
        monkeypatch.setattr(company, "TURNS", 1 << 60)
    plant(monkeypatch)
    with pytest.raises((Exception, pytest.fail.Exception)):  # an assertion's, or what the bug makes the saver raise
        test(**given)
