"""docs/benchmarks.md, its pictures and the README's table of speeds are what the kept figures give."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "benchmarks_page.py"
PICTURES = ROOT / "docs" / "benchmarks"


def test_the_page_is_what_the_figures_give() -> None:
    ran = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr


def test_every_picture_is_on_the_page_and_can_be_read() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    pictures = sorted(PICTURES.glob("*.svg"))
    assert pictures
    for picture in pictures:
        assert f"(benchmarks/{picture.name})" in page
        assert ET.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_what_was_missed_is_on_the_page() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    figures = json.loads((PICTURES / "figures.json").read_text(encoding="utf-8"))
    missed = sum(not row["ok"] for run in figures.values() for row in run["required"])
    assert page.count("**missed**") == missed


def test_a_second_run_on_a_slower_disk_is_on_the_page_and_in_the_readme(tmp_path: Path) -> None:
    (tmp_path / "core.json").write_text(json.dumps(run_of("the core", 1.4, journal=False, flush_us=40.0)))
    (tmp_path / "core-slow.json").write_text(
        json.dumps(run_of("the core, on a disk whose flush takes 1 ms", 1.1, journal=True, flush_us=1150.0))
    )
    (tmp_path / "crewai.json").write_text(json.dumps(run_of("CrewAI", 0.5, journal=None, flush_us=40.0)))
    tool = the_tool()
    figures = tool.load(tmp_path)
    page, _ = tool.page(figures)
    once, twice, last = (page.index(f"## {run['title']}\n") for run in figures.values())
    assert once < twice < last
    assert "Python 3.11.2 (a build; a loop of a million additions takes 30 ms), ext4 without a journal" in page
    assert "ext4 with a journal, a flush takes 1,150 µs" in page[twice:]
    assert "python benchmarks/core.py --flush-ms 1" in page[twice:]
    assert page.count("ext4 with") == 2  # of the third it is not known
    header, _, row, *_ = tool.speed(figures).splitlines()
    assert header == "| what is done | beside | landed takes, or has | where a flush takes 1.1 ms | |"
    assert "| 1.40 times the time | 1.10 times the time |" in row


def test_a_loop_counts_for_one_of_what_it_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    frame = importlib.import_module("frame")
    flushed = 0

    def loop(_: int) -> None:
        nonlocal flushed
        for _ in range(20):
            flushed += 2
        time.sleep(0.02)

    class Disk:
        def flushes(self) -> int:
            return flushed

    (sample,) = frame.measure("", [frame.Contender("twice", loop, times=20)], 3, Disk()).values()
    assert sample.flushes == [2, 2, 2]
    assert 0.001 <= sample.least < 0.02


def run_of(title: str, measured: float, **disk: Any) -> dict[str, Any]:
    """What a benchmark writes."""
    required = {"what": "landed.write of 4 KiB over", "required": 1.25, "relation": "<=", "measured": measured}
    return {
        "title": title,
        "command": f"python benchmarks/core.py{' --flush-ms 1' * ('disk' in title)}",
        "directory": "/somewhere",
        "file_system": "ext4",
        "platform": "Linux-6.18",
        "python": "3.11.2",
        "python_build": "a build",
        "additions_ms": 30.2,
        "cores": 2,
        "load": 0.5,
        "sections": [],
        "required": [{**required, "unit": "", "ok": measured <= 1.25}],
        **disk,
    }


def the_tool() -> Any:
    spec = importlib.util.spec_from_file_location("benchmarks_page", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
