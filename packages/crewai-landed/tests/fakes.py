"""CrewAI's model and embedder, played offline."""

from __future__ import annotations

from typing import Any

from crewai.llms.base_llm import BaseLLM
from crewai_memory_core.testing import FakeEmbedder

DIMENSION = 64
EMBED = FakeEmbedder(DIMENSION)


class FakeLLM(BaseLLM):
    """Answers every prompt, and extracts two memories from what an agent did."""

    def __init__(self, model: str = "fake", **kwargs: Any) -> None:
        super().__init__(model=model, **kwargs)

    def call(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        wanted = kwargs.get("response_model")
        name = getattr(wanted, "__name__", "")
        if name == "ExtractedMemories":
            return wanted(memories=["the reactor runs at 40 degrees", "valve seven sticks in winter"])
        if name == "MemoryAnalysis":
            return wanted(suggested_scope="/plant", categories=["plant"], importance=0.5)
        if name == "ConsolidationPlan":
            return wanted(actions=[], insert_new=True)
        return "Thought: I know.\nFinal Answer: done"

    def supports_function_calling(self) -> bool:
        return True

    def supports_stop_words(self) -> bool:
        return False

    def get_context_window_size(self) -> int:
        return 8192
