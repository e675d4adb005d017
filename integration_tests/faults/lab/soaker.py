"""One writer of a soak: ``python -m lab.soaker WORKLOAD ROOT SEED``, until ROOT/stop is there.

ROOT/era names the era to work in. The writer says in ROOT/at/WORKLOAD which era it is in, so that whoever began a new
one knows when the old one is at rest. While ROOT/fault is there, the calls of landed that it names fail
(`lab.failing`). The writer ends with the soak, however that ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from random import Random

from lab import workloads
from lab.disk import MOUNTPOINT
from lab.failing import fail_when_told

STEPS = 6
"""Between two looks at the era; the stores are opened and closed as often."""
PAUSE = 0.05
"""Seconds after an error: what fails takes no time."""
PRELUDE = """
import sys
sys.path += [*sys.argv[1:], {tests!r}]
from lab.failing import fail_when_told
fail_when_told({fault!r})
"""
"""For the processes of the hook, which are not forked from this one."""


def main() -> None:
    name, root_, seed = sys.argv[1:]
    root, chance = Path(root_), Random(seed)
    work = workloads.load(name)
    fault = str(root / "fault")
    fail_when_told(fault)
    work.prelude = PRELUDE.format(tests=str(Path(__file__).parents[1]), fault=fault)
    soak = os.getppid()
    while not (root / "stop").exists() and os.getppid() == soak:
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
