"""One writer of a soak: ``python -m lab.soaker WORKLOAD ROOT SEED``, until ROOT/stop is there.

ROOT/era names the era to work in. The writer says in ROOT/at/WORKLOAD which era it is in, so that whoever began a new
one knows when the old one is at rest. While ROOT/fault is there, the calls of landed that it names fail.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

from lab import workloads
from lab.disk import MOUNTPOINT
from landed._fs import LOCAL

STEPS = 6
"""Between two looks at the era; the stores are opened and closed as often."""
PAUSE = 0.05
"""Seconds after an error: what fails takes no time."""
FAIL = 1 / 3
"""How often: the first call of an operation must not be the only one that ever fails."""
FAILING = {"flush": ("fsync", "fdatasync"), "write": ("write", "pwrite")}
"""Which file operations fail, by what a fault is called."""


def fail_when_told(fault: Path, chance: Random) -> None:
    """Let this process's file operations fail with EIO, now and then, while the file `fault` names them."""

    def failing(kind: str, name: str) -> None:
        real = getattr(LOCAL, name)

        def call(*arguments: Any) -> Any:
            try:
                told = fault.read_text()
            except FileNotFoundError:
                told = ""
            if told == kind and chance.random() < FAIL:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(*arguments)

        setattr(LOCAL, name, call)

    for kind, names in FAILING.items():
        for name in names:
            failing(kind, name)


def main() -> None:
    name, root_, seed = sys.argv[1:]
    root, chance = Path(root_), Random(seed)
    work = workloads.load(name)
    fail_when_told(root / "fault", Random(seed))
    while not (root / "stop").exists():
        era = (root / "era").read_text()
        place = root / MOUNTPOINT / era
        os.environ["LANDED_STATE_DIR"] = str(place / "state")
        marks = os.open(root / era / f"{name}.marks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        (root / "at" / name).write_text(era)

        def say(mark: workloads.Mark, marks: int = marks) -> None:
            os.write(marks, json.dumps({**mark, "at": time.monotonic()}).encode() + b"\n")
            if "failed" in mark:
                time.sleep(PAUSE)

        work.endure(place / "work", say, chance, STEPS)
        os.close(marks)


if __name__ == "__main__":
    main()
