"""LandedSaver beside its peers, on one disk, in one run: ``python benchmarks/langgraph_savers.py [--json FILE]``.

Graphs of 100 super-steps, single puts, long histories, cold opens, many processes, many async runs, and the disk; ends
with where the time goes, and with what is required of landed, as a ratio to SqliteSaver, and what was measured.

What is not flushed is shown and never compared: InMemorySaver keeps nothing, objectstorage survives no power cut.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import operator
import os
import random
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypedDict

import frame
from frame import Contender, Device, Progress, Report, Sample
from langgraph.graph import START, StateGraph
from savers import KIB, KINDS, SYNC, AsyncLanded, AsyncSqlite, Kind, Landed, Memory, Sqlite, Thread, installed, thread

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    Change: TypeAlias = Callable[[int], dict[str, Any]]

STEPS = 100
"""Super-steps of a graph: 102 puts and 101 put_writes."""
LONG = 10_000
"""Checkpoints of a long history; `SHORT` of a short one."""
SHORT = 10
PROCESSES = 4
SLICE = 1.5
"""Seconds that all processes write together, before the other saver's turn."""
RUNS = 64
"""Async runs at once, each of `RUN_STEPS` super-steps."""
RUN_STEPS = 10


# Graphs.


class Work(TypedDict):
    count: int
    data: str
    log: Annotated[list[str], operator.add]


def looping(saver: BaseCheckpointSaver | None, steps: int, change: Change) -> CompiledStateGraph:
    """A graph that goes round `steps` times; each time the state gets what `change` gives."""

    def step(state: Work) -> dict[str, Any]:
        return {"count": state["count"] + 1, **change(state["count"])}

    builder = StateGraph(Work)
    builder.add_node("step", step)
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", lambda state: "step" if state["count"] < steps else "__end__")
    return builder.compile(checkpointer=saver)


