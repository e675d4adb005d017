"""How many zeros are written behind what is appended, for the appends that follow.

docs/explanation/how-a-record-lands.md, "Zeros ahead", says what for. Nothing but cost depends on it.
"""

from __future__ import annotations

import errno

from landed import _fs
from landed.local.frames import PAGE
from landed.local.sizes import page_up

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
NO_PLACE: Final = (errno.ENOSPC, errno.EDQUOT)
"""What a disk that is full says, or a quota."""


class Ahead:
    """What one process writes ahead in one segment.

    Attributes:
        filled: below this offset there are frames or zeros and no hole, as far as this process knows.
    """

    __slots__ = ("_fs", "_small", "filled")

    def __init__(self, fs: _fs.FileOps) -> None:
        self._fs = fs
        self.filled = 0
        self._small = AHEAD

    def is_hole(self, fd: int, start: int, end: int) -> bool:
        """Whether a write from `start` to `end` will go into a hole, and needs new blocks.

        Raises:
            OSError: as the system does.
        """
        if self.filled < start:  # others have been here
            self.filled = _fs.hole_after(self._fs, fd, start)
        return end > self.filled

    def fill(self, fd: int, start: int, end: int, size: int, *, group: bool) -> None:
        """Put zeros behind a write from `start` to `end` that went into a hole. A full disk has place for fewer.

        Args:
            size: the segment's, in bytes.
            group: whether many appends went into that one write; the next one may be of another size.

        Raises:
            OSError: as the system does.
        """
        self.filled = end  # until they are there; what is written so far has its place
        ahead, piece = self._of(start, end - start, group=group)
        stop = min(page_up(end) + ahead, size)
        try:
            for at in range(end, stop if ahead else end, piece):
                _fs.pwrite_all(self._fs, fd, bytes(min(piece, stop - at)), at)
        except OSError as error:
            if error.errno not in NO_PLACE:  # they only spare later appends a flush
                raise
        else:
            self.filled = stop

    def _of(self, start: int, size: int, *, group: bool) -> tuple[int, int]:
        """Bytes of zeros behind `size` bytes that begin at `start` in the segment, and how many to write at once."""
        if size < LARGE:
            ahead, self._small = self._small, min(self._small * 4, AHEAD_LIMIT)
            return ahead, PIECE
        self._small = FIRST_AHEAD
        if group or size * FEW > LARGE_AHEAD:
            return 0, PIECE
        return min(start, LARGE_AHEAD) // size * size, LARGE_PIECE
