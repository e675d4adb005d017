"""Opening journals: one of a million records in a fresh process, and ten thousand of a few records in one."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

from frame import Cell, Progress, Report

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDS = 1_000_000
STEP = 10_000
"""Records between two steps of the progress bar."""
SMALL = bytes(32)
OPEN_LIMIT_MS = 50.0
JOURNALS = 10_000
FEW = 5
"""Records of each short journal, of `SHORT` bytes."""
SHORT = bytes(100)
BYTES_LIMIT_KIB = 16.0
DESCRIPTORS_LIMIT = 512.0
"""Half of the usual limit of a process: the rest is the application's."""

OPEN = """
import sys, time
import landed, landed.local.log
opened = landed.Journal
if sys.argv[2]:  # as if the machine had been started again since
    landed.local.log.boot_id = lambda: sys.argv[2]
times = [time.perf_counter()]
journal = opened(sys.argv[1])
times.append(time.perf_counter())
newest = next(journal.read(newest_first=True))
times.append(time.perf_counter())
appended = journal.append([b"one more"])
times.append(time.perf_counter())
assert appended.first == newest.sequence + 1
print(*(later - earlier for earlier, later in zip(times, times[1:])))
"""
"""What a fresh process does; prints the seconds of open, newest record and first append."""


def report_cold_open(report: Report, directory: str, records: int, rounds: int) -> None:
    place = os.path.join(directory, "long")
    size = _make_long(place, records)
    runs: list[tuple[str, Callable[[int], list[float]]]] = [
        ("files in the page cache", lambda _: _open_fresh(place, "")),
        ("files dropped from the page cache", lambda _: _open_fresh(place, "", drop=True)),
        ("dropped, and the machine was restarted", lambda number: _open_fresh(place, f"boot {number}", drop=True)),
    ]
    rows: list[list[Cell]] = []
    progress = Progress("cold opens", len(runs) * rounds)
    for name, run in runs:
        times = []
        for number in range(rounds):
            times.append(run(number))
            progress.step()
        steps = [statistics.median(step) * 1e3 for step in zip(*times, strict=True)]
        total = statistics.median(map(sum, times)) * 1e3
        rows.append([name, *(f"{step:.2f}" for step in steps), f"{total:.2f}", f"{max(map(sum, times)) * 1e3:.2f}"])
        report.require(f"a journal of {records:,} records in a fresh process: {name}", OPEN_LIMIT_MS, total, "ms")
    report.table(
        f"Open a journal of {records:,} records ({size >> 20} MiB) in a fresh process: milliseconds",
        ["", "open", "newest record", "first append", "together", "longest"],
        rows,
        [f"medians of {rounds}, imports not counted; every record a frame of its own"],
    )


def _make_long(place: str, records: int) -> int:
    """A journal as `records` single appends leave it, without a flush for each; its size."""
    import landed
    from landed._fs import FileOps
    from landed.local.log import LocalLog

    class Unflushed(FileOps):
        def fdatasync(self, fd: int) -> None:
            """Nothing: nobody cuts the power."""

    with landed.Journal(place, log=LocalLog(place, fs=Unflushed())) as journal:
        progress = Progress("making the long journal", records // STEP)
        for _ in range(records // STEP):
            for _ in range(STEP):
                journal.append([SMALL])
            progress.step()
        return journal.size


def _open_fresh(place: str, boot: str, *, drop: bool = False) -> list[float]:
    if drop:
        _drop_cache(place)
    command = [sys.executable, "-c", OPEN, place, boot]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(seconds) for seconds in answer.stdout.split()]


def _drop_cache(place: str) -> None:
    for name in os.listdir(place):
        fd = os.open(os.path.join(place, name), os.O_RDONLY)
        os.fsync(fd)  # only clean pages can be dropped
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def report_short_journals(report: Report, directory: str, count: int) -> None:
    import landed

    place = os.path.join(directory, "short")
    os.mkdir(place)
    before = _descriptors()
    journals = []
    progress = Progress("making short journals", count)
    for number in range(count):
        journal = landed.Journal(os.path.join(place, str(number)))
        for _ in range(FEW):
            journal.append([SHORT])
        journals.append(journal)
        progress.step()
    open_now = _descriptors()
    kib = [_bytes_on_disk(journal.path) / 1024 for journal in journals]
    notes = [f"{FEW} records of {len(SHORT)} bytes each, appended one by one; sizes with the directory and the lock"]
    rows: list[list[Cell]] = [[f"{count:,} journals", f"{max(kib):.1f}", None]]
    report.require("a journal of a few records, on the disk", BYTES_LIMIT_KIB, max(kib), "KiB")
    if before is not None and open_now is not None:
        rows[0][2] = open_now - before
        report.require(f"descriptors that {count:,} open journals keep", DESCRIPTORS_LIMIT, open_now - before)
    report.table("Many short journals, all open in one process", ["", "KiB each", "descriptors"], rows, notes)
    for journal in journals:
        journal.close()


def _descriptors() -> int | None:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None


def _bytes_on_disk(directory: str) -> int:
    entries = [directory, *(os.path.join(directory, name) for name in os.listdir(directory))]
    return sum(os.stat(entry).st_blocks * 512 for entry in entries)