def kilobyte(number: int) -> dict[str, Any]:
    return {"data": f"{number:08}" * (KIB // 8)}


def nothing(_: int) -> dict[str, Any]:
    return {}


def line(_: int) -> dict[str, Any]:
    return {"log": [os.urandom(KIB // 2).hex()]}


class Graphs:
    """A graph on one saver; each run is a thread of its own."""

    def __init__(self, kind: Kind | None, change: Change, data: str, steps: int) -> None:
        self._kind = kind
        self._graph = looping(kind.saver if kind else None, steps, change)
        self._input = {"count": 0, "data": data, "log": []}
        self._options = {"recursion_limit": 2 * steps}

    def run(self, name: str, durability: str) -> None:
        config = {**thread(name), **self._options}
        if self._kind is not None and self._kind.asynchronous:
            self._kind.run(self.arun(name, durability))
        elif self._kind is None:
            self._graph.invoke(self._input, self._options)
        else:
            self._graph.invoke(self._input, config, durability=durability)

    async def arun(self, name: str, durability: str) -> None:
        await self._graph.ainvoke(self._input, {**thread(name), **self._options}, durability=durability)


class Crew:
    """Processes that write to one store, each to a thread of its own, for a slice of time, and wait for the next."""

    def __init__(self, kind: type[Kind], place: str) -> None:
        command = [sys.executable, __file__, "--write", kind.__name__, place]
        self._processes = [
            subprocess.Popen([*command, f"{number}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for number in range(PROCESSES)
        ]
        for process in self._processes:
            assert process.stdout is not None
            process.stdout.readline()  # it is ready

    def slice(self) -> list[float]:
        """The seconds of each pair of all processes."""
        start = time.time() + 0.1
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{start}\n")
            process.stdin.flush()
        told = [process.stdout.readline() for process in self._processes if process.stdout is not None]
        return [seconds for line in told for seconds in json.loads(line)]

    def close(self) -> None:
        for process in self._processes:
            process.communicate()  # no more orders


class Bench:
    """One run of the whole."""

    def __init__(self, options: argparse.Namespace, directory: str) -> None:
        self.directory = directory
        self.quick = 8 if options.quick else 1
        self.report = Report("Checkpoint savers of LangGraph", directory, options.flush_ms)
        self._fresh = itertools.count()

    def place(self) -> str:
        return os.path.join(self.directory, f"{next(self._fresh)}")

    def open(self, kinds: tuple[type[Kind], ...]) -> list[Kind]:
        return [kind(self.place()) for kind in installed(kinds)]

    def rounds(self, number: int) -> int:
        return max(3, number // self.quick)

    # Graphs of 100 super-steps.

    def graphs(self) -> None:
        opened = self.open(KINDS)
        bare = Graphs(None, kilobyte, "", STEPS)
        for durability in ("sync", "async", "exit"):
            contenders = [Contender("no checkpointer", lambda _: bare.run("", ""))]
            for kind in opened:
                graph = Graphs(kind, kilobyte, "", STEPS)
                contenders.append(Contender(kind.name, self._run_of(graph, durability), kind.settle))
            device = Device(self.directory)
            title = f'{STEPS} super-steps, 1 KB state, durability="{durability}"'
            samples = frame.measure(title, contenders, self.rounds(10), device)
            self.report.samples(title, samples, Sqlite.name)
            if durability == "sync":
                self._parts(samples)
            for limit in {"sync": [0.75], "async": [0.8]}.get(durability, []):
                self._ratio(f"{title}: time", limit, samples[Landed.name], samples[Sqlite.name])
                self._ratio(f"{title}, ainvoke: time", limit, samples[AsyncLanded.name], samples[AsyncSqlite.name])
        for kind in opened:
            kind.close()

    def _run_of(self, graph: Graphs, durability: str) -> Callable[[int], None]:
        return lambda _: graph.run(f"{durability}-{next(self._fresh)}", durability)

    def _parts(self, samples: dict[str, Sample]) -> None:
        """Where the time of a graph on landed goes."""
        calls = 2 * STEPS + 3
        floor = frame.measure("the floor", [Contender("floor", self._floor(calls))], self.rounds(12))["floor"].median
        bare, memory, whole = (samples[name].median for name in ("no checkpointer", Memory.name, Landed.name))
        rest = whole - memory - floor
        rows = [
            ["LangGraph without a checkpointer", bare * 1e3, bare / whole],
            [
                "checkpoints in memory: serialization, LangGraph's threads",
                (memory - bare) * 1e3,
                (memory - bare) / whole,
            ],
            [f"{calls} times one write of 1 KB and one flush", floor * 1e3, floor / whole],
            ["the rest: landed's Python, its lock, reading back", rest * 1e3, rest / whole],
            ["all", whole * 1e3, 1.0],
        ]
        self.report.table(
            'Where the time of a graph on LandedSaver goes, durability="sync"',
            ["", "ms", "part"],
            [[what, ms, f"{part:.2f}"] for what, ms, part in rows],
            ["medians; the parts are measured one by one, and their flushes compete with nothing else"],
        )

    def _floor(self, calls: int) -> Callable[[int], None]:
        """Overwrite zeros and flush, once for each put and each put_writes."""
        path = self.place()
        data = os.urandom(KIB)
        flush = getattr(os, "fdatasync", os.fsync)
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.write(fd, bytes(calls * len(data)))
        os.fsync(fd)

        def write(_: int) -> None:
            for number in range(calls):
                os.pwrite(fd, data, number * len(data))
                flush(fd)

        return write

    # Single puts.

    def puts(self) -> None:
        for size, new, limit, times in (
            (KIB, None, 0.8, 20),
            (100 * KIB, None, 0.9, 10),
            (100 * KIB, KIB, 0.9, 10),
            (1024 * KIB, None, 0.6, 2),
            (1024 * KIB, KIB, 0.6, 2),
        ):
            opened = self.open(SYNC)
            contenders, pending = [], {}
            for kind in opened:
                grown = Thread(kind.saver, "t", size, new)
                pending[kind.name] = [grown.next() for _ in range(times)]
                contenders.append(self._puts_of(kind, grown, pending, times))
            title = f"put, {size // KIB} KiB, {'all of it new' if new is None else f'{new // KIB} KiB of it new'}"
            samples = frame.measure(title, contenders, self.rounds(30))
            self.report.samples(title, samples, Sqlite.name)
            self._ratio(f"{title}: median", limit, samples[Landed.name], samples[Sqlite.name])
            for kind in opened:
                kind.close()

    def _puts_of(self, kind: Kind, grown: Thread, pending: dict[str, Any], times: int) -> Contender:
        def put(_: int) -> None:
            for arguments in pending[kind.name]:
                grown.put((grown.config, *arguments[1:]))

        def prepare() -> None:
            kind.settle()
            pending[kind.name] = [grown.next() for _ in range(times)]

        return Contender(kind.name, put, prepare, times)

    # Histories.

    def histories(self) -> None:
        long = LONG // self.quick
        kinds = tuple(kind for kind in SYNC if not kind.package)  # objectstorage lists its directory: minutes
        short_ones, long_ones = self.open(kinds), self.open(kinds)
        for opened, length in ((short_ones, SHORT), (long_ones, long)):
            for kind in opened:
                self._fill(kind, length)
        medians = {}
        for what, call in (("get latest", self._get), ("list(limit=10)", self._list)):
            for opened, length in ((short_ones, SHORT), (long_ones, long)):
                contenders = [Contender(kind.name, call(kind.saver), times=20) for kind in opened]
                title = f"{what}, {length:,} checkpoints"
                samples = frame.measure(title, contenders, self.rounds(40))
                self.report.samples(title, samples, Sqlite.name)
                medians[what, length] = samples
            self._ratio(
                f"{what}, {SHORT} checkpoints: time", 1.5, *(medians[what, SHORT][k.name] for k in (Landed, Sqlite))
            )
            ours = [medians[what, length][Landed.name] for length in (long, SHORT)]
            self._ratio(f"{what}, {long:,} checkpoints, over our own at {SHORT}: time", 2.0, *ours)
        for kind in (*short_ones, *long_ones):
            kind.close()
        self._cold([kind for kind in long_ones if kind.name != Memory.name], long)

    def _fill(self, kind: Kind, length: int) -> None:
        grown = Thread(kind.saver, "t", KIB)
        progress = Progress(f"{kind.name}: a history of {length:,}", length)
        for _ in range(length):
            grown.put(grown.next())
            grown.put_writes()
            progress.step()

    @staticmethod
    def _get(saver: BaseCheckpointSaver) -> Callable[[int], None]:
        def get(_: int) -> None:
            for _ in range(20):
                saver.get_tuple(thread("t"))

        return get

    @staticmethod
    def _list(saver: BaseCheckpointSaver) -> Callable[[int], None]:
        def listed(_: int) -> None:
            for _ in range(20):
                assert len(list(saver.list(thread("t"), limit=10))) == 10

        return listed

    def _cold(self, filled: list[Kind], length: int) -> None:
        """Open and get in a new process; the clock starts when everything is imported."""
        samples = {kind.name: Sample(kind.name) for kind in filled}
        rounds = self.rounds(8)
        progress = Progress("cold opens", rounds * len(filled))
        for _, kind in itertools.product(range(rounds), filled):
            command = [sys.executable, __file__, "--cold", type(kind).__name__, kind.directory]
            ran = subprocess.run(command, capture_output=True, text=True, check=True)
            samples[kind.name].seconds.append(float(ran.stdout))
            progress.step()
        title = f"a new process opens a thread of {length:,} checkpoints and gets the latest"
        self.report.samples(title, samples, Sqlite.name)
        self._ratio(f"{title}: time", 1.0, samples[Landed.name], samples[Sqlite.name])

    # Many processes, and many tasks.

    def processes(self) -> None:
        kinds = installed((Sqlite, *(kind for kind in SYNC if kind.package), Landed))
        crews = {kind: Crew(kind, self.place()) for kind in kinds}
        rates: dict[str, list[float]] = {kind.name: [] for kind in kinds}
        waits: dict[str, list[float]] = {kind.name: [] for kind in kinds}
        rounds = self.rounds(5)
        progress = Progress(f"{PROCESSES} processes", rounds * len(kinds))
        order = random.Random(1)
        for _ in range(rounds):
            for kind in order.sample(kinds, len(kinds)):
                done = crews[kind].slice()
                rates[kind.name].append(len(done) / SLICE)
                waits[kind.name] += done
                progress.step()
        for crew in crews.values():
            crew.close()
        p99 = {name: sorted(found)[int(len(found) * 0.99)] for name, found in waits.items()}
        rate = {name: statistics.median(found) for name, found in rates.items()}
        title = f"{PROCESSES} processes, a thread each: put of 1 KiB + put_writes"
        rows = [
            [name, rate[name], rate[name] / rate[Sqlite.name], p99[name] * 1e3, max(waits[name]) * 1e3] for name in rate
        ]
        header = ["", "pairs/s", f"over {Sqlite.name}", "p99 ms", "worst ms"]
        self.report.table(title, header, [[*row[:2], f"{row[2]:.2f}", *row[3:]] for row in rows])
        ratio = rate[Landed.name] / rate[Sqlite.name]
        self.report.require(f"{title}: pairs per second, over SqliteSaver's", 2.0, ratio, at_least=True)
        self.report.require(f"{title}: p99, over SqliteSaver's", 0.33, p99[Landed.name] / p99[Sqlite.name])

    def tasks(self) -> None:
        title = f"{RUNS} async runs at once"
        opened = self.open((AsyncSqlite, AsyncLanded))
        for what, work, puts in (
            (f'graphs of {RUN_STEPS} super-steps, durability="sync"', self._graph_runs, RUNS * (RUN_STEPS + 2)),
            ("aput of 1 KiB + aput_writes, without a graph", self._saver_runs, RUNS * RUN_STEPS),
        ):
            contenders = [Contender(kind.name, work(kind), times=puts) for kind in opened]
            samples = frame.measure(f"{title}: {what}", contenders, self.rounds(8))
            self.report.samples(f"{title}: {what}, for each put", samples, AsyncSqlite.name)
            ratio = samples[AsyncSqlite.name].median / samples[AsyncLanded.name].median
            self.report.require(f"{title}, {what}: puts per second, over AsyncSqliteSaver's", 2.0, ratio, at_least=True)
        self._stalls(opened)
        for kind in opened:
            kind.close()

    def _stalls(self, opened: list[Kind]) -> None:
        """How long the event loop stands still while 1 MB is put, as another task in it sees it."""
        rounds, longest = self.rounds(40), {}
        for kind in opened:
            worst: list[float] = []
            kind.run(self._stall(Thread(kind.saver, f"{next(self._fresh)}", 1024 * KIB), rounds, worst))
            longest[kind.name] = sorted(worst)
        title = "the longest that the event loop stands still during an aput of 1 MiB"
        rows = [[name, statistics.median(found) * 1e3, found[-1] * 1e3] for name, found in longest.items()]
        self.report.table(title, ["", "median ms", "worst ms"], rows)
        self.report.require(f"{title}: median", 20.0, statistics.median(longest[AsyncLanded.name]) * 1e3, "ms")

    @staticmethod
    async def _stall(grown: Thread, rounds: int, worst: list[float]) -> None:
        for _ in range(rounds):
            arguments = grown.next()
            put = asyncio.create_task(grown.aput(arguments))
            longest, last = 0.0, time.perf_counter()
            while not put.done():
                await asyncio.sleep(0)
                now = time.perf_counter()
                longest, last = max(longest, now - last), now
            await put
            worst.append(longest)

    def _graph_runs(self, kind: Kind) -> Callable[[int], None]:
        graph = Graphs(kind, kilobyte, "", RUN_STEPS)

        async def all_at_once() -> None:
            await asyncio.gather(*(graph.arun(f"{next(self._fresh)}", "sync") for _ in range(RUNS)))

        return lambda _: kind.run(all_at_once())

    def _saver_runs(self, kind: Kind) -> Callable[[int], None]:
        async def one() -> None:
            grown = Thread(kind.saver, f"{next(self._fresh)}", KIB)
            for _ in range(RUN_STEPS):
                await grown.aput(grown.next())
                await grown.aput_writes()

        async def all_at_once() -> None:
            await asyncio.gather(*(one() for _ in range(RUNS)))

        return lambda _: kind.run(all_at_once())

    # The disk.

    def disk(self) -> None:
        for what, change, data, limit in (
            ("a constant channel of 100 KB", nothing, "x" * 100_000, 0.05),
            ("a chat that grows 1 KB a step", line, "", 0.1),
        ):
            taken = {}
            kinds = tuple(kind for kind in SYNC if kind is not Memory)
            for kind in self.open(kinds):
                Graphs(kind, change, data, STEPS).run("t", "sync")
                kind.close()
                taken[kind.name] = kind.bytes()
            base = taken[Sqlite.name]
            title = f"the disk after {STEPS} steps, {what}"
            rows = [[name, size / KIB, f"{size / base:.3f}"] for name, size in taken.items()]
            self.report.table(title, ["", "KiB", f"over {Sqlite.name}"], rows)
            self.report.require(f"{title}: bytes, over SqliteSaver's", limit, taken[Landed.name] / base)

    def _ratio(self, what: str, limit: float, ours: Sample, theirs: Sample) -> None:
        self.report.require(
            f"{what}, over {theirs.name}'s" if theirs is not ours else what, limit, ours.median / theirs.median
        )


# In processes of their own.


def cold(kind: str, directory: str) -> None:
    gc.collect()  # what the imports left to collect is none of the saver's time
    started = time.perf_counter()
    opened = kind_of(kind)(directory)
    found = opened.saver.get_tuple(thread("t"))
    seconds = time.perf_counter() - started
    assert found is not None
    print(seconds)


def write(kind: str, directory: str, name: str) -> None:
    opened = kind_of(kind)(directory)
    grown = Thread(opened.saver, name, KIB)
    grown.put(grown.next())
    print("ready", flush=True)
    for order in sys.stdin:
        start = float(order)
        time.sleep(max(0.0, start - time.time()))
        waits = []
        while time.time() < start + SLICE:
            arguments = grown.next()
            began = time.perf_counter()
            grown.put(arguments)
            grown.put_writes()
            waits.append(time.perf_counter() - began)
        print(json.dumps(waits), flush=True)


def kind_of(name: str) -> type[Kind]:
    return next(kind for kind in KINDS if kind.__name__ == name)


PARTS = ("graphs", "puts", "histories", "processes", "tasks", "disk")
FLUSHING = ("graphs", "puts", "processes", "tasks")


def main() -> None:
    parser = frame.arguments(__doc__ or "")
    frame.add_only(parser, PARTS, FLUSHING)
    options = parser.parse_args()
    with frame.scratch(options) as directory:
        bench = Bench(options, directory)
        for part in options.only or (FLUSHING if options.flush_ms else PARTS):
            getattr(bench, part)()
        bench.report.close(options.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--cold"]:
        cold(*sys.argv[2:])
    elif sys.argv[1:2] == ["--write"]:
        write(*sys.argv[2:])
    else:
        main()
