"""What landed does beyond the machines that it was measured on: a simulation of 1,000 hosts and 100,000 threads.

    python benchmarks/scaling.py [--quick] [--seed N] [--json FILE] [--write PAGE]

Nothing here touches a store. Every request waits for as long as public figures say that such requests take, and meets
the limits that the stores publish; what is landed's own is its protocol: which requests an append makes, in which
order, when it gives up. The same seed gives the same figures. --write puts the tables into docs/explanation/scaling.md.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from frame import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

HOSTS = 1_000
THREADS = 100_000
THINK = (3.0, 20.0)
"""Seconds between two steps of a run: the median and the 99th percentile of a model's answer."""
DOUBLED = 0.002
"""Share of steps during which a second run begins on the same thread on another host: a user who sent twice."""
TIMEOUT = 30.0
"""Seconds after which landed gives up an append."""
PAUSE = (0.05, 2.0)
"""Seconds of landed's first pause before another try, and its longest; each is drawn between nothing and twice that."""
HOUR = 3600


class Latency(NamedTuple):
    """Of one request: seconds, lognormal, as the latencies of such stores are."""

    median: float
    p99: float

    def draw(self, rng: random.Random) -> float:
        return self.median * math.exp(rng.gauss(0, 1) * math.log(self.p99 / self.median) / 2.326)


@dataclass(frozen=True)
class Engine:
    """A store, as its publisher describes it.

    Attributes:
        write, read: what one request takes when nothing is in its way.
        writes, reads: requests a second that are answered; what comes above is told to slow down, or queues.
        partitions: into which names are spread; each has its own limits.
        one_object: changes a second of one object; None for no limit of its own.
        reads_back: whether the proof is a second request.
        queues: whether a request above the limit waits in line, or is refused and tried again.
        serial: seconds for which one append to a journal keeps the next one out.
        write_price, read_price: dollars for a million requests; `hour_price` for the server, whatever is asked of it.
    """

    name: str
    write: Latency
    read: Latency
    writes: float
    reads: float
    partitions: int = 1
    one_object: float | None = None
    reads_back: bool = True
    queues: bool = False
    serial: float = 0.0
    write_price: float = 0.0
    read_price: float = 0.0
    hour_price: float = 0.0


STANDARD = Latency(0.1, 0.4)
CORES = 16
SERVER_SECONDS = 350e-6
"""Of one core of the server, for an append: measured by benchmarks/engines.py's server, rounded up."""
ENGINES = (
    Engine("S3, new bucket", STANDARD, STANDARD, 3_500, 5_500, write_price=5.0, read_price=0.4),
    Engine("S3, 32 partitions", STANDARD, STANDARD, 3_500, 5_500, 32, write_price=5.0, read_price=0.4),
    Engine(
        "S3 Express One Zone",
        Latency(0.006, 0.025),
        Latency(0.005, 0.02),
        200_000,
        2_000_000,
        write_price=1.13,
        read_price=0.03,
    ),
    Engine("Azure, one account", STANDARD, STANDARD, 10_000, 10_000, one_object=500, write_price=6.5, read_price=0.5),
    Engine("Google, new bucket", STANDARD, STANDARD, 1_000, 5_000, one_object=1, write_price=5.0, read_price=0.4),
    Engine("Google, scaled up", STANDARD, STANDARD, 64_000, 320_000, one_object=1, write_price=5.0, read_price=0.4),
    Engine(
        f"PostgreSQL, {CORES} cores",
        Latency(0.0015, 0.006),
        Latency(0.0005, 0.002),
        CORES / SERVER_SECONDS,
        CORES / SERVER_SECONDS,
        reads_back=False,
        queues=True,
        serial=0.0012,
        hour_price=3.6,
    ),
)

SCALED = frozenset({"S3, 32 partitions", "Google, scaled up"})
"""What many partitions are to one journal: nothing."""


class Limit:
    """Requests a second that one partition, or one object, answers: a bucket that fills with time."""

    __slots__ = ("burst", "held", "rate", "since")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.burst = max(1.0, rate)  # of one second
        self.held = self.burst
        self.since = 0.0

    def wait(self, now: float) -> float:
        """Seconds until a request that comes now is answered; it takes its place in any case."""
        self.held = min(self.burst, self.held + (now - self.since) * self.rate) - 1
        self.since = now
        return max(0.0, -self.held / self.rate)

    def free(self, now: float) -> bool:
        """Whether a request that comes now is answered; one that is not takes no place."""
        held = min(self.burst, self.held + (now - self.since) * self.rate)
        self.since = now
        self.held = held - 1 if held >= 1 else held
        return held >= 1


