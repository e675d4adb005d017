"""(a) The write says success, and the file is not there, or holds something else.

An agent writes, and reports what it meant to write. Meanwhile a neighbour (a sync client, a formatter, a second agent)
removes or replaces the file right after the rename. The neighbour here is a process that watches the name and acts the
moment it leads to a new file.

How long a write takes from the rename to the acknowledgement is how long a flush takes: nothing in memory, five
milliseconds on a slow drive. The landed side runs on a drive that takes two, so that the neighbour strikes within that
time on every machine.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from demo.scene import Outcome, Program, Scene, tell
from landed import Files, VerifyFailed, _fs
from landed.report import model
from landed.report.model import Event

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
FLUSH = 0.002
"""Seconds that the drive takes for each flush."""
BOUND = 100
"""Tries. The neighbour strikes between the rename and the acknowledgement unless this machine is too busy to run it; a
writer that notices nothing in so many does not look."""


class SlowDrive(_fs.FileOps):
    """The file system as it is, with slower flushes."""

    def fsync(self, fd: int) -> None:
        super().fsync(fd)
        time.sleep(FLUSH)


def stock(scene: Scene, case: str) -> Outcome:
    return _replay(scene, case, Outcome("open().write(), os.replace()"), _write_and_replace, lambda _: "success")


def landed(scene: Scene, case: str) -> Outcome:
    files = Files(SlowDrive())

    def check(path: Path) -> str:
        """What an agent looks at before it stops: acknowledged first, taken away after, must show here."""
        try:
            files.verify(path)
        except VerifyFailed as failed:
            return f"success, then VerifyFailed, from the next look: {failed.what}"
        return "success"

    return _replay(scene, case, Outcome("landed.write(), on a drive with 2 ms flushes"), files.write, check)


def _write_and_replace(path: Path, data: bytes) -> None:
    temp = path.with_name(path.name + ".tmp")
    with open(temp, "wb") as file:
        file.write(data)
    os.replace(temp, path)


def _replay(
    scene: Scene,
    case: str,
    outcome: Outcome,
    save: Callable[[Path, bytes], object],
    check: Callable[[Path], str],
) -> Outcome:
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
                at = time.time()
                outcome.acknowledged = "nothing"
                outcome.heard = f"VerifyFailed, from the write: {failed.what}"
                outcome.shown = True
                watcher.hear()  # it has acted
            else:
                at = time.time()
                outcome.acknowledged = "the new bytes"
                watcher.hear()
                outcome.heard = check(path)
                outcome.kept = outcome.heard != "success"
                outcome.shown = not outcome.kept
            outcome.found = _found(path)
            outcome.artifact = path.name
            outcome.events = [
                Event(model.OUTSIDE, "the neighbour", case, watcher.told[-1][0]),
                Event(model.FAILED if outcome.kept else model.LOST, "the writer", outcome.heard, at),
            ]

        return scene.until_shown(outcome, BOUND, attempt)


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
