"""Small whole numbers for values that many rows share: a scope, a set of categories, a metadata value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from numpy.typing import NDArray

Name = TypeVar("Name", bound="Hashable")


class Names(Generic[Name]):
    """Values and the code of each; a value that no row has any more gives its code back."""

    def __init__(self) -> None:
        self._codes: dict[Name, int] = {}
        self._names: list[Name | None] = []
        self._counts: list[int] = []
        self._free: list[int] = []

    def take(self, name: Name) -> int:
        """The code of `name`, for one more row."""
        code = self._codes.get(name)
        if code is None:
            if self._free:
                code = self._free.pop()
                self._names[code] = name
            else:
                code = len(self._names)
                self._names.append(name)
                self._counts.append(0)
            self._codes[name] = code
        self._counts[code] += 1
        return code

    def give_back(self, code: int) -> None:
        """One row less has the value of this code."""
        self._counts[code] -= 1
        if not self._counts[code]:
            name = self._names[code]
            self._names[code] = None
            if name is not None:
                del self._codes[name]
            self._free.append(code)

    def find(self, name: Name) -> int:
        """The code of `name`; -1 when no row has it."""
        return self._codes.get(name, -1)

    def __getitem__(self, code: int) -> Name:
        name = self._names[code]
        if name is None:
            raise KeyError(code)
        return name

    def counts(self) -> Iterator[tuple[Name, int]]:
        """Every value that a row has, and how many rows have it."""
        for name, code in self._codes.items():
            yield name, self._counts[code]

    def where(self, matches: Callable[[Name], bool]) -> NDArray[np.bool_]:
        """For each code, whether its value matches: index it with a column of codes."""
        wanted = np.zeros(len(self._names), bool)
        for name, code in self._codes.items():
            wanted[code] = matches(name)
        return wanted
