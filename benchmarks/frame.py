"""The frame of every benchmark here: contenders side by side, tables at the terminal, figures as JSON.

A machine that does other work makes absolute times worth little and their ratios worth much, but only if both were
taken at the same moments. So every round runs each contender once, in an order shuffled by a fixed seed, in one
process, on one disk. What a contender leaves for the kernel to write later is flushed between the clocks: otherwise the
next one would pay for it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
WARM_UP = 5
"""Rounds before those that count: imports, first opens, caches."""
MEMORY = frozenset({"tmpfs", "ramfs", "hugetlbfs"})
"""File systems on which a flush means nothing."""

Cell: TypeAlias = "str | int | float | None"


@dataclass
class Contender:
    """One way to do the thing that is measured.

    Attributes:
        call: does it once; takes the number of the round, negative while warming up.
        settle: runs after each call, outside the clock: flushes what the call left behind.
        times: how often `call` does the thing, in a loop; its time and its flushes are divided by that.
    """

    name: str
    call: Callable[[int], object]
    settle: Callable[[], object] = lambda: None
    times: int = 1


@dataclass
class Sample:
    """What one contender took.

    Attributes:
        seconds: for each round.
        flushes: device flushes in each round, for doing it once; empty where they cannot be counted.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    flushes: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def p99(self) -> float:
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(len(self.seconds) * 0.99))]

    @property
    def least(self) -> float:
        return min(self.seconds)

    @property
    def flush_count(self) -> float | None:
        """The median, because others use the disk as well."""
        return statistics.median(self.flushes) if self.flushes else None


class Device:
    """Counts what the block device under a directory has done since boot, for everybody.

    The answers are None where the kernel does not say: other platforms, btrfs, overlays.
    """

    def __init__(self, directory: str) -> None:
        device = os.stat(directory).st_dev
        node = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
        with contextlib.suppress(OSError):
            node = node.resolve()
            if (node / "partition").exists():  # only the whole disk counts flushes
                node = node.parent
        self._path = node / "stat"

    def flushes(self) -> int | None:
        """Flush requests completed."""
        return self._field(15)

    def written(self) -> int | None:
        """Bytes written."""
        sectors = self._field(6)
        return None if sectors is None else sectors * 512  # of this size whatever the device's own are

    def _field(self, index: int) -> int | None:
        try:
            return int(self._path.read_text().split()[index])
        except (OSError, IndexError):
            return None


class Progress:
    """A bar on a terminal, one plain line elsewhere, both on stderr."""

    WIDTH = 30

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = max(total, 1)
        self._done = 0
        self._shown = 0.0
        self._live = sys.stderr.isatty()
        if not self._live:
            print(f"  {what} ...", file=sys.stderr, flush=True)

    def step(self) -> None:
        self._done += 1
        if not self._live or (time.monotonic() - self._shown < 0.1 and self._done < self._total):
            return
        self._shown = time.monotonic()
        filled = self.WIDTH * self._done // self._total
        bar = "#" * filled + "." * (self.WIDTH - filled)
        end = "\r\033[K" if self._done >= self._total else ""
        print(f"\r  [{bar}] {self._what}{end}", end="", file=sys.stderr, flush=True)


def measure(what: str, contenders: Sequence[Contender], rounds: int, device: Device | None = None) -> dict[str, Sample]:
    """Run every contender once a round.

    Args:
        what: for the progress bar.
        contenders: in any order; their names are distinct.
        rounds: that count; `WARM_UP` more come first.
        device: whose flushes are counted around each call.

    Returns:
        Each contender's sample, under its name.
    """
    samples = {contender.name: Sample(contender.name) for contender in contenders}
    order = random.Random(1)
    progress = Progress(what, rounds + WARM_UP)
    for number in range(-WARM_UP, rounds):
        for contender in order.sample(contenders, len(contenders)):
            before = device.flushes() if device is not None else None
            started = time.perf_counter()
            contender.call(number)
            seconds = time.perf_counter() - started
            after = device.flushes() if device is not None else None
            contender.settle()
            if number >= 0:
                samples[contender.name].seconds.append(seconds / contender.times)
                if before is not None and after is not None:
                    samples[contender.name].flushes.append((after - before) / contender.times)
        progress.step()
    return samples


