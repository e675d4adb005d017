"""A disk that fails: EIO from any write, flush or read, once or from then on; one that fills up or turns read-only.

    python -m lab.bad_disk --fs ext4 --workload files --stride 1

For each request that a workload causes, the workload runs again on a new file system, and the device fails that request
(and, in half of the runs, every later one of its kind). Or the file system is filled up to its last blocks or inodes;
or the kernel makes it read-only before one of the operations, as it does when it finds damage. The workload goes on
after errors (`Workload.endure`), so that it finds out whether a second flush turns a failed one into a success. Then
the disk works again, the machine is started again, and what was acknowledged must be there, what was refused must not.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from lab import disk, workloads
from lab.child import in_a_child, run_module
from lab.log import FLUSH, WRITE, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.workloads import Mark, Workload

STEPS = 8
MANY = 64
"""Steps on a disk that is full: more than find place in the zeros that were written ahead."""
GUARD = 600
"""Seconds after which a series hangs."""
TIMES = (1, -1)
"""A fault that passes, and one that stays."""
REQUESTS = {"write": WRITE, "flush": FLUSH}
LEFT = 24
"""Up to so many blocks or inodes are left on a disk that is full."""
BALLAST = "ballast"
LINES = 4
"""Of what the workload heard, in a report."""
FAULTS = ("write", "flush", "read", "bytes", "inodes", "read-only", "slow flush")
SLOW = (1, 10)
"""Milliseconds of a slow flush."""
CLOSEST = 8
"""A disk that is full, or turns read-only, is tried with so many blocks or steps between two trials at most."""


class Series:
    """All trials of one kind of request with one workload. Needs `disk.own_namespace`."""

    def __init__(
        self, kind: str, name: str, request: str, stride: int, directory: Path, *, until_bad: bool = False
    ) -> None:
        self.kind, self.name, self.request, self.stride = kind, name, request, stride
        self.directory = directory
        self._until_bad = until_bad
        self._work()  # what it imports is then imported in every process that is forked from this one
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []

    def run(self) -> dict[str, Any]:
        for trial in self._trials():
            trial()
            if self._until_bad and self.counts["bad"]:
                break
        return {"counts": self.counts, "problems": self.problems}

    def _trials(self) -> Iterator[Callable[[], None]]:
        if self.request in {"bytes", "inodes"}:
            for left in range(0, LEFT, min(self.stride, CLOSEST)):
                yield partial(self._full, left)
        elif self.request == "read-only":
            for step in range(0, STEPS, min(self.stride, CLOSEST // 2)):
                yield partial(self._read_only, step)
        elif self.request == "slow flush":
            for milliseconds in SLOW:
                yield partial(self._slow, milliseconds)
        else:
            for times in TIMES:
                points = self._points()
                for point in range(0, points, self.stride):
                    words = f"{self.request} {point} of {points} fails"
                    yield partial(self._trial, words, fail=self.request, after=point, times=times)

    def _points(self) -> int:
        """How many requests of the kind a healthy run causes."""
        if self.request == "read":
            return 40  # they depend on the cache; a fault that is never met is not counted
        with self._bench() as bench:
            before = self._noted(bench)
            marks = in_a_child(lambda: self._workload(bench))
            self.problems += [f"on a good disk: {mark}" for mark in marks if "failed" in mark or isinstance(mark, str)]
            bench.unmount()
            return self._noted(bench) - before

    def _noted(self, bench: disk.Bench) -> int:
        return sum(kind == REQUESTS[self.request] for kind, _, _ in entries(bench.log))

    def _bench(self) -> disk.Bench:
        bench = disk.Bench(self.directory, disk.KINDS[self.kind])
        bench.format()
        bench.start_device()
        bench.mount(bench.disk)
        os.environ["LANDED_STATE_DIR"] = str(bench.mountpoint / "state")
        return bench

    def _workload(self, bench: disk.Bench, seed: int = 0, steps: int = STEPS) -> list[Mark]:
        marks: list[Mark] = []
        self._work().endure(bench.mountpoint, marks.append, Random(seed), steps)
        return marks

    def _work(self) -> Workload:
        return workloads.load(self.name)

    def _trial(self, words: str, **orders: Any) -> None:
        with self._bench() as bench:
            marks: list[Any] = []
            if self.request == "read":
                marks += in_a_child(lambda: self._workload(bench, seed=1))
                bench.unmount()
                bench.mount(bench.disk)  # with an empty cache
            bench.order(**orders)
            marks += in_a_child(lambda: self._workload(bench))
            failures = bench.failures()
            bench.order()
            found = self._after(bench, marks)
        if failures:
            self._count(words + f" {orders}", failures, marks, found)

    def _full(self, left: int) -> None:
        """Nearly all bytes or inodes are used up, and free again afterwards."""
        with self._bench() as bench:
            marks: list[Any] = in_a_child(lambda: self._workload(bench, seed=1))
            ballast = bench.mountpoint / BALLAST
            use_up_bytes(ballast, left) if self.request == "bytes" else use_up_inodes(ballast, left)
            marks += in_a_child(lambda: self._workload(bench, seed=2 + left, steps=MANY))
            shutil.rmtree(ballast)
            self._count(f"{left} {self.request} left", 1, marks, self._after(bench, marks))

    def _read_only(self, step: int) -> None:
        """The kernel turns the file system read-only before an operation."""
        with self._bench() as bench:

            def workload() -> list[Mark]:
                marks: list[Mark] = []

                def say(mark: Mark) -> None:
                    marks.append(mark)
                    if "begin" in mark and sum("begin" in mark for mark in marks) == step + 1:
                        bench.abort()

                self._work().endure(bench.mountpoint, say, Random(0), STEPS)
                return marks

            marks = in_a_child(workload)
            self._count(f"read-only at step {step}", 1, marks, self._after(bench, marks))

    def _slow(self, milliseconds: int) -> None:
        """Each flush takes so long: nothing fails for that."""
        with self._bench() as bench:
            bench.order(flush_ms=milliseconds)
            marks: list[Any] = in_a_child(lambda: self._workload(bench))
            bench.order()
            found = [f"refused: {mark['error']}" for mark in marks if "failed" in mark]
            self._count(f"a flush takes {milliseconds} ms", 1, marks, found + self._after(bench, marks))

    def _count(self, words: str, faults: int, marks: list[Any], found: list[str]) -> None:
        self.counts.update(trials=1, faults=faults, refused=sum("failed" in mark for mark in marks))
        self.counts["acknowledged"] += sum("acked" in mark for mark in marks)
        found = found + [mark for mark in marks if isinstance(mark, str)]
        if found:
            self.counts["bad"] += 1
            self.problems += [f"{words}: {one}" for one in found]
            self.problems += [f"{words}: heard: {mark['error']}" for mark in marks if "failed" in mark][:LINES]

    def _after(self, bench: disk.Bench, marks: list[Any]) -> list[str]:
        """The disk works again, and the machine was started again."""
        said = [mark for mark in marks if isinstance(mark, dict)]
        bench.unmount()
        bench.reboot()
        try:
            bench.mount(bench.disk)
        except OSError:
            self.counts["repaired"] += 1
            self._repair(bench)
            bench.mount(bench.disk)

        def check() -> list[str]:
            problems = self._work().examine(bench.mountpoint, said)
            if not problems:
                more: list[Mark] = []
                self._work().run(bench.mountpoint, more.append, Random("more"), 3)
                problems = self._work().examine(bench.mountpoint, said + more)
            return problems

        return in_a_child(check)

    def _repair(self, bench: disk.Bench) -> None:
        command = {
            "ext4": ["e2fsck", "-fy"],
            "xfs": ["xfs_repair", "-L", "-f"],
            "btrfs": ["btrfs", "rescue", "zero-log"],
        }
        subprocess.run([*command[self.kind], str(bench.image)], capture_output=True, timeout=GUARD, check=False)


def use_up_bytes(ballast: Path, left: int) -> None:
    """Leave `left` blocks of 4 KiB."""
    ballast.mkdir()
    with (ballast / "file").open("wb", buffering=0) as file:
        for size in (1 << 20, 64 << 10, 4096):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
        os.truncate(file.fileno(), max(0, file.tell() // 4096 - left) * 4096)
        os.fsync(file.fileno())


def use_up_inodes(ballast: Path, left: int) -> None:
    """Leave `left` inodes."""
    ballast.mkdir()
    made = []
    try:
        for number in range(1 << 20):
            made.append(ballast / str(number))
            made[-1].touch()
    except OSError:
        made.pop()
    for path in made[len(made) - left :] if left else ():
        path.unlink()


def series(
    kind: str, name: str, request: str, stride: int, path: str = "", *, until_bad: bool = False
) -> dict[str, Any]:
    """A series in a process of its own; `path` is what it imports landed from, "" for where it is installed."""
    words = ["--fs", kind, "--workload", name, "--series", request, "--stride", stride]
    words += ["--until-bad"] if until_bad else []
    ran = run_module("lab.bad_disk", *words, guard=GUARD, PYTHONPATH=path)
    if ran.returncode != 0:
        return {"counts": {}, "problems": [f"the series died: {ran.stderr[-1500:]}"]}
    return json.loads(ran.stdout)


def faults_of(kind: str) -> list[str]:
    """Which faults are tried on a file system; btrfs has no inodes to use up."""
    return [fault for fault in FAULTS if kind == "ext4" or fault in FAULTS[:3]]


def explore(kind: str, names: list[str], stride: int, path: str = "") -> dict[str, Any]:
    """All series of a file system: for each workload and request the counts, and what is wrong."""
    jobs = [(name, request) for name in names for request in faults_of(kind)]
    with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        results = list(pool.map(lambda job: series(kind, *job, stride, path), jobs))
    return {
        "table": {
            f"{kind} {name} {request}": result["counts"] for (name, request), result in zip(jobs, results, strict=True)
        },
        "problems": [
            f"{kind} {job}: {one}" for job, result in zip(jobs, results, strict=True) for one in result["problems"]
        ],
    }


COLUMNS = ("trials", "faults", "refused", "acknowledged", "repaired", "bad")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.bad_disk", description=__doc__.partition("\n")[0])
    parser.add_argument("--fs", choices=[*disk.KINDS], default="ext4")
    parser.add_argument("--workload", nargs="+", default=[*workloads.CORE])
    parser.add_argument("--stride", type=int, default=1, help="fail every n-th request")
    parser.add_argument("--until-bad", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--series", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.series:
        disk.own_namespace()
        with disk.scratch() as directory:
            done = Series(
                options.fs, options.workload[0], options.series, options.stride, directory, until_bad=options.until_bad
            ).run()
            print(json.dumps(done))
        return 0
    result = explore(options.fs, options.workload, options.stride)
    print(f"{'':24}" + "".join(f"{column:>14}" for column in COLUMNS))
    for name, row in result["table"].items():
        print(f"{name:24}" + "".join(f"{row.get(column, 0):>14}" for column in COLUMNS))
    for problem in result["problems"][:20]:
        print(problem)
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
