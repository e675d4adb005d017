"""What runs on the disks of the lab: a workload does things, says what was acknowledged, and knows what must be there.

A workload runs in one process and is examined in others, after power cuts, faults and kills. It says ``begin`` before
each operation, ``acked`` when the operation has returned and ``failed`` when it has raised an error; from these marks
alone `Workload.examine` judges a directory.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from typing import TYPE_CHECKING, Any

import landed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from random import Random

    Mark = dict[str, Any]
    Say = Callable[[Mark], None]

CORE = {"files": "files.Work", "journal": "journal.Work"}
"""Of landed itself; each is a class of a module here."""
PACKAGES = {
    "graph": "langgraphs.Work",
    "memory": "crews.Memory",
    "flow states": "crews.FlowStates",
    "checkpoints": "crews.Checkpoints",
    "hook": "hooks.Work",
}
"""Of its packages for frameworks."""
PEERS = {
    "SqliteSaver": "langgraphs.SqliteWork",
    "LanceDB storage": "crews.LanceMemory",
    "SQLiteFlowPersistence": "crews.SqliteFlowStates",
    "JsonProvider": "crews.JsonCheckpoints",
    "CoherentVolume": "plain.Coherent",
    "atomicwrites": "plain.AtomicWrites",
    "open and write": "plain.Plain",
}
"""What does the same without landed."""
EVERY = {**CORE, **PACKAGES, **PEERS}
NEEDS = {
    "langgraphs": ("langgraph.checkpoint.landed", "langgraph.graph"),
    "crews": ("crewai_landed", "crewai"),
    "hooks": ("landed_claude_code",),
    "langgraphs.SqliteWork": ("langgraph.checkpoint.sqlite",),
    "plain.Coherent": ("ccs",),
    "plain.AtomicWrites": ("atomicwrites",),
}
"""What a module here, or a class of it, imports."""


class Workload:
    """One workload. Its numbers never come twice, also in later processes.

    Attributes:
        steps: how many operations show everything once.
        errors: what an operation may raise without that being a defect.
        whole: an operation is one write; else a part of it may have landed before the one that was refused.
        prelude: Python that the processes run first that it starts.
    """

    whole = True
    prelude = ""

    steps = 24
    errors: tuple[type[Exception], ...] = (landed.LandedError,)
    directory: Path
    say: Say
    chance: Random
    number: int

    def start(self) -> None:
        """Open what `step` works on."""

    def step(self) -> None:
        """Do one operation, whose number is `self.number`; say ``begin`` before it and ``acked`` after it."""
        raise NotImplementedError

    def stop(self) -> None:
        """Close what `start` opened."""

    def examine(self, directory: Path, marks: list[Mark]) -> list[str]:
        """What is wrong in `directory`, given what was said; recovers what there is to recover."""
        raise NotImplementedError

    def add(self, number: int) -> None:
        """Add a number to those that are there, as one of several processes do at once (`lab.rivals`)."""
        raise NotImplementedError

    def added(self) -> list[int]:
        """The numbers that are there."""
        raise NotImplementedError

    def _prepare(self, directory: Path, say: Say, chance: Random) -> None:
        self.directory, self.say, self.chance = directory, say, chance
        self.number = chance.randrange(1 << 40)

    def run(self, directory: Path, say: Say, chance: Random, steps: int) -> None:
        """Do `steps` operations in `directory`, one after the other."""
        self._prepare(directory, say, chance)
        self.start()
        for _ in range(steps):
            self.step()
            self.number += 1
        self.stop()

    def endure(self, directory: Path, say: Say, chance: Random, steps: int) -> None:
        """As `run`, but go on after errors: half the times as if nothing were, half the times from the start."""
        self._prepare(directory, say, chance)
        started = False
        for _ in range(steps):
            try:
                if not started:
                    self.start()
                    started = True
                self.step()
            except self.errors as error:
                landed_ = "no" if self.whole and isinstance(error, landed.NotLanded) else "unknown"
                say({"failed": self.number, "landed": landed_, "error": f"{type(error).__name__}: {error}"})
                if started and chance.random() < 1 / 2:
                    self.stop()
                    started = False
            self.number += 1
        if started:
            self.stop()


@cache
def missing(name: str) -> str:
    """Why the workload cannot run here; "" when it can."""
    return lacking(NEEDS.get(EVERY[name].partition(".")[0], ()) + NEEDS.get(EVERY[name], ()))


def lacking(modules: Iterable[str]) -> str:
    """Which of some modules is not installed, in words; "" when all are."""
    for module in modules:
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            return f"needs {module}"
    return ""


def load(name: str) -> Workload:
    module, _, kind = EVERY[name].partition(".")
    work: Workload = getattr(importlib.import_module(f"lab.workloads.{module}"), kind)()
    return work
