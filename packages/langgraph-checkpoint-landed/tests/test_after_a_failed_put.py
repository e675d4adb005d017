"""LangGraph may go on after a put failed, as 0.6 does: what is put on what was not stored is not stored either."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

import landed
from langgraph.checkpoint.landed import LandedSaver

if TYPE_CHECKING:
    from pathlib import Path

CONFIG: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}


def put(saver: LandedSaver, config: Any, value: object = "") -> Any:
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"value": value}
    checkpoint["channel_versions"] = {"value": "1"}
    config = {"configurable": {**CONFIG["configurable"], **config["configurable"]}}
    try:
        return saver.put(config, checkpoint, {"source": "loop", "step": 0, "parents": {}}, {"value": "1"})
    except landed.LandedError as error:
        error.args = (*error.args, {"configurable": {"checkpoint_id": checkpoint["id"]}})
        raise


def test_a_run_whose_put_was_stale_stays_stale(tmp_path: Path) -> None:
    first, second = LandedSaver(tmp_path), LandedSaver(tmp_path)
    put(first, CONFIG)
    heads = [saver.get_tuple(CONFIG).config for saver in (first, second)]
    head = put(second, heads[1])
    config = heads[0]
    for _ in range(3):
        with pytest.raises(landed.StaleWrite) as caught:
            put(first, config)
        config = caught.value.args[-1]
    assert first.get_tuple(CONFIG).config == head
    assert len(list(first.list(CONFIG))) == 2


def test_a_run_whose_put_failed_otherwise_does_not_go_on(tmp_path: Path) -> None:
    saver = LandedSaver(tmp_path, max_bytes=200_000)
    head = put(saver, CONFIG)
    with pytest.raises(landed.Full) as caught:
        put(saver, head, "x" * 500_000)
    with pytest.raises(landed.NotLanded, match="before this one was not stored"):
        put(saver, caught.value.args[-1])
    put(saver, head)
    assert len(list(saver.list(CONFIG))) == 2


def test_a_put_that_landed_although_it_failed_is_built_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from landed.local import segments

    saver = LandedSaver(tmp_path)
    head = put(saver, CONFIG)

    def fail(segment: segments.Segment) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(segments.Segment, "flush", fail)
    with pytest.raises(landed.OutcomeUnknown):
        put(saver, head)
    monkeypatch.undo()
    found = saver.get_tuple(CONFIG)
    put(saver, found.config)
    assert len(list(saver.list(CONFIG))) == 3
