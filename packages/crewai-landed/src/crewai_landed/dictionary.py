"""Dictionary encoding: a small whole number for each value that many rows share, as a scope or a metadata value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from numpy.typing import NDArray

Value = TypeVar("Value", bound="Hashable")


class Dictionary(Generic[Value]):
    """Values and the code of each; a value that no row has any more gives its code back."""

    def __init__(self) -> None:
        self._codes: dict[Value, int] = {}
        self._values: list[Value | None] = []
        self._counts: list[int] = []
        self._free: list[int] = []

    def take(self, value: Value) -> int:
        """The code of `value`, for one more row."""
        code = self._codes.get(value)
        if code is None:
            if self._free:
                code = self._free.pop()
                self._values[code] = value
            else:
                code = len(self._values)
                self._values.append(value)
                self._counts.append(0)
            self._codes[value] = code
        self._counts[code] += 1
        return code

    def give_back(self, code: int) -> None:
        """One row less has the value of this code."""
        self._counts[code] -= 1
        if not self._counts[code]:
            value = self._values[code]
            self._values[code] = None
            if value is not None:
                del self._codes[value]
            self._free.append(code)

    def find(self, value: Value) -> int:
        """The code of `value`; -1 when no row has it."""
        return self._codes.get(value, -1)

    def __getitem__(self, code: int) -> Value:
        value = self._values[code]
        if value is None:
            raise KeyError(code)
        return value

    def counts(self) -> Iterator[tuple[Value, int]]:
        """Every value that a row has, and how many rows have it."""
        for value, code in self._codes.items():
            yield value, self._counts[code]

    def where(self, matches: Callable[[Value], bool]) -> NDArray[np.bool_]:
        """For each code, whether its value matches: index it with a column of codes."""
        wanted = np.zeros(len(self._values), bool)
        for value, code in self._codes.items():
            wanted[code] = matches(value)
        return wanted