@dataclass
class Outcome:
    """What a simulation saw, after the time in which it warms up."""

    appends: int = 0
    conflicts: int = 0
    failed: int = 0
    slowed: int = 0
    writes: int = 0
    reads: int = 0
    took: list[float] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        ordered = sorted(self.took)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else math.nan


class Store:
    """The engine at work: what an append to a journal takes, given everything that came before it."""

    def __init__(self, engine: Engine, rng: random.Random) -> None:
        self.engine = engine
        self.rng = rng
        self._writes = [Limit(engine.writes) for _ in range(engine.partitions)]
        self._reads = [Limit(engine.reads) for _ in range(engine.partitions)]
        self._objects: dict[int, Limit] = {}

    def write(self, journal: int, now: float) -> float | None:
        """Seconds until the answer, or None: slow down."""
        engine = self.engine
        limit = self._writes[journal % engine.partitions]
        if engine.queues:
            return limit.wait(now) + engine.write.draw(self.rng)
        if engine.one_object is not None:
            own = self._objects.get(journal)
            if own is None:
                own = self._objects[journal] = Limit(engine.one_object)
            if not own.free(now):
                return None
        return engine.write.draw(self.rng) if limit.free(now) else None

    def read(self, journal: int, now: float) -> float | None:
        limit = self._reads[journal % self.engine.partitions]
        return self.engine.read.draw(self.rng) if limit.free(now) else None


class Append:
    """One append under way, step by step: the put, then the proof; told to slow down, it pauses and asks again."""

    __slots__ = ("began", "journal", "kind", "pause", "proving", "run", "seen")

    def __init__(self, journal: int, began: float, kind: str, seen: int, run: Run) -> None:
        self.journal = journal
        self.began = began
        self.kind = kind
        self.seen = seen
        self.run = run
        self.proving = False
        self.pause = PAUSE[0]


class Run:
    """A run of a graph on a thread; `left` steps, None for as long as the simulation lasts."""

    __slots__ = ("left", "thread")

    def __init__(self, thread: int, left: int | None) -> None:
        self.thread = thread
        self.left = left


class Fleet:
    """Hosts that run graphs: a model thinks, then the step's writes and its checkpoint are appended, one after another.

    Args:
        active: threads that a run is on at any moment.
        seconds: simulated, after as many in which the fleet gets going.
    """

    def __init__(self, engine: Engine, active: int, seconds: float, seed: int) -> None:
        self.rng = random.Random(f"{seed} {engine.name} {active}")
        self.store = Store(engine, self.rng)
        self.engine = engine
        self.active = active
        self.seconds = seconds
        self.outcome = Outcome()
        self._events: list[tuple[float, int, Append | Run]] = []
        self._number = 0
        self._counted = False
        self._heads = [0] * active
        self._think = Latency(*THINK)

    def simulate(self) -> Outcome:
        warm, end = self.seconds, 2 * self.seconds
        for thread in range(self.active):
            self._at(self.rng.uniform(0, 2 * THINK[0]), Run(thread, None))
        while self._events:
            now, _, event = heapq.heappop(self._events)
            if now >= end:
                break
            self._counted = now >= warm
            if isinstance(event, Run):
                self._start(event, now)
            elif event.proving:
                self._proved(event, now)
            else:
                self._ask(event, now)
        return self.outcome

    def _at(self, when: float, event: Append | Run) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, event))

    def _start(self, run: Run, now: float) -> None:
        """The model has answered: append what the step's tasks wrote."""
        if run.left is None and self.rng.random() < DOUBLED:
            self._at(now + self.rng.uniform(0, self._think.draw(self.rng)), Run(run.thread, 1))
        self._at(now, Append(run.thread, now, "writes", self._heads[run.thread], run))

    def _ask(self, append: Append, now: float) -> None:
        """Send the put; what the fleet knows of the head decides whether it is refused."""
        outcome = self.outcome
        if self._counted:
            outcome.writes += 1
        took = self.store.write(append.journal, now)
        if took is None:
            self._slow_down(append, now)
            return
        if append.kind == "checkpoint" and self._heads[append.journal] != append.seen:
            if self._counted:  # the condition did not hold: StaleWrite, and this run ends
                outcome.conflicts += 1
            self._rest(append, now + took, ended=True)
            return
        if append.kind == "checkpoint":
            self._heads[append.journal] += 1
        append.proving = True
        append.pause = PAUSE[0]
        if self.engine.reads_back:
            self._at(now + took, append)
        else:
            self._done(append, now + took)

    def _proved(self, append: Append, now: float) -> None:
        if self._counted:
            self.outcome.reads += 1
        took = self.store.read(append.journal, now)
        if took is None:
            self._slow_down(append, now)
        else:
            self._done(append, now + took)

    def _slow_down(self, append: Append, now: float) -> None:
        if self._counted:
            self.outcome.slowed += 1
        if now - append.began > TIMEOUT:
            if self._counted:
                self.outcome.failed += 1
            self._rest(append, now, ended=True)
            return
        self._at(now + self.rng.uniform(0, 2 * append.pause), append)
        append.pause = min(PAUSE[1], 2 * append.pause)

    def _done(self, append: Append, when: float) -> None:
        if self._counted:
            self.outcome.appends += 1
            self.outcome.took.append(when - append.began)
        if append.kind == "writes":
            self._at(when, Append(append.journal, when, "checkpoint", append.seen, append.run))
        else:
            self._rest(append, when, ended=False)

    def _rest(self, append: Append, when: float, *, ended: bool) -> None:
        """Until the next step; a second run that has ended is gone, a first is begun again by its user."""
        run = append.run
        if run.left is None or not ended:
            if run.left is not None:
                run.left -= 1
                if run.left <= 0:
                    return
            self._at(when + self._think.draw(self.rng), run)


