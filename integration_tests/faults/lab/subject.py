"""A process that runs a workload: ``python -m lab.subject WORKLOAD DIRECTORY MARKS SEED STEPS``.

Marks go to the file MARKS, each in one write. Ends with status 3 and the error on standard output when an operation
raises an error of landed's.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from random import Random

from lab import workloads

REFUSED = 3


def main() -> None:
    name, directory, marks, seed, steps = sys.argv[1:]
    fd = os.open(marks, os.O_WRONLY | os.O_APPEND)

    def say(mark: workloads.Mark) -> None:
        os.write(fd, json.dumps(mark).encode() + b"\n")

    workloads.load(name).run(Path(directory), say, Random(seed), int(steps))


if __name__ == "__main__":
    main()
