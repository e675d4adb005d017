"""A checkpoint refers to the values that it holds, whether they are stored with it or were before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langgraph.checkpoint.base import empty_checkpoint

from langgraph.checkpoint.landed import LandedSaver

if TYPE_CHECKING:
    from pathlib import Path


def test_a_new_value_beside_one_that_was_stored_with_the_same_number(tmp_path: Path) -> None:
    config = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    values = {"a": ["a" * 200], "b": ["b" * 200], "c": ["c" * 200]}
    with LandedSaver(tmp_path) as saver:
        for channels in ("a", "ab", "abc"):
            checkpoint = empty_checkpoint()
            checkpoint["channel_values"] = {channel: values[channel] for channel in channels}
            checkpoint["channel_versions"] = dict.fromkeys(channels, "1")
            config = saver.put(config, checkpoint, {"source": "loop", "step": 0, "parents": {}}, {channels[-1]: "1"})
            found = saver.get_tuple(config)
            assert found is not None
            assert found.checkpoint["channel_values"] == {channel: values[channel] for channel in channels}
