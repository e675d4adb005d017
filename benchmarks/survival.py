"""What each way to write survives, tried: damage is done for real, and the table says what the caller heard.

Every trial runs in a process of its own, because it replaces functions of the os module or lowers a limit there.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import multiprocessing
import os
import posix
import re
import resource
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from contenders import Plain, Writer, installed, not_installed
from frame import Cell, Progress, Report

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.queues import SimpleQueue

OLD = b"old " * 1024
NEW = b"new " * 1024
INCREMENTS = 60
"""Of each of the two racing processes."""
ROOM = 128 * 1024
"""Bytes that a file may have in the trial of a write that fails half way."""
TRACED = "trace=fsync,fdatasync,sync_file_range,syncfs"
PATIENCE = 120
"""Seconds after which a trial counts as hung."""


def report_survival(report: Report, directory: str) -> None:
    """Try every writer that is installed."""
    trials = (_vanished, _other_bytes, _half_way)
    progress = Progress("trials", len(installed()) * (len(trials) + 2))
    rows: list[list[Cell]] = []
    for kind in installed():
        row: list[Cell] = [kind.name]
        for trial in trials:
            row.append(_tried(kind, os.path.join(directory, trial.__name__), trial))
            progress.step()
        row.append(_race(kind, os.path.join(directory, "race")))
        progress.step()
        row.append(_flushes(kind, os.path.join(directory, "traced")))
        progress.step()
        rows.append(row)
    report.table(
        "What each survives",
        ["", "vanished", "other bytes", "fails half way", "two increment", "fsync file + directory"],
        rows,
        [
            "vanished, other bytes: the file is removed, or overwritten, after the rename and before the call returns",
            f"fails half way: 256 KiB where the system stops a file at {ROOM // 1024} KiB, as a full disk does",
            f"two increment: two processes, {INCREMENTS} each; what was acknowledged and is not in the file is lost",
            "fsync: calls in one write, counted by strace; without the first a crash leaves zeros or nothing under the",
            "name, without the second it brings the old file back",
            *not_installed(),
        ],
    )


def _tried(kind: type[Writer], place: str, trial: Callable[[Writer], str]) -> str:
    os.makedirs(place, exist_ok=True)
    with kind.serve(place):
        return _in_child(_run_trial, kind, place, trial)


def _in_child(target: Callable[..., None], *args: object) -> str:
    context = multiprocessing.get_context("spawn")
    answers: SimpleQueue[str] = context.SimpleQueue()
    child = context.Process(target=target, args=(*args, answers))
    child.start()
    child.join(PATIENCE)
    if child.is_alive():
        child.kill()
        child.join()
        return "hung"
    return answers.get() if not answers.empty() else f"died ({child.exitcode})"


def _run_trial(kind: type[Writer], place: str, trial: Callable[[Writer], str], answers: SimpleQueue[str]) -> None:
    answers.put(trial(_begin(kind, place)))


def _begin(kind: type[Writer], place: str) -> Writer:
    writer = kind(place)
    writer.write(OLD)
    return writer


def _heard(write: Callable[[], object]) -> str:
    """What the caller hears: the name of the exception, or that all is well."""
    try:
        write()
    except Exception as error:  # noqa: BLE001 - which one is what is asked
        return f"raises {type(error).__name__}"
    return "reports success"


def _vanished(writer: Writer) -> str:
    _damage(writer, lambda: os.unlink(writer.path))
    heard = _heard(lambda: writer.write(NEW))
    return heard if not os.path.exists(writer.path) else "not tried: no rename was seen"


def _other_bytes(writer: Writer) -> str:
    other = b"??? " * 1024

    def overwrite() -> None:
        fd = os.open(writer.path, os.O_WRONLY)
        os.write(fd, other)
        os.close(fd)

    _damage(writer, overwrite)
    heard = _heard(lambda: writer.write(NEW))
    return heard if _held(writer) == other else "not tried: no rename was seen"


def _damage(writer: Writer, act: Callable[[], None]) -> None:
    """Do `act` once the new bytes have the name: after the rename or, where there is none, after the close."""
    if isinstance(writer, Plain):
        _after_close(writer.path, act)
        return
    for module in (os, posix):  # landed calls what os is made of
        for name in ("rename", "replace", "link"):
            setattr(module, name, _and_then(getattr(module, name), writer.path, act))


def _and_then(real: Callable[..., None], path: str, act: Callable[[], None]) -> Callable[..., None]:
    def renamed(source: str, target: str, **places: object) -> None:
        real(source, target, **places)
        if os.path.basename(target) == os.path.basename(path):
            act()

    return renamed


def _after_close(path: str, act: Callable[[], None]) -> None:
    class File(io.FileIO):
        def close(self) -> None:
            was_open = not self.closed
            super().close()
            if was_open:
                act()

    real = builtins.open
    setattr(builtins, "open", lambda name, mode="r": File(name, mode) if name == path else real(name, mode))  # noqa: B010 - a type checker would ask for every overload


def _half_way(writer: Writer) -> str:
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, resource.RLIM_INFINITY))  # Python ignores the signal
    heard = _heard(lambda: writer.write(b"new " * 65536))
    held = _held(writer)
    state = "old file intact" if held == OLD else f"{len(held)} bytes left" if held else "file empty or gone"
    return f"{heard}, {state}"


def _held(writer: Writer) -> bytes:
    with contextlib.suppress(FileNotFoundError), io.FileIO(writer.path) as file:
        return file.readall()
    return b""


# Two processes, one counter.


def _race(kind: type[Writer], place: str) -> str:
    os.makedirs(place, exist_ok=True)
    with kind.serve(place):
        writer = kind(place)
        # By plain means: agent-coherence's write() keeps a grant, and every write_cas() would wait for it in vain.
        with open(writer.path, "wb") as file:
            file.write(b"0")
        context = multiprocessing.get_context("spawn")
        answers: SimpleQueue[tuple[int, int]] = context.SimpleQueue()
        start = time.monotonic() + 2.0
        children = [context.Process(target=_increment, args=(kind, place, start, answers)) for _ in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join(PATIENCE)
        if any(child.is_alive() for child in children):
            for child in children:
                child.kill()
            return "hung"
        counts = [answers.get() for _ in children]
    acknowledged = sum(count for count, _ in counts)
    refused = sum(count for _, count in counts)
    held = _held(writer)
    found = int(held) if held.isdigit() else 0
    return f"{acknowledged - found} of {acknowledged} lost" + (f", {refused} refused" if refused else "")


def _increment(kind: type[Writer], place: str, start: float, answers: SimpleQueue[tuple[int, int]]) -> None:
    writer = kind(place)
    acknowledged = refused = 0
    time.sleep(max(0.0, start - time.monotonic()))
    for _ in range(INCREMENTS):
        try:
            writer.change(lambda data: b"%d" % (int(data) + 1))
        except Exception:  # noqa: BLE001 - any refusal is honest; only what was acknowledged must survive
            refused += 1
        else:
            acknowledged += 1
    answers.put((acknowledged, refused))


# Flushes, as the kernel sees them.


def _flushes(kind: type[Writer], place: str) -> str:
    """Calls of fsync on files and on directories in one write: those of six writes less those of one, over five."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    os.makedirs(place, exist_ok=True)
    with kind.serve(place):
        few, many = (_traced(strace, kind, place, writes) for writes in (1, 6))
    return " + ".join(f"{(many[index] - few[index]) / 5:g}" for index in (0, 1))


def _traced(strace: str, kind: type[Writer], place: str, writes: int) -> tuple[int, int]:
    output = os.path.join(place, "strace.txt")
    write = [sys.executable, os.path.abspath(__file__), kind.__name__, place, str(writes)]
    subprocess.run(
        [strace, "-f", "-qq", "-y", "-e", TRACED, "-o", output, *write],
        check=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
    )
    with open(output, encoding="utf-8", errors="replace") as file:
        paths = re.findall(r"sync\w*\(\d+<([^>]*)>", file.read())
    directories = sum(os.path.isdir(path) for path in paths)
    return len(paths) - directories, directories


def _write_only(name: str, place: str, writes: int) -> None:
    kind = next(kind for kind in installed() if kind.__name__ == name)
    writer = kind(place)
    for number in range(writes):
        writer.write(b"%8d" % number * 512)


if __name__ == "__main__":
    _write_only(sys.argv[1], sys.argv[2], int(sys.argv[3]))
