"""(c) Two processes share a data directory.

Either both are meant to be there, and each overwrites what the other was told is stored: both read a store, add a note
and write it back. Renaming a finished file into place keeps the store whole, and loses notes all the same.

Or one of them is a second copy that nobody meant to start. Both do the same work, every record is there twice, and the
directory grows until somebody looks.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from demo.scene import Outcome, Program, Scene, tell
from landed import Claimed, Entry, Full, Journal, Record, edit
from landed.report import model
from landed.report.model import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TITLE = "Two processes on one data directory"
REPORTS = "thedotmack/claude-mem #3012, #2638; MemPalace #344"

WRITERS = ("left", "right")
COPIES = ("the first copy", "the second copy")
NOTES = 40
"""That each of them adds."""
TOGETHER = f"each adds {NOTES} notes to one store"
SECOND_COPY = "a second copy is started on it"
CASES = (TOGETHER, SECOND_COPY)
BOUND = 20
"""Tries. Two processes at the same file collide within the first few notes; a second copy doubles every record."""

TASKS = 20
FEWEST, MORE = 6, 2
"""Updates of the first task, and how many more each next one has; the last of each counts. The first tasks end early:
what compaction drops of them, nothing puts back."""
TEXT = "the user prefers tea to coffee, " * 8
DRAWN_TOGETHER = 20
"""Updates that the timeline shows as one event."""
LIMIT = 64 << 10
"""Bytes that the data directory may take: less than half of what all updates take, and many times the last of each."""


def stock(scene: Scene, case: str) -> Outcome:
    if case == SECOND_COPY:
        return scene.until_shown(Outcome('open("a").write()'), BOUND, lambda outcome: _two_stock_copies(scene, outcome))
    return scene.until_shown(Outcome("read, change, os.replace()"), BOUND, _attempt(scene, stock_writer))


def landed(scene: Scene, case: str) -> Outcome:
    if case == SECOND_COPY:
        means = "Journal.claim(), max_bytes"
        return scene.until_shown(Outcome(means), 1, lambda outcome: _two_landed_copies(scene, outcome))
    return scene.until_shown(Outcome("landed.edit()"), 1, _attempt(scene, landed_writer))


# Both are meant to be there.


def _attempt(scene: Scene, writer: Callable[[str, str], None]) -> Callable[[Outcome], None]:
    def attempt(outcome: Outcome) -> None:
        store = scene.empty() / "notes.json"
        told = _race(writer, store)
        acknowledged = [note for _, note, _ in told]
        stored = json.loads(store.read_bytes()) if store.exists() else []
        lost = set(acknowledged) - set(stored)
        phantom = set(stored) - set(acknowledged)
        outcome.acknowledged = f"{len(acknowledged)} notes"
        outcome.found = f"{len(stored)} notes, {len(lost)} lost"
        outcome.kept = not lost and not phantom and len(stored) == len(acknowledged) == NOTES * len(WRITERS)
        outcome.heard = "each waited for the other" if outcome.kept else "nothing"
        outcome.shown = bool(lost) if writer is stock_writer else outcome.kept
        outcome.artifact = store.name
        kind = model.TOLD if writer is stock_writer else model.LANDED
        outcome.events = [Event(model.LOST if note in lost else kind, who, note, at) for at, note, who in told]

    return attempt


def _race(writer: Callable[[str, str], None], store: Path) -> list[tuple[float, str, str]]:
    """Run both writers at once; what was acknowledged, when, and to whom."""
    left, right = (Program(writer, str(store), name) for name in WRITERS)
    with left, right:
        for program in (left, right):
            program.hear()  # it is ready
        for program in (left, right):
            program.say("go")
        for program in (left, right):
            for _ in program.lines():
                pass
    return [
        (at, note, name)
        for name, program in zip(WRITERS, (left, right), strict=True)
        for at, note in program.told
        if note != "ready"
    ]


def stock_writer(store: str, name: str) -> None:
    path, temp = Path(store), Path(f"{store}.{name}")

    def add(note: str) -> None:
        notes = json.loads(path.read_bytes()) if path.exists() else []
        temp.write_text(json.dumps([*notes, note]), encoding="utf-8")
        os.replace(temp, path)

    _add_notes(name, add)


def landed_writer(store: str, name: str) -> None:
    def add(note: str) -> None:
        with edit(store) as doc:
            doc.text = json.dumps([*json.loads(doc.text or "[]"), note])

    _add_notes(name, add)


def _add_notes(name: str, add: Callable[[str], None]) -> None:
    tell("ready")
    sys.stdin.readline()
    for number in range(NOTES):
        note = f"{name}-{number}"
        add(note)
        tell(note)


# One of them is a second copy.


def _two_stock_copies(scene: Scene, outcome: Outcome) -> None:
    store = scene.empty() / "updates.jsonl"
    first, second = (Program(stock_copy, str(store)) for _ in range(2))
    with first, second:
        for program in (first, second):
            program.say("go")
        told = [line for program in (first, second) for line in program.lines()]
    stored = [json.loads(line)["update"] for line in store.read_bytes().splitlines()]
    doubled = len(stored) - len(set(stored))
    outcome.acknowledged = f"{len(told)} updates, by two"
    outcome.found = f"{len(stored)} updates, {doubled} twice, {_kib(store.stat().st_size)}"
    outcome.heard = "nothing"
    outcome.shown = doubled > 0
    outcome.kept = not outcome.shown
    outcome.artifact = store.name
    outcome.events = [
        event
        for copy, program in zip(COPIES, (first, second), strict=True)
        for event in _grouped(model.TOLD, copy, program.told)
    ]


def _two_landed_copies(scene: Scene, outcome: Outcome) -> None:
    store = scene.empty() / "updates"
    with Program(landed_copy, str(store)) as first, Program(landed_copy, str(store)) as second:
        # Whichever claims first; the other one must hear who that is.
        answers = {program.pid: program.hear() for program in (first, second)}
        owners = [pid for pid, answer in answers.items() if answer == "owner"]
        refused = [answer for answer in answers.values() if answer != "owner"]
        for program in (first, second):
            program.say("go")
        told = [line for program in (first, second) for line in program.lines()]
    stored = [line.removeprefix("stored ") for line in told if line.startswith("stored ")]
    full = [line for line in told if line.startswith("full ")]
    with Journal(store) as journal:
        found = [entry.data.decode().split()[0] for entry in journal.read()]
        size = journal.size
    named = len(owners) == 1 and refused == [f"Claimed {owners[0]}"]
    outcome.acknowledged = f"{len(stored)} updates"
    doubled = len(found) - len(set(found))
    outcome.found = f"the last of each of {len(_last_of_each(found))} tasks, {doubled} twice, {_kib(size)}"
    refusal = "Claimed, naming the first" if named else " ".join(refused) or "nothing"
    outcome.heard = f"the second copy: {refusal}; the first: Full {len(full)} times, went on compacted"
    outcome.artifact = store.name
    outcome.events = [
        event
        for copy, program in zip(COPIES, (first, second), strict=True)
        for event in _events_of_copy(copy, program.told)
    ]
    outcome.shown = named and len(full) > 0
    outcome.kept = (
        named
        and size <= LIMIT
        and all(line == "full intact" for line in full)
        and stored == list(_updates())
        and not doubled
        and set(found) <= set(stored)
        and _last_of_each(found) == _last_of_each(stored)
    )


def _events_of_copy(copy: str, told: list[tuple[float, str]]) -> Iterator[Event]:
    yield from _grouped(model.LANDED, copy, [(at, words) for at, words in told if words.startswith("stored ")])
    for at, words in told:
        word, _, what = words.partition(" ")
        if word == "full":
            yield Event(model.REFUSED, copy, f"Full, the journal is {what}; compacted it, and went on", at)
        elif word == "Claimed":
            yield Event(model.REFUSED, copy, f"Claimed, by pid {what}", at)


def _grouped(kind: str, copy: str, told: list[tuple[float, str]]) -> Iterator[Event]:
    for start in range(0, len(told), DRAWN_TOGETHER):
        some = told[start : start + DRAWN_TOGETHER]
        yield Event(kind, copy, f"{len(some)} updates", some[-1][0])


def _kib(size: int) -> str:
    return f"{size / 1024:.0f} KiB"


def _last_of_each(updates: list[str]) -> dict[str, str]:
    """The last update of each task."""
    return {update.partition(".")[0]: update for update in updates}


def stock_copy(store: str) -> None:
    sys.stdin.readline()
    for update in _updates():
        with open(store, "a", encoding="utf-8") as file:
            file.write(json.dumps({"update": update, "text": TEXT}) + "\n")
        tell(update)


def landed_copy(store: str) -> None:
    try:
        journal = Journal(store, max_bytes=LIMIT).claim()
    except Claimed as claimed:
        tell("Claimed", (claimed.holder or "nobody").partition("pid ")[2].partition(" ")[0])
        sys.stdin.readline()
        return
    tell("owner")
    sys.stdin.readline()
    with journal:
        tail = 0
        for update in _updates():
            record = Record(f"{update} {TEXT}".encode(), key=update.partition(".")[0].encode())
            try:
                tail = journal.append([record]).tail
            except Full:
                intact = [entry.sequence for entry in journal.read()][-1:] == [tail] == [journal.tail]
                tell("full", "intact" if intact else "changed")
                _make_room(journal)
                tail = journal.append([record]).tail
            tell("stored", update)


def _make_room(journal: Journal) -> None:
    """Keep the last update of each task."""
    last = {entry.key: entry.sequence for entry in journal.read()}

    def keep(entry: Entry) -> bool:
        return last[entry.key] == entry.sequence

    journal.compact(keep)


def _updates() -> Iterator[str]:
    for number in range(FEWEST + MORE * TASKS):
        for task in range(TASKS):
            if number < FEWEST + MORE * task:
                yield f"{task}.{number}"
