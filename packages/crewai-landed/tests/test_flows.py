"""Flow states: what CrewAI asks of a persistence, and what a superseded run hears."""

from __future__ import annotations

import asyncio
import errno
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from crewai.flow.async_feedback.types import PendingFeedbackContext
from crewai.flow.flow import Flow, listen, start
from crewai.flow.persistence import persist
from crewai.flow.persistence.base import FlowPersistence, _persistence_registry
from crewai.flow.persistence.decorators import PersistenceDecorator
from pydantic import BaseModel

from crewai_landed import LandedFlowPersistence, flows
from landed import Journal, Journals, NotLanded, OutcomeUnknown, Refused, StaleWrite

WHEN = datetime(2026, 1, 2, tzinfo=timezone.utc)


class State(BaseModel):
    id: str = ""
    n: int = 0
    seen: set[int] = set()
    at: datetime | None = None
    key: UUID | None = None


@pytest.fixture
def store(tmp_path: Path) -> LandedFlowPersistence:
    return LandedFlowPersistence(tmp_path / "crew")


def counter(persistence: FlowPersistence, between: Any = None, *, on: str = "class") -> type[Flow[State]]:
    """A flow that counts its runs; `between` is called after it has loaded, before it saves."""

    class Counter(Flow[State]):
        suppress_flow_events: bool = True

        @start()
        def count(self) -> int:
            if between is not None:
                between()
            self.state.n += 1
            self.state.seen.add(self.state.n)
            self.state.at = WHEN
            self.state.key = UUID(int=self.state.n)
            return self.state.n

    return persist(persistence)(Counter) if on == "class" else Counter


def context(flow_id: str, **more: Any) -> PendingFeedbackContext:
    return PendingFeedbackContext(
        flow_id=flow_id, flow_class="x.Review", method_name="draft", method_output={"a": 1}, message="ok?", **more
    )


# The contract.


def test_a_state_is_found_again(store: LandedFlowPersistence) -> None:
    assert store.load_state("one") is None
    store.save_state("one", "first", {"id": "one", "n": 1})
    store.save_state("one", "second", State(id="one", n=2, seen={1, 2}, key=UUID(int=3)))
    found = LandedFlowPersistence(path=store.path).load_state("one")
    assert found == {"id": "one", "n": 2, "seen": {1, 2}, "at": None, "key": UUID(int=3)}
    assert store.load_state("two") is None


def test_flow_ids_never_become_paths(store: LandedFlowPersistence, tmp_path: Path) -> None:
    for flow_id in ("../../outside", "/etc/x", "a" * 5000, "ü\n", "."):
        store.save_state(flow_id, "m", {"id": flow_id})
        assert store.load_state(flow_id) == {"id": flow_id}
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "state"] == ["crew"]


def test_looking_for_an_unknown_flow_leaves_nothing(store: LandedFlowPersistence) -> None:
    before = sorted(Path(store.path).rglob("*"))
    assert store.load_state("never") is None
    assert store.load_pending_feedback("never") is None
    assert sorted(Path(store.path).rglob("*")) == before


def test_pending_feedback(store: LandedFlowPersistence) -> None:
    store.save_state("one", "begin", {"id": "one", "n": 1})
    asked = context("one", emit=["yes", "no"], metadata={"due": WHEN}, llm={"model": "m"})
    store.save_pending_feedback("one", asked, State(id="one", n=2))
    loaded = LandedFlowPersistence(path=store.path).load_pending_feedback("one")
    assert loaded is not None
    state, found = loaded
    assert state["n"] == 2
    assert found.to_dict() == asked.to_dict()
    assert store.load_state("one") == state, "the state is saved with it"
    store.clear_pending_feedback("one")
    assert store.load_pending_feedback("one") is None
    assert store.load_state("one") == state


def test_the_newest_question_counts(store: LandedFlowPersistence) -> None:
    for n in (1, 2):
        store.save_pending_feedback("one", context("one", metadata={"n": n}), {"id": "one", "n": n})
    loaded = store.load_pending_feedback("one")
    assert loaded is not None
    assert loaded[1].metadata == {"n": 2}


