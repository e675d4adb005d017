"""The simulation behind docs/explanation/scaling.md: a seed gives the same figures, and the requests are landed's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "scaling.py"


def simulate(seed: int, json_file: Path, hash_seed: str) -> dict[str, Any]:
    command = [sys.executable, SCRIPT, "--quick", "--seed", str(seed), "--json", json_file]
    env = {**os.environ, "PYTHONHASHSEED": hash_seed}
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
    return json.loads(json_file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return simulate(1, tmp_path_factory.mktemp("first") / "figures.json", "1")


def test_a_seed_gives_its_own_figures_each_time(first: dict[str, Any], tmp_path: Path) -> None:
    assert simulate(1, tmp_path / "again.json", "2") == first
    assert simulate(2, tmp_path / "other.json", "1")["fleet"] != first["fleet"]


def test_an_append_asks_for_what_landed_asks_for(first: dict[str, Any]) -> None:
    """Where nothing is in the way: one write and one read on object storage, one round trip to PostgreSQL.

    integration_tests/engines/test_objects_answers.py::test_an_append_is_one_write_and_one_read counts the real ones.
    """
    free = {
        row["engine"]: float(row["requests for an append"])
        for row in first["fleet"]
        if row["told to slow down, %"] == "0.0"
    }
    assert {engine: round(requests) for engine, requests in free.items()} == {
        "S3, new bucket": 2,
        "S3, 32 partitions": 2,
        "S3 Express One Zone": 2,
        "Azure, one account": 2,
        "PostgreSQL, 16 cores": 1,
    }
