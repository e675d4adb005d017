"""LangGraph graphs that run on a checkpointer: the answer of every run that returned is in the thread."""

from __future__ import annotations

import operator
import sqlite3
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph

from lab.workloads.slots import Slots
from langgraph.checkpoint.landed import LandedSaver

if TYPE_CHECKING:
    from pathlib import Path

    from langgraph.checkpoint.base import BaseCheckpointSaver


class State(TypedDict):
    log: Annotated[list[str], operator.add]
    asked: str


def _answer(state: State) -> dict[str, list[str]]:
    return {"log": [state["asked"]]}


class Work(Slots):
    """A thread for each name; a run adds one value to its log."""

    keeps_all = True
    whole = False
    _saver: Any

    def saver(self, directory: Path) -> BaseCheckpointSaver[Any]:
        return LandedSaver(directory / "checkpoints")

    def open(self, directory: Path) -> None:
        self._saver = self.saver(directory)
        graph = StateGraph(State)
        graph.add_node("answer", _answer)
        graph.add_edge(START, "answer")
        graph.add_edge("answer", END)
        self._graph = graph.compile(checkpointer=self._saver)

    def put(self, name: str, text: str) -> None:
        self._graph.invoke({"asked": text}, {"configurable": {"thread_id": name}}, durability="sync")

    def get(self, name: str) -> list[str]:
        return self._graph.get_state({"configurable": {"thread_id": name}}).values.get("log", [])

    def close(self) -> None:
        self._saver.close()


class SqliteWork(Work):
    """The same on SqliteSaver."""

    errors = (Exception,)

    def saver(self, directory: Path) -> BaseCheckpointSaver[Any]:
        from langgraph.checkpoint.sqlite import SqliteSaver

        return SqliteSaver(sqlite3.connect(directory / "checkpoints.sqlite", check_same_thread=False))

    def close(self) -> None:
        self._saver.conn.close()
