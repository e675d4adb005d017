"""One writer of a soak: ``python -m lab.soaker WORKLOAD ROOT SEED``, until ROOT/stop is there.

ROOT/era names the directory to work in. The writer says in ROOT/at/WORKLOAD which era it is in, so that whoever began a
new one knows when the old one is at rest.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from random import Random

from lab import workloads

STEPS = 6
"""Between two looks at the era; the stores are opened and closed as often."""


def main() -> None:
    name, root_, seed = sys.argv[1:]
    root, chance = Path(root_), Random(seed)
    work = workloads.load(name)
    while not (root / "stop").exists():
        era = (root / "era").read_text()
        os.environ["LANDED_STATE_DIR"] = str(root / era / "state")
        marks = os.open(root / era / f"{name}.marks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        (root / "at" / name).write_text(era)

        def say(mark: workloads.Mark, marks: int = marks) -> None:
            os.write(marks, json.dumps(mark).encode() + b"\n")

        work.run(root / era / "work", say, chance, STEPS)
        os.close(marks)


if __name__ == "__main__":
    main()
