"""Crews, agents and flows, kicked off whole and offline, on landed throughout."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import crewai_core.lock_store
import offline
import pytest
import sides
from crewai import Crew
from crewai.events.event_bus import crewai_event_bus
from crewai.flow.flow import Flow, listen, start
from crewai.flow.persistence import persist
from crewai.flow.persistence.factory import default_flow_persistence
from crewai.flow.persistence.sqlite import SQLiteFlowPersistence
from crewai.memory.unified_memory import Memory
from crewai.state.checkpoint_config import CheckpointConfig
from sides import LANDED

import crewai_landed
import landed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Path]:
    crewai_landed.install(tmp_path / "crew")
    yield tmp_path / "crew"
    crewai_landed.uninstall()


def test_a_crew_learns_and_the_next_one_knows(tmp_path: Path) -> None:
    directory = str(tmp_path / "crew")
    assert offline.done(offline.crew(memory=sides.memory(LANDED, directory)).kickoff())
    again = sides.memory(LANDED, directory)
    assert sorted(match.record.content for match in again.recall("the reactor", depth="shallow")) == sorted(
        offline.LEARNED
    )


def test_an_agent_learns(tmp_path: Path) -> None:
    mine = sides.memory(LANDED, str(tmp_path))
    assert offline.done(offline.agent(memory=mine).kickoff("how is the reactor?"))
    mine.drain_writes()
    assert mine.counts.accepted == mine.counts.stored == len(offline.LEARNED)


def test_async_kickoffs_of_one_crew_share_a_memory(tmp_path: Path) -> None:
    mine = sides.memory(LANDED, str(tmp_path))

    async def both() -> list[Any]:
        return await asyncio.gather(*(offline.crew(memory=mine).kickoff_async() for _ in range(2)))

    assert all(offline.done(output) for output in asyncio.run(both()))
    found = [kept.content for kept in sides.storage(LANDED, str(tmp_path)).list_records()]
    assert set(found) == set(offline.LEARNED)


# Installed for the whole process.


def test_install_gives_flows_their_store(installed: Path) -> None:
    @persist()
    class Counter(Flow[sides.Count]):
        suppress_flow_events: bool = True

        @start()
        def count(self) -> int:
            self.state.n += 1
            return self.state.n

    for n in (1, 2):
        assert Counter().kickoff(inputs={"id": "one"}) == n
    assert crewai_landed.LandedFlowPersistence(path=installed).load_state("one") == {"id": "one", "n": 2}


def test_install_gives_pending_feedback_its_store(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "effects").touch()
    kind = sides.review(None, str(tmp_path / "effects"))
    kind().kickoff(inputs={"id": "one"})
    first, second = kind.from_pending("one"), kind.from_pending("one")
    assert first.resume("yes") == "published"
    with pytest.raises(landed.StaleWrite):
        second.resume("yes")
    assert (tmp_path / "effects").read_text() == "published\n"


def test_install_gives_memory_its_storage(installed: Path) -> None:
    mine = Memory(embedder=offline.embed, llm=offline.FakeLLM())
    mine.remember("the pump is off", **offline.FIELDS)
    found = crewai_landed.LandedStorage(installed).list_records()
    assert [kept.content for kept in found] == ["the pump is off"]
    assert Memory(storage=f"landed:{installed}", embedder=offline.embed).list_records()[0].content == "the pump is off"


def test_what_is_named_otherwise_stays(installed: Path, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    Memory(storage=other, embedder=offline.embed, llm=offline.FakeLLM()).remember("a word", **offline.FIELDS)
    assert os.path.isdir(other), "a path is LanceDB's"
    assert crewai_landed.LandedStorage(installed).count() == 0


def test_install_keeps_locks_out_of_the_temp_directory(installed: Path, tmp_path: Path) -> None:
    stock = SQLiteFlowPersistence(str(tmp_path / "flows.db"))  # takes CrewAI's lock for each save
    stock.save_state("one", "m", {"id": "one"})
    assert len(list((installed / "locks").iterdir())) == 1
    with crewai_core.lock_store.lock("a"), pytest.raises(landed.LockTimeout):
        in_a_thread(lambda: crewai_core.lock_store.lock("a", timeout=0.05).__enter__())


def in_a_thread(call: Any) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except landed.LandedError as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in failed:
        raise error


def test_uninstall(tmp_path: Path) -> None:
    crewai_landed.install(tmp_path / "crew")
    assert isinstance(default_flow_persistence(), crewai_landed.LandedFlowPersistence)
    crewai_landed.uninstall()
    assert isinstance(default_flow_persistence(), SQLiteFlowPersistence)
    with crewai_core.lock_store.lock("a"):
        assert not (tmp_path / "crew" / "locks").exists()


def test_a_directory_that_cannot_be_made_installs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(landed.NotLanded):
        crewai_landed.install(tmp_path / "file" / "crew")
    assert isinstance(default_flow_persistence(), SQLiteFlowPersistence)


# Checkpoints of a run with all of it.


def test_a_crew_names_our_storage_in_its_checkpoint(tmp_path: Path) -> None:
    """Of a crew that has remembered or recalled something, CrewAI 1.15 writes none: its own flows cannot be dumped."""
    spec: Any = {"provider": "openai", "config": {"model_name": "none"}}  # a function cannot stand in a checkpoint
    storage = crewai_landed.LandedStorage(tmp_path / "crew")
    crew = offline.crew(memory=crewai_landed.LandedMemory(storage=storage, embedder=spec))
    assert crew.model_dump(mode="json", warnings=False)["memory"]["storage"] == f"landed:{tmp_path / 'crew'}"


def test_a_flow_with_our_persistence_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    location = tmp_path / "cp"
    store = crewai_landed.LandedFlowPersistence(path=tmp_path / "crew")

    @persist(store)
    class Steps(Flow[sides.Count]):
        @start()
        def a(self) -> int:
            self.state.n += 1
            return self.state.n

        @listen(a)
        def b(self) -> int:
            self.state.n += 10
            return self.state.n

    def config(**more: Any) -> CheckpointConfig:
        return CheckpointConfig(
            location=str(location),
            provider=crewai_landed.LandedJsonProvider(),
            on_events=["method_execution_finished"],
            **more,
        )

    assert Steps(checkpoint=config()).kickoff(inputs={"id": "one"}) == 11
    crewai_event_bus.flush()
    first = min(location.rglob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    assert Steps().kickoff(from_checkpoint=config(restore_from=first)) is not None
    assert isinstance(crewai_landed.LandedFlowPersistence(path=tmp_path / "crew").load_state("one"), dict)


def test_a_crew_of_two_tasks_checkpoints_each(tmp_path: Path) -> None:
    config = CheckpointConfig(location=str(tmp_path / "cp"), provider=crewai_landed.LandedJsonProvider())
    worker = offline.agent()
    tasks = [offline.Task(description=f"look {n}", expected_output="a word", agent=worker) for n in range(2)]
    Crew(agents=[worker], tasks=tasks, checkpoint=config).kickoff()
    crewai_event_bus.flush()
    assert len(list((tmp_path / "cp").rglob("*.json"))) == 2
