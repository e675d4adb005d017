"""CrewAI without a network: its switches, a model that answers from a table, and an embedder that hashes words."""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from typing import Any

from pydantic import BaseModel

os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "CREWAI_TESTING": "true",  # else it asks whether to show traces, for 20 seconds
    "CREWAI_TRACING_ENABLED": "false",
    "OPENAI_API_KEY": "unused",
    "OTEL_SDK_DISABLED": "true",
}

with warnings.catch_warnings():  # importing it brings several
    warnings.simplefilter("ignore")
    from crewai import LLM, Agent, Crew, Task  # noqa: F401
    from crewai.llms.base_llm import BaseLLM
    from crewai.state.event_record import EventRecord


def _dump_locked(record: Any, **options: Any) -> dict[str, Any]:
    """CrewAI leaves the lock out, and panics when another thread adds an event meanwhile."""
    with record._lock.r_locked():
        return BaseModel.model_dump(record, **options)


EventRecord.model_dump = _dump_locked  # type: ignore[method-assign]

DIMENSION = 64
LEARNED = ["the reactor runs at 40 degrees", "valve seven sticks in winter"]
FIELDS: dict[str, Any] = {"scope": "/plant", "categories": [], "importance": 0.5}
"""With these, remembering asks no model."""


class FakeLLM(BaseLLM):
    """Ends every task at once, and has learned two things from each."""

    def __init__(self, model: str = "fake", **kwargs: Any) -> None:
        super().__init__(model=model, **kwargs)

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        wanted = kwargs.get("response_model")
        name = getattr(wanted, "__name__", "")
        if name == "ExtractedMemories":
            return wanted(memories=LEARNED)
        if name == "MemoryAnalysis":
            return wanted(suggested_scope="/plant", categories=["plant"], importance=0.5)
        if name == "ConsolidationPlan":
            return wanted()  # keep what is there, and insert
        return "Thought: I know.\nFinal Answer: done"

    async def acall(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        return self.call(messages, *args, **kwargs)

    def supports_function_calling(self) -> bool:
        return True

    def supports_stop_words(self) -> bool:
        return False

    def get_context_window_size(self) -> int:
        return 8192


def embed(texts: list[str]) -> list[list[float]]:
    """A bag of hashed words for each text, of length one."""
    return [_vector(text) for text in texts]


def _vector(text: str) -> list[float]:
    vector = [0.0] * DIMENSION
    for word in text.lower().split():
        vector[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little") % DIMENSION] += 1.0
    length = math.sqrt(sum(part * part for part in vector)) or 1.0
    return [part / length for part in vector]


def done(output: Any) -> bool:
    """Whether a run ended as it does here: newer agents give the answer as the model worded it."""
    return str(output.raw).endswith("done")


def agent(**more: Any) -> Agent:
    return Agent(role="engineer", goal="look", backstory="-", llm=FakeLLM(), **more)


def crew(**more: Any) -> Crew:
    """A crew of one agent with one task."""
    worker = agent()
    task = Task(description="look at the reactor", expected_output="a word", agent=worker)
    return Crew(agents=[worker], tasks=[task], **more)
