"""CrewAI's memory, flows and locks on the engines beyond one machine: the package's own tests, and what differs."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("crewai_landed", reason="crewai-landed is not installed")
pytest.importorskip("crewai_memory_core", reason="crewai-memory-core is not installed")

import offline  # noqa: F401 - before anything else imports CrewAI

# isort: split
import test_contract
import test_flows
import test_storage
from crewai.memory.unified_memory import Memory
from model import another_process
from test_flows import counter
from test_storage import names, record

import crewai_landed
from crewai_landed import LandedFlowPersistence, LandedJsonProvider, LandedStorage, Locks
from crewai_landed.store import Store
from landed import LockTimeout, Refused, StaleWrite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType


@pytest.fixture(params=["postgres", "s3"])
def place(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def storage(place: str) -> LandedStorage:
    return LandedStorage(place)


@pytest.fixture
def backend(storage: LandedStorage) -> LandedStorage:
    return storage


@pytest.fixture
def store(place: str) -> LandedFlowPersistence:
    return LandedFlowPersistence(place)


# The package's tests of all that does not need a directory.

LOCAL = {
    "test_looking_for_an_unknown_flow_leaves_nothing",
    "test_the_journal_does_not_grow_with_the_number_of_updates",  # three thousand appends
    "test_the_specification",
    "test_copies_share_the_memory",
    "test_it_is_registered_and_survives_a_checkpoint",
}


def of_any_engine(module: ModuleType) -> dict[str, Any]:
    found = {}
    for name, value in inspect.getmembers(module, inspect.isfunction):
        wanted = set(inspect.signature(value).parameters)
        if name.startswith("test_") and name not in LOCAL and not wanted & {"tmp_path", "monkeypatch"}:
            found[name] = value
    return found


globals().update(of_any_engine(test_contract) | of_any_engine(test_storage) | of_any_engine(test_flows))
three = test_storage.three


def test_all_of_them_are_here() -> None:
    assert len(of_any_engine(test_contract)) >= 15
    assert len(of_any_engine(test_storage)) >= 25
    assert len(of_any_engine(test_flows)) >= 15


# Several processes.


def test_what_one_saves_the_next_search_of_another_finds(place: str) -> None:
    mine, other = another_process(place), another_process(place)
    mine.save([record("one"), record("two", embedding=[0.0, 1.0])])
    assert [found.id for found, _ in other.search([0.0, 1.0])] == ["two", "one"]
    other.reset()
    assert mine.search([0.0, 1.0]) == []
    mine.save([record("three")])
    mine.compact()
    assert names(other.list_records()) == ["three"]


def test_a_planted_bug_is_seen(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks for what other processes have saved since."""

    @contextlib.contextmanager
    def table(self: Store) -> Iterator[Any]:
        with self._guard:
            self._open()
            yield self._table

    monkeypatch.setattr(Store, "table", table)
    with pytest.raises(AssertionError):
        test_what_one_saves_the_next_search_of_another_finds(place)


TURNS = 8
PROGRAM = f"""
import sys
import offline
from crewai_landed import LandedFlowPersistence
from landed import StaleWrite
from test_flows import counter

kind, done = counter(LandedFlowPersistence(sys.argv[1])), 0
print("ready", flush=True)
for _ in range({TURNS}):
    try:
        kind().kickoff(inputs={{"id": "one"}})
        done += 1
    except StaleWrite:
        continue
print(done)
"""


def test_of_two_processes_on_one_flow_id_no_increment_is_lost(place: str, store: LandedFlowPersistence) -> None:
    kind, done, heard = counter(store), 0, 0
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, place],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        for _ in range(TURNS):
            try:
                kind().kickoff(inputs={"id": "one"})
            except StaleWrite:
                heard += 1
            else:
                done += 1
        there = int(other.stdout.read().splitlines()[-1])  # after what CrewAI has to say
    state = store.load_state("one")
    assert state is not None
    assert state["n"] == done + there
    assert done + heard == TURNS


