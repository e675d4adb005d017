"""CrewAI's error for an embedding of another dimension, also where CrewAI has none yet (before 1.15.0)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crewai.memory.storage.backend import EmbeddingDimensionMismatchError
else:
    try:
        from crewai.memory.storage.backend import EmbeddingDimensionMismatchError
    except ImportError:

        class EmbeddingDimensionMismatchError(ValueError):
            """An embedding has another dimension than those that are stored."""

            def __init__(self, stored_dim: int, new_dim: int) -> None:
                self.stored_dim = stored_dim
                self.new_dim = new_dim
                super().__init__(
                    f"this memory holds embeddings of {stored_dim} dimensions, not {new_dim}: "
                    "use the embedder that it was made with, or reset it"
                )


__all__ = ["EmbeddingDimensionMismatchError"]
