"""A report as one HTML file: no script, no other resource, light and dark as the reader's system is.

All text is escaped, and what cannot be shown (control characters, halves of surrogate pairs, marks that turn the
direction of writing) stands there as its escape: names come from whoever may create a file.
"""

from __future__ import annotations

from html import escape
from time import gmtime, strftime
from typing import TYPE_CHECKING

from landed.cli.output import shown
from landed.report.model import BAD, DOUBT, GOOD, KINDS, LANDED, LOST, REFUSED, TOLD
from landed.report.style import STYLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from landed.report.model import Event, Report, Section, Timeline

MARK: Final = "<!doctype html>\n<!-- a report of landed -->\n"
"""How a report begins: what may be replaced by a newer one."""
LANES: Final = 8
"""Writers that get a lane of their own in the picture; all others share one."""
OTHERS: Final = "all others"
TEXT_LIMIT: Final = 400
"""Characters of one text; a name may have 4,096."""
WORDS: Final = {GOOD: "kept", BAD: "not kept", DOUBT: "unclear"}


def render(report: Report) -> str:
    """The page."""
    return "".join(_page(report))


def _page(report: Report) -> Iterator[str]:
    yield MARK
    yield f'<html lang="en"><head><meta charset="utf-8"><title>{text(report.title)}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f"<style>{STYLE}</style></head><body><main>"
    yield f"<h1>{text(report.title)}</h1><p>{text(report.intro)}</p>"
    yield from _summary(report)
    yield from _legend(report)
    for section in report.sections:
        yield from _section(section)
    yield "<footer>"
    yield from (f"<p>{text(note)}</p>" for note in report.notes)
    yield f"<p>Made {_clock(report.made)}. Times are UTC.</p></footer></main></body></html>\n"


def _summary(report: Report) -> Iterator[str]:
    yield '<ul class="totals">'
    yield f"<li><b>{report.total}</b> in all</li>"
    for verdict, word in WORDS.items():
        yield f'<li class="{verdict}"><b>{report.count(verdict)}</b> {word}</li>'
    yield "</ul>"


def _legend(report: Report) -> Iterator[str]:
    there = {event.kind for section in report.sections for line in section.timelines for event in line.events}
    if not there:
        return
    yield '<ul class="legend" aria-label="What the marks mean">'
    for kind, words in KINDS.items():
        if kind in there:
            yield f'<li><svg viewBox="0 0 10 20" aria-hidden="true">{_mark(kind, 5)}</svg>{words}</li>'
    yield "</ul>"


def _section(section: Section) -> Iterator[str]:
    yield f"<section><h2>{text(section.title)}</h2>"
    if section.note:
        yield f'<p class="note">{text(section.note)}</p>'
    yield '<div class="pairs">' if section.pairs else "<div>"
    for timeline in section.timelines:
        yield from _timeline(timeline)
    yield "</div>"
    if section.left_out:
        yield (
            f'<p class="note">{section.left_out} more are counted above and not shown: those with bad news come first, '
            "then those that changed last.</p>"
        )
    yield "</section>"


def _timeline(timeline: Timeline) -> Iterator[str]:
    yield f'<article class="{timeline.verdict}"><h3>{text(timeline.name)}</h3>'
    yield f'<p class="verdict"><strong>{WORDS[timeline.verdict]}</strong> {text(timeline.said)}</p>'
    if timeline.facts:
        pairs = "".join(f"<dt>{text(label)}</dt><dd>{text(fact)}</dd>" for label, fact in timeline.facts)
        yield f"<dl>{pairs}</dl>"
    if timeline.events:
        yield from _lanes(timeline.events)
        yield from _table(timeline)
    yield "</article>"


def _lanes(events: list[Event]) -> Iterator[str]:
    """One line for each writer; what happened next stands further right."""
    lanes: dict[str, list[tuple[int, Event]]] = {}
    for number, event in enumerate(events):
        lane = event.who if event.who in lanes or len(lanes) < LANES else OTHERS
        lanes.setdefault(lane, []).append((number, event))
    yield '<div class="lanes">'
    for who, there in lanes.items():
        marks = "".join(_mark(event.kind, (number + 0.5) * 1000 / len(events)) for number, event in there)
        yield f'<span class="who">{text(who)}</span>'
        yield (
            f'<svg viewBox="0 0 1000 20" preserveAspectRatio="none" role="img" '
            f'aria-label="{text(who)}: {_counted([event for _, event in there])}">'
            f'<line class="rail" x1="0" y1="10" x2="1000" y2="10"/>{marks}</svg>'
        )
    yield "</div>"


def _mark(kind: str, x: float) -> str:
    """A stroke; its place and its dashes tell the kind as its colour does."""
    top, bottom = {LANDED: (2, 18), TOLD: (2, 18), LOST: (0, 20), REFUSED: (11, 20)}.get(kind, (0, 9))
    return f'<line class="{kind}" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>'


def _counted(events: list[Event]) -> str:
    counts: dict[str, int] = {}
    for event in events:
        counts[event.kind] = counts.get(event.kind, 0) + 1
    return ", ".join(f"{number} {KINDS[kind]}" for kind, number in counts.items())


def _table(timeline: Timeline) -> Iterator[str]:
    yield f"<details><summary>{_counted(timeline.events)}</summary>"
    if timeline.left_out:
        yield f'<p class="note">The latest {len(timeline.events)}; {timeline.left_out} earlier ones are not shown.</p>'
    yield '<div class="scroll" tabindex="0" role="region" aria-label="Every event"><table><thead><tr>'
    yield '<th scope="col">when</th><th scope="col">who</th><th scope="col">what</th></tr></thead><tbody>'
    for event in timeline.events:
        when = _clock(event.at) if event.at is not None else "-"
        what = f"<b>{KINDS[event.kind]}</b> {text(event.what)}"
        yield f'<tr class="{event.kind}"><td>{when}</td><td>{text(event.who)}</td><td>{what}</td></tr>'
    yield "</tbody></table></div></details>"


def text(words: str) -> str:
    """Any text, as it may stand in the page."""
    if len(words) > TEXT_LIMIT:
        words = f"{words[: TEXT_LIMIT // 2]} ... {words[-TEXT_LIMIT // 2 :]}"
    return escape(shown(words))


def _clock(at: float) -> str:
    return f"{strftime('%Y-%m-%d %H:%M:%S', gmtime(at))}.{int(at % 1 * 1000):03}"
