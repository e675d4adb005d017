"""Two minutes of the soak; `make soak MINUTES=60` is longer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from results import note

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.timeout(900)
def test_nothing_is_lost_and_nothing_grows() -> None:
    command = [sys.executable, "-m", "lab.soak", "--minutes", "2", "--json"]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True, timeout=840, check=False
    )
    result = json.loads(done.stdout)
    note("soak", **result["counts"])
    assert result["problems"] == []
    assert result["counts"]["kills"] > 0
    assert result["counts"]["acknowledged"] > 100
