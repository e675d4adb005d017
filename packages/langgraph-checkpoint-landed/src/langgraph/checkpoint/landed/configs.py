"""What LangGraph's configs address: a thread, a namespace in it, a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from landed import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.runnables import RunnableConfig


def given(config: RunnableConfig) -> dict[str, Any]:
    """What a run's caller says in it; LangGraph passes configs without any."""
    return config.get("configurable") or {}


def thread_of(config: RunnableConfig) -> str:
    """The thread's id.

    Raises:
        Refused: there is none. Nothing was read or written.
    """
    thread = given(config).get("thread_id")
    if thread is None:
        raise Refused('a config without "thread_id"', step="argument")
    return str(thread)


def namespace_of(config: RunnableConfig) -> str | None:
    """The namespace: "" for the graph itself; None where the config names none."""
    ns: str | None = given(config).get("checkpoint_ns")
    return ns


def naming(thread: str, ns: str, id: str) -> RunnableConfig:
    """The config that addresses one checkpoint."""
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": id}}


def ids_of(what: str, given: Sequence[str]) -> list[str]:
    """The ids in an argument that takes several.

    Raises:
        TypeError: it is one string, of which each letter would count as an id. Nothing was read or written.
    """
    if isinstance(given, str):
        raise TypeError(f"{what} is a sequence of ids, not one id")
    return [str(each) for each in given]
