"""What the tests run in processes of their own: ``python programs.py NAME DIRECTORY``."""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "CREWAI_TESTING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "OPENAI_API_KEY": "unused",
    "OTEL_SDK_DISABLED": "true",
}

from crewai import Agent
from crewai.memory.unified_memory import Memory
from fakes import EMBED, FakeLLM

from crewai_landed import LandedMemory, LandedStorage

FIELDS: dict[str, Any] = {"scope": "/plant", "categories": [], "importance": 0.5}


class FullDisk(LandedStorage):
    """Cannot save."""

    def save(self, records: object) -> None:
        raise OSError(28, "No space left on device")


def memory(directory: str, kind: type[Memory] = LandedMemory, storage: Any = None) -> Memory:
    storage = storage or LandedStorage(directory)
    return kind(storage=storage, embedder=EMBED, llm=FakeLLM(), consolidation_threshold=1.0)


def remember_many(directory: str, kind: type[Memory] = LandedMemory) -> None:
    """The script ends right after it."""
    mine = memory(directory, kind)
    for number in range(20):
        mine.remember_many([f"valve {number} is open", f"pump {number} is off"], **FIELDS)


def remember_many_stock(directory: str) -> None:
    remember_many(directory, Memory)


def remember_many_and_fail(directory: str) -> None:
    remember_many(directory)
    sys.exit("the script fails")


def remember_many_full_disk(directory: str) -> None:
    memory(directory, storage=FullDisk(directory)).remember_many(["valve 1 is open", "pump 1 is off"], **FIELDS)


def background_full_disk(directory: str) -> None:
    mine = LandedMemory(
        storage=FullDisk(directory), embedder=EMBED, llm=FakeLLM(), consolidation_threshold=1.0, background=True
    )
    mine.remember_many(["valve 1 is open", "pump 1 is off"], **FIELDS)


def agent(directory: str, kind: type[Memory] = LandedMemory) -> None:
    """An agent learns, and the script ends."""
    worker = Agent(role="engineer", goal="look", backstory="-", llm=FakeLLM(), memory=memory(directory, kind))
    worker.kickoff("how is the reactor?")


def agent_stock(directory: str) -> None:
    agent(directory, Memory)


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2])
