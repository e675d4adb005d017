"""LangGraph checkpoints that cannot lose an update in silence.

from langgraph.checkpoint.landed import LandedSaver

graph = builder.compile(checkpointer=LandedSaver("./checkpoints"))
"""

from langgraph.checkpoint.landed.saver import LandedSaver

__version__ = "0.1.0"
__all__ = ["LandedSaver", "__version__"]