def test_two_resumes_of_one_feedback(place: str, store: LandedFlowPersistence) -> None:
    store.save_pending_feedback("one", test_flows.context("one"), {"id": "one"})
    store.load_pending_feedback("one")
    store.clear_pending_feedback("one")
    with pytest.raises(StaleWrite, match="another resume has taken it"):
        store.clear_pending_feedback("one")


# The whole of CrewAI in one place.


@pytest.fixture
def installed(place: str) -> Iterator[str]:
    crewai_landed.install(place)
    yield place
    crewai_landed.uninstall()


def test_installed_everything_is_there_and_no_directory(
    installed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crewai.flow.persistence.factory import default_flow_persistence
    from crewai_core.lock_store import lock

    monkeypatch.chdir(tmp_path)
    Memory(embedder=lambda texts: [[1.0, 0.0] for _ in texts]).remember(
        "a fact", scope="/", categories=[], importance=0.5, metadata={}
    )
    assert [each.content for each in another_process(installed).list_records()] == ["a fact"]
    counter(default_flow_persistence())().kickoff(inputs={"id": "one"})
    assert LandedFlowPersistence(installed).load_state("one") is not None
    with lock("a store"), pytest.raises(LockTimeout), Locks(installed)("a store", timeout=0.1):
        raise AssertionError("two are in")
    assert list(tmp_path.iterdir()) == []


def test_locks_exclude_and_are_reentrant(place: str) -> None:
    mine, theirs = Locks(place), Locks(place)
    with mine("name"), mine("name"):
        with pytest.raises(LockTimeout), theirs("name", timeout=0.1):
            raise AssertionError("two are in")
        with theirs("another"):
            pass
    with theirs("name"):
        pass


def test_a_memory_stands_in_a_checkpoint_as_its_address(place: str) -> None:
    from crewai.memory.storage.factory import resolve_memory_storage

    storage = LandedStorage(place)
    written = json.loads(Memory(storage=storage).model_dump_json())["storage"]
    assert written == storage.spec == f"landed:{place}"
    found = LandedStorage.from_spec(written)
    assert found is not None
    assert found._opened() is storage._opened()
    assert pickle.loads(pickle.dumps(storage)).path == place
    crewai_landed.install(place)
    try:
        assert isinstance(resolve_memory_storage(written), LandedStorage)
    finally:
        crewai_landed.uninstall()


# Passwords. The server of these tests asks for none, and takes any.


@pytest.fixture
def secret(postgres_url: str) -> str:
    scheme, _, rest = postgres_url.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}://{user}:s3cret{at}{host}"


def test_no_password_is_written_or_shown(secret: str) -> None:
    storage, store = LandedStorage(secret), LandedFlowPersistence(secret)
    storage.save([record("one")])
    store.save_state("one", "step", {"id": "one"})
    with pytest.raises(StaleWrite) as stale:
        store.clear_pending_feedback("one")
    told = [storage.spec, repr(storage), Memory(storage=storage).model_dump_json(), repr(store), str(store)]
    told += [store.model_dump_json(), str(stale.value), repr(vars(stale.value))]
    assert [each for each in told if "s3cret" in each] == []
    assert "s3cret" in storage.path, "a test that could not fail"


def test_an_installed_password_serves_specs_without_it(secret: str) -> None:
    from crewai.memory.storage.factory import resolve_memory_storage

    crewai_landed.install(secret)
    try:
        found = resolve_memory_storage(LandedStorage(secret).spec)
    finally:
        crewai_landed.uninstall()
    assert isinstance(found, LandedStorage)
    assert found.path == secret


# What is refused.


@pytest.mark.parametrize("make", [LandedStorage, LandedFlowPersistence, Locks, crewai_landed.install])
def test_a_scheme_that_no_engine_has(make: Callable[[str], Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match="no engine keeps journals at redis://"):
        make("redis://host/crew")
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_are_files(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    provider = LandedJsonProvider()
    with pytest.raises(Refused, match="checkpoints are files"):
        provider.checkpoint("{}", place)
    with pytest.raises(Refused, match="checkpoints are files"):
        provider.prune(place, 1)
    with pytest.raises(crewai_landed.CheckpointFailed, match="checkpoints are files"):
        provider.check()
    assert list(tmp_path.iterdir()) == []
