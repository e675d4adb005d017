"""What every test of the saver starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
from drafts import Thread

from langgraph.checkpoint.landed import LandedSaver


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANDED_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def saver(root: Path) -> LandedSaver:
    return LandedSaver(root)


@pytest.fixture
def thread(saver: LandedSaver) -> Thread:
    return Thread(saver)
