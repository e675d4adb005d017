"""A check that cannot fail shows nothing: with a bug in the guard, the tests that claim to see it do."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import test_guard as checks
import test_large_files as large
import test_odd_files as odd

from landed import artifact
from landed.desk import Desk
from landed.process import Owner
from landed_claude_code import expected, formatters, garbage, guard, ledger, words

BUGS: dict[str, tuple[Any, list[tuple[object, str, Any]]]] = {
    "nothing is ever denied": (
        checks.test_who_has_seen_the_bytes_may_write,
        [(ledger.Known, "has_seen", lambda *_: True)],
    ),
    "everything is denied": (
        checks.test_who_has_seen_the_bytes_may_write,
        [(ledger.Known, "has_seen", lambda *_: False)],
    ),
    "an agent is its session": (
        checks.test_who_has_seen_the_bytes_may_write,
        [(ledger, "path_of", lambda session, agent, directory: f"{directory}/x/{session}.log")],
    ),
    "an agent is its id": (
        checks.test_agents_of_other_sessions_with_the_same_id_are_others,
        [(ledger, "path_of", lambda session, agent, directory: f"{directory}/x/{agent}.log")],
    ),
    "no lease is granted": (
        checks.test_another_agent_waits_and_is_then_denied_by_name,
        [(Desk, "lend", lambda *_: None)],
    ),
    "no lease is given back": (
        checks.test_the_lease_ends_in_every_way,
        [(Desk, "give_back", lambda *_: None)],
    ),
    "the dead are waited for": (
        checks.test_the_lease_of_a_dead_process_holds_nobody,
        [(Owner, "alive", lambda _: True)],
    ),
    "the disk is not looked at": (
        checks.test_a_write_that_is_not_there_is_said_at_once,
        [(expected, "compare", lambda *_, **__: expected.HELD_BACK)],
    ),
    "times stand for bytes": (
        checks.test_times_decide_nothing,
        [(ledger.Known, "has_seen", lambda known, _: known.seen is not None)],
    ),
    "every change is a formatter's": (
        checks.test_bytes_that_changed_after_the_tool,
        [(formatters, "formatter", lambda *_: "some hook")],
    ),
    "no change is a formatter's": (
        checks.test_what_a_formatter_did_is_shown_and_counts_as_seen,
        [(formatters, "formatter", lambda *_: "")],
    ),
    "what a hook may have done counts as seen, shown or not": (
        checks.test_what_is_not_shown_is_not_overwritten,
        [(formatters, "shown", lambda *_: "look for yourself")],
    ),
    "a large write is never the agent's": (
        large.test_own_batch_is_undisturbed,
        [(guard, "_with_digest", lambda ledger, desk: ledger.of(desk.path))],
    ),
    "a large write is the agent's, whatever became of it": (
        large.test_what_changes_before_all_have_run_is_said,
        [(guard, "identity", lambda _: "1"), (guard, "stat_before", lambda *_: "1")],
    ),
    "times vouch for what they cannot": (
        large.test_a_change_while_the_clock_stood_still_is_seen,
        [(guard, "stat_before", lambda status, _: ledger.identity(status))],
    ),
    "what was read with the event stands there for ever": (
        large.test_what_was_read_with_the_event_is_not_read_again_unless_it_changed,
        [(artifact, "identity_of", lambda _: ())],
    ),
    "changes past the tools are not looked for": (
        checks.test_changes_from_outside_are_told_once,
        [(guard, "_change", lambda *_: "")],
    ),
    "nothing is looked at again at the end": (
        checks.test_who_stops_hears_of_lost_writes_once,
        [(guard, "_loss", lambda *_: "")],
    ),
    "what cannot be looked at is passed over": (
        odd.test_a_file_that_cannot_be_looked_at_hides_no_other,
        [(guard, "_unknown", lambda *_: "")],
    ),
    "what was overwritten in between is not said": (
        checks.test_a_write_over_what_came_in_between_is_said,
        [(words, "overwrote", lambda *_: "")],
    ),
    "whatever was shown counts as seen": (
        checks.test_what_changes_while_it_is_read_was_not_seen,
        [(expected, "shows", lambda *_: True)],
    ),
    "what stands there when the hook is late counts as read": (
        checks.test_what_changes_while_it_is_read_was_not_seen,
        [(guard, "RESTED", ledger.LATE)],
    ),
}
CASES = {
    "test_what_changes_before_all_have_run_is_said": {"same_size": True},
    "test_what_was_read_with_the_event_is_not_read_again_unless_it_changed": {"change": "another file"},
    "test_a_write_that_is_not_there_is_said_at_once": {"found": None, "said": "is not there"},
    "test_what_a_formatter_did_is_shown_and_counts_as_seen": {"before": False, "length": 1},
    "test_a_file_that_cannot_be_looked_at_hides_no_other": {"becomes": odd.a_directory, "settled": False},
    "test_what_changes_while_it_is_read_was_not_seen": {"later": 0.5},
}


@pytest.mark.parametrize("bug", BUGS)
def test_it_is_seen(bug: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    check, plants = BUGS[bug]
    monkeypatch.setattr(guard, "PATIENCE", 0.2)
    given = CASES.get(check.__name__, {})
    wanted = inspect.signature(check).parameters
    arguments = {name: given[name] if name in given else request.getfixturevalue(name) for name in wanted}
    for owner, name, planted in plants:
        monkeypatch.setattr(owner, name, planted)
    with pytest.raises(AssertionError):
        check(**arguments)


@pytest.mark.parametrize(("name", "planted"), [("KEPT", -60), ("_runs", lambda _: False)], ids=["recent", "waiting"])
def test_a_sweep_that_takes_the_living_would_be_seen(monkeypatch: pytest.MonkeyPatch, name: str, planted: Any) -> None:
    import test_ledger

    monkeypatch.setattr(garbage, name, planted)
    with pytest.raises(AssertionError):
        test_ledger.test_old_sessions_go_unless_they_live()
