"""`LandedStorage`, handed around: by its specification, in a checkpoint, as a copy."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest
from crewai.memory.types import MemoryRecord
from crewai.memory.unified_memory import Memory

from crewai_landed import LandedStorage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def storage(tmp_path: Path) -> LandedStorage:
    return LandedStorage(tmp_path)


def test_the_specification(storage: LandedStorage) -> None:
    assert storage.spec == f"landed:{storage.path}"
    again = LandedStorage.from_spec(storage.spec)
    assert again is not None
    assert again.path == storage.path
    assert LandedStorage.from_spec("lancedb") is None


@pytest.mark.skipif(not hasattr(Memory, "model_dump"), reason="CrewAI 1.10 serializes no memory")
def test_a_memory_that_is_serialized_names_it(storage: LandedStorage) -> None:
    memory = Memory(storage=storage, embedder={"provider": "openai", "config": {}})
    assert memory.model_dump(mode="json")["storage"] == storage.spec
    assert f'"storage":"{storage.spec}"' in memory.model_dump_json()


@pytest.mark.skipif(not hasattr(Memory, "model_dump"), reason="CrewAI 1.10 has no checkpoints")
def test_a_specification_without_install_opens_no_other_memory(
    storage: LandedStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So ends a program that restores a checkpoint and has not called `install`."""
    monkeypatch.chdir(tmp_path)  # CrewAI makes a directory of that name before it asks LanceDB
    with pytest.raises((ValueError, RuntimeError), match="'landed'"):  # as the version of LanceDB has it
        Memory(storage=storage.spec, embedder={"provider": "openai", "config": {}})


def test_copies_share_the_memory(storage: LandedStorage) -> None:
    storage.save([MemoryRecord(content="one", embedding=[1.0, 0.0])])
    for again in (copy.deepcopy(storage), pickle.loads(pickle.dumps(storage)), LandedStorage(storage.path)):
        assert again.count() == 1
        assert again._opened() is storage._opened()


def test_constructing_it_touches_no_file(tmp_path: Path) -> None:
    storage = LandedStorage(tmp_path / "not" / "there")
    assert not (tmp_path / "not").exists()
    assert storage.count() == 0
    storage.save([MemoryRecord(content="one", embedding=[1.0, 0.0])])
    assert (tmp_path / "not" / "there").is_dir()
