"""What the demo prints: lines while it runs, and a table at the end."""

from __future__ import annotations

import os
import shutil
import textwrap
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.scene import Outcome

GREEN, RED, DIM, BOLD = "32", "31", "2", "1"


class Row(NamedTuple):
    """One case, and what each side made of it."""

    incident: str
    case: str
    stock: Outcome
    landed: Outcome


class Column(NamedTuple):
    """A column of the table; what a terminal has beyond the sum of the widths goes by share."""

    heading: str
    width: int
    share: int


COLUMNS = (
    Column("what happened", 20, 1),
    Column("written with", 16, 1),
    Column("acknowledged", 12, 0),
    Column("found on the disk", 17, 2),
    Column("the caller heard", 17, 3),
    Column("tries", 5, 0),
)
GAP = "  "


class Screen:
    """Where the demo speaks: with a line that changes at a terminal, in plain lines elsewhere.

    Args:
        stream: what it writes to.
        total: incidents that will be replayed.
    """

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream = stream
        self._total, self._ended = total, 0
        self._live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._colours = self._live and not os.environ.get("NO_COLOR")

        self._guard = threading.RLock()
        self._under_way: dict[str, str] = {}

    @contextmanager
    def block(self, name: str) -> Iterator[None]:
        """Lines that stay together; what `name` stands for is no longer under way."""
        with self._guard:
            self._under_way.pop(name, None)
            self._ended += 1
            yield
            self._show()

    def say(self, text: str = "", style: str = "") -> None:
        self._wipe()
        styled = f"\033[{style}m{text}\033[0m" if style and text and self._colours else text
        print(styled, file=self._stream, flush=True)

    def progress(self, name: str, text: str) -> None:
        """What is happening now. Elsewhere than at a terminal it is left out: what ends has lines of its own."""
        with self._guard:
            self._under_way[name] = text
            self._show()

    def outcome(self, outcome: Outcome, *, good: bool) -> None:
        """What one side made of a case, as soon as it is known."""
        tries = f", at try {outcome.tries}" if outcome.tries > 1 else ""
        self.say(f"    {outcome.means}{tries}", GREEN if good else RED)
        for label in ("acknowledged", "found", "heard"):
            self.say(f"      {label:<14}{getattr(outcome, label)}")

    def table(self, rows: list[Row]) -> None:
        """Two lines per case, or more where the terminal is narrow."""
        widths = _widths(shutil.get_terminal_size((120, 24)).columns)
        rule = GAP.join("-" * width for width in widths)
        for line in _lines([column.heading for column in COLUMNS], widths):
            self.say(line, BOLD)
        for row in rows:
            self.say(rule)
            for case, outcome, good in ((row.case, row.stock, row.stock.kept), ("", row.landed, row.landed.held)):
                cells = [case, outcome.means, outcome.acknowledged, outcome.found, outcome.heard, str(outcome.tries)]
                for line in _lines(cells, widths):
                    self.say(line, GREEN if good else RED)
        self.say(rule)

    def _show(self) -> None:
        if self._live and self._under_way:
            self._wipe()
            under_way = "  |  ".join(f"{name}: {what}" for name, what in self._under_way.items())
            text = f"{self._ended} of {self._total} done  |  {under_way}"
            print(text[: shutil.get_terminal_size().columns - 1], end="", file=self._stream, flush=True)

    def _wipe(self) -> None:
        if self._live:
            print("\r\033[K", end="", file=self._stream)


def _widths(terminal: int) -> list[int]:
    taken = sum(column.width + len(GAP) for column in COLUMNS)
    shares = sum(column.share for column in COLUMNS)
    return [column.width + max(0, terminal - taken) * column.share // shares for column in COLUMNS]


def _lines(cells: list[str], widths: list[int]) -> list[str]:
    """One line of the table, broken into as many as its fullest cell needs."""
    wrapped = [textwrap.wrap(cell, width) for cell, width in zip(cells, widths, strict=True)]
    return [
        GAP.join(
            (parts[number] if number < len(parts) else "").ljust(width)
            for parts, width in zip(wrapped, widths, strict=True)
        ).rstrip()
        for number in range(max(map(len, wrapped)))
    ]
