"""Stores of named values, whatever keeps them: put a value under a name, get the last one that was put there.

landed's packages and the peers that they stand beside are driven through this one, so that all are held to the same:
the last acknowledged value is there, whole, or one that was begun after it; and what was read once is read again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.workloads import Workload

if TYPE_CHECKING:
    from pathlib import Path

    from lab.workloads import Mark

NAMES = ("one", "two", "three/../3")
SIZES = (10, 300, 3000, 12_000)


def value(number: int, size: int) -> str:
    """What operation `number` puts."""
    return f"{number}:" + (f"{number}," * size)[:size]


def number_of(text: str) -> int:
    """The operation that put `text`.

    Raises:
        ValueError: nobody put this.
    """
    head, _, rest = text.partition(":")
    if not head.isdigit() or text != value(int(head), len(rest)):
        raise ValueError(f"not whole: {text[:40]!r} and {len(text)} characters in all")
    return int(head)


def in_turn(allowed: list[int], there: list[int]) -> list[int]:
    """`there` in the order of `allowed`; what is not in that, last."""
    return sorted(there, key=lambda number: allowed.index(number) if number in allowed else len(allowed))


class Slots(Workload):
    """A store of named values.

    Attributes:
        keeps_all: `get` gives all values that were put under the name, not only the last.
        in_order: and gives them oldest first.
    """

    steps = 16
    keeps_all = False
    in_order = True

    def open(self, directory: Path) -> None:
        """Open the store in a directory."""

    def put(self, name: str, text: str) -> None:
        raise NotImplementedError

    def get(self, name: str) -> list[str]:
        """What is there under a name: nothing, one value, or with `keeps_all` all of them."""
        raise NotImplementedError

    def close(self) -> None:
        """Close it."""

    def start(self) -> None:
        self.open(self.directory)

    def stop(self) -> None:
        self.close()

    def add(self, number: int) -> None:
        if self.keeps_all:
            self.put(NAMES[0], f"{number}")
        else:
            self.put(NAMES[0], " ".join([*self.get(NAMES[0]), f"{number}"]))

    def added(self) -> list[int]:
        return [int(word) for text in self.get(NAMES[0]) for word in text.split()]

    def step(self) -> None:
        name, size = self.chance.choice(NAMES), self.chance.choice(SIZES)
        self.say({"begin": self.number, "name": name})
        self.put(name, value(self.number, size))
        self.say({"acked": self.number})

    def examine(self, directory: Path, marks: list[Mark]) -> list[str]:
        found: list[dict[str, list[int]]] = []
        for _ in range(2):  # what is recovered once is recovered
            self.open(directory)
            try:
                found.append({name: [number_of(text) for text in self.get(name)] for name in NAMES})
            finally:
                self.close()
        if found[0] != found[1]:
            return [f"{found[0]} at first, then {found[1]}"]
        acked = {mark["acked"] for mark in marks if "acked" in mark}
        refused = {mark["failed"] for mark in marks if mark.get("landed") == "no"}
        problems = []
        for name, there in found[0].items():
            begun = [mark["begin"] for mark in marks if mark.get("name") == name]
            allowed = [number for number in begun if number not in refused]
            must = [number for number in allowed if number in acked]
            if not self.keeps_all:
                must = must[-1:]
                allowed = allowed[allowed.index(must[0]) :] if must else allowed
            lost = [number for number in must if number not in there]
            if lost and (self.keeps_all or not there or there[0] not in allowed):
                problems.append(f"{name}: {len(lost)} acknowledged are lost, there is {there}, not {must}")
            elif [number for number in allowed if number in there] != (
                there if self.in_order else in_turn(allowed, there)
            ):
                problems.append(f"{name}: there is {there}, which nobody put, was refused, or is out of order")
        return problems
