"""What CrewAI keeps: memory, flow states, checkpoints; with landed's packages, and with what CrewAI brings."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import lab.offline  # noqa: F401 - before CrewAI

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from crewai.flow.persistence import SQLiteFlowPersistence
    from crewai.memory.storage.lancedb_storage import LanceDBStorage
    from crewai.memory.types import MemoryRecord
    from crewai.state.provider.json_provider import JsonProvider
from crewai_landed import LandedFlowPersistence, LandedJsonProvider, LandedStorage
from lab.workloads.slots import NAMES, Slots

if TYPE_CHECKING:
    from pathlib import Path


class Memory(Slots):
    """One memory record for each name, revised again and again."""

    def open(self, directory: Path) -> None:
        self._storage: Any = LandedStorage(directory / "memory")

    def put(self, name: str, text: str) -> None:
        record = MemoryRecord(id=name, content=text, scope="/lab", embedding=[1.0, 2.0, 3.0])
        if self._storage.get_record(name) is None:
            self._storage.save([record])
        else:
            self._storage.update(record)

    def get(self, name: str) -> list[str]:
        found = self._storage.get_record(name)
        return [] if found is None else [found.content]

    def add(self, number: int) -> None:
        self._storage.save([MemoryRecord(id=f"{number}", content="new", scope="/lab", embedding=[1.0, 2.0, 3.0])])

    def added(self) -> list[int]:
        return [int(record.id) for record in self._storage.list_records(limit=100_000)]

    def close(self) -> None:
        self._storage.close()


class LanceMemory(Memory):
    """The same on LanceDB."""

    errors = (Exception,)

    def open(self, directory: Path) -> None:
        self._storage = LanceDBStorage(directory / "lancedb", vector_dim=3)

    def close(self) -> None:
        pass


class FlowStates(Slots):
    """A flow for each name, whose state is saved again and again."""

    def open(self, directory: Path) -> None:
        self._kept: Any = LandedFlowPersistence(directory / "flows")

    def put(self, name: str, text: str) -> None:
        self._kept.load_state(name)
        self._save(name, text)

    def _save(self, name: str, text: str) -> None:
        self._kept.save_state(name, "step", {"id": name, "text": text})

    def add(self, number: int) -> None:
        self._save(NAMES[0], " ".join([*self.get(NAMES[0]), f"{number}"]))  # upon the state that was loaded

    def get(self, name: str) -> list[str]:
        found = self._kept.load_state(name)
        return [] if found is None else [found["text"]]


class SqliteFlowStates(FlowStates):
    """The same in CrewAI's own SQLite file."""

    errors = (Exception,)

    def open(self, directory: Path) -> None:
        self._kept = SQLiteFlowPersistence(str(directory / "flows.sqlite"))


class Checkpoints(Slots):
    """A branch for each name, with a checkpoint for each value."""

    keeps_all = True
    in_order = False  # the names tell the second only
    provider: Any = LandedJsonProvider

    def open(self, directory: Path) -> None:
        self._place = directory / "checkpoints"
        self._provider = self.provider()

    def put(self, name: str, text: str) -> None:
        self._provider.checkpoint(json.dumps({"text": text}), str(self._place), branch=_branch(name))

    def get(self, name: str) -> list[str]:
        try:
            files = sorted((self._place / _branch(name)).glob("*.json"))
        except FileNotFoundError:
            return []
        return [json.loads(path.read_text())["text"] for path in files]


def _branch(name: str) -> str:
    return name.replace("/", "-").replace("..", "-")


class JsonCheckpoints(Checkpoints):
    """The same by CrewAI's own provider."""

    errors = (Exception,)
    provider = JsonProvider
