"""docs/benchmarks.md, its pictures and the README's table of speeds are what the kept figures give."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

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
