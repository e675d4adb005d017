"""Through all of a journal, past damage: every good frame, and what stands between them.

The rules are those of docs/reference/on-disk-format.md, "Reading a segment". Where they say damage, the walk says so
and goes on at the next good frame.
"""

from __future__ import annotations

import struct

from landed import entries
from landed.local import identity, recovery, segments
from landed.local.directory import LOCK
from landed.local.frames import BATCH, HEADER, NO_BOOT, SEAL, Frame, Header, boot_tag
from landed.local.survey import SegmentFile, settle
from landed.process import boot_id
from landed.publish import DEVICE, READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final, TypeAlias

    from landed.local.segments import Range
    from landed.local.survey import Survey

BUSY: Final = "in progress"
"""Kind of a tail: another process holds the lock and may be writing there."""


class Moved(Exception):
    """Others rolled or compacted the journal meanwhile: look again."""


class Damage:
    """Bytes that are not what was written.

    Attributes:
        segment: the name of the file.
        offset, size: which of its bytes; both 0 where the file is missing.
        what: what is wrong, in words.
    """

    __slots__ = ("offset", "segment", "size", "what")

    def __init__(self, segment: str, offset: int, size: int, what: str) -> None:
        self.segment = segment
        self.offset = offset
        self.size = size
        self.what = what

    def __str__(self) -> str:
        if not self.size:
            return f"{self.segment}: {self.what}"
        return f"{self.segment}: offset {self.offset} to {self.offset + self.size}: {self.what}"

    def __repr__(self) -> str:
        return f"<Damage {self}>"


class Tail:
    """Bytes behind the last frame that a crash left. They were never acknowledged and are no part of the journal.

    Attributes:
        kind: `recovery.CRASH`, the machine stopped; `recovery.TORN`, a process died in its write; `BUSY`.
        segment: the name of the file.
        offset, size: which of its bytes.
        tail: the highest sequence number in it, 0 for none.
    """

    __slots__ = ("kind", "offset", "segment", "size", "tail")

    def __init__(self, kind: str, segment: str, offset: int, size: int, tail: int) -> None:
        self.kind = kind
        self.segment = segment
        self.offset = offset
        self.size = size
        self.tail = tail

    def __repr__(self) -> str:
        return f"<Tail {self.kind}: {self.segment}: offset {self.offset}, {self.size} bytes>"


if TYPE_CHECKING:
    Event: TypeAlias = tuple[SegmentFile | None, Frame | Damage | Tail | None]
    """What was met, and in which file; None in the place of the first for a missing file, of the second for a file that
    begins."""


def walk(survey: Survey, *, level: str = READ) -> Iterator[Event]:
    """Everything in a journal, oldest first. Batches come with growing sequence numbers, and their records decode.

    Args:
        level: ``"device"`` reads past the page cache; so does a journal where a flush has failed.

    Raises:
        Moved: others changed the journal meanwhile.
        OSError: a file cannot be opened or read.
    """
    device = level == DEVICE or survey.suspect
    missing = list(survey.missing)
    checker = _Order()
    following: SegmentFile | None = None
    try:
        for index, span in enumerate(survey.spans):
            file = following or _open(survey, span, device=device)
            following = None
            while missing and missing[0][0] < span[0]:
                yield None, _gone(survey, missing.pop(0))
            if index + 1 < len(survey.spans):
                following = _open(survey, survey.spans[index + 1], device=device)
            try:
                for event in _segment(survey, file, following):
                    yield file, checker.check(file, event) if isinstance(event, Frame) else event
            finally:
                file.close()
        for gap in missing:
            yield None, _gone(survey, gap)
    finally:
        if following is not None:
            following.close()


def _open(survey: Survey, span: Range, *, device: bool) -> SegmentFile:
    try:
        return SegmentFile(survey, span, device=device)
    except FileNotFoundError:
        raise Moved from None


def _gone(survey: Survey, gap: Range) -> Damage:
    if survey.changed():  # a long directory is read in pieces, and a compaction may have come in between
        raise Moved
    what = "the segment is missing" if gap[0] == gap[1] else f"segments {gap[0]} to {gap[1]} are missing"
    return Damage(segments.name_of((gap[0], gap[0])), 0, 0, what)


class _Order:
    """What holds from frame to frame and from segment to segment."""

    def __init__(self) -> None:
        self.tail = 0

    def check(self, file: SegmentFile, frame: Frame) -> Frame | Damage:
        head = frame.head
        if head.type == SEAL:
            return frame
        what = _fault(frame)
        if not what and head.sequence <= self.tail:
            what = f"its sequence number {head.sequence} comes after {self.tail}"
        if what:
            return Damage(file.name, head.offset, head.end - head.offset, what)
        self.tail = head.tail
        return frame


def _fault(frame: Frame) -> str:
    """Why a frame that checks cannot be one of a journal; "" when it can."""
    if frame.head.type != BATCH:
        return f"a frame of the unknown type {frame.head.type}"
    try:
        records = list(entries.decode_records(frame.payload))
    except struct.error:
        return "its records do not fill it"
    if entries.encode_records(records) != frame.payload:
        return "its records do not fill it"
    distances = [distance for distance, _ in records]
    if distances != sorted(set(distances)) or distances[-1:] >= [frame.head.count]:
        return "its records are out of order"
    return ""


