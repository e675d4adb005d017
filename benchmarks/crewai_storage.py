"""CrewAI's memory on landed beside its own: ``python benchmarks/crewai_storage.py [--dir DIR] [--json FILE]``.

LanceDB as CrewAI sets it up, which flushes nothing; `LandedStorage` durable. The same records, of 384 dimensions, and
the same questions to both, in turns. ``--million`` measures a million records as well, which takes 5 GB and minutes;
with ``--sizes ''`` alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import frame
import numpy as np
from frame import Contender, Device, Progress, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "OTEL_SDK_DISABLED": "true",
}
warnings.simplefilter("ignore")

from crewai.memory.types import MemoryRecord  # noqa: E402 - after what it reads from the environment

DIMENSION = 384
SCOPES = 50
TEAM = "/company/team/7"
USERS = 100
BATCH = 2000
"""Records that are saved at once when a store is filled."""
TEXT = "The customer asked for the blue one, in two pieces, to be delivered before the end of the month. " * 2
MILLION = 1_000_000
ROUNDS = 40
LANCE, LANDED = "LanceDB", "landed"
WORKERS = 4
SECONDS = 4.0
"""That the processes save for."""


def open_store(name: str, directory: str) -> Any:
    if name == LANDED:
        from crewai_landed import LandedStorage

        return LandedStorage(directory)
    from crewai.memory.storage.lancedb_storage import LanceDBStorage

    return LanceDBStorage(directory)


class Maker:
    """Records like those of an agent's memory, with random directions as embeddings."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._number = 0

    def vector(self) -> list[float]:
        vector = self._random.standard_normal(DIMENSION, dtype=np.float32)
        return (vector / np.linalg.norm(vector)).tolist()

    def record(self) -> MemoryRecord:
        self._number += 1
        return MemoryRecord(
            content=f"{self._number}: {TEXT}",
            scope=f"/company/team/{self._number % SCOPES}",
            categories=["orders", f"kind {self._number % 7}"],
            metadata={"user": f"u{self._number % USERS}"},
            embedding=self.vector(),
        )

    def records(self, count: int) -> Iterator[MemoryRecord]:
        return (self.record() for _ in range(count))

    def batches(self, count: int) -> Iterator[list[MemoryRecord]]:
        for start in range(0, count, BATCH):
            yield list(self.records(min(BATCH, count - start)))


