"""docs/reference/errors.md says of each error that landed raises what caused it and what comes next."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from landed import errors

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "errors.md"
ROW = re.compile(r"^\| `(\w+)`(?: \([^|]+\))? \|(.*)\|$", re.MULTILINE)
COLUMNS = 3
"""Cause, what is on the disk, next."""


def told(text: str) -> dict[str, list[str]]:
    """Of each error in the page's table of what to do, the cells."""
    table = text.partition("\n## What to do\n")[2].partition("\n## ")[0]
    return {name: [cell.strip() for cell in cells.split(" | ")] for name, cells in ROW.findall(table)}


def differences(text: str) -> list[str]:
    """What the page lacks, and what it names that is not there."""
    raised = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.LandedError)
    }
    rows = told(text)
    unfilled = [name for name, cells in rows.items() if len(cells) != COLUMNS or not all(cells)]
    return sorted([*(raised ^ rows.keys()), *unfilled])


def test_each_error_has_its_cause_and_its_next_step() -> None:
    assert differences(PAGE.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("there", "instead", "missed"),
    [
        ("| `Claimed` |", "| `Clamed` |", ["Claimed", "Clamed"]),
        ("| [compact it](../how-to/compact-a-journal.md), or raise `max_bytes` |", "| |", ["Full"]),
    ],
    ids=["a name", "no next step"],
)
def test_a_page_that_is_wrong_is_noticed(there: str, instead: str, missed: list[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert there in text
    assert differences(text.replace(there, instead)) == missed