def test_clearing_what_is_not_pending_says_so(store: LandedFlowPersistence) -> None:
    with pytest.raises(StaleWrite, match="waits for no feedback"):
        store.clear_pending_feedback("one")


def test_it_is_registered_and_survives_a_checkpoint(store: LandedFlowPersistence) -> None:
    dumped = store.model_dump(mode="json")
    assert dumped["persistence_type"] == "LandedFlowPersistence"
    assert _persistence_registry["LandedFlowPersistence"].model_validate(dumped) == store


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = LandedFlowPersistence(path="crew")
    monkeypatch.chdir("/")
    store.save_state("one", "m", {"id": "one"})
    assert (tmp_path / "crew").is_dir()


def test_a_directory_that_cannot_be_made_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotLanded):
        LandedFlowPersistence(tmp_path / "file" / "crew")


def test_forget(store: LandedFlowPersistence) -> None:
    store.save_state("one", "m", {"id": "one"})
    assert store.forget("one")
    assert store.load_state("one") is None
    assert not store.forget("one")
    store.save_state("one", "m", {"id": "one", "n": 1})


# Runs of real flows.


def test_a_flow_goes_on_from_its_state(store: LandedFlowPersistence) -> None:
    for n in (1, 2, 3):
        flow = counter(store)()
        assert flow.kickoff(inputs={"id": "one"}) == n
        assert flow.state.seen == set(range(1, n + 1))
        assert flow.state.key == UUID(int=n)
    assert [saved.state["n"] for saved in store.saved("one")] == [3, 2, 1]
    assert next(store.saved("one")).method == "count"


def test_one_flow_object_runs_again(store: LandedFlowPersistence) -> None:
    flow = counter(store)()
    assert [flow.kickoff() for _ in range(3)] == [1, 2, 3]
    assert counter(store)().kickoff(inputs={"id": flow.state.id}) == 4


def test_methods_side_by_side_all_save(store: LandedFlowPersistence) -> None:
    @persist(store)
    class Wide(Flow[State]):
        suppress_flow_events: bool = True

        @start()
        def a(self) -> None:
            self.state.seen.add(1)

        @start()
        async def b(self) -> None:
            await asyncio.sleep(0)
            self.state.seen.add(2)

        @listen(a)
        def c(self) -> None:
            self.state.seen.add(3)

        @listen(a)
        def d(self) -> None:
            self.state.seen.add(4)

    flow = Wide()
    flow.kickoff(inputs={"id": "one"})
    assert len(list(store.saved("one"))) == 4
    found = store.load_state("one")
    assert found is not None
    assert found["seen"] == {1, 2, 3, 4}