def fill(stores: dict[str, Any], count: int) -> None:
    progress = Progress(f"filling with {count:,} records", -(-count // BATCH))
    for batch in Maker(count).batches(count):
        for store in stores.values():
            store.save(batch)
        progress.step()


def fill_raw(store: Any, count: int) -> None:
    """As `fill`, in a tenth of the time: the journal's records of such memories, without CrewAI's objects."""
    from crewai_landed.records import MEMORY, as_json, joined
    from landed import Record

    random, maker = np.random.default_rng(count), Maker(count)
    fields = maker.record().model_dump(mode="json", exclude={"id", "embedding"})
    progress = Progress(f"filling with {count:,} records", -(-count // BATCH))
    for start in range(0, count, BATCH):
        vectors = random.standard_normal((min(BATCH, count - start), DIMENSION), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        batch = []
        for number, vector in enumerate(vectors, start):
            text = as_json({**fields, "content": f"{number}: {TEXT}", "scope": f"/company/team/{number % SCOPES}"})
            batch.append(Record(joined(text, vector.tobytes()), str(uuid4()).encode(), MEMORY))
        store._opened().write(batch)
        progress.step()


class Comparison:
    """Both stores, filled alike."""

    def __init__(self, directory: str, count: int, names: tuple[str, ...] = (LANCE, LANDED)) -> None:
        self.count = count
        self.homes = {name: os.path.join(directory, f"{name}-{count}") for name in names}
        self.stores = {name: open_store(name, home) for name, home in self.homes.items()}
        fill(self.stores, count)
        self.maker = Maker(1)

    def run(
        self, what: str, call: Callable[[Any, Any], object], argument: Callable[[], object], rounds: int, device: Device
    ) -> dict[str, frame.Sample]:
        arguments: dict[int, object] = {}

        def contender(name: str, store: Any) -> Contender:
            return Contender(name, lambda number: call(store, arguments[number]))

        for number in range(-frame.WARM_UP, rounds):
            arguments[number] = argument()
        contenders = [contender(name, store) for name, store in self.stores.items()]
        return frame.measure(f"{what}, {self.count:,} records", contenders, rounds, device)

    def remove(self) -> None:
        self.stores.clear()
        for home in self.homes.values():
            shutil.rmtree(home, ignore_errors=True)


def report_calls(report: Report, comparison: Comparison, rounds: int, device: Device) -> None:
    """The single calls, at 10,000 records."""
    maker, ours = comparison.maker, comparison.stores[LANDED]
    known = [record.id for record in ours.list_records(limit=200)]
    other = [record.id for record in comparison.stores[LANCE].list_records(limit=200)]
    assert len(set(known) & set(other)) > 0
    rows: list[tuple[str, float, Callable[[Any, Any], object], Callable[[], object]]] = [
        ("save one record", 0.5, lambda store, made: store.save([made]), maker.record),
        ("save 100 records", 0.5, lambda store, made: store.save(made), lambda: [maker.record() for _ in range(100)]),
        (
            "search in a scope",
            1.0,
            lambda store, query: store.search(query, scope_prefix="/company/team/7"),
            maker.vector,
        ),
        (
            "search by metadata",
            1.0,
            lambda store, query: store.search(query, metadata_filter={"user": "u7"}),
            maker.vector,
        ),
        ("get", 1.0, lambda store, name: store.get_record(name), lambda: known[0]),
        ("list 200", 1.0, lambda store, _: store.list_records(), lambda: None),
        ("count", 1.0, lambda store, _: store.count(), lambda: None),
        ("list scopes", 1.0, lambda store, _: store.list_scopes("/company/team"), lambda: None),
    ]
    for what, limit, call, argument in rows:
        compare(report, comparison, what, limit, call, argument, rounds, device)


def compare(
    report: Report,
    comparison: Comparison,
    what: str,
    limit: float,
    call: Callable[[Any, Any], object],
    argument: Callable[[], object],
    rounds: int,
    device: Device,
) -> None:
    samples = comparison.run(what, call, argument, rounds, device)
    report.samples(f"{what}, {comparison.count:,} records", samples, LANCE)
    report.require(
        f"{what}, {comparison.count:,}: over LanceDB's", limit, samples[LANDED].median / samples[LANCE].median
    )


# Whole processes.

COLD = """
import sys, time
sys.path.insert(0, sys.argv[1])
started = time.perf_counter()
import crewai_storage
store = crewai_storage.open_store(sys.argv[2], sys.argv[3])
made = time.perf_counter()
found = store.search(crewai_storage.Maker(7).vector())
print(len(found), time.perf_counter() - started, time.perf_counter() - made)
"""
SAVER = """
import sys, time
sys.path.insert(0, sys.argv[1])
import crewai_storage
store, maker = crewai_storage.open_store(sys.argv[2], sys.argv[3]), crewai_storage.Maker(int(sys.argv[4]))
store.count()
made = list(maker.records(20000))
print("ready", flush=True)
end = float(sys.stdin.readline())
saved = 0
while time.time() < end:
    store.save([made[saved]])
    saved += 1
print(saved)
"""
RESIDENT = """
import ctypes, gc, json, sys
sys.path.insert(0, sys.argv[1])
import crewai_storage
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
def held():
    # What was freed and is kept for reuse belongs to nobody; of that CrewAI's import leaves more than half a matrix.
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)
    return resident()
store = crewai_storage.open_store("landed", sys.argv[2] + "-none")
store.search(crewai_storage.Maker(7).vector())
before = held()
store = crewai_storage.open_store("landed", sys.argv[2])
store.search(crewai_storage.Maker(7).vector())
grown, kept, table = resident() - before, held() - before, store._opened()._table
print(json.dumps([len(table), grown, kept, table.dimension * 4 * len(table), sum(map(len, table._texts))]))
"""


def program(source: str, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "ignore", "-c", source, os.path.dirname(os.path.abspath(__file__)), *arguments]


def report_cold(report: Report, comparison: Comparison, rounds: int) -> None:
    samples = {name: frame.Sample(name) for name in comparison.homes}
    searches: dict[str, list[float]] = {name: [] for name in comparison.homes}
    progress = Progress("cold processes", rounds * len(samples))
    for _ in range(rounds):
        for name, home in comparison.homes.items():
            ran = subprocess.run(program(COLD, name, home), capture_output=True, text=True, check=True)
            found, seconds, search = ran.stdout.split()
            assert int(found) == 10
            samples[name].seconds.append(float(seconds))
            searches[name].append(float(search))
            progress.step()
    report.samples(f"Cold process until the first search, {comparison.count:,} records", samples, LANCE)
    rows: list[list[frame.Cell]] = [[name, f"{min(values) * 1e3:.0f}"] for name, values in searches.items()]
    report.table("Of that, opening and searching, after all imports", ["", "least ms"], rows)
    ratio = samples[LANDED].median / samples[LANCE].median
    report.require(f"cold process, {comparison.count:,}: over LanceDB's", 1.0, ratio)


def report_processes(report: Report, directory: str) -> None:
    rates = {}
    for name in (LANCE, LANDED):
        home = os.path.join(directory, f"{name}-processes")
        open_store(name, home).save([Maker(0).record()])
        workers = [
            subprocess.Popen(program(SAVER, name, home, str(number)), stdin=-1, stdout=-1, text=True)
            for number in range(1, WORKERS + 1)
        ]
        progress = Progress(f"{WORKERS} processes save: {name}", 2)
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        progress.step()
        end = time.time() + SECONDS
        saved = [int(worker.communicate(f"{end}\n")[0]) for worker in workers]
        progress.step()
        found = open_store(name, home).count()
        if found != sum(saved) + 1:
            raise RuntimeError(f"{name}: {sum(saved) + 1} saved, {found} found")
        rates[name] = sum(saved) / SECONDS
    rows: list[list[frame.Cell]] = [[name, rate, f"{rate / rates[LANCE]:.2f}"] for name, rate in rates.items()]
    report.table(f"{WORKERS} processes save one record at a time", ["", "a second", "over LanceDB"], rows)
    ratio = rates[LANDED] / rates[LANCE]
    report.require(f"{WORKERS} processes saving: rate over LanceDB's", 2.0, ratio, at_least=True)


def report_memory(report: Report, comparison: Comparison) -> None:
    ran = subprocess.run(program(RESIDENT, comparison.homes[LANDED]), capture_output=True, text=True, check=True)
    count, grown, held, matrix, records = json.loads(ran.stdout)
    least = (held - records) / matrix
    megabytes: list[frame.Cell] = [each / 1e6 for each in (grown, held, matrix, records)]
    rows: list[list[frame.Cell]] = [
        [f"{count:,}", *megabytes, f"{held / (matrix + records):.2f}", f"{least:.2f}"],
    ]
    header = ["records", "grown MB", "held MB", "matrix MB", "records MB", "over both", "without records over matrix"]
    notes = ["Grown: with what is free again, but kept for reuse. Held: without."]
    report.table("Memory of a process that has loaded all, above one that has loaded nothing", header, rows, notes)
    report.require(f"memory, {count:,}: without the records, over the matrix", 1.3, least)


def report_million(report: Report, directory: str, rounds: int, device: Device) -> None:
    comparison = Comparison(directory, 0, (LANDED,))
    comparison.count = MILLION
    fill_raw(comparison.stores[LANDED], MILLION)
    maker = comparison.maker
    for what, call in (
        ("search", lambda store, query: store.search(query)),
        ("search in a scope", lambda store, query: store.search(query, scope_prefix=TEAM)),
        ("save one record", lambda store, _: store.save([maker.record()])),
    ):
        samples = comparison.run(what, call, maker.vector, rounds, device)
        report.samples(f"{what}, 1,000,000 records", samples, LANDED)
    report_memory(report, comparison)
    comparison.remove()


def main() -> None:
    parser = frame.arguments(__doc__ or "")
    parser.add_argument("--million", action="store_true", help="measure a million records too, without LanceDB")
    parser.add_argument("--sizes", default="1000,10000,100000", help="how many records to search among; none if empty")
    options = parser.parse_args()
    rounds = ROUNDS // 2 if options.quick else ROUNDS
    with frame.scratch(options) as directory:
        device = Device(directory)
        report = Report("CrewAI's memory: landed beside LanceDB", directory)
        for count in map(int, filter(None, options.sizes.split(","))):
            comparison = Comparison(directory, count)
            maker = comparison.maker
            compare(
                report,
                comparison,
                "search",
                0.2,
                lambda store, query: store.search(query),
                maker.vector,
                rounds,
                device,
            )
            if count == 10_000:
                report_cold(report, comparison, 1 if options.quick else 3)
                report_calls(report, comparison, rounds, device)
            if count == 100_000:
                report_memory(report, comparison)
            comparison.remove()
        if options.sizes:
            report_processes(report, directory)
        if options.million:
            report_million(report, directory, rounds, device)
        report.close(options.json)


if __name__ == "__main__":
    main()
