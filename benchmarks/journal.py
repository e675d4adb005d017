"""The journal beside its peers, on one disk, in one run: ``python benchmarks/journal.py [--dir DIR | --flush-ms MS]``.

Measures durable appends of 1 KiB by one and by many writers, what each costs over its one write and one flush, and
opening long journals and many short ones; ends with what is required of landed and what was measured.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import statistics
import threading
import time
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import frame
from crew import Crew
from frame import Cell, Contender, Device, Progress, Report
from openings import JOURNALS, RECORDS, report_cold_open, report_short_journals
from stores import PIECE, REGION, STORES, Floor, Journal, SQLite, Store, installed, not_installed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from crew import Slice

SIZE = 1024
"""Bytes of a record."""
ROUNDS = 5
"""Slices of each contender that count, in every scene."""
PAIR_ROUNDS, PAIR_TIMES = 200, 20
"""Turns of the two that the required ratio is of, and appends in each."""
PIECE_ROUNDS = 1000
OVERHEAD_LIMIT = 1.4
"""An append over the floor, one writer."""
BYTES_LIMIT = 2.5
"""KiB written to the device for an append of 1 KiB."""


@dataclass(frozen=True)
class Scene:
    """Who appends at once, and what is required of landed there.

    Attributes:
        seconds: of a slice.
        rate: at least so many times SQLite's.
        p99: at most so many times SQLite's; None for no requirement.
        shares: the largest over the smallest at most; None for no requirement.
    """

    label: str
    processes: int
    threads: int
    seconds: float
    rate: float
    p99: float | None = None
    shares: float | None = None


SCENES = (
    Scene("1 writer", 1, 1, 1.0, rate=1.0),
    Scene("8 threads", 1, 8, 2.0, rate=2.0, p99=0.1),
    Scene("8 processes", 8, 1, 2.0, rate=1.3, p99=0.1, shares=2.0),
    Scene("64 threads", 1, 64, 2.0, rate=3.0),
)


@dataclass
class Score:
    """What a contender did in a scene: one value for each slice, and the waits of each worker."""

    rates: list[float] = field(default_factory=list)
    waits: defaultdict[int, array[float]] = field(default_factory=lambda: defaultdict(lambda: array("d")))
    shares: Counter[int] = field(default_factory=Counter)
    flushes: list[float] = field(default_factory=list)
    written: list[float] = field(default_factory=list)

    def add(self, done: Slice, flushes: int | None, written: int | None) -> None:
        self.rates.append(done.rate)
        for worker, waits in enumerate(done.waits):
            self.waits[worker].extend(waits)
        self.shares.update(dict(enumerate(done.shares)))
        if done.appended and flushes is not None and written is not None:
            self.flushes.append(flushes / done.appended)
            self.written.append(written / done.appended / 1024)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def wait(self, part: float) -> float:
        """Milliseconds within which this part of all appends was done."""
        return _quantile(sorted(itertools.chain(*self.waits.values())), part)

    def worst_wait(self, part: float) -> float:
        """The same for the worker that was served worst."""
        return max(_quantile(sorted(waits), part) for waits in self.waits.values() if waits)

    @property
    def inequality(self) -> float:
        return max(self.shares.values()) / max(1, min(self.shares.values()))

    @property
    def kib(self) -> float | None:
        return statistics.median(self.written) if self.written else None


def _quantile(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1e3


def report_scene(report: Report, directory: str, scene: Scene, rounds: int, seconds: float, device: Device) -> None:
    place = os.path.join(directory, scene.label.replace(" ", "-"))
    os.mkdir(place)
    scores = _play(scene, place, rounds, seconds, device)
    shutil.rmtree(place)
    peer = scores[SQLite.name]
    rows: list[list[Cell]] = [
        [
            name,
            score.rate,
            f"{score.rate / peer.rate:.2f}",
            f"{score.wait(0.5):.3f}",
            f"{score.wait(0.99):.3f}",
            f"{score.worst_wait(0.99):.3f}",
            f"{score.wait(1.0):.1f}",
            f"1:{score.inequality:.2f}",
            f"{statistics.median(score.flushes):.2f}" if score.flushes else None,
            f"{score.kib:.2f}" if score.kib is not None else None,
        ]
        for name, score in scores.items()
    ]
    report.table(
        f"Durable appends of {SIZE} bytes, {scene.label}",
        ["", "a second", "over SQLite", "p50 ms", "p99 ms", "worst p99", "longest ms", "shares", "flushes", "KiB"],
        rows,
        [
            f"{rounds} slices of {seconds:g} s each, in turns; rates: the median slice; shares: least to most",
            "worst p99: of the writer that was served worst; one that starves has few appends, and hardly shows in p99",
            "flushes, KiB: of the device for one append, the median slice, with what others did meanwhile",
            *not_installed(),
        ],
    )
    _require(report, scene, scores[Journal.name], peer)


def _require(report: Report, scene: Scene, ours: Score, peer: Score) -> None:
    report.require(f"{scene.label}: rate over SQLite's", scene.rate, ours.rate / peer.rate, at_least=True)
    if scene.p99 is not None:
        report.require(f"{scene.label}: p99 over SQLite's", scene.p99, ours.wait(0.99) / peer.wait(0.99))
        worst = ours.worst_wait(0.99) / peer.worst_wait(0.99)
        report.require(f"{scene.label}: p99 of the writer served worst over SQLite's", scene.p99, worst)
    if scene.shares is not None:
        report.require(f"{scene.label}: largest share over the smallest", scene.shares, ours.inequality)
    if ours.kib is not None and not report.flush_ms:  # a slower flush changes nothing about it
        report.require(f"{scene.label}: written to the device for an append", BYTES_LIMIT, ours.kib, "KiB")


def _play(scene: Scene, place: str, rounds: int, seconds: float, device: Device) -> dict[str, Score]:
    """Let the contenders take turns by slices, the first round for warming up; every append must be there at the end.

    Raises:
        RuntimeError: a store has fewer or more records than were acknowledged.
    """
    kinds = installed()
    homes = {kind.name: os.path.join(place, kind.__name__) for kind in kinds}
    scores = {kind.name: Score() for kind in kinds}
    acknowledged: Counter[str] = Counter()
    crews = {kind.name: Crew(kind, homes[kind.name], scene.processes, scene.threads, SIZE) for kind in kinds}
    order = random.Random(1)
    progress = Progress(scene.label, (rounds + 1) * len(kinds))
    for number in range(-1, rounds):
        for name in order.sample(list(crews), len(crews)):
            done, flushes, written = _counted(device, crews[name], seconds)
            acknowledged[name] += done.appended
            if number >= 0:
                scores[name].add(done, flushes, written)
            progress.step()
    for crew in crews.values():
        crew.close()
    for kind in kinds:
        count = kind.count(homes[kind.name])
        if count is not None and count != acknowledged[kind.name]:
            raise RuntimeError(f"{kind.name}: {acknowledged[kind.name]} acknowledged, {count} found")
    return scores


def _counted(device: Device, crew: Crew, seconds: float) -> tuple[Slice, int | None, int | None]:
    """A slice with what the device did for it, also what it left for the kernel to write later."""
    os.sync()
    before = device.flushes(), device.written()
    done = crew.run(seconds)
    flushes = device.flushes()  # sync has its own
    os.sync()
    written = device.written()
    if flushes is None or written is None or before[0] is None or before[1] is None:
        return done, None, None
    return done, flushes - before[0], written - before[1]


def report_overhead(report: Report, directory: str, rounds: int, device: Device) -> None:
    """The ratio that is required, in a loop: the two alone, in one process."""
    contenders = []
    for kind in (Floor, Journal):
        place = os.path.join(directory, f"pair-{kind.__name__}")
        kind.prepare(place)
        contenders.append(Contender(kind.name, _appending(kind, place, PAIR_TIMES), times=PAIR_TIMES))
    samples = frame.measure("appends by one writer, landed and the floor", contenders, rounds, device)
    title = f"Append {SIZE} bytes, one writer: landed and the same write and flush alone"
    report.samples(title, samples, Floor.name, [f"in turns of {PAIR_TIMES} appends in a loop, for one of them"])
    ours, floor = samples[Journal.name], samples[Floor.name]
    report.require("an append over pwrite + fdatasync", OVERHEAD_LIMIT, ours.median / floor.median)
    if ours.flush_count is not None:
        report.require("device flushes for an append, 1 writer, the median", 1.0, ours.flush_count)


def report_pieces(report: Report, directory: str, rounds: int, device: Device) -> None:
    """Why segments are filled with zeros in small pieces: Linux caches in one folio what one write brought."""
    pieces = (4 << 10, PIECE, 256 << 10, REGION)
    contenders = [
        Contender(f"{piece >> 10} KiB", _overwriting(os.path.join(directory, f"zeros-{piece}"), piece))
        for piece in pieces
    ]
    samples = frame.measure("overwriting zeros", contenders, rounds, device)
    title = f"pwrite of {SIZE} bytes over zeros and fdatasync, by the size of the writes that made the zeros"
    report.samples(title, samples, contenders[0].name)


def _overwriting(path: str, piece: int) -> Callable[[int], object]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(REGION // piece):
        os.write(fd, bytes(piece))
    os.fsync(fd)
    data = bytes(range(256)) * (SIZE // 256)

    def write(number: int) -> None:
        os.pwrite(fd, data, number * SIZE % REGION)
        os.fdatasync(fd)

    return write


def _appending(kind: type[Store], place: str, times: int) -> Callable[[int], None]:
    append = kind(place, 0).writer()
    written = 0
    while kind is Journal and written < 2 * REGION:  # until its segments have the size that they keep
        append(bytes(REGION // 4))
        written += REGION // 4
    data = bytes(range(256)) * (SIZE // 256)

    def loop(_: int) -> None:
        for _ in range(times):
            append(data)

    return loop


def report_calls(report: Report, directory: str, appends: int) -> None:
    """What an append asks of the system: every call, counted at the one object that makes them."""
    counts = {
        threads: _count_calls(os.path.join(directory, f"calls-{threads}"), threads, appends) for threads in (1, 8, 64)
    }
    names = sorted(set().union(*counts.values()), key=lambda name: -counts[1][name])
    rows: list[list[Cell]] = [
        [name, *(f"{counts[threads][name]:.3f}" for threads in counts)]
        for name in names
        if any(counts[threads][name] >= 0.0005 for threads in counts)
    ]
    report.table(
        f"System calls for an append of {SIZE} bytes, threads of one process",
        ["", *(f"{threads} thread{'s' * (threads > 1)}" for threads in counts)],
        rows,
        ["with rolls to new segments, of which each flushes the old one, the new one, and the directory"],
    )
    report.require("flush calls for an append, 1 writer", 1.01, counts[1]["fdatasync"] + counts[1]["fsync"])


def _count_calls(place: str, threads: int, appends: int) -> defaultdict[str, float]:
    """Calls of each kind for one append."""
    import landed
    from landed._fs import FileOps
    from landed.local.log import LocalLog

    calls: Counter[str] = Counter()

    class Counting(FileOps):
        def __getattribute__(self, name: str) -> object:
            calls[name] += 1
            return super().__getattribute__(name)

    journal = landed.Journal(place, log=LocalLog(place, fs=Counting()))
    for _ in range(8):  # until its segments have the size that they keep
        journal.append([bytes(REGION // 4)])
    calls.clear()
    each = appends // threads

    def work() -> None:
        for _ in range(each):
            journal.append([bytes(SIZE)])

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    journal.close()
    return defaultdict(float, {name: count / (each * threads) for name, count in calls.items()})


PARTS = ("others", "overhead", "pieces", "calls", "appends", "opens")
FLUSHING = ("overhead", "appends")


def main() -> None:
    options = _options()
    scale = 8 if options.quick else 1
    with frame.scratch(options) as directory:
        os.environ["LANDED_STATE_DIR"] = os.path.join(directory, "state")
        report = Report("landed: the journal beside its peers", directory, options.flush_ms)
        print("\nHow each appends\n")
        for store in STORES:
            print(f"  {store.name}: {store.how}")
        device = Device(directory)
        parts = options.only or (FLUSHING if options.flush_ms else PARTS)
        if "others" in parts:
            _report_others(report, device, 8.0 / scale)
        if "overhead" in parts:
            report_overhead(report, directory, PAIR_ROUNDS // scale, device)
        if "pieces" in parts:
            report_pieces(report, directory, PIECE_ROUNDS // scale, device)
        if "calls" in parts:
            report_calls(report, directory, 3200 // scale)
        for scene in SCENES if "appends" in parts else ():
            report_scene(report, directory, scene, max(2, ROUNDS // scale), scene.seconds / min(scale, 4), device)
        if "opens" in parts:
            report_cold_open(report, directory, RECORDS // scale, 15 // min(scale, 5))
            report_short_journals(report, directory, JOURNALS // scale)
        report.close(options.json)


def _report_others(report: Report, device: Device, seconds: float) -> None:
    """What the device does for others while nothing is measured: so much is in the counts below."""
    before = device.flushes(), device.written()
    time.sleep(seconds)
    after = device.flushes(), device.written()
    cells: list[Cell] = []
    for earlier, later in zip(before, after, strict=True):
        cells.append(None if earlier is None or later is None else (later - earlier) / seconds)
    report.table("The device, left alone", ["", "flushes a second", "bytes a second"], [["others", *cells]])


def _options() -> argparse.Namespace:
    assert __doc__ is not None
    parser = frame.arguments(__doc__.split("\n")[0])
    frame.add_only(parser, PARTS, FLUSHING)
    return parser.parse_args()


if __name__ == "__main__":
    main()
