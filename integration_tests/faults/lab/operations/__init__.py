"""The public write operations, one by one, for `lab.deaths`: what each begins with, what it does, and what it leaves.

What a store holds is told as a mapping (`View`). An operation changes some of its keys; those that land together are a
piece, which is there whole or not at all, whenever the process dies.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.workloads import lacking

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    View = dict[str, Any]
    Step = Callable[[Path], None]

NEEDS = {
    "core": (),
    "langgraphs": ("langgraph.checkpoint.landed", "langgraph.checkpoint.sqlite"),
    "crews": ("crewai_landed", "crewai"),
}
"""The modules here, each with `OPERATIONS` and `BUGS`, and what they import."""


class Store(NamedTuple):
    """Where operations write.

    Attributes:
        look: what is there, in a store that is opened anew.
        go_on: another write.
        added: the keys that it adds or changes.
    """

    look: Callable[[Path], View]
    go_on: Step
    added: frozenset[str] = frozenset({"next"})


def _nothing(_: Path) -> None:
    """An empty directory."""


def _one(_: str) -> str:
    return ""


class Operation(NamedTuple):
    """One public write operation.

    Attributes:
        act: the operation.
        begin: makes what it begins with.
        piece: the piece that a key belongs to; all are of one unless told otherwise.
        refuses_again: the error of doing it again when all of it had landed; "" if that does no harm.
        ends_alike: doing it again ends as doing it once.
    """

    store: Store
    act: Step
    begin: Step = _nothing
    piece: Callable[[str], str] = _one
    refuses_again: str = ""
    ends_alike: bool = True


class Bug(NamedTuple):
    """A defect of an operation: `plant` puts it into the process."""

    operation: str
    plant: Callable[[], object]


def each(key: str) -> str:
    """The piece of a key that lands alone."""
    return key


def missing(module: str) -> str:
    """Why the operations of a module cannot run here; "" when they can."""
    return lacking(NEEDS[module])


def names(module: str) -> list[str]:
    return [*_load(module).OPERATIONS]


def load(module: str, name: str) -> Operation:
    found: Operation = _load(module).OPERATIONS[name]
    return found


def bugs(module: str) -> dict[str, str]:
    """The bugs to plant in a module's operations, each with the operation that it is planted in."""
    return {name: bug.operation for name, bug in _load(module).BUGS.items()}


def plant(module: str, name: str) -> None:
    _load(module).BUGS[name].plant()


def _load(module: str) -> Any:
    return importlib.import_module(f"lab.operations.{module}")
