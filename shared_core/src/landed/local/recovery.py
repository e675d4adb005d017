"""Where a segment's frames end, and whether what follows is a crash's doing or damage.

The rules are those of docs/reference/on-disk-format.md, "Reading a segment"; the functions are pure.
"""

from __future__ import annotations

from landed.local.frames import (
    FRAME_HEADER,
    FRAME_MAGIC,
    HEADER,
    NO_BOOT,
    PAGE,
    SEAL,
    Frame,
    Head,
    Header,
    decode_frame,
    decode_head,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final

END: Final = "end"
"""Nothing follows."""
SEALED: Final = "sealed"
"""A seal frame follows: another segment does."""
GOOD: Final = frozenset({END, SEALED})
"""Nothing but good frames, up to there."""
TORN: Final = "torn"
"""A process died in the middle of its write; nothing of it was acknowledged."""
CRASH: Final = "crash"
"""The machine stopped before the bytes were flushed."""
DAMAGE: Final = "damage"
"""Bytes that were on the device have changed."""


def frames(segment_id: bytes, data: bytes, start: int = HEADER.size) -> Iterator[Frame]:
    """The good frames of a whole segment in `data`, from `start` up to the first bad one."""
    at = start
    while (frame := decode_frame(segment_id, at, data, at)) is not None:
        yield frame
        at = frame.head.end


def flushed_until(segment_id: bytes, data: bytes) -> int:
    """Where the last good frame that lies whole below what the last good frames tell to be flushed begins.

    From there on the frames follow each other, if nothing was damaged: what is below was on the device before they were
    written, and needs no look to tell a crash from an end.
    """
    last = next(_good_before(segment_id, data, len(data)), None)
    if last is None:
        return HEADER.size
    found = next(_good_before(segment_id, data, last.head.flushed), None)
    return found.head.offset if found is not None and found.head.end == last.head.flushed else HEADER.size


def _good_before(segment_id: bytes, data: bytes, at: int) -> Iterator[Frame]:
    """The good frames that begin before `at`, the last first."""
    while (found := data.rfind(FRAME_MAGIC, 0, at)) >= 0:
        frame = decode_frame(segment_id, found, data, found)
        if frame is not None:
            yield frame
        at = found + len(FRAME_MAGIC) - 1


def judge(header: Header, data: bytes, at: int, last: Head | None, running: int) -> str:
    """What stands at `at`, where a newest segment's good frames end.

    Args:
        header: the segment's.
        data: the whole segment.
        last: the header of the last good frame.
        running: the boot tag of the running kernel.
    """
    if last is not None and last.type == SEAL:
        return SEALED
    rest = data[at:]
    if rest == bytes(len(rest)):  # a comparison takes a hundredth of the time of looking for the last byte
        return END
    rest = rest.rstrip(b"\0")
    later = list(_good_after(header.id, data, at))
    if any(frame.head.flushed > at for frame in later):
        return DAMAGE
    head = decode_head(header.id, at, data, at)
    boot = (head or last or header).boot
    if boot == NO_BOOT or boot != running:
        return CRASH
    return TORN if not later and _stops_at_a_page(at, at + len(rest), head, data) else DAMAGE


def _good_after(segment_id: bytes, data: bytes, at: int) -> Iterator[Frame]:
    found = data.find(FRAME_MAGIC, at + 1)
    while found >= 0:
        frame = decode_frame(segment_id, found, data, found)
        if frame is not None:
            yield frame
        found = data.find(FRAME_MAGIC, found + 1 if frame is None else frame.head.end)


def _stops_at_a_page(at: int, end: int, head: Head | None, data: bytes) -> bool:
    """Whether the bytes from `at` to `end`, the last that is not zero, are a write that stopped at a page boundary.

    Every whole frame ends in a mark that is not zero, so a write that stopped has zeros where its mark would be.
    """
    boundary = -(-end // PAGE) * PAGE
    if head is not None:
        return boundary < head.end
    # The header itself was cut: it lies across the boundary, and what is there of it begins like one.
    return at < boundary < at + FRAME_HEADER and data[at : at + len(FRAME_MAGIC)] == FRAME_MAGIC


def find_last(read: Callable[[int, int], bytes], segment_id: bytes, limit: int) -> Head | None:
    """The last frame that ends at or before `limit` in a segment that nothing has damaged, in a few reads, or None.

    Halves the segment by "is this page zero". A payload of zeros can end that too early, so the frames are followed
    forward from where it led.
    """
    low, high = 0, -(-limit // PAGE)  # page `low` is not zero (it has the header); from `high` on all count as zero
    while high - low > 1:
        middle = (low + high) // 2
        data = read(middle * PAGE, PAGE)
        if data != bytes(len(data)):
            low = middle
        else:
            high = middle
    head = None
    page = low
    while page >= 0 and head is None:
        head = _last_head_in(read(page * PAGE, PAGE + FRAME_HEADER), segment_id, page * PAGE, limit)
        page -= 1
    while head is not None:
        following = decode_head(segment_id, head.end, read(head.end, FRAME_HEADER))
        if following is None or following.end > limit:
            return head
        head = following
    return None


def _last_head_in(data: bytes, segment_id: bytes, offset: int, limit: int) -> Head | None:
    end = len(data)
    while (found := data.rfind(FRAME_MAGIC, 0, end)) >= 0:
        head = decode_head(segment_id, offset + found, data, found)
        if head is not None and head.end <= limit:
            return head
        end = found + len(FRAME_MAGIC) - 1
    return None
