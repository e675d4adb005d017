"""Processes that write to one store at once: each adds numbers, and what was acknowledged must be there.

    python -m lab.rivals --workload journal

An addition that raises an error is refused: either outcome is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from lab import workloads
from lab.child import in_a_child

HERE = Path(__file__).parent
WRITERS = 2
ADDITIONS = 200
"""Of each."""
GUARD = 120
"""Seconds after which a process hangs."""


def compete(name: str, directory: Path, first: int) -> dict[str, list[Any]]:
    """One writer's part: the numbers that were acknowledged, and the errors of the others."""
    work = workloads.load(name)
    acked: list[int] = []
    refused: list[str] = []
    work.directory, work.say, work.chance = directory, lambda _: None, Random(first)
    work.start()
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(first, first + ADDITIONS):
        try:
            work.add(number)
        except work.errors as error:
            refused.append(f"{type(error).__name__}: {error}"[:200])
        else:
            acked.append(number)
    return {"acked": acked, "refused": refused}


def explore(name: str) -> dict[str, Any]:
    """Let `WRITERS` processes add to one store: how many additions were acknowledged, refused, and lost."""
    with tempfile.TemporaryDirectory(prefix="landed-rivals-") as place:
        directory = Path(place, "work")
        directory.mkdir()
        os.environ["LANDED_STATE_DIR"] = os.path.join(place, "state")
        command = [sys.executable, "-m", "lab.rivals", "--workload", name, "--directory", str(directory)]
        rivals = [
            subprocess.Popen(
                [*command, "--first", str(number * ADDITIONS)],
                cwd=HERE.parent,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(WRITERS)
        ]
        try:
            ready = [_line_of(rival) for rival in rivals]  # frameworks take seconds to import
            for rival in rivals:
                _tell(rival)
            said = [_line_of(rival) for rival in rivals]
        finally:
            ends = [rival.communicate(timeout=GUARD) for rival in rivals]  # they end when all are done
        if not all(ready) or not all(said):
            raise RuntimeError(f"{name}: a writer died: {[error[-800:] for _, error in ends]}")
        parts = [json.loads(line) for line in said]
        acked = {number for part in parts for number in part["acked"]}
        found = in_a_child(lambda: _added(name, directory))
    lost = [number for number in acked if number not in found]
    refusals = [error for part in parts for error in part["refused"]]
    return {
        "acknowledged": len(acked),
        "refused": len(refusals),
        "lost": len(lost),
        "errors": sorted(set(refusals))[:4],
    }


def _line_of(rival: subprocess.Popen[str]) -> str:
    assert rival.stdout is not None
    return rival.stdout.readline()


def _tell(rival: subprocess.Popen[str]) -> None:
    assert rival.stdin is not None
    rival.stdin.write("go\n")
    rival.stdin.flush()


def _added(name: str, directory: Path) -> list[int]:
    work = workloads.load(name)
    work.directory, work.say, work.chance = directory, lambda _: None, Random(0)
    work.start()
    return work.added()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.rivals", description=__doc__.partition("\n")[0])
    parser.add_argument("--workload", nargs="+", default=[*workloads.CORE])
    for hidden, kind in (("--directory", Path), ("--first", int)):
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.directory:
        print(json.dumps(compete(options.workload[0], options.directory, options.first)), flush=True)
        sys.stdin.read()
        return 0
    for name in options.workload:
        print(name, explore(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
