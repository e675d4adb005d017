"""The engines beyond one machine: LangGraph on PostgreSQL beside its own saver, and what object storage is asked for.

    python benchmarks/engines.py [--quick] [--json FILE]

PostgreSQL: the same server, started here on the disk to measure with durable settings; each client is a process, and
the two savers take turns by slices of time. Object storage: requests and bytes, counted at the client, on moto's
server; its speed is an emulator's and says nothing. The steady state is the puts between two moves of batches into a
segment; what the moves add is in the table.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frame import Progress, Report, arguments, scratch
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.postgres import PostgresSaver

from langgraph.checkpoint.landed import LandedSaver

sys.path.append(str(Path(__file__).resolve().parent.parent / "integration_tests" / "engines"))

from postgres_server import PostgresServer, binaries
from s3_server import S3Server, environment

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from langgraph.checkpoint.base import BaseCheckpointSaver

OURS, THEIRS = "LandedSaver", "PostgresSaver"
SLICE = 1.0
"""Seconds that one saver has before the other has its turn."""
CHAT = 100
"""Steps of the chat whose bytes are counted."""
HISTORY = 10_000
"""Checkpoints of the thread that a fresh process opens."""
MESSAGE = 1 << 10
"""Characters of a message."""


class Thread:
    """Puts and writes on one thread, each on the one before."""

    def __init__(self, saver: BaseCheckpointSaver, name: str) -> None:
        self.saver = saver
        self.config: Any = {"configurable": {"thread_id": name, "checkpoint_ns": ""}}
        self.step = 0

    def put(self, values: dict[str, Any]) -> None:
        checkpoint = empty_checkpoint()
        version = f"{self.step + 1:032}.{0:016}"
        checkpoint["id"] = str(uuid6(clock_seq=self.step & 0x3FFF))
        checkpoint["channel_values"] = values
        checkpoint["channel_versions"] = dict.fromkeys(values, version)
        metadata: Any = {"source": "loop", "step": self.step}
        self.config = self.saver.put(self.config, checkpoint, metadata, dict.fromkeys(values, version))
        self.step += 1

    def pair(self) -> None:
        self.put({"state": {"text": os.urandom(512).hex(), "step": self.step}})
        self.saver.put_writes(self.config, [("state", {"step": self.step})], f"task-{self.step}")


def client(kind: str, url: str, name: str, orders: Any, answers: Any) -> None:
    """One client process: waits to be told until when, and says how many pairs it did."""
    if kind == OURS:
        run_client(LandedSaver(url), name, orders, answers)
    else:
        with PostgresSaver.from_conn_string(url) as saver:
            run_client(saver, name, orders, answers)


def run_client(saver: BaseCheckpointSaver, name: str, orders: Any, answers: Any) -> None:
    thread = Thread(saver, name)
    thread.pair()
    answers.put(0)
    while True:
        until = orders.get()
        if until is None:
            return
        done = 0
        while time.time() < until:
            thread.pair()
            done += 1
        answers.put(done)


def rates(report: Report, directory: str, slices: int) -> None:
    """Pairs of put and put_writes a second, one client and eight."""
    programs = binaries()
    if programs is None:
        sys.exit("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    os.chmod(directory, 0o711)  # the server runs as a user of its own
    server = PostgresServer(programs, above=directory)
    context = multiprocessing.get_context("spawn")
    try:
        with PostgresSaver.from_conn_string(server.conninfo) as saver:
            saver.setup()
        rows: list[list[Any]] = []
        for clients in (1, 8):
            done = slices_of(context, server, clients, slices)
            ratio = done[OURS] / done[THEIRS]
            rows += [[f"{kind}, {clients} at once", done[kind] / (slices * SLICE)] for kind in (OURS, THEIRS)]
            report.require(f"PostgreSQL, {clients} at once, over {THEIRS}", 1.0, ratio, "x", at_least=True)
        report.table("put and put_writes on PostgreSQL, pairs a second", ["", "pairs/s"], rows)
    finally:
        server.remove()


def slices_of(context: Any, server: PostgresServer, clients: int, slices: int) -> dict[str, int]:
    """How many pairs all clients of each saver did, in as many slices each, in turns."""
    started: dict[str, list[tuple[Any, Any, Any]]] = {}
    for kind in (OURS, THEIRS):
        url = server.url(f"bench-{clients}") if kind == OURS else server.conninfo
        started[kind] = []
        for number in range(clients):
            orders, answers = context.Queue(), context.Queue()
            process = context.Process(target=client, args=(kind, url, f"{clients}-{number}", orders, answers))
            process.start()
            started[kind].append((process, orders, answers))
        for _, _, answers in started[kind]:
            answers.get(timeout=120)
    done = dict.fromkeys(started, 0)
    progress = Progress(f"PostgreSQL, {clients} at once", 2 * slices)
    for _ in range(slices):
        for kind, processes in started.items():
            until = time.time() + SLICE
            for _, orders, _ in processes:
                orders.put(until)
            done[kind] += sum(answers.get(timeout=120) for _, _, answers in processes)
            progress.step()
    for processes in started.values():
        for process, orders, _ in processes:
            orders.put(None)
            process.join(30)
    return done


class Counted:
    """A client of object storage whose requests are counted: those for segments as `get segment` and so on."""

    def __init__(self, inner: Any, requests: list[str]) -> None:
        self._inner = inner
        self._requests = requests

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            segment = bool(args) and isinstance(args[0], str) and args[0].startswith("segments/")
            self._requests.append(f"{name} segment" if segment else name)
            return method(*args, **kwargs)

        return call


def requests_of(report: Report, directory: str, history: int) -> None:
    """What puts, a cold start and appends that come together ask of object storage, and the bytes that they leave."""
    from landed.engine import Commit
    from landed.objects import probe, store
    from landed.objects.log import ObjectLog

    server = S3Server()
    requests: list[str] = []
    from_url: Callable[..., Any] = store.from_url
    store.from_url = lambda *args, **kwargs: Counted(from_url(*args, **kwargs), requests)  # type: ignore[assignment]
    try:
        with environment(server.endpoint):
            saver = LandedSaver("s3://bucket/threads")
            thread = Thread(saver, "long")
            thread.put({"step": 0})
            requests.clear()
            progress = Progress(f"object storage, {history} checkpoints", history)
            for step in range(1, history):
                thread.put({"step": step})
                progress.step()
            writes, reads, moves, looks = (
                requests.count(name) / (history - 1) for name in ("put", "get", "put segment", "get segment")
            )
            requests.clear()
            probe._proved.clear()
            found = LandedSaver("s3://bucket/threads").get_tuple({"configurable": {"thread_id": "long"}})
            assert found is not None
            assert found.checkpoint["channel_values"] == {"step": history - 1}
            cold = len(requests)
            log = ObjectLog("s3://bucket/group")
            requests.clear()
            log.commit([Commit(b"first", 1, None, float("inf"))], 10)
            alone = len(requests)
            requests.clear()
            log.commit([Commit(b"%d" % number, 1, None, float("inf")) for number in range(64)], 10)
            together = len(requests)
            remote, local = chat_bytes(directory)
    finally:
        store.from_url = from_url  # type: ignore[assignment]
        server.kill()
    rows: list[list[Any]] = [
        ["writes for a put between two moves", f"{writes:.3f}"],
        ["reads for a put between two moves", f"{reads:.3f}"],
        ["writes for a put, moves into segments included", f"{writes + moves:.3f}"],
        ["reads for a put, moves into segments included", f"{reads + looks:.3f}"],
        [f"requests for the latest of {history} checkpoints, fresh process", cold],
        ["requests for one append alone", alone],
        ["requests for 64 appends together", together],
        [f"bytes of a chat of {CHAT} steps, object storage", remote],
        [f"bytes of a chat of {CHAT} steps, local files", local],
    ]
    report.table("LangGraph and the journal on object storage", ["", "figure"], rows)
    report.require("object storage: writes for a put between two moves", 1.0, writes)
    report.require("object storage: reads for a put between two moves", 1.0, reads)
    report.require(f"object storage: requests for the latest of {history}", 4, cold)
    report.require("object storage: 64 appends together, over 64 alone", 0.1, together / (64 * alone), "x")
    report.require("object storage: bytes of a chat, over local files", 1.3, remote / local, "x")


def chat_bytes(directory: str) -> tuple[int, int]:
    """The bytes that a chat which grows by 1 KB a step leaves, in objects and in files."""
    from landed.objects.store import Store

    local = os.path.join(directory, "chat")
    for place in ("s3://bucket/chat", local):
        with LandedSaver(place) as saver:
            thread = Thread(saver, "chat")
            messages: list[str] = []
            for _ in range(CHAT):
                messages.append(os.urandom(MESSAGE // 2).hex())
                thread.put({"messages": list(messages)})
    objects = sum(size for _, size, _ in Store("s3://bucket/chat").list(""))
    files = sum(
        os.stat(os.path.join(above, name)).st_blocks * 512 for above, _, names in os.walk(local) for name in names
    )
    return objects, files


def main() -> None:
    options: argparse.Namespace = arguments(__doc__ or "").parse_args()
    with scratch(options) as directory:
        report = Report("Engines", directory)
        rates(report, directory, 3 if options.quick else 10)
        requests_of(report, directory, HISTORY // 8 if options.quick else HISTORY)
        report.close(options.json)


if __name__ == "__main__":
    main()
