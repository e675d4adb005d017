"""What a report shows: sections of timelines, and on each timeline the events of one artifact."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

LANDED: Final = "landed"
"""Event: written, flushed and verified before its writer was told so."""
TOLD: Final = "told"
"""Event: its writer was told that it is stored; nobody looked whether it is."""
REFUSED: Final = "refused"
"""Event: the writer was told no, and nothing was written."""
FAILED: Final = "failed"
"""Event: begun, and it did not land; its writer was told so, or died."""
LOST: Final = "lost"
"""Event: its writer was told that it is stored, and it is not there."""
OUTSIDE: Final = "outside"
"""Event: something that does not use landed changed the artifact."""
CHECKED: Final = "checked"
"""Event: held against the disk, and right."""
KINDS: Final = {
    LANDED: "written and verified",
    TOLD: "told that it is stored",
    REFUSED: "refused",
    FAILED: "begun, not landed",
    LOST: "lost",
    OUTSIDE: "changed by something else",
    CHECKED: "held against the disk",
}
"""Each kind of event in words."""
FOUND: Final = frozenset({CHECKED, LOST})
"""The kinds of what is found when somebody looks, which may be long after it happened."""

GOOD: Final = "good"
BAD: Final = "bad"
DOUBT: Final = "doubt"

EVENTS_SHOWN: Final = 100
"""Events of one timeline: the latest. More make no picture that anybody reads."""
TIMELINES_SHOWN: Final = 200
"""Timelines of one section: bad news first, then those that changed last. A page of so many opens at once."""


@dataclass
class Event:
    """One thing that happened to an artifact.

    Attributes:
        kind: one of `KINDS`.
        who: did it, or was told.
        what: in words.
        at: seconds since the epoch; None where it is not known.
    """

    kind: str
    who: str
    what: str
    at: float | None = None


@dataclass
class Timeline:
    """One artifact, and what happened to it, oldest first.

    Attributes:
        name: the artifact.
        verdict: ``"good"``, ``"bad"`` or ``"doubt"``.
        said: the verdict in words.
        events: at most `EVENTS_SHOWN` when it is shown.
        left_out: how many earlier events are not among them.
        facts: more of it, each a label and a text.
    """

    name: str
    verdict: str
    said: str
    events: list[Event] = field(default_factory=list)
    left_out: int = 0
    facts: list[tuple[str, str]] = field(default_factory=list)

    @property
    def last(self) -> float:
        """When something happened to it last; 0 where that is not known. What this report found is no such thing."""
        return max((event.at for event in self.events if event.at and event.kind not in FOUND), default=0.0)

    def cut(self) -> Timeline:
        """Keep the latest events, and say how many were left out."""
        over = len(self.events) - EVENTS_SHOWN
        if over > 0:
            self.left_out += over
            self.events = self.events[over:]
        return self


@dataclass
class Section:
    """Timelines that belong together.

    Attributes:
        title, note: what they are.
        timelines: at most `TIMELINES_SHOWN` of them when it is shown.
        counts: how many there are of each verdict, those that are left out as well.
        pairs: whether each two are one case, seen from two sides.
    """

    title: str
    note: str = ""
    timelines: list[Timeline] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    pairs: bool = False

    def add(self, timeline: Timeline) -> None:
        """Add one; what is shown stays within its limits however many are added."""
        self.counts[timeline.verdict] = self.counts.get(timeline.verdict, 0) + 1
        self.timelines.append(timeline.cut())
        if len(self.timelines) >= 2 * TIMELINES_SHOWN and not self.pairs:
            self.cut()

    def cut(self) -> Section:
        """Keep those with bad news first, then those that changed last."""
        if not self.pairs:
            rank = {BAD: 0, DOUBT: 1, GOOD: 2}
            self.timelines.sort(key=lambda timeline: (rank[timeline.verdict], -timeline.last, timeline.name))
            del self.timelines[TIMELINES_SHOWN:]
        return self

    @property
    def left_out(self) -> int:
        """How many timelines are counted and not shown."""
        return sum(self.counts.values()) - len(self.timelines)


@dataclass
class Report:
    """One page.

    Attributes:
        title: the heading.
        intro: a sentence or two below it.
        made: when, in seconds since the epoch.
        sections: in order.
        notes: what a reader has to know of how it was made.
    """

    title: str
    intro: str
    made: float
    sections: list[Section] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def count(self, verdict: str) -> int:
        """How many timelines have a verdict, those that are not shown as well."""
        return sum(section.counts.get(verdict, 0) for section in self.sections)

    @property
    def total(self) -> int:
        """How many timelines there are, those that are not shown as well."""
        return sum(sum(section.counts.values()) for section in self.sections)
