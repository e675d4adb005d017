"""The tables of what survives what say what was recorded, and nothing of landed's is lost in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from lab import survival, workloads

if TYPE_CHECKING:
    from lab.pages import Place


@pytest.mark.parametrize("place", survival.PLACES, ids=lambda place: place.page.name)
def test_table_is_what_was_recorded(place: Place) -> None:
    assert place.read() == survival.table(json.loads(survival.RECORDED.read_text()))


def test_nothing_of_landed_is_lost() -> None:
    rows = json.loads(survival.RECORDED.read_text())["rows"]
    lost = {
        (name, column): counts
        for name, row in rows.items()
        for column, counts in row.items()
        if name not in workloads.PEERS and not isinstance(counts, str) and (counts[0] or sum(counts[2:]))
    }
    assert lost == {}
