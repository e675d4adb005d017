"""One saver in one process: what LangGraph's contract asks of put, put_writes, get_tuple, list and delete_thread."""

from __future__ import annotations

from pathlib import Path

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from langgraph.checkpoint.landed import LandedSaver


@pytest.fixture
def saver(tmp_path: Path) -> LandedSaver:
    return LandedSaver(tmp_path / "checkpoints")


def test_first(saver: LandedSaver) -> None:
    config = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}
    checkpoint = {**empty_checkpoint(), "channel_values": {"a": ["x" * 1000]}, "channel_versions": {"a": "1"}}
    put = saver.put(config, checkpoint, {"source": "input", "step": -1, "parents": {}}, {"a": "1"})
    found = saver.get_tuple(config)
    assert found is not None
    assert found.checkpoint == checkpoint
    assert found.config == put
