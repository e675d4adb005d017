"""For each guarantee of the README a bug that breaks it, and the test that has to see it.

What a memory answers has more of them, in `test_differential.py`; what takes whole runs and kills is in
`integration_tests/crewai`.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from test_checkpoints import HOOKS, _own_records, location
from test_contract import backend
from test_differential import (
    a_compaction_drops_what_it_has_not_judged,
    an_empty_list_of_ids_deletes_everything,
    an_update_drops_private,
    another_dimension_is_accepted,
    scopes_without_paths,
    the_table_misses_what_others_save,
)
from test_flows import store
from test_locks import locks
from test_memory import full
from test_states import WHEN
from test_storage import storage, three

import landed
from crewai_landed import flows, ledger, reporting, states, table
from crewai_landed import locks as locking
from crewai_landed.checkpoints import LandedJsonProvider, failures
from crewai_landed.flows import LandedFlowPersistence
from crewai_landed.locks import Locks
from crewai_landed.records import Condition
from crewai_landed.storage import LandedStorage
from crewai_landed.store import Store
from crewai_landed.table import Applied, Table

__all__ = ["_own_records", "backend", "full", "location", "locks", "storage", "store", "three"]

README = Path(__file__).parents[1] / "README.md"
Plant: TypeAlias = Callable[[pytest.MonkeyPatch], Any]


def replaced(where: object, name: str, by: object) -> Plant:
    return lambda patch: patch.setattr(where, name, by)


# Memory.


def a_reader_overlooks_a_compaction(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(importlib.import_module(Store.__module__), "_all_there", lambda *_: True)


def of_what_is_new_at_once_the_first_batch_is_left_out(patch: pytest.MonkeyPatch) -> None:
    real = Store._apply

    def apply(self: Store, *parts: Any) -> None:
        batches = [list(batch) for _, batch in groupby((e for part in parts for e in part), attrgetter("position"))]
        real(self, *(batches[1:] if len(batches) > 1 else batches))

    patch.setattr(Store, "_apply", apply)


def distances_are_not_squared(patch: pytest.MonkeyPatch) -> None:
    real = Table.nearest
    patch.setattr(Table, "nearest", lambda *given: [(row, distance**0.5) for row, distance in real(*given)])


def filters_come_after_ranking(patch: pytest.MonkeyPatch) -> None:
    real = Table.nearest

    def nearest(self: Table, query: Any, condition: Condition, limit: int) -> Any:
        mask = self.select(condition)
        return [found for found in real(self, query, Condition(), limit) if mask is None or mask[found[0]]]

    patch.setattr(Table, "nearest", nearest)


def a_batch_is_saved_one_by_one(patch: pytest.MonkeyPatch) -> None:
    real = LandedStorage._put
    patch.setattr(LandedStorage, "_put", lambda self, records: [real(self, [record]) for record in records])


def what_is_accepted_is_not_booked(patch: pytest.MonkeyPatch) -> None:
    """In the processes that are started; this one has no part in it."""
    patch.setenv("PYTHONPATH", str(Path(__file__).with_name("unbooked")))


def only_what_was_raised_counts_as_lost(patch: pytest.MonkeyPatch) -> None:
    real = ledger.Batch.failure
    patch.setattr(ledger.Batch, "failure", lambda self: real(self) if self.cause is not None else None)


# Flows.


def saves_compare_nothing(patch: pytest.MonkeyPatch) -> None:
    append = landed.Journal.append
    patch.setattr(landed.Journal, "append", lambda self, records, expect=None: append(self, records))


def the_state_is_what_its_process_saw_last(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(flows, "_seen", lambda key, look: flows._latest.get(key) or flows._Seen(look()))


def what_has_no_form_is_stored_as_text(patch: pytest.MonkeyPatch) -> None:
    real = states._plain

    def plain(value: Any, where: str) -> Any:
        try:
            return real(value, where)
        except landed.Refused:
            return repr(value)

    patch.setattr(states, "_plain", plain)


# Locks.


def each_process_has_locks_of_its_own(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Locks, "lock", lambda self, name: self._journals.lock(f"{os.getpid()} {name}"))


def each_user_has_locks_of_his_own(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Locks, "lock", lambda self, name: self._journals.lock(f"{os.geteuid()} {name}"))


def the_group_gets_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("landed.local.permissions._can_give", lambda _: False)


# Reports.


def reports_show_states(patch: pytest.MonkeyPatch) -> None:
    real = reporting._save
    patch.setattr(reporting, "_save", lambda entry: replace(real(entry), what=entry.data.decode()))


def reports_show_texts(patch: pytest.MonkeyPatch) -> None:
    real = reporting._change
    patch.setattr(reporting, "_change", lambda entry: replace(real(entry), what=str(entry.data)))


HEARD = "test_checkpoints.py::" + (
    "test_a_failure_in_the_background_raises_out_of_kickoff" if HOOKS else "test_where_hooks_are_missing_check_raises"
)
TABLE: list[tuple[str, str, Plant, dict[str, Any]]] = [
    ("the protocol", "test_contract.py::test_scope_prefix_is_path_aware", scopes_without_paths, {}),
    (
        "a save is seen",
        "test_processes.py::test_the_next_search_finds_what_another_process_saved",
        the_table_misses_what_others_save,
        {},
    ),
    (
        "a reset is seen",
        "test_processes.py::test_a_reset_in_another_process_breaks_nobody",
        replaced(Table, "_remove", lambda *_: 0),
        {},
    ),
    (
        "a compaction keeps all",
        "test_processes.py::test_a_compaction_in_another_process_breaks_nobody",
        a_compaction_drops_what_it_has_not_judged,
        {},
    ),
    (
        "a deletion is seen",
        "test_processes.py::test_a_deletion_that_was_cleared_away_is_seen",
        a_reader_overlooks_a_compaction,
        {},
    ),
    (
        "saves at once",
        "test_processes.py::test_processes_that_save_and_delete_at_once_lose_nothing",
        of_what_is_new_at_once_the_first_batch_is_left_out,
        {},
    ),
    (
        "scores",
        "test_differential.py::test_scores_and_order_are_those_of_lancedb",
        distances_are_not_squared,
        {"dimension": 3},
    ),
    (
        "exact search",
        "test_differential.py::test_the_nearest_are_told_apart_where_float32_cannot",
        replaced(table, "ERROR", 0.0),
        {},
    ),
    ("filters first", "test_storage.py::test_filters_come_before_ranking", filters_come_after_ranking, {}),
    (
        "an empty list",
        "test_storage.py::test_each_filter_narrows_a_deletion",
        an_empty_list_of_ids_deletes_everything,
        {"given": {"record_ids": []}, "left": ["a", "ab", "root"]},
    ),
    (
        "scopes are paths",
        "test_storage.py::test_each_filter_narrows_a_deletion",
        scopes_without_paths,
        {"given": {"scope_prefix": "/a"}, "left": ["ab", "root"]},
    ),
    (
        "one commit",
        "test_storage.py::test_a_batch_an_update_and_a_deletion_are_one_append_each",
        a_batch_is_saved_one_by_one,
        {},
    ),
    ("private stays", "test_storage.py::test_an_update_keeps_what_consolidation_drops", an_update_drops_private, {}),
    (
        "one dimension",
        "test_storage.py::test_another_dimension_is_crewais_own_error",
        another_dimension_is_accepted,
        {"call": lambda storage: storage.search([1.0])},
    ),
    (
        "two first saves",
        "test_storage.py::test_of_two_first_saves_of_different_dimensions_one_counts",
        replaced(Store, "_outcome", lambda *_: Applied()),
        {},
    ),
    (
        "a script ends",
        "test_memory.py::test_a_script_that_ends_right_after_remember_many_has_stored_everything",
        what_is_accepted_is_not_booked,
        {},
    ),
    (
        "a crew hears",
        "test_memory.py::test_a_crews_kickoff_raises",
        replaced(ledger.Ledger, "raise_failures", lambda _: None),
        {"background": False},
    ),
    (
        "a flow hears",
        "test_memory.py::test_a_flows_kickoff_raises",
        replaced(ledger.Ledger, "raise_failures", lambda _: None),
        {},
    ),
    (
        "a text that is dropped",
        "test_memory.py::test_a_text_that_the_encoding_drops_is_lost_and_not_forgotten",
        only_what_was_raised_counts_as_lost,
        {},
    ),
    (
        "a state comes back",
        "test_states.py::test_what_json_does_not_have_comes_back",
        replaced(states, "_MAKE", {**states._MAKE, "datetime": str}),
        {"value": WHEN},
    ),
    (
        "a state is refused",
        "test_states.py::test_what_cannot_be_stored_is_refused_by_place",
        what_has_no_form_is_stored_as_text,
        {"state": {"f": print}, "where": "f is a"},
    ),
    (
        "stale writes",
        "test_flows.py::test_a_superseded_run_raises_stale_write_out_of_kickoff",
        saves_compare_nothing,
        {"times": 1},
    ),
    (
        "stale writes among threads",
        "test_flows.py::test_two_runs_in_one_event_loop",
        the_state_is_what_its_process_saw_last,
        {},
    ),
    (
        "history is pruned",
        "test_flows.py::test_history_is_pruned_by_its_rule",
        replaced(LandedFlowPersistence, "_prune", lambda *_: None),
        {},
    ),
    (
        "history is kept",
        "test_flows.py::test_history_keeps_what_is_waited_for_and_the_newest_state",
        replaced(LandedFlowPersistence, "_needed", lambda *_: iter(())),
        {},
    ),
    (
        "the good checkpoint stays",
        "test_checkpoints.py::test_the_good_one_stays_until_the_new_one_is_verified",
        replaced(landed, "verify", lambda _: None),
        {"damage": b""},
    ),
    (
        "a failed checkpoint is heard of",
        HEARD,
        replaced(LandedJsonProvider, "check", lambda _: None),
        {},
    ),
    (
        "a failed checkpoint is on record",
        "test_checkpoints.py::test_landed_audit_tells_of_it",
        replaced(failures, "record", lambda *_: None),
        {},
    ),
    (
        "locks are re-entrant",
        "test_locks.py::test_inside_its_block_a_lock_may_be_taken_again",
        replaced(locking._Held, "is_at", lambda *_: False),
        {},
    ),
    (
        "locks are held by blocks",
        "test_locks.py::test_entered_in_one_thread_and_left_in_another",
        replaced(locking._Held, "is_at", lambda *_: True),
        {},
    ),
    (
        "locks among processes",
        "test_locks.py::test_processes_with_different_temp_directories_exclude_each_other",
        each_process_has_locks_of_its_own,
        {},
    ),
    (
        "locks among users",
        "test_locks.py::test_a_second_user_with_permission_takes_turns",
        each_user_has_locks_of_his_own,
        {},
    ),
    (
        "memory among users",
        "test_locks.py::test_a_second_user_with_permission_shares_memory_and_flows",
        the_group_gets_nothing,
        {},
    ),
    ("reports of flows", "test_reporting.py::test_who_saved_which_state_of_a_flow", reports_show_states, {}),
    ("reports of memories", "test_reporting.py::test_what_went_into_a_memory", reports_show_texts, {}),
]


@pytest.mark.parametrize(("promise", "test", "plant", "arguments"), TABLE, ids=[row[0] for row in TABLE])
def test_a_planted_bug_is_seen(
    request: pytest.FixtureRequest, promise: str, test: str, plant: Plant, arguments: dict[str, Any]
) -> None:
    module, _, name = test.partition(".py::")
    function = getattr(importlib.import_module(module), name)
    if promise.endswith("users") and (not hasattr(os, "geteuid") or os.geteuid() != 0):
        pytest.skip("needs root, to become another user")
    wanted = inspect.signature(function).parameters
    given = {name: arguments[name] if name in arguments else request.getfixturevalue(name) for name in wanted}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "_unheard", {})  # what is lost here is nobody's to tell at the end
        plant(patch)
        with pytest.raises((Exception, pytest.fail.Exception)):  # an assertion's, or what the bug makes landed raise
            function(**given)


def test_each_guarantee_of_the_readme_has_one() -> None:
    planted = {test for _, test, *_ in TABLE}
    lines = README.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|") and "packages/crewai-landed/tests/" in line]
    assert len(rows) > 15
    for row in rows:
        named = re.findall(r"packages/crewai-landed/tests/(test_\w+\.py(?:::\w+)?)", row)
        seen = any(test.startswith(name) for test in planted for name in named)
        assert seen or "bugs planted in it are seen" in row, row
