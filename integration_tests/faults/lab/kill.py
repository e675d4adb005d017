"""SIGKILL at every system call of a workload: whatever was acknowledged before is there, and the next process works.

    python -m lab.kill --workload journal --stride 1

strace kills the process as it enters the call, so that the call itself does not happen. Where the calls are is found in
a recording; a run that takes another way is killed elsewhere, and judged by its own marks.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from injection import HARMLESS, STORAGE, strace, why_not

from lab import workloads
from lab.child import in_a_child, run_module

if TYPE_CHECKING:
    from lab.workloads import Mark

GUARD = 120
"""Seconds after which a process hangs."""
SEED = 3
STEPS = 12


class Victim:
    """A workload that is killed again and again, each time from an empty directory."""

    def __init__(self, name: str, path: str, root: Path) -> None:
        self.name, self.path, self.root = name, path, root

    def points(self) -> list[tuple[str, int]]:
        """The storage calls between the first mark and the end: name, and which of that name it is in its thread.

        strace counts in each thread for itself.
        """
        trace = self.root / "trace"
        self._run("points", [*strace(trace, "-y"), "-e", "trace=all"])
        counts: Counter[tuple[str, str]] = Counter()
        points, begun = [], False
        for line in trace.read_text().splitlines():
            found = re.match(r"(\d+) +(\w+)\(", line)
            if found is None:
                continue
            thread, call = found.groups()
            counts[thread, call] += 1
            begun = begun or ("/marks>" in line and '"begin' in line.replace("\\", ""))
            if begun and call not in HARMLESS and call in STORAGE and "/marks>" not in line:
                points.append((call, counts[thread, call]))
        return points

    def kill(self, point: tuple[str, int]) -> tuple[str, list[str]]:
        """Kill it there; what became of it (``killed``, ``missed``), and what is wrong afterwards."""
        call, when = point
        place = f"{call}.{when}"
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}"]
        code, marks = self._run(place, [*strace("/dev/null"), *inject])
        directory = self.root / place
        if code == 0:
            shutil.rmtree(directory)
            return "missed", []
        assert code == -signal.SIGKILL, f"{point}: it ended with {code}"
        workloads.load(self.name)  # what it imports is then imported in every process that is forked from this one
        found = in_a_child(lambda: self._after(directory / "work", marks))
        shutil.rmtree(directory)
        return "killed", [f"killed at {call} {when}: {one}" for one in found]

    def _run(self, place: str, tracer: list[str]) -> tuple[int, list[Mark]]:
        directory = self.root / place
        (directory / "work").mkdir(parents=True)
        marks = directory / "marks"
        marks.touch()
        environment = {
            "PYTHONPATH": self.path,
            "PYTHONHASHSEED": "0",
            "LANDED_STATE_DIR": str(directory / "work" / "state"),
        }
        words = (self.name, directory / "work", marks, SEED, STEPS)
        ran = run_module("lab.subject", *words, guard=GUARD, before=tracer, **environment)
        assert ran.returncode in {0, -signal.SIGKILL}, ran.stderr[-1500:]
        return ran.returncode, [json.loads(line) for line in marks.read_text().splitlines()]

    def _after(self, directory: Path, marks: list[Mark]) -> list[str]:
        os.environ["LANDED_STATE_DIR"] = str(directory / "state")
        work = workloads.load(self.name)
        problems = work.examine(directory, marks)
        if not problems:
            more: list[Mark] = []
            work.run(directory, more.append, Random("more"), 3)
            problems = work.examine(directory, marks + more)
        return problems


def explore(name: str, stride: int = 1, path: str = "", *, limit: int = 100_000) -> dict[str, Any]:
    """Kill a workload at every `stride`-th storage call, or so much more seldom that there are at most `limit`."""
    root = Path(tempfile.mkdtemp(prefix="landed-kill-"))
    try:
        victim = Victim(name, path, root)
        points = victim.points()
        stride = max(stride, -(-len(points) // limit))
        with ProcessPoolExecutor(os.cpu_count() or 2, get_context("spawn")) as pool:
            results = list(pool.map(victim.kill, points[::stride]))
    finally:
        shutil.rmtree(root)
    counts = Counter(word for word, _ in results)
    bad = [found for _, found in results if found]
    return {
        "calls": len(points),
        **{word: counts[word] for word in ("killed", "missed")},
        "bad": len(bad),
        "problems": [one for found in bad for one in found],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.kill", description=__doc__.partition("\n")[0])
    parser.add_argument("--workload", nargs="+", default=[*workloads.CORE])
    parser.add_argument("--stride", type=int, default=1, help="kill at every n-th call")
    options = parser.parse_args()
    if why_not():
        print(why_not(), file=sys.stderr)
        return 0
    bad = 0
    for name in options.workload:
        result = explore(name, options.stride)
        problems = result.pop("problems")
        print(name, result, *problems[:10], sep="\n  ")
        bad += len(problems)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
