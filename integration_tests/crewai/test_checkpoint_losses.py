"""What checkpoints lose with the provider that CrewAI brings, and not with ours: the same runs on both sides."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import offline
import pytest
import sides
from crewai.events.event_bus import crewai_event_bus
from crewai.state.checkpoint_config import CheckpointConfig
from sides import LANDED, STOCK

from crewai_landed import CheckpointFailed, checkpoints

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 8


def test_sigkill_during_a_checkpoint(workers: list[Any], tmp_path: Path) -> None:
    stock, ours = (workers[0]("checkpoints_and_kills", side, str(tmp_path / side), ROUNDS) for side in (STOCK, LANDED))
    assert stock["torn"] > 0, "a torn file is the newest checkpoint"
    assert ours == {"torn": 0, "lost": 0}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that is full."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a file system needs root on Linux")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    with (disk / "ballast").open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(b"x" * 4096)
        except OSError:
            pass
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def config(side: str, location: Path, **more: Any) -> CheckpointConfig:
    return CheckpointConfig(location=str(location), provider=sides.provider(side), **more)


def files(location: Path) -> list[Path]:
    crewai_event_bus.flush()
    return sorted(location.rglob("*.json"), key=os.path.getmtime)


def audit(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "landed", "audit", str(directory)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_full_disk(small_disk: Path) -> None:
    crew = offline.crew(checkpoint=config(STOCK, small_disk / STOCK))
    assert offline.done(crew.kickoff()), "the run ends as if nothing had been wrong"
    (left,) = files(small_disk / STOCK)
    assert left.read_text() == "", "and the newest checkpoint is empty"

    ours = config(LANDED, small_disk / LANDED)
    crew = offline.crew(checkpoint=ours)
    if checkpoints.hooks is None:  # CrewAI before 1.15.5
        crew.kickoff()
        with pytest.raises(CheckpointFailed, match="No space left on device"):
            ours.provider.check()
    else:
        with pytest.raises(CheckpointFailed, match="No space left on device"):
            crew.kickoff()
    assert files(small_disk / LANDED) == []
    ran = audit(small_disk)
    assert ran.returncode == 1
    assert "a checkpoint of pid" in ran.stdout
    (small_disk / "ballast").unlink()
    offline.crew(checkpoint=ours).kickoff()
    assert len(files(small_disk / LANDED)) == 1
    ran = audit(small_disk)
    assert ran.returncode == 0, ran.stdout


def test_the_good_one_is_gone_when_the_new_one_is_not_whole(tmp_path: Path) -> None:
    """With one checkpoint kept, as it was after a power cut: the newest has a name and no bytes."""
    for side, whole in ((STOCK, False), (LANDED, True)):
        provider, location = sides.provider(side), str(tmp_path / side)
        good = Path(provider.checkpoint('{"good": 1}', location))
        newest = Path(provider.checkpoint('{"new": 1}', location))
        newest.write_text("")
        os.utime(good, (1e9, 1e9))
        try:
            provider.prune(location, 1)
        except Exception:  # noqa: BLE001 - ours says so
            assert side == LANDED
        assert good.exists() is whole
