"""What figures depend on besides what is measured: the disk, and how the interpreter is built."""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

BLOCK = 4096
FLUSHES = 100
PIECE = 16 << 10
"""Zeros written at once: what one write brought, Linux caches in one folio, and larger ones make each flush dearer."""
ADDITIONS = 1_000_000


def file_system(directory: str) -> str:
    """The type of the file system under `directory`, "" where the platform does not say."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    place, found, kind = Path(os.path.realpath(directory)), Path(), ""
    for line in lines:  # by path: the devices of btrfs are not those of its files
        mount, _, source = line.partition(" - ")
        point = Path(mount.split(" ")[4].replace("\\040", " "))
        if place.is_relative_to(point) and len(point.parts) >= len(found.parts):  # a later mount covers an earlier one
            found, kind = point, source.split(" ")[0]
    return kind


def journal(directory: str) -> bool | None:
    """Whether the file system under `directory` has a journal; None where that is not asked, or nobody says."""
    kind = file_system(directory)
    if kind == "xfs":  # always
        return True
    if kind != "ext4":
        return None
    device = os.stat(directory).st_dev
    name = Path(os.path.realpath(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")).name
    if any(Path("/proc/fs/jbd2").glob(f"{name}-*")):
        return True
    try:
        options = Path(f"/proc/fs/ext4/{name}/options").read_text(encoding="utf-8").split()
    except OSError:
        return None
    return any(option.startswith("data=") for option in options)


def flush_us(directory: str) -> float:
    """What a flush of one block takes, written over zeros that are there: the median, in microseconds."""
    path = os.path.join(directory, "flushed")
    flush = getattr(os, "fdatasync", os.fsync)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        while os.fstat(fd).st_size < FLUSHES * BLOCK:
            os.write(fd, bytes(PIECE))
        os.fsync(fd)
        times = []
        for number in range(FLUSHES):
            os.pwrite(fd, number.to_bytes(1, "big") * BLOCK, number * BLOCK)
            started = time.perf_counter()
            flush(fd)
            times.append(time.perf_counter() - started)
    finally:
        os.close(fd)
        os.unlink(path)
    return statistics.median(times) * 1e6


def interpreter() -> str:
    """Whose build this Python is, as far as it says itself."""
    if sys.base_prefix == "/usr":
        whose = "the system's own"
        with contextlib.suppress(OSError):
            whose = f"{platform.freedesktop_os_release()['PRETTY_NAME']}'s own"
    else:  # a distribution may optimise by profile without saying so here
        said = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
        whose = f"configured {'with' if said else 'without'} --enable-optimizations"
    return f"{whose}, {platform.python_compiler()}"


def additions_ms() -> float:
    """What a loop of a million additions takes, the least of five: how fast plain Python is here, in milliseconds."""
    least = float("inf")
    for _ in range(5):
        total = 0
        started = time.perf_counter()
        for number in range(ADDITIONS):
            total += number
        least = min(least, time.perf_counter() - started)
    return least * 1e3


def in_words(about: dict[str, Any]) -> str:
    """The lines under a report's title."""
    kind = about["file_system"] or "unknown file system"
    kept = {True: " with a journal", False: " without a journal", None: ""}[about["journal"]]
    return (
        f"{about['platform']}, {about['cores']} cores, load {about['load']}\n"
        f"Python {about['python']}, {about['python_build']}; "
        f"a loop of a million additions takes {about['additions_ms']:.0f} ms\n"
        f"{kind}{kept} at {about['directory']}; a flush takes {about['flush_us']:,.0f} us: one block, over zeros"
    )
