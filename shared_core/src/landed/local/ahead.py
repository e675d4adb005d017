"""How many zeros are written behind what is appended, for the appends that follow.

docs/explanation/how-a-record-lands.md, "Zeros ahead", says what for. Nothing but cost depends on it.
"""

from __future__ import annotations

from landed.local.frames import PAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

FIRST_AHEAD: Final = PAGE
AHEAD: Final = 16 << 10
AHEAD_LIMIT: Final = 64 << 10
"""Bytes of zeros that are written ahead of small appends, which then find blocks that are there: four times as many
each time, but few for a start, and again after a large batch, as another one may follow and cover them. More of them
spare an append 2 us on average, and each journal takes them up: a chat of 100 steps a third more of the disk."""
PIECE: Final = 16 << 10
"""Bytes of zeros that are written at once. Linux caches what one write brings in one folio, of up to megabytes; each
append and flush goes through all of a folio's blocks. In one piece, every append would cost 50 us of processor more."""
LARGE: Final = 64 << 10
"""Bytes from which a write is a large one. First in its segment it goes into the hole: no other one may follow."""
LARGE_AHEAD: Final = 1 << 20
"""Bytes of zeros that are written ahead of large appends: as many as the segment has in frames by then, so that it
takes at most twice the disk."""
FEW: Final = 8
"""So many large appends must find place in them; still larger ones cost less than their zeros would."""
LARGE_PIECE: Final = 256 << 10
"""As `PIECE`, ahead of large appends: fewer calls, and no cost yet for a small append between them."""


class Ahead:
    """What one process writes ahead in one segment."""

    __slots__ = ("_small",)

    def __init__(self) -> None:
        self._small = AHEAD

    def of(self, start: int, size: int, *, group: bool) -> tuple[int, int]:
        """Bytes of zeros to write behind an append, and how many at once.

        Args:
            start: where it begins in the segment.
            size: its bytes.
            group: whether many appends go into that one write; the next one may be of another size.
        """
        if size < LARGE:
            ahead, self._small = self._small, min(self._small * 4, AHEAD_LIMIT)
            return ahead, PIECE
        self._small = FIRST_AHEAD
        if group or size * FEW > LARGE_AHEAD:
            return 0, PIECE
        return min(start, LARGE_AHEAD) // size * size, LARGE_PIECE
