"""What the frames of a segment are bound to, where its header is damaged.

The successor's header names its predecessor. Failing that, the frames tell: the seed of a frame's header check is the
CRC of the segment's id continued over the frame's offset, and a CRC can be run backwards. All frames of a segment lead
back to one and the same CRC; a frame that is part of somebody's payload stands at another offset than the one it was
made for, and leads elsewhere.
"""

from __future__ import annotations

from zlib import crc32

from landed.local.frames import CHECK, FRAME, FRAME_HEADER, FRAME_MAGIC, HEADER, NO_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.local.frames import Header
    from landed.local.survey import SegmentFile

FULL: Final = 0xFFFFFFFF
CANDIDATES: Final = 1024
"""Frames to look at: a segment of which these tell nothing is lost."""
TRIED: Final = 3
"""Ids to try, each of which costs a look through the file."""


def find(file: SegmentFile, successor: Header | None) -> bytes | None:
    """An id to which the frames of `file` are bound as to its own; None when nothing tells."""
    known = [successor.previous_id] if successor is not None and successor.previous_id != NO_ID else []
    for candidate in known + _told_by_frames(file):
        file.id = candidate
        if file.next_frame(HEADER.size, file.limit) is not None:
            return candidate
    file.id = None
    return None


def _told_by_frames(file: SegmentFile) -> list[bytes]:
    """Ids by the frames that lead to them: first what most agree on."""
    votes: dict[int, int] = {}
    offset = HEADER.size
    for _ in range(CANDIDATES):
        offset = file.find(FRAME_MAGIC, offset, file.limit)
        if offset < 0:
            break
        data = file.read(offset, FRAME_HEADER)
        if len(data) == FRAME_HEADER:
            seed = _before(data[: FRAME.size], CHECK.unpack_from(data, FRAME.size)[0])
            crc = _before(offset.to_bytes(8, "little"), seed)
            votes[crc] = votes.get(crc, 0) + 1
        offset += 1
    return [_id_with(crc) for crc in sorted(votes, key=lambda crc: -votes[crc])[:TRIED]]


def _before(data: bytes, crc: int) -> int:
    """The seed with which crc32(data, seed) is `crc`."""
    state = crc ^ FULL
    for byte in reversed(data):
        index = _INDEX[state >> 24]
        state = ((state ^ _TABLE[index]) << 8 | (index ^ byte)) & FULL
    return state ^ FULL


def _id_with(crc: int) -> bytes:
    """Eight bytes with this CRC: they stand for the id itself wherever a frame is checked."""
    start = crc32(bytes(4))
    return bytes(4) + (_before(bytes(4), crc) ^ start).to_bytes(4, "little")


def _entry(index: int) -> int:
    for _ in range(8):
        index = index >> 1 ^ (0xEDB88320 if index & 1 else 0)
    return index


_TABLE: Final = [_entry(index) for index in range(256)]
_INDEX: Final = {entry >> 24: index for index, entry in enumerate(_TABLE)}