def test_methods_that_are_the_first_to_save_are_of_one_run(
    store: LandedFlowPersistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, tail = threading.Barrier(2, timeout=30), LandedFlowPersistence._tail

    def looked_by_both(self: LandedFlowPersistence, flow_uuid: str) -> int:
        found = tail(self, flow_uuid)
        both.wait()
        return found

    flow = counter(store)()  # nothing was loaded: each method looks for itself what it has to follow
    monkeypatch.setattr(LandedFlowPersistence, "_tail", looked_by_both)
    with ThreadPoolExecutor(2) as threads:
        saves = [threads.submit(PersistenceDecorator.persist_state, flow, name, store) for name in ("a", "b")]
    assert [save.exception() for save in saves] == [None, None]
    assert sorted(saved.method for saved in store.saved(flow.state.id)) == ["a", "b"]


def other_run(store: LandedFlowPersistence) -> None:
    """Another run of flow "one" that counts, in a thread, which has seen nothing of what this one did."""
    thread = threading.Thread(target=lambda: counter(store)().kickoff(inputs={"id": "one"}))
    thread.start()
    thread.join()


@pytest.mark.parametrize("times", [0, 1], ids=["new", "saved before"])
def test_a_superseded_run_raises_stale_write_out_of_kickoff(store: LandedFlowPersistence, times: int) -> None:
    for _ in range(times):
        other_run(store)
    with pytest.raises(StaleWrite, match="flow one was saved by another run meanwhile") as caught:
        counter(store, lambda: other_run(store))().kickoff(inputs={"id": "one"})
    assert caught.value.found == str(times + 1)
    assert caught.value.writer is not None
    assert caught.value.writer.startswith("pid ")
    assert "Kick it off again" in str(caught.value)
    found = store.load_state("one")
    assert found is not None
    assert found["n"] == times + 1
    assert counter(store)().kickoff(inputs={"id": "one"}) == times + 2, "the next run goes on from there"


def test_it_is_the_run_that_counts_not_the_persistence_object(store: LandedFlowPersistence) -> None:
    with pytest.raises(StaleWrite):
        counter(store, lambda: other_run(LandedFlowPersistence(path=store.path)))().kickoff(inputs={"id": "one"})


def test_two_runs_in_one_event_loop(store: LandedFlowPersistence) -> None:
    both_loaded = threading.Barrier(2, timeout=30)
    kind = counter(store, both_loaded.wait)

    async def two() -> list[Any]:
        runs = (kind().kickoff_async(inputs={"id": "one"}) for _ in range(2))
        return await asyncio.gather(*runs, return_exceptions=True)

    results = asyncio.run(two())
    assert sorted(type(result).__name__ for result in results) == ["StaleWrite", "int"]


def test_an_object_whose_state_was_superseded_between_its_runs(store: LandedFlowPersistence) -> None:
    flow = counter(store)()
    flow.kickoff(inputs={"id": "one"})
    other_run(store)
    with pytest.raises(StaleWrite):
        flow.kickoff()  # without an id nothing is loaded


def test_a_run_that_loads_nothing_begins_anew_on_what_is_there(store: LandedFlowPersistence) -> None:
    class Method(Flow[State]):
        suppress_flow_events: bool = True

        @persist(store)
        @start()
        def count(self) -> int:
            self.state.n += 1
            return self.state.n

    for _ in range(2):  # with @persist on a method alone, CrewAI does not load
        assert Method().kickoff(inputs={"id": "one"}) == 1
    assert [saved.state["n"] for saved in store.saved("one")] == [1, 1]


def test_a_fork_leaves_its_source_alone(store: LandedFlowPersistence) -> None:
    counter(store)().kickoff(inputs={"id": "one"})
    fork = counter(store)()
    assert fork.kickoff(restore_from_state_id="one") == 2
    assert fork.state.id != "one"
    assert len(list(store.saved("one"))) == 1


def test_state_that_cannot_be_stored_raises_out_of_kickoff(store: LandedFlowPersistence) -> None:
    @persist(store)
    class Bad(Flow[dict[str, Any]]):
        suppress_flow_events: bool = True

        @start()
        def a(self) -> None:
            self.state["lock"] = threading.Lock()

    with pytest.raises(Refused, match=r"state\['lock'\] is a _thread.lock"):
        Bad().kickoff(inputs={"id": "one"})
    assert store.load_state("one") is None


@pytest.mark.parametrize("kind", [NotLanded, OutcomeUnknown])
def test_a_failed_write_raises_out_of_kickoff(
    store: LandedFlowPersistence, monkeypatch: pytest.MonkeyPatch, kind: type[NotLanded]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise kind("no space", step="write", errno=errno.ENOSPC)

    flow = counter(store)()
    flow.kickoff(inputs={"id": "one"})
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", fail)
        with pytest.raises(kind, match="no space"):
            flow.kickoff()
    if kind is OutcomeUnknown:
        with pytest.raises(OutcomeUnknown, match="Kick it off again"):  # nothing was loaded since
            flow.kickoff()
    assert counter(store)().kickoff(inputs={"id": "one"}) == 2


def test_flows_of_others_still_raise_what_crewai_raises(tmp_path: Path, store: LandedFlowPersistence) -> None:
    class Broken(FlowPersistence):
        persistence_type: str = "Broken"

        def init_db(self) -> None: ...

        def save_state(self, flow_uuid: str, method_name: str, state_data: Any) -> None:
            raise OSError("broken")

        def load_state(self, flow_uuid: str) -> None:
            return None

    with pytest.raises(RuntimeError, match="State persistence failed: broken"):
        counter(Broken())().kickoff()


def test_a_flow_whose_newest_records_are_gone_goes_on(store: LandedFlowPersistence, tmp_path: Path) -> None:
    """What a crash has cut off was never acknowledged; its numbers are used up all the same."""
    for n in range(3):
        store.save_state("one", "m", {"n": n})
    with Journals(tmp_path / "crew" / "flows").open("one") as journal:
        journal.compact(lambda entry: entry.sequence == 1)
        assert journal.tail == 3
    assert store.load_state("one") == {"n": 0}
    store.save_state("one", "m", {"n": 7})
    assert store.load_state("one") == {"n": 7}


# History.


def test_a_directory_that_is_removed_under_it_is_an_error_until_it_is_opened_anew(tmp_path: Path) -> None:
    store = LandedFlowPersistence(tmp_path / "crew")
    store.save_state("one", "step", {"n": 1})
    shutil.rmtree(tmp_path / "crew")
    with pytest.raises(NotLanded):
        store.load_state("one")
    again = LandedFlowPersistence(tmp_path / "crew")
    assert again.load_state("one") is None
    again.save_state("one", "step", {"n": 2})
    assert store.load_state("one") == {"n": 2}


def test_history_is_pruned_by_its_rule(tmp_path: Path) -> None:
    store = LandedFlowPersistence(path=tmp_path, history=5)
    for n in range(1, 24):
        store.save_state("one", "m", {"id": "one", "n": n})
        kept = [saved.state["n"] for saved in store.saved("one")]
        assert kept == list(range(n, n - len(kept), -1))
        assert min(n, 5) <= len(kept) < 10
    assert store.load_state("one") == {"id": "one", "n": 23}


def test_history_keeps_what_is_waited_for_and_the_newest_state(tmp_path: Path) -> None:
    store = LandedFlowPersistence(path=tmp_path, history=1)
    store.save_pending_feedback("one", context("one"), {"id": "one", "n": 1})
    for n in range(2, 6):
        store.save_state("one", "m", {"id": "one", "n": n})
    loaded = store.load_pending_feedback("one")
    assert loaded is not None
    assert loaded[0]["n"] == 1
    store.clear_pending_feedback("one")
    assert store.load_state("one") == {"id": "one", "n": 5}
    store.save_pending_feedback("one", context("one"), {"id": "one", "n": 6})
    store.clear_pending_feedback("one")
    assert store.load_state("one") == {"id": "one", "n": 6}, "the state that came with the question"
    assert store.load_pending_feedback("one") is None


def test_pruning_that_fails_does_not_fail_the_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise NotLanded("no space", step="write")

    monkeypatch.setattr(Journal, "compact", fail)
    store = LandedFlowPersistence(path=tmp_path, history=1)
    store.save_state("one", "m", {"id": "one"})
    assert "was not pruned" in caplog.text
    assert store.load_state("one") == {"id": "one"}


def test_a_journal_that_cannot_be_opened_to_prune_it_does_not_fail_the_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    append = Journal.append

    def last(journal: Journal, *args: Any, **options: Any) -> Any:
        appended = append(journal, *args, **options)
        monkeypatch.setattr(Journals, "find", fail)
        return appended

    def fail(*_: Any) -> None:
        raise NotLanded("too many open files", step="open")

    monkeypatch.setattr(Journal, "append", last)
    LandedFlowPersistence(path=tmp_path, history=1).save_state("one", "m", {"id": "one"})
    assert "was not pruned" in caplog.text


def test_what_is_remembered_is_bounded(store: LandedFlowPersistence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "REMEMBERED", 3)
    monkeypatch.setattr(flows, "_latest", {})
    for n in range(6):
        store.load_state(str(n))
    assert [key[1] for key in flows._latest] == ["3", "4", "5"]
