"""LangGraph checkpoints that cannot lose an update in silence.

from langgraph.checkpoint.landed import LandedSaver

graph = builder.compile(checkpointer=LandedSaver("./checkpoints"))

`LandedSaver` is loaded when it is first used: the commands that look at threads do without it and without LangGraph,
which takes a second to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langgraph.checkpoint.landed.saver import LandedSaver

__version__ = "0.1.0"
__all__ = ["LandedSaver", "__version__"]


def __getattr__(name: str) -> object:
    if name != "LandedSaver":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from langgraph.checkpoint.landed.saver import LandedSaver

    globals()[name] = LandedSaver
    return LandedSaver
