"""What memory loses with the store that CrewAI brings, and not with ours: the same calls on both sides."""

from __future__ import annotations

import contextlib
import errno
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import offline
import pytest
import sides
from sides import LANDED, STOCK, record

if TYPE_CHECKING:
    from pathlib import Path


def stored(side: str, directory: Path) -> list[str]:
    return sorted(found.content for found in sides.storage(side, str(directory)).list_records(limit=1000))


# A script that ends.


@pytest.mark.parametrize("what", ["remember_many", "agent_learns"])
def test_a_script_that_ends(script: Any, tmp_path: Path, what: str) -> None:
    running = {side: script(what, side, str(tmp_path / side)) for side in (STOCK, LANDED)}
    assert {side: ran.end() for side, ran in running.items()} == {STOCK: 0, LANDED: 0}
    accepted = 40 if what == "remember_many" else len(offline.LEARNED)
    assert len(stored(STOCK, tmp_path / STOCK)) < accepted, "accepted, and the script ended well"
    assert len(stored(LANDED, tmp_path / LANDED)) == accepted


# SIGKILL during an update.


def one_record(side: str, directory: Path) -> str:
    kept, old = sides.storage(side, str(directory)), record("old")
    kept.save([old])
    return old.id


def test_sigkill_during_an_update(script: Any, workers: list[Any], tmp_path: Path) -> None:
    dying = script("update_and_die", STOCK, str(tmp_path), one_record(STOCK, tmp_path))
    found, calls, killed = set(), 0, True
    while killed:  # ours is killed at each of its calls to the file system, until one run gets through
        calls += 1
        directory = tmp_path / str(calls)
        killed = workers[0]("update_and_die_aside", LANDED, str(directory), one_record(LANDED, directory), calls) == -9
        (content,) = stored(LANDED, directory)
        found.add(content)
    assert 4 <= calls <= 100
    assert found == {"old", "new"}
    assert dying.end() == -9
    assert stored(STOCK, tmp_path) == [], "deleted, and not added again"


# A full disk.


def test_a_full_disk_during_a_crews_run(tmp_path: Path) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for side in (STOCK, LANDED):
        kept = sides.storage(side, str(tmp_path / side))
        crew = offline.crew(memory=sides.memory(side, "", kept))
        kept.save = full
        if side == STOCK:
            # Whether the run hears of it depends on which thread is first; mostly it ends as if nothing had been wrong.
            with contextlib.suppress(OSError):
                assert offline.done(crew.kickoff())
        else:
            with pytest.raises(Exception, match="No space left on device"):
                crew.kickoff()
        assert stored(side, tmp_path / side) == []


# A second process.


def test_a_second_process_saves(workers: list[Any], tmp_path: Path) -> None:
    for side, seen in ((STOCK, 1), (LANDED, 3)):
        directory = str(tmp_path / side)
        kept = sides.storage(side, directory)
        kept.save([record("one")])
        assert kept.count() == 1
        assert workers[0]("save", side, directory, "two", "three") == 2
        assert kept.count() == seen
        assert len(kept.list_records()) == seen
        assert len(kept.search(offline.embed(["three"])[0], limit=10)) == seen


def test_a_second_process_resets(workers: list[Any], tmp_path: Path) -> None:
    """As ``crewai reset-memories`` does during a run."""
    for side in (STOCK, LANDED):
        directory = str(tmp_path / side)
        mine = sides.memory(side, directory)
        mine.remember("before", **offline.FIELDS)
        assert workers[0]("count", side, directory) == 1
        assert workers[0]("reset", side, directory) is None
        try:
            accepted = mine.remember("after", **offline.FIELDS) is not None
        except Exception:  # noqa: BLE001 - stock may say so, or not
            accepted = False
        try:
            found = [match.record.content for match in mine.recall("after", depth="shallow")]
        except Exception as error:  # noqa: BLE001 - likewise
            found = [type(error).__name__]
        if side == STOCK:
            assert found != ["after"], "the store is of no use any more"
        else:
            assert accepted
            assert found == ["after"]
            assert workers[0]("count", side, directory) == 1


# Deletion by scope.


def test_deletion_takes_what_it_names(tmp_path: Path) -> None:
    old, new = (datetime.now(timezone.utc).replace(tzinfo=None) - timedelta(days=days) for days in (10, 0))
    for side, left_by_scope, left_by_age, left_by_nothing in (
        (STOCK, [], [], []),
        (LANDED, ["/", "/ab"], ["new"], ["kept"]),
    ):
        kept = sides.storage(side, str(tmp_path / side / "scope"))
        kept.save([record(scope, scope=scope) for scope in ("/", "/a", "/ab")])
        kept.delete(scope_prefix="/a")
        assert sorted(found.content for found in kept.list_records()) == left_by_scope

        kept = sides.storage(side, str(tmp_path / side / "age"))
        kept.save([record("old", scope="/a", created_at=old), record("new", scope="/a", created_at=new)])
        kept.delete(scope_prefix="/a", older_than=new - timedelta(days=1))
        assert [found.content for found in kept.list_records()] == left_by_age

        kept = sides.storage(side, str(tmp_path / side / "nothing"))
        kept.save([record("kept")])
        kept.delete(record_ids=[])
        assert [found.content for found in kept.list_records()] == left_by_nothing
