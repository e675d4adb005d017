"""What a replay needs: a directory, processes that can be killed, and a way to say what happened."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from demo.nursery import Nursery
    from landed.report.model import Event

ROOT = Path(__file__).resolve().parents[1]
HUNG = 180.0
"""Seconds until a process of the demo counts as hung and is killed."""


@dataclass
class Outcome:
    """What one side did in one case.

    Attributes:
        means: the calls that wrote.
        acknowledged: what the writer was told is stored.
        found: what was on the disk afterwards.
        heard: what the caller heard of the difference, and when.
        kept: whether all that was acknowledged was there, and nothing else; or the caller heard that it is not.
        shown: whether the fault was met.
        tries: replays until then.
        artifact: what was written.
        events: what happened to it in the last try, writer by writer.
    """

    means: str
    acknowledged: str = ""
    found: str = ""
    heard: str = ""
    kept: bool = True
    shown: bool = False
    tries: int = 0
    artifact: str = ""
    events: list[Event] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether the promise held when it was put to the test."""
        return self.kept and self.shown


class Program:
    """A function of the demo, in a process of its own, which ends with the ``with`` block. It speaks by `tell`.

    Args:
        nursery: forks it, so that it need not import a framework; None for a process from nothing.

    Attributes:
        told: when it said which line.
    """

    def __init__(self, function: Callable[..., None], *arguments: str, nursery: Nursery | None = None) -> None:
        self._name = function.__name__
        self.told: list[tuple[float, str]] = []
        command, named = [f"{function.__module__}:{self._name}", *arguments], {"LANDED_PROGRAM": self._name}
        self._process = nursery.fork(command, named) if nursery is not None else _started(command, named)
        self._watchdog = threading.Timer(HUNG, self._process.kill)
        self._watchdog.daemon = True
        self._watchdog.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def lines(self) -> Iterator[str]:
        """What it says, line by line, until it ends. A line that the kill cut off was not said."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n"):
                at, _, words = line[:-1].partition(" ")
                self.told.append((float(at), words))
                yield words

    def hear(self) -> str:
        """Its next line.

        Raises:
            EOFError: it ended without one.
        """
        line = next(self.lines(), None)
        if line is None:
            raise EOFError(f"{self._name} ended with status {self._process.wait()}")
        return line

    def say(self, line: str) -> None:
        """One line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def end(self) -> int:
        """Wait until it has ended by itself; its exit status."""
        return self._process.wait(HUNG)

    def kill(self) -> None:
        """SIGKILL: nothing in it gets to run any more."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # what we still had to say, it no longer hears
                pipe.close()


def _started(command: list[str], named: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "demo.program", *command],
        cwd=ROOT,
        env={**os.environ, **named},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def tell(*words: object) -> None:
    """In a program: one line to the demo, in one system call, so that threads and kills leave whole lines."""
    os.write(1, (" ".join(map(str, (time(), *words))) + "\n").encode())


class Scene:
    """Where a replay happens. Every try gets an empty directory.

    Attributes:
        chance: the moments of the kills; the same from run to run.
    """

    def __init__(self, directory: Path, progress: Callable[[str], None]) -> None:
        self._directory = directory
        self._progress = progress
        self._count = 0
        self.chance = random.Random(4)

    def empty(self) -> Path:
        self._count += 1
        directory = self._directory / f"{self._count:04}"
        directory.mkdir(parents=True)
        return directory

    def until_shown(self, outcome: Outcome, bound: int, attempt: Callable[[Outcome], None]) -> Outcome:
        """Replay until the fault was met, or was not survived, or `bound` tries are used up."""
        while outcome.tries < bound and outcome.kept and not outcome.shown:
            outcome.tries += 1
            self._progress(f"{outcome.means}: try {outcome.tries}")
            attempt(outcome)
        return outcome
