"""The part of the demo that needs CrewAI shows what it says, and a bug in the package would show."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_COMPARISON = """
import landed.journal
append = landed.journal.Journal.append
landed.journal.Journal.append = lambda self, records, *, expect=None: append(self, records)
"""

if sys.version_info < (3, 13):
    pytest.skip("imports CrewAI many times: run on the newest Python alone", allow_module_level=True)


def run(*arguments: str, directory: Path, planted: str = "") -> subprocess.CompletedProcess[str]:
    (directory / "plants").mkdir()
    (directory / "plants" / "sitecustomize.py").write_text(planted)
    return subprocess.run(
        [sys.executable, "-m", "demo", "--directory", str(directory), *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "120", "PYTHONPATH": str(directory / "plants")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_both_lose_without_landed_and_hold_with_it(tmp_path: Path) -> None:
    ran = run("--json", "one_flow_id", "ends_too_soon", directory=tmp_path)
    assert ran.returncode == 0, ran.stderr
    flow, script = json.loads(ran.stdout)["cases"]
    assert flow["stock"]["acknowledged"] == flow["landed"]["acknowledged"] == "20 runs"
    assert flow["landed"]["found"] == "a count of 20"
    assert re.match(r"StaleWrite [1-9]\d* times", flow["landed"]["heard"])
    assert script["stock"]["heard"] == script["landed"]["heard"] == "nothing; exit status 0"
    assert script["landed"]["found"] == "40 memories"
    for case in (flow, script):
        assert case["stock"]["shown"], case
        assert not case["stock"]["kept"], case


def test_a_bug_shows(tmp_path: Path) -> None:
    ran = run("one_flow_id", directory=tmp_path, planted=NO_COMPARISON)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "landed BROKE its promise" in ran.stdout
