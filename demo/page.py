"""The demo as one HTML page: the report that `landed report` makes of a directory, of both sides of each case."""

from __future__ import annotations

from itertools import groupby
from time import time
from typing import TYPE_CHECKING

from landed.report import model
from landed.report.model import BAD, GOOD, Event, Report, Section, Timeline
from landed.report.page import render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from demo.report import Row
    from demo.scene import Outcome

INTRO = (
    "Incidents, replayed with real processes and kills: first with the calls that they happened to, then with landed."
)
NOTES = ["Made by `python -m demo --report FILE`, which `make demo` runs."]


def page_of(rows: list[Row], titles: Mapping[str, tuple[str, str]], seconds: float) -> str:
    """The page of what was replayed.

    Args:
        titles: of each incident what happened, and where it was reported.
    """
    sections = []
    for incident, cases in groupby(rows, key=lambda row: row.incident):
        title, reports = titles[incident]
        section = Section(title, f"as in {reports}", pairs=True)
        for row in cases:
            section.add(_side(row.case, row.stock, kept=row.stock.kept))
            section.add(_side(row.case, row.landed, kept=row.landed.held))
        sections.append(section)
    kept = sum(row.landed.held for row in rows)
    intro = f"{INTRO} landed kept its promise in {kept} of {len(rows)} cases; it took {seconds:.0f} s."
    return render(Report("What goes wrong without landed", intro, time(), sections, NOTES))


def _side(case: str, outcome: Outcome, *, kept: bool) -> Timeline:
    events = sorted(outcome.events, key=lambda event: event.at or 0.0)
    if kept or all(event.kind != model.LOST for event in events):  # else the loss is told where it happened
        events.append(Event(model.CHECKED if kept else model.LOST, "the disk", f"found: {outcome.found}"))
    facts = [
        ("what", outcome.artifact),
        ("acknowledged", outcome.acknowledged),
        ("found", outcome.found),
        ("heard", outcome.heard),
        ("tries", str(outcome.tries)),
    ]
    return Timeline(outcome.means, GOOD if kept else BAD, case, events, facts=facts)