def _segment(
    survey: Survey, file: SegmentFile, following: SegmentFile | None
) -> Iterator[Frame | Damage | Tail | None]:
    yield None
    fault = file.fault()
    if fault:
        yield Damage(file.name, 0, HEADER.size, fault)
    newest = file.span == survey.spans[-1]
    if file.id is None:
        file.id = identity.find(file, following.header if following is not None else None)
    if file.id is None:
        size = file.used_until(HEADER.size) - HEADER.size
        yield Damage(file.name, HEADER.size, size, "no frame tells which segment it belongs to")
    elif newest:
        yield from _newest(survey, file, file.id)
    else:
        yield from _sealed(file, following)
    for page in sorted(file.unreadable):
        yield Damage(file.name, page, 0, f"the device does not give back the page at offset {page}")


# Sealed segments.


def _sealed(file: SegmentFile, following: SegmentFile | None) -> Iterator[Frame | Damage | Tail]:
    if _broken(file, following):
        yield Damage(file.name, 0, HEADER.size, "it is not the segment that the next one follows")
    stop, ceiling = _bounds(file, following)
    at = HEADER.size
    while at != stop:
        frame = file.frame_at(at) if stop is None or at < stop else None
        if frame is None:
            frame = file.next_frame(at + 1, file.limit if stop is None else stop)
            end = frame.head.offset if frame is not None else file.used_until(at) if stop is None else stop
            if end != at:
                yield Damage(file.name, min(at, end), abs(end - at), "a frame does not check")
            if frame is None:
                return
        at = frame.head.end
        if frame.head.type == SEAL:
            yield frame
            return
        if ceiling is None or frame.head.tail <= ceiling:
            yield frame
        else:
            what = f"its sequence number {frame.head.tail} belongs to the next segment"
            yield Damage(file.name, frame.head.offset, at - frame.head.offset, what)
    yield from _after(file, at)


def _broken(file: SegmentFile, following: SegmentFile | None) -> bool:
    """Whether two headers that check belong to neighbours, and the later one names another segment."""
    if following is None or following.header is None or file.header is None or following.span[0] != file.span[1] + 1:
        return False
    return following.header.previous_id != file.header.id


def _bounds(file: SegmentFile, following: SegmentFile | None) -> tuple[int | None, int | None]:
    """Where the frames of a sealed segment end, and its highest possible sequence number; None when nothing tells."""
    if following is None:
        return None, None
    size = file.header.size if file.header is not None else file.size
    compacted = file.header.compacted if file.header is not None else file.span[0] < file.span[1]
    if following.header is not None:
        named = following.header.previous_id == file.id
        stop = size if compacted else min(size, following.header.previous_end) if named else None
        return stop, following.header.base
    following.id = following.id or identity.find(following, None)
    first = following.next_frame(HEADER.size, following.limit)
    return size if compacted else None, first.head.sequence - 1 if first is not None else None


def _after(file: SegmentFile, end: int) -> Iterator[Frame | Tail]:
    """What stands behind the end that the successor tells: a seal, or what a crash had left."""
    seal = file.frame_at(end)
    if seal is not None and seal.head.type == SEAL:
        yield seal
        return
    used = file.used_until(end)
    if used > end:
        last = _last_tail(file, end, used)
        yield Tail(recovery.CRASH, file.name, end, used - end, last)


def _last_tail(file: SegmentFile, start: int, stop: int) -> int:
    tail = 0
    frame = file.next_frame(start, stop)
    while frame is not None:
        tail = max(tail, frame.head.tail)
        frame = file.next_frame(frame.head.end, stop)
    return tail


# The newest segment.


def _stand_in(file: SegmentFile, segment_id: bytes) -> Header:
    """For a header that does not check: what the name and the frames say."""
    return Header(file.size, *file.span, segment_id, 0)


def _successor_missing(file: SegmentFile) -> Damage:
    number = file.span[1] + 1
    return Damage(segments.name_of((number, number)), 0, 0, "the segment after a sealed one is missing")


def _newest(survey: Survey, file: SegmentFile, segment_id: bytes) -> Iterator[Frame | Damage | Tail]:
    if file.header is not None and file.header.compacted:
        yield from _sealed(file, None)
        if survey.changed():
            raise Moved
        yield _successor_missing(file)
        return
    running = NO_BOOT if survey.suspect else boot_tag(boot_id())
    data, busy = settle(file, survey.hold(LOCK), running)
    at, last = HEADER.size, None
    while True:
        for frame in recovery.frames(segment_id, data, at):
            yield frame
            at, last = frame.head.end, frame.head
        found = recovery.judge(file.header or _stand_in(file, segment_id), data, at, last, running)
        if found == recovery.END:
            return
        if found == recovery.SEALED:
            if survey.changed():
                raise Moved
            yield _successor_missing(file)
            return
        used = len(data.rstrip(b"\0"))
        if found in {recovery.CRASH, recovery.TORN} or busy:
            tail = _last_tail(file, at, used)
            yield Tail(BUSY if busy else found, file.name, at, used - at, tail)
            return
        resumed = file.next_frame(at + 1, used)
        end = resumed.head.offset if resumed is not None else used
        yield Damage(file.name, at, end - at, "bytes that were on the device have changed")
        if resumed is None:
            return
        at = resumed.head.offset
