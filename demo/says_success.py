"""(a) The write says success, and the file is not there, or holds something else.

An agent writes, and reports what it meant to write. Meanwhile a neighbour (a sync client, a formatter, a second agent)
removes or replaces the file right after the rename. The neighbour here is a process that watches the name and acts the
moment it leads to a new file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from demo.scene import Outcome, Program, Scene, tell
from landed import VerifyFailed, verify, write

if TYPE_CHECKING:
    from collections.abc import Callable

TITLE = "The write says success, and the file is not there"
REPORTS = "anthropics/claude-code #4462, #9458, #93482"

OLD = b"step 1: todo\n"
NEW = b"step 1: done\n"
OTHER = b"something else\n"
REMOVED = "removed after the rename"
REPLACED = "other bytes put in its place"
REVERTED = "old bytes put back, with a new mtime"
CASES = (REMOVED, REPLACED, REVERTED)
BOUND = 500
"""Tries. The neighbour must act between the rename and the acknowledgement, which wait for a flush; nearly every try
does. A writer that never notices in so many does not look."""


def stock(scene: Scene, case: str) -> Outcome:
    return _replay(scene, case, Outcome("open().write(), os.replace()"), _write_and_replace)


def landed(scene: Scene, case: str) -> Outcome:
    return _replay(scene, case, Outcome("landed.write()"), write)


def _write_and_replace(path: Path, data: bytes) -> None:
    temp = path.with_name(path.name + ".tmp")
    with open(temp, "wb") as file:
        file.write(data)
    os.replace(temp, path)


def _replay(scene: Scene, case: str, outcome: Outcome, save: Callable[[Path, bytes], object]) -> Outcome:
    directory = scene.empty()
    with Program(neighbour, case) as watcher:

        def attempt(outcome: Outcome) -> None:
            path = directory / f"plan-{outcome.tries}.md"
            if case != REMOVED:
                save(path, OLD)
            watcher.say(str(path))
            watcher.hear()  # it watches
            try:
                save(path, NEW)
            except VerifyFailed as failed:
                told = f"VerifyFailed, from the write: {failed.what}"
            else:
                told = "success"
            watcher.hear()  # it has acted
            _judge(outcome, path, told, save)

        return scene.until_shown(outcome, BOUND, attempt)


def _judge(outcome: Outcome, path: Path, told: str, save: Callable[[Path, bytes], object]) -> None:
    outcome.found = _found(path)
    outcome.acknowledged = "the new bytes" if told == "success" else "nothing"
    outcome.heard = told
    if told != "success":
        outcome.shown = True  # in the writer's own stack
    elif save is write:
        # Acknowledged first, taken away after: what an agent checks before it stops has to say so.
        try:
            verify(path)
        except VerifyFailed as failed:
            outcome.heard = f"success, then VerifyFailed, from the next look: {failed.what}"
        else:
            outcome.kept = False
    else:
        outcome.shown, outcome.kept = True, False


def _found(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return "no file"
    return {OLD: "the old bytes", NEW: "the new bytes", OTHER: "other bytes"}[data]


def neighbour(case: str) -> None:
    """For each path on stdin: wait until the name leads to another file, then remove, replace or revert it."""
    for line in sys.stdin:
        path = line.rstrip("\n")
        spare = path + ".spare"
        Path(spare).write_bytes(OLD if case == REVERTED else OTHER)
        before = _inode(path)
        tell("watching")
        while _inode(path) in {before, 0}:
            pass
        if case == REMOVED:
            os.unlink(path)
        else:
            os.replace(spare, path)
        if case == REVERTED:
            os.utime(path)
        tell("acted")


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0
