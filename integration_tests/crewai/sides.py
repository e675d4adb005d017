"""The two sides of every comparison: what CrewAI brings, and what crewai-landed puts in its place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import offline
from crewai.flow.async_feedback.types import HumanFeedbackPending
from crewai.flow.flow import Flow, listen, start
from crewai.flow.human_feedback import human_feedback
from crewai.flow.persistence import persist
from crewai.flow.persistence.sqlite import SQLiteFlowPersistence
from crewai.memory.storage.lancedb_storage import LanceDBStorage
from crewai.memory.types import MemoryRecord
from crewai.memory.unified_memory import Memory
from crewai.state.provider.json_provider import JsonProvider
from pydantic import BaseModel

from crewai_landed import LandedFlowPersistence, LandedJsonProvider, LandedMemory, LandedStorage

if TYPE_CHECKING:
    from crewai.flow.persistence.base import FlowPersistence

STOCK, LANDED = "stock", "landed"


def storage(side: str, directory: str) -> Any:
    return LanceDBStorage(path=os.path.join(directory, "lance")) if side == STOCK else LandedStorage(directory)


def memory(side: str, directory: str, kept: Any = None) -> Memory:
    kind = Memory if side == STOCK else LandedMemory
    kept = kept or storage(side, directory)
    return kind(storage=kept, embedder=offline.embed, llm=offline.FakeLLM(), consolidation_threshold=1.0)


def flows(side: str, directory: str) -> FlowPersistence:
    if side == LANDED:
        return LandedFlowPersistence(path=directory)
    os.makedirs(directory, exist_ok=True)
    return SQLiteFlowPersistence(os.path.join(directory, "flows.db"))


def provider(side: str) -> JsonProvider:
    return JsonProvider() if side == STOCK else LandedJsonProvider()


def record(content: str, *, scope: str = "/plant", **fields: Any) -> MemoryRecord:
    return MemoryRecord(content=content, scope=scope, embedding=offline.embed([content])[0], **fields)


# Flows.


class Count(BaseModel):
    id: str = ""
    n: int = 0


def counter(persistence: FlowPersistence) -> type[Flow[Count]]:
    """A flow that counts its runs."""

    @persist(persistence)
    class Counter(Flow[Count]):
        suppress_flow_events: bool = True

        @start()
        def count(self) -> int:
            self.state.n += 1
            return self.state.n

    return Counter


class Elsewhere:
    """A reviewer who is asked, and answers another time."""

    def request_feedback(self, context: Any, flow: Any) -> str:
        raise HumanFeedbackPending(context=context)


def review(persistence: FlowPersistence | None, effects: str) -> type[Flow[Count]]:
    """A flow that waits for a reviewer, and then does something that must be done once."""

    class Review(Flow[Count]):
        suppress_flow_events: bool = True

        @start()
        @human_feedback(message="publish it?", provider=Elsewhere())
        def draft(self) -> str:
            self.state.n += 1
            return "a draft"

        @listen(draft)
        def publish(self) -> str:
            with open(effects, "a", encoding="utf-8") as file:
                file.write("published\n")
            return "published"

    return Review if persistence is None else persist(persistence)(Review)
