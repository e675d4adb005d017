"""Reading a local log while others append and compact: sequence numbers are stable, so a reader can always go on."""

from __future__ import annotations

from landed.engine import Batch
from landed.errors import NotLanded
from landed.local import recovery
from landed.local.frames import BATCH, HEADER, Frame, Head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from landed.engine import Position
    from landed.local.log import LocalLog
    from landed.local.segments import Range, Segment

POSITION: Final = 5
"""Parts of a position: the segment's two names, its id, its edition if it is compacted, the offset."""
RELOADS: Final = 16
"""How often compactions may take the segments away under one reader before that is an error."""


def batches(log: LocalLog, start: int) -> Iterator[Batch]:
    """All batches that end at or after sequence number `start`, oldest first, up to the tail of now."""
    limit: int | None = None  # of the first look: who reads slowly would run after compactions and appends for ever
    for _ in range(RELOADS):
        spans, newest = log.follower.view()
        end, limit = newest.end, newest.tail if limit is None else limit
        try:
            for index in range(_first_needed(log, spans, start), len(spans)):
                for frame, position in _frames(log, spans, index, end):
                    if frame.head.type == BATCH and frame.head.tail >= start:
                        if frame.head.sequence > limit:
                            return
                        yield Batch(frame.head.sequence, frame.payload, position)
                        start = frame.head.tail + 1
        except FileNotFoundError:
            continue  # compacted under us; what was given out is not given out again
        return
    raise _compacted_away(log)


def newest_first(log: LocalLog) -> Iterator[Batch]:
    """All batches from the tail of now back."""
    before = None
    for _ in range(RELOADS):
        spans, newest = log.follower.view()
        end, known = newest.end, newest.last
        try:
            for index in range(len(spans) - 1, -1, -1):
                segment = _open(log, spans, index)
                try:
                    is_newest = index == len(spans) - 1
                    stop = end if is_newest else _sealed_end(log, spans, index, segment)
                    if is_newest and known is not None and known.end == stop:
                        last: Head | None = known
                    else:
                        last = recovery.find_last(segment.read, segment.header.id, stop)
                    reached = last.end if last is not None else HEADER.size
                    if reached != stop:
                        raise segment.corrupt(reached, "a frame does not check")
                    for frame in segment.backward(last) if last is not None else ():
                        if frame.head.type == BATCH and (before is None or frame.head.tail < before):
                            yield Batch(frame.head.sequence, frame.payload, segment.position_of(frame.head.offset))
                            before = frame.head.sequence
                finally:
                    segment.close()
        except FileNotFoundError:
            continue
        return
    raise _compacted_away(log)


def frames_of(log: LocalLog, spans: list[Range]) -> Iterator[tuple[Batch, Head]]:
    """The batches of sealed segments, with their frame headers; each segment must be whole."""
    known, _ = log.follower.view()
    places = {span: index for index, span in enumerate(known)}
    for span in spans:
        for frame, position in _frames(log, known, places[span], 0):
            if frame.head.type == BATCH:
                yield Batch(frame.head.sequence, frame.payload, position), frame.head


def fetch(log: LocalLog, position: Position) -> Batch | None:
    """The batch at `position`; None when a compaction has moved it."""
    if len(position) != POSITION:
        return None  # another engine's, in a journal that was copied
    first, last, *_, offset = position
    try:
        segment = log.follower.open_segment((first, last))
    except FileNotFoundError:
        return None
    try:
        if segment.position_of(offset) != position:
            return None
        frame = segment.frame_at(offset)
        if frame is None:
            raise segment.corrupt(offset, "a frame does not check")
        return Batch(frame.head.sequence, frame.payload, position)
    finally:
        segment.close()


def _compacted_away(log: LocalLog) -> NotLanded:
    return NotLanded(f"compacted {RELOADS} times while it was read", path=log.name, step="read", hint="Read again.")


def _first_needed(log: LocalLog, spans: list[Range], start: int) -> int:
    """The index of the segment in which `start` lies: the last that begins below it."""
    for index in range(len(spans) - 1, 0, -1):
        segment = log.follower.open_segment(spans[index])
        segment.close()
        if segment.header.base < start:
            return index
    return 0


def _frames(log: LocalLog, spans: list[Range], index: int, end: int) -> Iterator[tuple[Frame, Position]]:
    """All frames of one segment, each with its position; it must be whole up to its end."""
    segment = _open(log, spans, index)
    try:
        newest = index == len(spans) - 1
        stop = end if newest else _sealed_end(log, spans, index, segment)
        reached = HEADER.size
        for frame in segment.forward(HEADER.size, stop):
            yield frame, segment.position_of(frame.head.offset)
            reached = frame.head.end
        if reached != stop:
            raise segment.corrupt(reached, "a frame does not check")
    finally:
        segment.close()


def _open(log: LocalLog, spans: list[Range], index: int) -> Segment:
    """A segment of those that were live a moment ago.

    Raises:
        FileNotFoundError: a compaction has replaced it; the first one by its own name, if it was the newest then.
    """
    segment = log.follower.open_segment(spans[index])
    if segment.header.compacted and index == len(spans) - 1:
        segment.close()
        raise FileNotFoundError
    return segment


def _sealed_end(log: LocalLog, spans: list[Range], index: int, segment: Segment) -> int:
    """Where the frames of a sealed segment end, its seal not counted; its successor must be its own.

    Raises:
        Corrupt: the successor names another segment.
    """
    successor = log.follower.open_segment(spans[index + 1])
    successor.close()
    if successor.header.previous_id != segment.header.id:
        raise segment.corrupt(0, "it is not the segment that the next one follows")
    return segment.header.size if segment.header.compacted else successor.header.previous_end