def one_journal(engine: Engine, writers: int, seconds: float, seed: int) -> Outcome:
    """Hosts that all append to one journal, each as fast as it can: only one put at a time finds the head it knows."""
    rng = random.Random(f"{seed} {engine.name} one journal {writers}")
    store = Store(engine, rng)
    outcome = Outcome()
    head, busy_until = 0, 0.0
    # Of a writer: when it is next heard of, what it waits for, when its append began, the head it knows, its pause.
    events = [(rng.uniform(0, 0.1), number, "put", 0.0, 0, PAUSE[0]) for number in range(writers)]
    events = [(when, number, state, when, seen, pause) for when, number, state, _, seen, pause in events]
    heapq.heapify(events)
    while events:
        now, number, state, began, seen, pause = heapq.heappop(events)
        if now >= seconds:
            break
        if now - began > TIMEOUT and state == "put":
            outcome.failed += 1
            began = now
        if state == "put" and engine.queues:  # the server keeps the others out, and hands each the head in turn
            busy_until = max(now, busy_until) + engine.serial
            end = busy_until + engine.write.draw(rng)
            outcome.writes += 1
            outcome.appends += 1
            outcome.took.append(end - began)
            heapq.heappush(events, (end, number, "put", end, 0, PAUSE[0]))
        elif state == "put":
            outcome.writes += 1
            took = store.write(0, now)
            if took is None:
                outcome.slowed += 1
                again = now + rng.uniform(0, 2 * pause)
                heapq.heappush(events, (again, number, "put", began, seen, min(PAUSE[1], 2 * pause)))
            else:
                heapq.heappush(events, (now + took / 2, number, "decided", began, seen, pause))
        elif state == "decided":  # half-way: the store compares the head with the one that the writer knows
            landed = seen == head
            head += landed
            answer = now + engine.write.draw(rng) / 2
            heapq.heappush(events, (answer, number, "proof" if landed else "lost", began, head, pause))
        else:  # the proof of what landed, or a look at the head that was in the way
            outcome.reads += 1
            took = store.read(0, now) or pause
            if state == "proof":
                outcome.appends += 1
                outcome.took.append(now + took - began)
                heapq.heappush(events, (now + took, number, "put", now + took, head, PAUSE[0]))
            else:
                outcome.conflicts += 1  # at once, on the head that was in the way
                heapq.heappush(events, (now + took, number, "put", began, head, PAUSE[0]))
    return outcome


def dollars(engine: Engine, outcome: Outcome, seconds: float) -> float:
    """For a million appends."""
    asked = outcome.writes * engine.write_price / 1e6 + outcome.reads * engine.read_price / 1e6
    return (asked + engine.hour_price * seconds / HOUR) / max(1, outcome.appends) * 1e6


