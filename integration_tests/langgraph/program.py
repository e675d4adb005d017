"""What a test runs in a process of its own, which it can pause and kill.

In the test: ``with Program(ask, path, "thread") as asking: asking.hear()``. Here: a function with those arguments. The
two speak in words. Processes are forked by a server that has imported LangGraph and nothing else: to
import it takes a second.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from graphs import adder, approval, ladder
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.types import Command
from savers import LANDED, opened, thread

import landed

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["langgraph.graph", "langgraph.checkpoint.sqlite", "langgraph.checkpoint.landed"])
HUNG = 120.0
"""Seconds until a program counts as hung and is killed."""


class Program:
    """A function of this module, as a process. It ends with the ``with`` block."""

    def __init__(self, function: Callable[..., None], *arguments: object) -> None:
        self._ours, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_run, args=(theirs, function, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self._watchdog = threading.Timer(HUNG, self._process.kill)
        self._watchdog.daemon = True
        self._watchdog.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    def hear(self) -> Any:
        """What it says next.

        Raises:
            EOFError: it ended, or was killed in the midst of a word.
        """
        return self._ours.recv()

    def rest(self) -> list[Any]:
        """What it says until it ends."""
        said = []
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                said.append(self.hear())
        return said

    def say(self, word: str) -> None:
        """One word to it."""
        self._ours.send(word)

    def kill(self) -> None:
        """SIGKILL: nothing in it gets to run any more."""
        self._process.kill()
        self._process.join()

    def end(self) -> list[Any]:
        """What it still says; it must end well."""
        said = self.rest()
        self._process.join()
        assert self._process.exitcode == 0, said
        return said

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        self.kill()
        self._process.close()
        self._ours.close()


# In the process.

_test: Connection


def _run(connection: Connection, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    global _test  # noqa: PLW0603 - there is one
    _test = connection
    function(*arguments)


def tell(*words: object) -> None:
    """Say something to the test."""
    _test.send(words)


def wait_for_go() -> None:
    tell("ready")
    _test.recv()


def race(kind: str, path: Path, name: str, worker: str, count: int, how: str) -> None:
    """Run a graph `count` times on one thread; tell which turns were acknowledged, and which were refused."""
    with opened(kind, path) as saver:
        graph = adder(saver)
        wait_for_go()
        for number in range(count):
            turn = f"{worker}-{number}"
            alone = saver.thread_lock(name) if how == "locked" else contextlib.nullcontext()
            try:
                with alone:
                    graph.invoke({"turn": turn}, thread(name), durability="sync")
            except landed.StaleWrite:
                tell("stale", turn)
            else:
                tell("acknowledged", turn)


def paused(path: Path, name: str, durability: str) -> None:
    """Run a graph whose node waits for a word; tell how it ended."""
    with opened(LANDED, path) as saver:
        graph = adder(saver, lambda _: wait_for_go())
        try:
            graph.invoke({"turn": "slow"}, thread(name), durability=durability)
        except landed.StaleWrite as error:
            tell("stale", error.expected, error.found, str(error))
        else:
            tell("acknowledged")


def climb(path: Path, name: str, steps: int, log: Path, most: int) -> None:
    """Start or resume a run of many steps, each of which leaves a line in `log`; after `most`, wait to be killed."""
    notes = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    done = itertools.count()

    def work(number: int) -> None:
        if next(done) == most:
            time.sleep(HUNG)
        os.write(notes, f"{number}\n".encode())
        tell(number)

    with opened(LANDED, path) as saver:
        graph = ladder(saver, steps, work)
        config = thread(name) | {"recursion_limit": steps + 5}
        graph.invoke(None if saver.get(config) else {"turn": "up"}, config, durability="sync")
        tell("done")


def ask(path: Path, name: str) -> None:
    """Run a graph until it asks."""
    with opened(LANDED, path) as saver:
        tell(approval(saver).invoke({"turn": "launch"}, thread(name))["updates"])


def answer(path: Path, name: str, text: str) -> None:
    """Answer what a graph asked, and let it go on."""
    with opened(LANDED, path) as saver:
        tell(approval(saver).invoke(Command(resume=text), thread(name))["updates"])


def put_many(path: Path, name: str) -> None:
    """Put checkpoints and writes until killed; tell each as soon as its call returned."""
    with opened(LANDED, path) as saver:
        config, number = thread(name), 0
        while True:
            number += 1
            checkpoint = empty_checkpoint()
            checkpoint["channel_values"] = {"number": number, "text": "x" * (number * 997 % 20_000)}
            versions = {channel: saver.get_next_version(None, None) for channel in ("number", "text")}
            checkpoint["channel_versions"] = versions
            config = saver.put(config, checkpoint, {"source": "loop", "step": number, "parents": {}}, versions)
            tell("put", checkpoint["id"], number)
            saver.put_writes(config, [("number", number), ("text", "y" * number)], f"task {number}")
            tell("writes", checkpoint["id"], number)


def behind(kind: str, path: Path, name: str, seconds: int) -> None:
    """Run a graph on a machine whose clock is behind; tell how it ended."""
    ours = time.time_ns
    time.time_ns = lambda: ours() - seconds * 1_000_000_000

    with opened(kind, path) as saver:
        try:
            adder(saver).invoke({"turn": "behind"}, thread(name), durability="sync")
        except landed.NotLanded as error:
            tell("refused", str(error))
        else:
            tell("acknowledged")
