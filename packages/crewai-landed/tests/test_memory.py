"""`LandedMemory`: nothing that it has accepted is lost in silence."""

from __future__ import annotations

import asyncio
import copy
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from crewai import Agent, Crew, Task
from crewai.flow.flow import Flow, start
from crewai.memory.unified_memory import Memory
from fakes import EMBED, FakeLLM

from crewai_landed import Counts, LandedMemory, LandedStorage, NotStored

PROGRAMS = Path(__file__).parent / "programs.py"
FIELDS: dict[str, Any] = {"scope": "/plant", "categories": [], "importance": 0.5}


class FullDisk(LandedStorage):
    """Cannot save while it is full."""

    full = True

    def save(self, records: Any) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().save(records)


def memory(storage: LandedStorage, **fields: Any) -> LandedMemory:
    return LandedMemory(storage=storage, embedder=EMBED, llm=FakeLLM(), consolidation_threshold=1.0, **fields)


@pytest.fixture
def full(tmp_path: Path) -> FullDisk:
    return FullDisk(tmp_path)


def run(program: str, directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", str(PROGRAMS), program, str(directory)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


# A script that ends.


def test_a_script_that_ends_right_after_remember_many_has_stored_everything(tmp_path: Path) -> None:
    ran = run("remember_many", tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert LandedStorage(tmp_path).count() == 40


def test_crewais_own_memory_loses_it_in_the_same_script(tmp_path: Path) -> None:
    ran = run("remember_many_stock", tmp_path)
    assert ran.returncode == 0
    assert LandedStorage(tmp_path).count() < 40


def test_a_script_that_fails_after_remember_many_has_stored_everything(tmp_path: Path) -> None:
    assert run("remember_many_and_fail", tmp_path).returncode == 1
    assert LandedStorage(tmp_path).count() == 40


def test_what_an_agent_learns_is_kept_when_the_script_ends(tmp_path: Path) -> None:
    ran = run("agent", tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert sorted(record.content for record in LandedStorage(tmp_path).list_records()) == [
        "the reactor runs at 40 degrees",
        "valve seven sticks in winter",
    ]


def test_a_script_that_cannot_store_fails_with_the_reason(tmp_path: Path) -> None:
    ran = run("remember_many_full_disk", tmp_path)
    assert ran.returncode == 1
    assert "2 of 2 memories that were accepted were not stored: OSError: [Errno 28]" in ran.stderr


def test_what_nobody_drained_is_told_at_the_end(tmp_path: Path) -> None:
    ran = run("background_full_disk", tmp_path)
    assert "LandedMemory: 2 of 2 memories that were accepted were not stored" in ran.stderr
    assert "not stored: 'pump 1 is off'" in ran.stderr


# Failures are raised.


def test_remember_many_raises_and_draining_raises_it_once_more(full: FullDisk) -> None:
    mine = memory(full)
    with pytest.raises(NotStored, match="No space left") as caught:
        mine.remember_many(["valve 1 is open", "pump 2 is off"], **FIELDS)
    assert caught.value.contents == ["valve 1 is open", "pump 2 is off"]
    with pytest.raises(NotStored, match="2 of 2") as caught:
        mine.drain_writes()
    assert isinstance(caught.value.causes[0], OSError)
    mine.drain_writes()
    assert mine.counts == Counts(accepted=2, lost=2)


def test_what_was_lost_can_be_remembered_again(full: FullDisk) -> None:
    mine = memory(full)
    with pytest.raises(NotStored) as caught:
        mine.remember_many(["valve 1 is open"], **FIELDS)
    full.full = False
    mine.remember_many(caught.value.contents, **FIELDS)
    assert full.count() == 1
    assert mine.counts == Counts(accepted=2, stored=1, lost=1)
    with pytest.raises(NotStored):
        mine.drain_writes()


def test_in_the_background_draining_raises(full: FullDisk) -> None:
    mine = memory(full, background=True)
    assert mine.remember_many(["valve 1 is open"], **FIELDS) == []
    with pytest.raises(NotStored, match="1 of 1"):
        mine.drain_writes()
    mine.drain_writes()


def test_recalling_and_resetting_do_not_use_up_the_failure(full: FullDisk) -> None:
    mine = memory(full, background=True)
    mine.remember_many(["valve 1 is open"], **FIELDS)
    assert mine.recall("valve", depth="shallow") == []
    mine.reset()
    mine.reset_all()
    with pytest.raises(NotStored):
        mine.drain_writes()


def test_remember_raises_its_own_error(full: FullDisk) -> None:
    with pytest.raises(OSError, match="No space"):
        memory(full).remember("valve 1 is open", **FIELDS)


def crew_with(mine: Memory) -> Crew:
    worker = Agent(role="engineer", goal="look", backstory="-", llm=FakeLLM())
    task = Task(description="look at it", expected_output="what you saw", agent=worker)
    return Crew(agents=[worker], tasks=[task], memory=mine)


@pytest.mark.parametrize("background", [False, True])
def test_a_crews_kickoff_raises(background: bool, full: FullDisk) -> None:
    with pytest.raises(NotStored, match="2 of 2"):
        crew_with(memory(full, background=background)).kickoff()


def test_a_crews_kickoff_keeps_what_was_learned(tmp_path: Path) -> None:
    mine = memory(LandedStorage(tmp_path))
    crew_with(mine).kickoff()
    assert LandedStorage(tmp_path).count() == 2
    assert mine.counts == Counts(accepted=2, stored=2)


def test_a_flows_kickoff_raises(full: FullDisk) -> None:
    class Learn(Flow[dict]):  # type: ignore[type-arg]
        @start()
        def learn(self) -> None:
            self.remember(["valve 1 is open"], **FIELDS)

    flow = Learn()
    flow.memory = memory(full, background=True)
    with pytest.raises(NotStored, match="1 of 1"):
        flow.kickoff()


# The counts.


def test_duplicates_are_counted_and_are_no_loss(tmp_path: Path) -> None:
    mine = memory(LandedStorage(tmp_path))
    mine.remember_many(["valve 1 is open", "valve 1 is open", "pump 2 is off"], **FIELDS)
    mine.drain_writes()
    assert mine.counts == Counts(accepted=3, stored=2, duplicates=1)
    assert mine.counts.pending == 0


def test_a_text_that_the_encoding_drops_is_lost_and_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flow ends as if all were well, with one text neither stored nor called a duplicate."""
    from crewai.memory.encoding_flow import EncodingFlow

    real = EncodingFlow.kickoff

    def kickoff(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = real(self, *args, **kwargs)
        self.state.items[0].result_record = None
        return result

    monkeypatch.setattr(EncodingFlow, "kickoff", kickoff)
    mine = memory(LandedStorage(tmp_path))
    with pytest.raises(NotStored, match="nothing says why") as caught:
        mine.remember_many(["valve 1 is open", "pump 2 is off"], **FIELDS)
    assert caught.value.contents == ["valve 1 is open"]
    assert mine.counts == Counts(accepted=2, stored=1, lost=1)


def test_what_crewai_swallows_while_the_interpreter_ends_is_lost_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crewai.memory.encoding_flow import EncodingFlow

    def kickoff(*_: object, **__: object) -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    monkeypatch.setattr(EncodingFlow, "kickoff", kickoff)
    mine = memory(LandedStorage(tmp_path))
    with pytest.raises(NotStored, match="cannot schedule new futures"):
        mine.remember_many(["valve 1 is open"], **FIELDS)
    with pytest.raises(NotStored, match="cannot schedule new futures"):
        mine.drain_writes()


def test_a_batch_whose_work_was_cancelled_is_lost_and_told(tmp_path: Path) -> None:
    mine = memory(LandedStorage(tmp_path), background=True)
    go_on = threading.Event()
    mine._save_pool.submit(go_on.wait)
    mine.remember_many(["valve 1 is open"], **FIELDS)
    mine._save_pool.shutdown(wait=False, cancel_futures=True)
    go_on.set()
    with pytest.raises(NotStored, match="1 of 1"):
        mine.drain_writes()


def test_after_closing_it_still_stores(tmp_path: Path) -> None:
    mine = memory(LandedStorage(tmp_path))
    mine.close()
    mine.remember_many(["valve 1 is open"], **FIELDS)
    assert LandedStorage(tmp_path).count() == 1


def test_read_only_accepts_nothing(tmp_path: Path) -> None:
    mine = memory(LandedStorage(tmp_path), read_only=True)
    assert mine.remember_many(["valve 1 is open"], **FIELDS) == []
    assert mine.counts == Counts()


def test_a_copy_has_books_of_its_own(full: FullDisk) -> None:
    """Not of the memory itself: CrewAI's own copying of it raises before Python 3.13."""
    mine = memory(full)
    with pytest.raises(NotStored):
        mine.remember_many(["valve 1 is open"], **FIELDS)
    copy.deepcopy(mine._ledger).raise_failures()
    with pytest.raises(NotStored):
        mine.drain_writes()


def test_async(tmp_path: Path) -> None:
    mine = memory(LandedStorage(tmp_path))
    asyncio.run(mine.aremember_many(["valve 1 is open"], **FIELDS))
    assert mine.counts == Counts(accepted=1, stored=1)


def test_a_specification_is_a_storage(tmp_path: Path) -> None:
    mine = LandedMemory(storage=f"landed:{tmp_path}", embedder=EMBED, llm=FakeLLM(), consolidation_threshold=1.0)
    mine.remember("valve 1 is open", **FIELDS)
    assert LandedStorage(tmp_path).count() == 1
