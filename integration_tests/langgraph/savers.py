"""The savers that the tests run graphs on: landed's, and LangGraph's own for SQLite to hold it against."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.sqlite import SqliteSaver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.runnables import RunnableConfig

LANDED, SQLITE = "landed", "sqlite"


@contextlib.contextmanager
def opened(kind: str, directory: str | os.PathLike[str], **options: Any) -> Iterator[BaseCheckpointSaver]:
    """A saver of its own on what is stored in `directory`."""
    if kind == SQLITE:
        os.makedirs(directory, exist_ok=True)
        with SqliteSaver.from_conn_string(os.path.join(directory, "checkpoints.sqlite")) as saver:
            yield saver
        return
    from langgraph.checkpoint.landed import LandedSaver

    with LandedSaver(directory, **options) as saver:
        yield saver


def thread(name: str, checkpoint_id: str | None = None, ns: str = "") -> RunnableConfig:
    """The config of a thread, or of one of its checkpoints."""
    chosen = {} if checkpoint_id is None else {"checkpoint_id": checkpoint_id}
    return {"configurable": {"thread_id": name, "checkpoint_ns": ns, **chosen}}


def chain_of(saver: BaseCheckpointSaver, name: str) -> list[tuple[str, str | None]]:
    """The ids of a thread's checkpoints with those of their parents, the oldest first."""
    found = [
        (one.checkpoint["id"], one.parent_config["configurable"]["checkpoint_id"] if one.parent_config else None)
        for one in saver.list(thread(name))
    ]
    return found[::-1]


def forks(saver: BaseCheckpointSaver, name: str) -> int:
    """How many checkpoints of a thread share their parent with an older one."""
    parents = [parent for _, parent in chain_of(saver, name)]
    return len(parents) - len(set(parents))
