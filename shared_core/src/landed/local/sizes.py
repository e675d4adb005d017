"""How large the segments of a journal are."""

from __future__ import annotations

from landed.local.frames import HEADER, OVERHEAD, PAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

FIRST_SIZE: Final = 64 << 10
"""Bytes of a journal's first segment. Nearly all of it is a hole at first, but a copy may fill that."""
REST_SIZE: Final = 16 << 10
"""Bytes of the segment behind a compaction, which may have left next to nothing."""
GROWTH: Final = 16
"""How many times as many bytes as the journal has the next segment gets: a roll costs as much as several appends."""
SIZE_LIMIT: Final = 4 << 20
"""Bytes up to which segments grow: 4,000 appends of 1 KiB, and 4 MiB to look through at worst."""
LARGE_LIMIT: Final = 16 << 20
"""The same where batches are so large that few of them fit."""


def first_size(max_bytes: int | None) -> int:
    """Bytes of a journal's first segment, under its growth limit; None for none."""
    return next_size(0, 0, FIRST_SIZE if max_bytes is None else max_bytes)


def next_size(used: int, needed: int, room: int) -> int:
    """Bytes of a new segment.

    Args:
        used: as many as the journal has.
        needed: bytes of the frame that it must hold.
        room: bytes that the growth limit leaves; the answer passes it only when the frame alone does.
    """
    least = page_up(HEADER.size + needed + OVERHEAD)
    wanted = max(FIRST_SIZE, used * GROWTH, needed * GROWTH)
    limit = max(SIZE_LIMIT, min(needed * GROWTH, LARGE_LIMIT))
    return max(least, min(wanted, limit, room) // PAGE * PAGE)


def rest_size(room: int) -> int:
    """Bytes of the segment behind a compaction.

    Args:
        room: bytes that the growth limit leaves beside the frames of before. Less than a page of it makes a segment
            that takes no frame: the next append makes another, by what there is then.
    """
    return max(HEADER.size + OVERHEAD, min(REST_SIZE, room // PAGE * PAGE))


def page_up(offset: int) -> int:
    """The end of the page that ends at `offset` or goes on there."""
    return -(-offset // PAGE) * PAGE
