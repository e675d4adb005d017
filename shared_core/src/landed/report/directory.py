"""A report of what landed knows of a directory: its records and logs, its journals, and what packages keep in those.

An installed package tells who put what into a journal of its own through an entry point of the group
``landed.reports``, whose name says what it reads and whose value is a function::

    def events(journal: str) -> list[Event] | None

``journal`` is its directory. It changes nothing, and returns None for a journal that is not of its kind.
"""

from __future__ import annotations

import os
from time import time
from typing import TYPE_CHECKING

from landed import inspection
from landed.audit import INTACT, LOST, UNREADABLE, Finding, examine, judge_journal
from landed.cli.output import count
from landed.errors import LandedError
from landed.history import BEGUN, NOT_LANDED, OUTSIDE_CHANGE, history
from landed.history import LANDED as WRITTEN
from landed.history import REFUSED as NOT_BEGUN
from landed.local.directory import NAME
from landed.report import model
from landed.report.model import BAD, DOUBT, EVENTS_SHOWN, GOOD, Event, Report, Section, Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Final

    from landed.history import Line
    from landed.state import Store

    Reader = Callable[[str], list[Event] | None]

GROUP: Final = "landed.reports"
"""The entry-point group through which other packages tell of their journals."""
PATIENCE: Final = 1.0
"""Seconds to wait for the lock of a file that does not match: a report is not worth a long wait."""
NAME_LIMIT: Final = 4096
"""Bytes of a journal's name that are shown."""
INTRO: Final = "What landed acknowledged here, who wrote it, who was refused, and whether it is on the disk now."
NOTES: Final = (
    "`landed report` made this page; `landed audit` gives the same verdicts in the terminal, `landed log` the writes.",
    (
        "A file's log keeps about its last thousand writes and refusals. Of a refused append to a journal, and of a "
        "writer that gave up waiting for a lock, no trace is kept."
    ),
    (
        f"Shown are the latest {model.EVENTS_SHOWN} events of each artifact, and of each section at most "
        f"{model.TIMELINES_SHOWN} artifacts: those with bad news first, then those that changed last. All are counted."
    ),
)


def files(entries: Iterable[tuple[Store, str]], under: str, *, page: str = "") -> Section:
    """The whole files.

    Args:
        entries: each a store and the key of a file in it.
        under: only files in or below this directory (resolved, absolute); "" for all.
        page: the report itself (resolved, absolute), which is left out.
    """
    section = Section("Files", "Each file that landed wrote, held against its last acknowledged write.")
    for store, key in entries:
        findings = examine(store, key, under=under, patience=PATIENCE)
        if not findings or findings[0].path == page:
            continue
        try:
            events = [_event_of(line) for line in history(store, key, findings[0].path)]
        except (OSError, LandedError) as error:  # what was found of the file is told all the same
            events = [Event(model.FAILED, "its log", f"cannot be read: {error}")]
        section.add(_timeline(findings, events))
    return section.cut()


def journals(paths: Iterable[str]) -> Section:
    """The journals, each read through and checked."""
    section = Section("Journals", "Each journal, read through: every frame, the order of its records, its joints.")
    readers = list(_readers())
    for path in paths:
        section.add(_journal(path, readers))
    return section.cut()


def report(where: str, sections: list[Section]) -> Report:
    """The report of `where`, which is as a reader would say it."""
    there = [section for section in sections if section.timelines]
    intro = INTRO if there else "landed has written nothing here."
    return Report(f"landed: {where}", intro, time(), there, [*NOTES])


def _timeline(findings: list[Finding], events: list[Event]) -> Timeline:
    for finding in findings:
        if finding.verdict == INTACT:
            events.append(Event(model.CHECKED, "this report", finding.detail, time()))
        elif finding.verdict == LOST:
            events.append(Event(model.LOST, _owner(finding), finding.detail, time()))
    worst = max(findings, key=lambda finding: (finding.bad, not finding.told))
    facts = [("next", finding.hint) for finding in findings if finding.hint]
    said = "; ".join(f"{finding.verdict}: {finding.detail}" for finding in findings)
    return Timeline(worst.path, _verdict(worst), said, events, facts=facts)


def _verdict(finding: Finding) -> str:
    return BAD if finding.bad else GOOD if finding.verdict == INTACT else DOUBT


def _owner(finding: Finding) -> str:
    return str(finding.write.owner) if finding.write is not None else "this report"


def _event_of(line: Line) -> Event:
    size = f"{line.write.size} bytes" if line.write is not None and line.write.digest else "a delete"
    over = f" over {line.over}" if line.over else ", the first"
    wanted = line.over or "no file"
    kind, what = {
        WRITTEN: (model.LANDED, f"version {line.version}, {size}{over}"),
        NOT_LANDED: (model.FAILED, f"version {line.version}, {size}: the old state counts"),
        BEGUN: (model.FAILED, f"version {line.version}, {size}: it has no end yet"),
        NOT_BEGUN: (
            model.REFUSED,
            f"expected {wanted}, found {line.version or 'no file'}; nothing was written",
        ),
        OUTSIDE_CHANGE: (model.OUTSIDE, f"left {line.version}"),
    }[line.outcome]
    who = str(line.owner) if line.owner is not None else "something else"
    return Event(kind, who, what, line.at)


def _journal(path: str, readers: list[tuple[str, Reader]]) -> Timeline:
    try:
        found = inspection.examine(path)
    except (LandedError, OSError) as error:
        what = error.what if isinstance(error, LandedError) else error.strerror or str(error)
        return Timeline(_name_of(path), DOUBT, f"{UNREADABLE}: {what}", facts=[("in", path)])
    finding = judge_journal(found)
    records = sum(segment.records for segment in found.segments)
    size = sum(segment.size for segment in found.segments)
    segments = count(len(found.segments), "segment")
    facts = [
        ("in", path),
        ("holds", f"{count(records, 'record')} up to number {found.tail}, {count(size, 'byte')} in {segments}"),
    ]
    if found.claim.held:
        facts.append(("owned by", str(found.claim.holder or "a program that does not say who it is")))
    if finding.hint:
        facts.append(("next", finding.hint))
    events: list[Event] = []
    for package, read in readers:
        try:
            told = read(path)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the journal was read and judged
            facts.append((package, f"cannot tell who put what: {type(error).__name__}: {error}"))
            continue
        if told is not None:
            events = told
            facts.append(("kept by", package))
            break
    left_out = max(0, len(events) - EVENTS_SHOWN)
    events += [Event(model.FAILED, "a crash", f"left a tail that nobody was told of: {tail}") for tail in found.tails]
    events += [Event(model.LOST, "this report", str(damage), time()) for damage in found.damage]
    if not found.damage:
        events.append(Event(model.CHECKED, "this report", finding.detail, time()))
    said = f"{finding.verdict}: {finding.detail}"
    return Timeline(_name_of(path), _verdict(finding), said, events[left_out:], left_out, facts)


def _readers() -> Iterator[tuple[str, Reader]]:
    from importlib.metadata import entry_points

    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            yield entry.name, entry.load()
        except Exception as error:  # noqa: BLE001 - a package that cannot be loaded takes no report with it
            yield entry.name, _failing(error)


def _failing(error: Exception) -> Reader:
    def read(_journal: str) -> list[Event] | None:
        raise error

    return read


def _name_of(path: str) -> str:
    """A journal's name: its own, where it is one of many that are named by hashes, else its directory."""
    try:
        with open(os.path.join(path, NAME), "rb") as file:
            return f"{os.fsdecode(file.read(NAME_LIMIT))} in {os.path.dirname(path)}"
    except OSError:
        return path
