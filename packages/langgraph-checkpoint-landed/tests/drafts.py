"""Checkpoints as LangGraph makes them, one on another."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.base.id import uuid6


def new_id() -> str:
    return str(uuid6(clock_seq=-2))


class Thread:
    """One run on a thread: each put builds on the one before, as LangGraph's loop does."""

    def __init__(self, saver: BaseCheckpointSaver[str], thread_id: Any = "1", ns: str = "") -> None:
        self.saver = saver
        self.config: dict[str, Any] = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns}}
        self.where = self.config
        self.versions: dict[str, Any] = {}
        self.step = -2

    def load(self) -> CheckpointTuple | None:
        """Begin a run at the latest checkpoint, and carry on its config, mark and all."""
        found = self.saver.get_tuple(self.config)
        if found is not None:
            self.where = {"configurable": {**self.config["configurable"], **found.config["configurable"]}}
            self.versions = dict(found.checkpoint["channel_versions"])
            self.step = found.metadata["step"]
        return found

    def draft(self, values: dict[str, Any], changed: set[str] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """A checkpoint with these values, and the versions that are new in it."""
        new = {
            channel: self.saver.get_next_version(self.versions.get(channel), None)
            for channel in (values if changed is None else changed)
        }
        self.versions = {**self.versions, **new}
        checkpoint = {
            "v": 4,
            "id": new_id(),
            "ts": "2026-01-02T03:04:05+00:00",
            "channel_values": values,
            "channel_versions": dict(self.versions),
            "versions_seen": {},
            "updated_channels": sorted(new),
        }
        return checkpoint, new

    def put(
        self, values: dict[str, Any], changed: set[str] | None = None, *, source: str = "loop", **metadata: Any
    ) -> str:
        """Put a checkpoint; its id."""
        checkpoint, new = self.draft(values, changed)
        self.step += 1
        self.saver.put(self.where, checkpoint, {"source": source, "step": self.step, "parents": {}, **metadata}, new)
        self.at(checkpoint["id"])
        return checkpoint["id"]

    def at(self, id: str) -> None:
        """Go on from a checkpoint."""
        self.where = {"configurable": {**self.config["configurable"], "checkpoint_id": id}}

    def write(self, *writes: tuple[str, Any], task: str = "task", path: str = "") -> None:
        self.saver.put_writes(self.where, writes, task, path)

    @property
    def tuple(self) -> CheckpointTuple:
        found = self.saver.get_tuple(self.config)
        assert found is not None
        return found

    @property
    def values(self) -> dict[str, Any]:
        return self.tuple.checkpoint["channel_values"]

    @property
    def ids(self) -> list[str]:
        """From the newest to the oldest."""
        return [each.config["configurable"]["checkpoint_id"] for each in self.saver.list(self.config)]
