"""The core beside its peers, on one disk, in one run: ``python benchmarks/core.py [--dir DIR | --flush-ms MS]``.

Measures durable verified writes of several sizes, locks, imports, and what each way to write survives; ends with what
is required of landed and what was measured.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import frame
from contenders import WRITERS, ByHand, Landed, Writer, installed, not_installed
from frame import Contender, Device, Report
from imports import report_imports
from locks import report_locks
from survival import report_survival

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

SIZES = {"4 KiB": (4096, 200), "64 KiB": (65536, 120), "1 MiB": (1 << 20, 48)}
"""Bytes of a write, and rounds."""
PAIR_ROUNDS, PAIR_TIMES = 40, 20
"""Turns of the two that the required ratio is of, and writes in each."""
CREATE_ROUNDS = 200
LIMIT = 1.25
"""landed.write over the same system calls written by hand, for 4 KiB."""


def report_ratio(report: Report, directory: str, rounds: int, device: Device) -> None:
    """The ratio that is required, in a loop: the two alone, and first, while few inodes were freed (see `Writer`)."""
    size, _ = SIZES["4 KiB"]
    place = os.path.join(directory, "pair")
    os.mkdir(place)
    writers = (ByHand(place), Landed(place))
    contenders = [
        Contender(writer.name, _looping(_writing(writer, size), PAIR_TIMES), writer.settle, PAIR_TIMES)
        for writer in writers
    ]
    samples = frame.measure("writes of 4 KiB, landed and by hand", contenders, rounds, device)
    title = "Replace a file of 4 KiB: landed and the same system calls by hand"
    report.samples(title, samples, ByHand.name, [f"in turns of {PAIR_TIMES} writes in a loop, for one of them"])
    ratio = samples[Landed.name].median / samples[ByHand.name].median
    report.require("landed.write of 4 KiB over the same system calls by hand", LIMIT, ratio)


def report_writes(report: Report, directory: str, label: str, scale: int, device: Device) -> None:
    """Replace one file over and over, each writer its own."""
    size, rounds = SIZES[label]
    place = os.path.join(directory, label.replace(" ", ""))
    os.mkdir(place)
    with contextlib.ExitStack() as servers:
        writers = []
        for kind in installed():
            servers.enter_context(kind.serve(place))
            writers.append(kind(place))
        contenders = [Contender(writer.name, _writing(writer, size), writer.settle) for writer in writers]
        samples = frame.measure(f"writes of {label}", contenders, rounds // scale, device)
    report.samples(f"Replace a file of {label}", samples, ByHand.name, not_installed())


def _writing(writer: Writer, size: int) -> Callable[[int], object]:
    # Every round other bytes: a writer that notices that nothing changed would have nothing to do.
    return lambda number: writer.write(number.to_bytes(8, "big", signed=True) * (size // 8))


def _looping(write: Callable[[int], object], times: int) -> Callable[[int], None]:
    def loop(turn: int) -> None:
        for number in range(turn * times, (turn + 1) * times):
            write(number)

    return loop


def report_creates(report: Report, directory: str, rounds: int, device: Device) -> None:
    """A new file each time, under a name that must be free."""
    place = os.path.join(directory, "create")
    os.mkdir(place)
    contenders = [Contender(writer.name, _creating(writer)) for writer in (ByHand(place), Landed(place))]
    samples = frame.measure("creations", contenders, rounds, device)
    report.samples(
        "Create a file of 4 KiB, put-if-absent",
        samples,
        ByHand.name,
        ["by hand locks one kept file; landed makes a lock, a record and a log for every new path"],
    )


def _creating(writer: ByHand | Landed) -> Callable[[int], object]:
    kind = type(writer).__name__
    return lambda number: writer.create(f"{kind}{number}.md", number.to_bytes(8, "big", signed=True) * 512)


PARTS = ("ratio", "writes", "creates", "locks", "imports", "survival")
FLUSHING = ("ratio", "writes", "creates")


def main() -> None:
    options = _options()
    scale = 8 if options.quick else 1
    with frame.scratch(options) as directory:
        os.environ["LANDED_STATE_DIR"] = os.path.join(directory, "state")  # on the disk that is measured
        report = Report("landed: the core beside its peers", directory, options.flush_ms)
        print("\nHow each is called\n")
        for writer in WRITERS:
            print(f"  {writer.name}: {writer.how}")
        device = Device(directory)
        parts = options.only or (FLUSHING if options.flush_ms else PARTS)
        if "ratio" in parts:
            report_ratio(report, directory, max(10, PAIR_ROUNDS // scale), device)
        if "writes" in parts:
            for label in SIZES:
                report_writes(report, directory, label, scale, device)
        if "creates" in parts:
            report_creates(report, directory, CREATE_ROUNDS // scale, device)
        if "locks" in parts:
            report_locks(report, directory, 200 // scale, 4 / scale)
        if "imports" in parts:
            report_imports(report, 60 // scale)
        if "survival" in parts:
            report_survival(report, directory)
        report.close(options.json)


def _options() -> argparse.Namespace:
    assert __doc__ is not None
    parser = frame.arguments(__doc__.split("\n")[0])
    frame.add_only(parser, PARTS, FLUSHING)
    return parser.parse_args()


if __name__ == "__main__":
    main()
