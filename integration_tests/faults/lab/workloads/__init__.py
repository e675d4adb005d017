"""What runs on the disks of the lab: a workload does things, says what was acknowledged, and knows what must be there.

A workload runs in one process and is examined in others, after power cuts, faults and kills. It says ``begin`` before
each operation and ``acked`` when the operation has returned; from these marks alone `examine` judges a directory.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    Mark = dict[str, Any]
    Say = Callable[[Mark], None]

NAMES = ("files", "journal")
"""Those of landed; each is a module here, with one class `Work`."""


class Workload(Protocol):
    """What a module here must have, under the name `Work`."""

    steps: int
    """How many operations show everything once."""

    def run(self, directory: Path, say: Say, chance: Random, steps: int) -> None:
        """Do `steps` operations in `directory`, one after the other."""
        ...

    def examine(self, directory: Path, marks: list[Mark]) -> list[str]:
        """What is wrong in `directory`, given what was said; recovers what there is to recover."""
        ...


def load(name: str) -> Workload:
    work: Workload = importlib.import_module(f"lab.workloads.{name}").Work()
    return work
