"""What a journal's files hold, without opening it as one: for a look, for a proof, and for one that is damaged.

    report = landed.inspection.examine("events")
    for damage in report.damage:
        print(damage)

Nothing is created, repaired or removed: a directory that may only be read will do, and so will a copy of one. Others
may append and compact meanwhile.
"""

from __future__ import annotations

import os
import stat

from landed import _fs, entries
from landed.engine import Batch
from landed.errors import NotLanded
from landed.local.claim import CLAIM
from landed.local.directory import LOCK
from landed.local.frames import HEADER, NO_BOOT, SEAL, Frame, boot_tag
from landed.local.segments import span_of
from landed.local.survey import Survey
from landed.local.walk import BUSY, Damage, Moved, Tail, walk
from landed.process import boot_id
from landed.publish import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final

    from landed.entries import Entry
    from landed.local.survey import Hold, SegmentFile

RELOADS: Final = 16
"""How often a journal that is compacted under the reader is looked at again before that is an error."""


class SegmentReport:
    """What one segment holds.

    Attributes:
        name: of the file.
        size: of the file, in bytes.
        used: bytes of its header and its good frames.
        frames, records: how many good ones it has; a seal is a frame.
        first, last: the sequence numbers of its first and its last record; 0 for none.
        sealed: whether a segment follows it.
        boot: the boot tag of its last frame; 0 for none or unknown.
        flushed: the offset below which its last frame says that everything is on the device.
        tail: what a crash left behind its frames, or None.
    """

    __slots__ = ("boot", "first", "flushed", "frames", "last", "name", "records", "sealed", "size", "tail", "used")

    def __init__(self, file: SegmentFile, *, sealed: bool) -> None:
        self.name = file.name
        self.size = file.size
        self.used = HEADER.size
        self.frames = 0
        self.records = 0
        self.first = 0
        self.last = 0
        self.sealed = sealed
        self.boot = NO_BOOT
        self.flushed = HEADER.size
        self.tail: Tail | None = None

    def count(self, frame: Frame) -> None:
        """Add a good frame."""
        head = frame.head
        self.frames += 1
        self.used += head.end - head.offset
        self.boot = head.boot
        self.flushed = max(self.flushed, head.flushed)
        if head.type == SEAL:
            return
        distances = [distance for distance, _ in entries.decode_records(frame.payload)]
        self.records += len(distances)
        if distances:
            self.first = self.first or head.sequence + distances[0]
            self.last = head.sequence + distances[-1]

    @property
    def this_boot(self) -> bool | None:
        """Whether its last frame was written since this machine booted; None when that cannot be told."""
        running = boot_tag(boot_id())
        return None if NO_BOOT in {running, self.boot} else self.boot == running


class Report:
    """What a journal holds.

    Attributes:
        path: its directory.
        segments: its live segments, in order.
        damage: what is missing or not what was written; empty for a journal that is whole.
        lock, claim: who appends or owns it just now.
        suspect: whether a flush failed; the next appender goes on from what the device holds.
        leftovers: temp files that a writer has begun, or that a dead one left.
        replaced: segments that a compaction has replaced and not removed yet.
    """

    __slots__ = ("claim", "damage", "leftovers", "lock", "path", "replaced", "segments", "suspect")

    def __init__(self, survey: Survey) -> None:
        self.path = survey.path
        self.segments: list[SegmentReport] = []
        self.damage: list[Damage] = []
        self.lock: Hold = survey.hold(LOCK).look()
        self.claim: Hold = survey.hold(CLAIM).look()
        self.suspect = survey.suspect
        self.leftovers = survey.leftovers
        self.replaced = survey.replaced

    @property
    def tails(self) -> list[Tail]:
        """What crashes left, oldest first."""
        return [segment.tail for segment in self.segments if segment.tail is not None]

    @property
    def busy(self) -> bool:
        """Whether a writer kept the lock with a frame half written, so that the end could not be judged."""
        return any(tail.kind == BUSY for tail in self.tails)

    @property
    def tail(self) -> int:
        """The sequence number of the last record that reads; 0 for none."""
        return max((segment.last for segment in self.segments), default=0)


def examine(
    directory: str | os.PathLike[str],
    *,
    level: str = READ,
    watch: Callable[[int, int], None] | None = None,
    fs: _fs.FileOps = _fs.LOCAL,
) -> Report:
    """Read all of a journal and check every frame, the order of its records, and that its segments join.

    Args:
        directory: the journal's.
        level: ``"read"``, or ``"device"`` to read past the page cache.
        watch: told now and then how many bytes were read, and of how many.
        fs: the file operations to use.

    Raises:
        Refused: there is no journal.
        NotLanded: it changed time and again while it was read.
        OSError: it cannot be read.
    """
    path = os.fspath(directory)
    for _ in range(RELOADS):
        survey = Survey(path, fs)
        try:
            return _examine(survey, level, watch)
        except Moved:
            continue
    raise _restless(path)


def _examine(survey: Survey, level: str, watch: Callable[[int, int], None] | None) -> Report:
    report = Report(survey)
    total = survey.size()
    before = 0
    for file, event in walk(survey, level=level):
        if event is None and file is not None:
            before += report.segments[-1].size if report.segments else 0
            report.segments.append(SegmentReport(file, sealed=file.span != survey.spans[-1]))
        elif isinstance(event, Frame):
            report.segments[-1].count(event)
            if watch is not None:
                watch(before + event.head.end, total)
        elif isinstance(event, Tail):
            report.segments[-1].tail = event
        elif isinstance(event, Damage):
            report.damage.append(event)
    return report


def records(
    directory: str | os.PathLike[str], *, start: int = 1, fs: _fs.FileOps = _fs.LOCAL
) -> Iterator[tuple[Entry, str]]:
    """The records that read, oldest first, past damage; each with the name of the segment that it is in.

    Args:
        directory: the journal's.
        start: the first sequence number.
        fs: the file operations to use.

    Raises:
        LandedError: as `examine`.
    """
    path = os.fspath(directory)
    for _ in range(RELOADS):
        survey = Survey(path, fs)
        try:
            for file, event in walk(survey):
                if file is None or not isinstance(event, Frame) or event.head.type == SEAL:
                    continue
                batch = Batch(event.head.sequence, event.payload, (*file.span, event.head.offset))
                for entry in entries.entries(batch, path):
                    if entry.sequence >= start:
                        yield entry, file.name
                        start = entry.sequence + 1
            return
        except Moved:
            continue
    raise _restless(path)


def _restless(path: str) -> NotLanded:
    return NotLanded(f"changed {RELOADS} times while it was read", path=path, step="read", hint="Try again.")


def journals(directory: str, fs: _fs.FileOps = _fs.LOCAL) -> Iterator[str]:
    """The journals at and below a directory; links are not followed.

    What cannot be listed is passed over, but for the directory itself: it is there, and whether it is a journal cannot
    be told, so that it comes as one that cannot be read.
    """
    waiting = [directory]
    while waiting:
        path = waiting.pop()
        try:
            names = sorted(fs.listdir(path), reverse=True)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            if path == directory:
                yield path
            continue
        if any(map(span_of, names)):
            yield path
        for name in names:
            below = os.path.join(path, name)
            try:
                if stat.S_ISDIR(fs.stat(below, follow_symlinks=False).st_mode):
                    waiting.append(below)
            except OSError:
                continue
