"""Locks: what an uncontended one costs, and how four processes share a contended one."""

from __future__ import annotations

import multiprocessing
import os
import time
from typing import TYPE_CHECKING

from frame import Cell, Contender, Report, measure

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.queues import SimpleQueue

LIMIT_US = 10.0
BATCH = 50
"""Acquisitions between two looks at the clock."""
PROCESSES = 4
HOLD = 0.001
"""Seconds that each holder keeps the contended lock."""


def _landed(path: str) -> Callable[[], object]:
    from landed.lock import Lock

    lock = Lock(path)

    def once() -> None:
        lock.acquire()
        lock.release()

    return once


def _filelock(path: str) -> Callable[[], object]:
    from filelock import FileLock

    lock = FileLock(path)

    def once() -> None:
        lock.acquire()
        lock.release()

    return once


def _flock(path: str) -> Callable[[], object]:
    import fcntl

    fd = os.open(path, os.O_RDWR | os.O_CREAT)

    def once() -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(fd, fcntl.LOCK_UN)

    return once


LOCKS = {"landed.lock.Lock": _landed, "filelock.FileLock": _filelock, "flock, nothing else": _flock}


def report_locks(report: Report, directory: str, rounds: int, seconds: float) -> None:
    contenders = []
    for name, make in LOCKS.items():
        once = make(os.path.join(directory, f"{make.__name__}.lock"))
        contenders.append(Contender(name, lambda _, once=once: [once() for _ in range(BATCH)], times=BATCH))
    samples = measure("uncontended locks", contenders, rounds)
    report.samples("Uncontended lock: acquire and release", samples, "landed.lock.Lock")
    report.require("uncontended acquire and release", LIMIT_US, samples["landed.lock.Lock"].median * 1e6, "us")

    rows: list[list[Cell]] = []
    for name in ("landed.lock.Lock", "filelock.FileLock"):
        counts, waits, took = _contend(name, os.path.join(directory, f"contended-{len(rows)}.lock"), seconds)
        shares = "/".join(str(count) for count in sorted(counts, reverse=True))
        rows.append([name, sum(counts) / took, shares, max(waits) * 1e3])
    report.table(
        f"Contended lock: {PROCESSES} processes, each holding it for {HOLD * 1e3:.0f} ms, for {seconds:g} s",
        ["", "a second", "turns of each", "longest wait ms"],
        rows,
    )


def _contend(name: str, path: str, seconds: float) -> tuple[list[int], list[float], float]:
    """Turns and longest wait of each process, and the seconds from the first turn to the last."""
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    start = time.monotonic() + 2.0  # one clock for all processes; by then each has imported what it needs
    arguments = (name, path, start, start + seconds, answers)
    processes = [context.Process(target=_take_turns, args=arguments) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    turns, longest, ends = zip(*(answers.get() for _ in processes), strict=True)
    return list(turns), list(longest), max(ends) - start


def _take_turns(name: str, path: str, start: float, end: float, answers: SimpleQueue[tuple[int, float, float]]) -> None:
    if name == "landed.lock.Lock":
        from landed.lock import Lock as Kind
    else:
        from filelock import FileLock as Kind
    lock = Kind(path)
    turns, longest = 0, 0.0
    time.sleep(max(0.0, start - time.monotonic()))
    while (asked := time.monotonic()) < end:
        lock.acquire(timeout=60)
        longest = max(longest, time.monotonic() - asked)
        time.sleep(HOLD)
        lock.release()
        turns += 1
    answers.put((turns, longest, time.monotonic()))