def fleets(active: Sequence[int], seconds: float, seed: int) -> list[dict[str, object]]:
    progress = Progress(f"{HOSTS:,} hosts, {THREADS:,} threads", len(ENGINES) * len(active))
    rows: list[dict[str, object]] = []
    for engine in ENGINES:
        for number in active:
            outcome = Fleet(engine, number, seconds, seed).simulate()
            million = 1e6 / max(1, outcome.appends)
            rows.append(
                {
                    "engine": engine.name,
                    "threads at work": f"{number:,}",
                    "appends a second": f"{outcome.appends / seconds:,.0f}",
                    "median ms": f"{outcome.quantile(0.5) * 1e3:,.0f}",
                    "p99 ms": f"{outcome.quantile(0.99) * 1e3:,.0f}",
                    "told to slow down, %": f"{100 * outcome.slowed / max(1, outcome.writes + outcome.reads):.1f}",
                    "given up, per million": f"{outcome.failed * million:,.0f}",
                    "`StaleWrite`, per million": f"{outcome.conflicts * million:,.0f}",
                    "requests for an append": f"{(outcome.writes + outcome.reads) / max(1, outcome.appends):.2f}",
                    "dollars a million": f"{dollars(engine, outcome, seconds):,.2f}",
                }
            )
            progress.step()
    return rows


def hot_journals(writers: Sequence[int], seconds: float, seed: int) -> list[dict[str, object]]:
    engines = [engine for engine in ENGINES if engine.name not in SCALED]
    progress = Progress("one journal for all hosts", len(engines) * len(writers))
    rows: list[dict[str, object]] = []
    for engine in engines:
        for number in writers:
            outcome = one_journal(engine, number, seconds, seed)
            rows.append(
                {
                    "engine": engine.name,
                    "hosts on one journal": f"{number:,}",
                    "appends a second": f"{outcome.appends / seconds:,.1f}",
                    "median ms": f"{outcome.quantile(0.5) * 1e3:,.0f}",
                    "p99 ms": f"{outcome.quantile(0.99) * 1e3:,.0f}",
                    "given up": f"{outcome.failed:,}",
                    "puts for an append": f"{outcome.writes / max(1, outcome.appends):,.1f}",
                    "dollars a million": f"{dollars(engine, outcome, seconds):,.2f}",
                }
            )
            progress.step()
    return rows


def assumptions() -> list[dict[str, object]]:
    return [
        {
            "engine": engine.name,
            "write, median and p99 ms": f"{engine.write.median * 1e3:g}, {engine.write.p99 * 1e3:g}",
            "writes a second": f"{engine.writes * engine.partitions:,.0f}",
            "reads a second": f"{engine.reads * engine.partitions:,.0f}",
            "of one object": "-" if engine.one_object is None else f"{engine.one_object:g}",
            "price": f"${engine.hour_price} an hour"
            if engine.hour_price
            else f"${engine.write_price} and ${engine.read_price} a million",
        }
        for engine in ENGINES
    ]


def markdown(rows: Sequence[dict[str, object]]) -> str:
    header = list(rows[0])
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    lines += ["| " + " | ".join(str(row[name]) for name in header) + " |" for row in rows]
    return "\n".join(lines)


def write(page: Path, tables: dict[str, list[dict[str, object]]]) -> None:
    text = page.read_text(encoding="utf-8")
    for name, rows in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            sys.exit(f"{page} has no place for {name}")
        text = f"{before}{begin}\n{markdown(rows)}\n\n{end}{after}"
    page.write_text(text, encoding="utf-8")


def show(title: str, rows: Sequence[dict[str, object]]) -> None:
    header = list(rows[0])
    widths = [max(len(name), *(len(str(row[name])) for row in rows)) for name in header]
    print(f"\n{title}\n")
    for cells in [header, ["-" * width for width in widths], *([str(row[name]) for name in header] for row in rows)]:
        first, *others = zip(cells, widths, strict=True)
        print("  " + "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="fewer threads and seconds: a look, not a figure to quote")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE as well")
    parser.add_argument("--write", metavar="PAGE", type=Path, help="put the tables into this page")
    options = parser.parse_args()
    active = (1_000, 10_000) if options.quick else (1_000, 10_000, THREADS)
    seconds = 4.0 if options.quick else 10.0
    tables = {
        "assumptions": assumptions(),
        "fleet": fleets(active, seconds, options.seed),
        "one-journal": hot_journals((1, 8, 64, HOSTS), 20.0 if options.quick else 120.0, options.seed),
    }
    show("What is assumed of each engine", tables["assumptions"])
    show(f"{HOSTS:,} hosts, a journal for each thread; seed {options.seed}", tables["fleet"])
    show("One journal for all", tables["one-journal"])
    if options.json:
        Path(options.json).write_text(json.dumps({"seed": options.seed, **tables}, indent=2) + "\n", encoding="utf-8")
    if options.write:
        write(options.write, tables)


if __name__ == "__main__":
    main()
