"""The engine seam for whole files: one named place that is read whole, and replaced if it is still what was read.

`landed.remote` makes files of it. An engine says of each put that it happened, that it did not, or that it does not
know.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol


class Held:
    """What is in a cell.

    Attributes:
        data: its bytes.
        tag: what `Cell.put` replaces it by; the engine's own.
    """

    __slots__ = ("data", "tag")

    def __init__(self, data: bytes, tag: object) -> None:
        self.data = data
        self.tag = tag


class Unsure(Exception):
    """Whether a put happened is not known; the cause says why, in the engine's words."""


if TYPE_CHECKING:

    class Cell(Protocol):
        """One place of an engine. Safe for threads and processes."""

        @property
        def name(self) -> str:
            """The address, without secrets."""
            ...

        def get(self, deadline: float) -> Held | None:
            """What is there now; None when nothing ever was.

            Raises:
                NotLanded: it cannot be read before `deadline`, in seconds of time.monotonic().
            """
            ...

        def put(self, data: bytes, known: Held | None, deadline: float) -> bool:
            """Put `data` in the place of `known`, or where nothing is; False when another was first.

            Raises:
                Unsure: it is not known whether it happened.
                NotLanded: it did not happen, and will not.
            """
            ...

        def confirm(self, deadline: float) -> None:
            """See that what `get` gave is kept as what `put` acknowledges: for a put that was `Unsure`, and is there.

            Raises:
                NotLanded: it may not be.
            """
            ...
