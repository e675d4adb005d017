"""What the lab writes into pages of the documentation: each thing between two marks of its own."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Place(NamedTuple):
    """Where something stands in a page: between `begin` and `end`."""

    page: Path
    begin: str
    end: str

    def read(self) -> str:
        """What stands there now."""
        return self.page.read_text().partition(self.begin)[2].partition(self.end)[0].strip()

    def write(self, text: str) -> None:
        """Put `text` there."""
        before, _, rest = self.page.read_text().partition(self.begin)
        _, _, after = rest.partition(self.end)
        self.page.write_text(f"{before}{self.begin}\n\n{text}\n\n{self.end}{after}")
