"""(c) Two processes share a data directory, and each overwrites what the other was told is stored.

Both add notes to one store: read it, add a note, write it back. Renaming a finished file into place keeps the store
whole, and loses notes all the same.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from demo.scene import Outcome, Program, Scene, tell
from landed import edit

if TYPE_CHECKING:
    from collections.abc import Callable

TITLE = "Two processes on one data directory"
REPORTS = "thedotmack/claude-mem #3012, #2638; MemPalace #344"

WRITERS = ("left", "right")
NOTES = 100
"""That each of them adds."""
CASES = (f"each adds {NOTES} notes to one store",)
BOUND = 20
"""Tries. Two processes at the same file collide within the first few notes."""


def stock(scene: Scene, _case: str) -> Outcome:
    return scene.until_shown(Outcome("read, change, os.replace()"), BOUND, _attempt(scene, stock_writer))


def landed(scene: Scene, _case: str) -> Outcome:
    return scene.until_shown(Outcome("landed.edit()"), 1, _attempt(scene, landed_writer))


def _attempt(scene: Scene, writer: Callable[[str, str], None]) -> Callable[[Outcome], None]:
    def attempt(outcome: Outcome) -> None:
        store = scene.empty() / "notes.json"
        acknowledged = _race(writer, store)
        stored = json.loads(store.read_bytes()) if store.exists() else []
        lost = set(acknowledged) - set(stored)
        phantom = set(stored) - set(acknowledged)
        outcome.acknowledged = f"{len(acknowledged)} notes"
        outcome.found = f"{len(stored)} notes, {len(lost)} lost"
        outcome.kept = not lost and not phantom and len(stored) == len(acknowledged) == NOTES * len(WRITERS)
        outcome.heard = "each waited for the other" if outcome.kept else "nothing"
        outcome.shown = bool(lost) if writer is stock_writer else outcome.kept

    return attempt


def _race(writer: Callable[[str, str], None], store: Path) -> list[str]:
    """Run both writers at once; what they acknowledged."""
    left, right = (Program(writer, str(store), name) for name in WRITERS)
    with left, right:
        for program in (left, right):
            program.hear()  # it is ready
        for program in (left, right):
            program.say("go")
        return [note for program in (left, right) for note in program.lines()]


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
