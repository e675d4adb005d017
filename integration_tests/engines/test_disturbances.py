"""Servers that are cut off, slow, killed and stopped in the midst of appends, compactions and prunes."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from azure_server import AzureServer
from logs import append, held
from postgres_server import PostgresServer
from s3_server import S3Server
from wire import Wire

from landed.engines import open_log
from landed.errors import NotLanded, OutcomeUnknown

if TYPE_CHECKING:
    from landed.engine import Batch, Log

WRITERS = 3
ROUNDS = 2
PATIENCE = 60.0
"""Seconds in which each gets on, disturbed or not."""


class Place:
    """Where a journal is, and what disturbs those who work there, which returns when it is over."""

    def __init__(self, url: str, disturb: Callable[[random.Random], None]) -> None:
        self.url, self.disturb = url, disturb


def cut(url: str, wire: Wire) -> Iterator[Place]:
    """Answers are late, connections are cut, and new ones refused for a moment."""

    def disturb(chance: random.Random) -> None:
        wire.delay = 0.02
        time.sleep(chance.uniform(0.0, 0.2))
        wire.cut()
        time.sleep(chance.uniform(0.0, 0.2))
        wire.delay = 0.0
        wire.mend()

    yield Place(url, disturb)


def killed(server: PostgresServer | S3Server, url: str) -> Iterator[Place]:
    """The server dies as in a crash, is away, and recovers."""

    def disturb(chance: random.Random) -> None:
        time.sleep(chance.uniform(0.0, 0.2))
        server.kill()
        server.start()

    yield Place(url, disturb)


def stopped(server: S3Server, url: str) -> Iterator[Place]:
    """The server stops for longer than a request may take, then does what nobody waits for any more."""
    from landed.objects.store import CLIENT

    def disturb(chance: random.Random) -> None:
        time.sleep(chance.uniform(0.0, 0.2))
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(chance.uniform(1.1, 1.5))
        server.process.send_signal(signal.SIGCONT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CLIENT, "timeout", "1s")
        try:
            yield Place(url, disturb)
        finally:
            server.process.send_signal(signal.SIGCONT)


def ended(server: AzureServer, url: str) -> Iterator[Place]:
    """The server is ended and started again; it is not killed, as it would forget what it acknowledged."""

    def disturb(chance: random.Random) -> None:
        time.sleep(chance.uniform(0.0, 0.2))
        server.end()
        server.start()

    yield Place(url, disturb)


@pytest.fixture(
    params=[
        "PostgreSQL, cut off",
        "PostgreSQL, killed",
        "S3, cut off",
        "S3, stopped",
        "S3, killed",
        "Azure, started anew",
    ]
)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    given = request.getfixturevalue
    if request.param == "PostgreSQL, cut off":
        yield from cut(given("postgres_wired"), given("postgres_wire"))
    elif request.param == "PostgreSQL, killed":
        server = given("restarting")
        yield from killed(server, server.url(request.node.originalname))
    elif request.param == "S3, cut off":
        yield from cut(given("s3_wired"), given("s3_wire"))
    elif request.param == "S3, killed":
        yield from killed(given("s3_kept"), given("s3_kept_url"))
    elif request.param == "Azure, started anew":
        yield from ended(given("azure"), given("azure_url"))
    else:
        yield from stopped(given("s3"), given("s3_url"))


class Disturbed:
    """Work in threads, again and again, in a place that is disturbed; each gets on after each disturbance."""

    def __init__(self, place: Place, *work: Callable[[], None]) -> None:
        self._place, self._work = place, work
        self._stop = threading.Event()
        self._done = [0] * len(work)
        self._failed: list[BaseException] = []

    def run(self) -> None:
        threads = [
            threading.Thread(target=self._repeat, args=(number,), daemon=True) for number in range(len(self._work))
        ]
        for thread in threads:
            thread.start()
        chance = random.Random(1)
        try:
            for _ in range(ROUNDS):
                self._wait_for_everybody()
                self._place.disturb(chance)
            self._wait_for_everybody()
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads), "one hangs"

    def _repeat(self, number: int) -> None:
        while not self._stop.is_set():
            try:
                self._work[number]()
            except (NotLanded, OutcomeUnknown):
                continue
            except BaseException as error:  # noqa: BLE001 - who waits for it raises it
                self._failed.append(error)
                return
            self._done[number] += 1

    def _wait_for_everybody(self) -> None:
        before, deadline = [*self._done], time.monotonic() + PATIENCE
        while any(now < then + 2 for now, then in zip(self._done, before, strict=True)):
            if self._failed:
                raise self._failed[0]
            assert time.monotonic() < deadline, f"one does not get on: {self._done}"
            time.sleep(0.01)


REWRITTEN, DROPPED = b"!", b"drop "


def compacted(batch: Batch) -> bytes | None:
    """What compactions make of a batch: some go, the others end with an exclamation mark."""
    return None if batch.payload.startswith(DROPPED) else batch.payload.rstrip(REWRITTEN) + REWRITTEN


def test_appends_and_compactions(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landed.objects.leases.LEASE", 1.0)  # a turn that was not given back is free after that
    acknowledged: list[bytes] = []
    unknown: list[bytes] = []
    asked: list[bytes] = []

    def writer(log: Log, name: int) -> Callable[[], None]:
        def write() -> None:
            payload = b"%d/%d" % (name, len(asked))
            asked.append(payload)
            commit, _ = append(log, payload, DROPPED + payload, timeout=10)
            if isinstance(commit.error, OutcomeUnknown):
                unknown.append(payload)
            if commit.error is not None:
                raise commit.error
            acknowledged.append(payload)

        return write

    compactor = open_log(place.url)

    def compact() -> None:
        compactor.rewrite(compacted, 10)

    Disturbed(place, *(writer(open_log(place.url), name) for name in range(WRITERS)), compact).run()
    fresh = open_log(place.url)
    fresh.rewrite(compacted, PATIENCE)
    kept = held(fresh)
    assert all(payload.endswith(REWRITTEN) for payload in kept)
    found = [payload.rstrip(REWRITTEN) for payload in kept]
    assert len(found) == len(set(found)), "doubled"
    assert not set(acknowledged) - set(found), "lost"
    assert not set(found) - set(acknowledged) - set(unknown), "what was refused is there"
    for name in range(WRITERS):
        turns = [int(payload.split(b"/")[1]) for payload in found if payload.startswith(b"%d/" % name)]
        assert turns == sorted(turns), "out of order"


def test_puts_and_prunes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("langgraph.checkpoint.landed", reason="langgraph-checkpoint-landed is not installed")
    from drafts import Thread

    from langgraph.checkpoint.landed import LandedSaver

    monkeypatch.setattr("landed.objects.leases.LEASE", 1.0)
    saver, pruner = LandedSaver(place.url), LandedSaver(place.url)
    run: Any = Thread(saver)
    run.put({"step": 0})
    acknowledged = [0]

    def put() -> None:
        run.load()
        step = run.values["step"] + 1
        run.put({"step": step, "text": ["a value apart"] * step})
        acknowledged.append(step)

    Disturbed(place, put, lambda: pruner.prune(["1"])).run()
    kept = list(LandedSaver(place.url).list(None))
    steps = [each.checkpoint["channel_values"]["step"] for each in kept]
    assert steps == sorted(set(steps), reverse=True), "doubled, or out of order"
    assert steps[0] >= acknowledged[-1], "lost"
    assert acknowledged == sorted(set(acknowledged)), "one number was acknowledged twice"
    assert kept[0].checkpoint["channel_values"]["text"] == ["a value apart"] * steps[0]