class Report:
    """What was measured, as tables for people and as one object for machines."""

    def __init__(self, title: str, directory: str, flush_ms: float = 0) -> None:
        """`flush_ms` is what a flush takes on a disk that `scratch` made so slow, 0 on any other."""
        self.flush_ms = flush_ms
        self._sections: list[dict[str, object]] = []
        self._required: list[dict[str, object]] = []
        self._about: dict[str, object] = {
            "title": f"{title}, on a disk whose flush takes {flush_ms:g} ms" if flush_ms else title,
            "command": _command(),
            "directory": os.path.abspath(directory),
            "file_system": surroundings.file_system(directory),
            "journal": surroundings.journal(directory),
            "flush_us": surroundings.flush_us(directory),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "python_build": surroundings.interpreter(),
            "additions_ms": surroundings.additions_ms(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        }
        print(f"{self._about['title']}\n{surroundings.in_words(self._about)}")

    def table(
        self, title: str, header: Sequence[str], rows: Sequence[Sequence[Cell]], notes: Sequence[str] = ()
    ) -> None:
        """Print a table, first column left, the others right, and keep it."""
        kept = [dict(zip(header, row, strict=True)) for row in rows]
        self._sections.append({"title": title, "rows": kept, "notes": list(notes)})
        print(f"\n{title}\n")
        _print_table(header, [[_shown(cell) for cell in row] for row in rows])
        for note in notes:
            print(f"  {note}")
        sys.stdout.flush()

    def samples(self, title: str, samples: dict[str, Sample], baseline: str, notes: Sequence[str] = ()) -> None:
        """Print what `measure` returned, in microseconds, with each median over the baseline's."""
        base = samples[baseline].median
        rows: list[list[Cell]] = [
            [
                sample.name,
                sample.median * 1e6,
                sample.p99 * 1e6,
                sample.least * 1e6,
                f"{sample.median / base:.2f}",
                sample.flush_count,
            ]
            for sample in samples.values()
        ]
        header = ["", "median us", "p99 us", "least us", f"over {baseline}", "flushes"]
        if all(sample.flush_count is None for sample in samples.values()):
            header, rows = header[:-1], [row[:-1] for row in rows]
        self.table(title, header, rows, notes)

    def require(self, what: str, limit: float, measured: float, unit: str = "", *, at_least: bool = False) -> None:
        """Keep a requirement for the closing table: at most `limit`, or at least."""
        ok = measured >= limit if at_least else measured <= limit
        relation = ">=" if at_least else "<="
        row = {"what": what, "required": limit, "relation": relation, "measured": measured, "unit": unit, "ok": ok}
        self._required.append(row)

    def close(self, json_file: str | None) -> None:
        """Print required against measured, and write everything to `json_file` if there is one."""
        rows = [
            [
                str(row["what"]),
                f"{row['relation']} {row['required']} {row['unit']}".rstrip(),
                f"{row['measured']:.2f} {row['unit']}".rstrip(),
                "ok" if row["ok"] else "MISSED",
            ]
            for row in self._required
        ]
        print("\nRequired\n")
        _print_table(["", "required", "measured", ""], rows)
        if json_file is not None:
            whole = {**self._about, "sections": self._sections, "required": self._required}
            Path(json_file).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def _command() -> str:
    """How this run was called, without where it was told to measure and to write."""
    options, rest = [], iter(sys.argv[1:])
    for option in rest:
        if option in {"--json", "--dir"}:
            next(rest, None)
        elif not option.startswith(("--json=", "--dir=")):
            options.append(option)
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *options])


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if cell >= 100 or cell == int(cell) else f"{cell:.1f}"
    return str(cell)


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        first, *others = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        print("  " + "  ".join(cells).rstrip())


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--dir", help="measure in a new directory inside this one (default: the checkout's own disk)")
    place.add_argument(
        "--flush-ms",
        type=float,
        default=0,
        metavar="MS",
        help="measure on an ext4 of its own, in memory, whose flush takes so long; needs root on Linux, and FUSE",
    )
    parser.add_argument("--any-disk", action="store_true", help="measure even where a flush means nothing (tmpfs)")
    parser.add_argument("--quick", action="store_true", help="an eighth of the rounds: a look, not a figure to quote")
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE as well")
    return parser


def add_only(parser: argparse.ArgumentParser, parts: Iterable[str], flushing: Iterable[str]) -> None:
    """`--only` for a benchmark of several parts, of which a slower flush changes but some."""
    names = ", ".join(flushing)
    parser.add_argument(
        "--only",
        choices=list(parts),
        action="append",
        help=f"only this part; may be given several times (default: all; with --flush-ms: {names})",
    )


@contextlib.contextmanager
def scratch(options: argparse.Namespace) -> Iterator[str]:
    """A directory on the disk to measure, removed afterwards.

    Raises:
        SystemExit: it lies in memory, and ``--any-disk`` was not given; or there can be no slower disk here.
    """
    if options.flush_ms:
        with _slow_disk(options.flush_ms) as directory:
            yield directory
        return
    above = options.dir or str(ROOT)
    kind = surroundings.file_system(above)
    if kind in MEMORY and not options.any_disk:
        sys.exit(f"{above} is on {kind}, where a flush costs nothing: give --dir on a disk, or --any-disk")
    directory = tempfile.mkdtemp(prefix=".benchmark-", dir=above)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _slow_disk(flush_ms: float) -> Iterator[str]:
    sys.path.append(str(ROOT / "integration_tests" / "faults"))
    from lab import own_disk

    if missing := own_disk.why_not("ext4", flush_ms):
        print(f"no disk whose flush takes {flush_ms:g} ms: {missing}", file=sys.stderr)
        sys.exit(own_disk.UNAVAILABLE)
    with own_disk.own_disk(flush_ms=flush_ms) as directory:
        yield str(directory)
