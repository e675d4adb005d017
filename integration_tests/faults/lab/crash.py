"""The crash explorer: cut the power at any point of a workload on a real file system, and see what is left.

    python -m lab.crash --fs ext4 --workload files --states 300 --seed 1

One round makes a file system on a recording device (`lab.device`), runs a workload on it (`lab.subject`), builds images
that a power cut may leave (`lab.images`), mounts each on a loop device, and lets a process that believes in a reboot
examine it, do more work, and examine it again. From some states the recovery is recorded in turn, and the power is cut
in it. Rounds differ by seed and run in processes of their own, as many at once as there are cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from lab import disk, images, workloads
from lab.child import in_a_child, run_module

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab.images import Mark, State

ROUND = 60
"""States of one round."""
DEEP = 20
"""Of so many states, one has its recovery recorded and cut in turn."""
MORE_STEPS = 3
"""Operations after a recovery."""
GUARD = 300
"""Seconds after which a round hangs."""


class Round:
    """One recording and its states. Needs `disk.own_namespace`.

    Args:
        kind: name of the file system.
        name: of the workload.
        orders: how the device misbehaves while it is recorded.
    """

    def __init__(self, kind: str, name: str, seed: int, states: int, orders: dict[str, Any], directory: Path) -> None:
        self.orders = orders
        self.kind = disk.KINDS[kind]
        self.name = name
        self.work = workloads.load(name)
        self.seed = seed
        self.states = states
        self.chance = Random(f"{kind} {name} {seed}")
        self.bench = disk.Bench(directory, self.kind)
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        os.environ["LANDED_STATE_DIR"] = str(self.bench.mountpoint / "state")

    def run(self) -> dict[str, Any]:
        with self.bench:
            self.bench.format()
            base = images.read_blocks(self.bench.image)
            self._record()
            recording = images.Recording(base, self.bench.log, self.kind.name)
            self.counts.update(recordings=1, flushes=len(recording.flushes))
            for number, state in enumerate(recording.states(self.states, self.chance)):
                self._examine(state, [])
                if number % DEEP == DEEP - 1:
                    self._cut_again(state)
        return {"counts": self.counts, "problems": self.problems}

    def _record(self) -> None:
        bench = self.bench
        bench.start_device()
        bench.mount(bench.disk)
        bench.order(**self.orders)
        words = (self.name, bench.mountpoint, bench.marks, self.seed, self.work.steps)
        path = os.environ.get("LAB_SUBJECT_PATH", "")
        ran = run_module("lab.subject", *words, guard=GUARD, PYTHONPATH=path)
        if ran.returncode != 0:
            self.problems.append(f"the workload failed: {ran.stderr[-1500:]}")
        bench.unmount()
        bench.stop_device()

    def _mount(self, state: State, file: Path) -> bool:
        try:
            self.bench.mount(file)
        except OSError as error:
            self.counts["unmountable"] += 1
            self.problems.append(f"cannot be mounted ({error}): {state.cut}")
            return False
        return True

    def _examine(self, state: State, before: list[Mark]) -> None:
        """Mount the state, and let a fresh process examine it, work on, and examine it again."""
        self.bench.reboot()
        images.write_blocks(self.bench.image, self.kind.size, state.blocks)
        if not self._mount(state, self.bench.image):
            return
        self.counts["states"] += 1
        problems = in_a_child(lambda: self._work_on(before + state.marks, None))
        if problems:
            self.counts["bad"] += 1
            self.problems += [f"{problem} ({state.cut})" for problem in problems]
        self.bench.unmount()

    def _work_on(self, marks: list[Mark], say: workloads.Say | None) -> list[str]:
        said: list[Mark] = []

        def both(mark: Mark) -> None:
            said.append(mark)
            if say is not None:
                say(mark)

        problems = self.work.examine(self.bench.mountpoint, marks)
        if not problems:
            self.work.run(self.bench.mountpoint, both, Random(len(marks) * self.chance.random()), MORE_STEPS)
            problems = [f"after more work: {one}" for one in self.work.examine(self.bench.mountpoint, marks + said)]
        return problems

    def _cut_again(self, state: State) -> None:
        """Record the recovery from a state, and cut the power in that."""
        bench = self.bench
        bench.reboot()
        images.write_blocks(bench.image, self.kind.size, state.blocks)
        bench.start_device()
        fd = os.open(bench.marks, os.O_WRONLY | os.O_APPEND)

        def say(mark: Mark) -> None:
            os.write(fd, json.dumps(mark).encode())

        if self._mount(state, bench.disk):
            say({})
            self.problems += in_a_child(lambda: self._work_on(state.marks, say))
            bench.unmount()
        os.close(fd)
        bench.stop_device()
        again = images.Recording(state.blocks, bench.log, self.kind.name)
        for second in again.states(DEEP // 2, self.chance):
            self.counts["second cuts"] += 1
            self._examine(second._replace(cut=f"{state.cut}; in the recovery, {second.cut}"), state.marks)


def one_round(kind: str, name: str, seed: int, states: int, orders: str, path: str) -> dict[str, Any]:
    """A round in a process of its own; `path` is what it imports landed from, "" for where it is installed."""
    words = ("--round", "--fs", kind, "--workload", name, "--seed", seed, "--states", states, "--orders", orders)
    started = time.monotonic()
    ran = run_module("lab.crash", *words, guard=GUARD, LAB_SUBJECT_PATH=path)
    if ran.returncode != 0:
        return {"counts": {}, "problems": [f"round {seed} on {kind} died: {ran.stderr[-1500:]}"], "seconds": 0}
    return {**json.loads(ran.stdout), "seconds": time.monotonic() - started}


def explore(
    kinds: Iterable[str],
    names: Iterable[str],
    states: int,
    seed: int,
    *,
    path: str = "",
    orders: dict[str, Any] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Rounds until each of `kinds` has had `states` states, shared out among the workloads in `names`.

    Args:
        path: what the workload imports landed from, "" for where it is installed.
        orders: how the device misbehaves meanwhile (`lab.device.Orders`).

    Returns:
        ``table``: for each file system and workload the counts; ``problems``: what is wrong, with the round's seed.
    """
    names = list(names)
    each = -(-states // len(names))
    jobs = [
        (kind, name, seed + number, min(ROUND, each - number * ROUND))
        for kind in kinds
        for name in names
        for number in range(-(-each // ROUND))
    ]
    table: dict[str, Counter[str]] = {}
    problems: list[str] = []
    with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        results = pool.map(lambda job: one_round(*job, json.dumps(orders or {}), path), jobs)
        for done, (job, result) in enumerate(zip(jobs, results, strict=True), 1):
            row = table.setdefault(f"{job[0]} {job[1]}", Counter())
            row.update(result["counts"])
            problems += [f"{job[0]} {job[1]} seed {job[2]}: {problem}" for problem in result["problems"]]
            if progress:
                print(f"\r{done}/{len(jobs)} rounds, {len(problems)} problems", end="", file=sys.stderr, flush=True)
    if progress:
        print(file=sys.stderr)
    return {"seed": seed, "table": table, "problems": problems}


COLUMNS = ("recordings", "flushes", "states", "second cuts", "unmountable", "bad")


def show(result: dict[str, Any]) -> None:
    print(f"seed {result['seed']}")
    print(f"{'':24}" + "".join(f"{column:>13}" for column in COLUMNS))
    for name, row in result["table"].items():
        print(f"{name:24}" + "".join(f"{row.get(column, 0):>13}" for column in COLUMNS))
    for problem in result["problems"][:20]:
        print(problem)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.crash", description=__doc__.partition("\n")[0])
    parser.add_argument("--fs", nargs="+", choices=[*disk.KINDS], default=[*disk.KINDS])
    parser.add_argument("--workload", nargs="+", default=workloads.CORE)
    parser.add_argument("--states", type=int, default=1000, help="for each file system")
    parser.add_argument("--seed", type=int, default=None, help="of the first round; drawn and printed by default")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--orders", default="{}", help='how the device misbehaves, as JSON: {"flush_ms": 10}')
    parser.add_argument("--round", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    seed = Random().randrange(1_000_000) if options.seed is None else options.seed
    if options.round:
        disk.own_namespace()
        orders = json.loads(options.orders)
        with disk.scratch() as directory:
            done = Round(options.fs[0], options.workload[0], seed, options.states, orders, directory).run()
            print(json.dumps(done))
        return 0
    skipped = {kind: reason for kind in options.fs if (reason := disk.why_not(kind))}
    for kind, reason in skipped.items():
        print(f"{kind} is left out: {reason}", file=sys.stderr)
    kinds = [kind for kind in options.fs if kind not in skipped]
    result = explore(
        kinds,
        options.workload,
        options.states,
        seed,
        orders=json.loads(options.orders),
        progress=sys.stderr.isatty() and not options.json,
    )
    if options.json:
        print(json.dumps(result))
    else:
        show(result)
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
