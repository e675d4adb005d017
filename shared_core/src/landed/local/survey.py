"""A journal as it lies on the disk, for whoever must not touch it: names, holders, files that may be damaged.

Nothing here creates, repairs or removes anything; a directory that may only be read, and a copy of one, will do.
"""

from __future__ import annotations

import errno
import os
from time import monotonic, sleep

from landed import _fs
from landed.engines import refuse_address
from landed.errors import Refused
from landed.local import frames, recovery, segments
from landed.local.compaction import TEMP
from landed.local.directory import LOCK, SUSPECT, is_one_of_many
from landed.local.frames import FRAME_HEADER, FRAME_MAGIC, HEADER, PAGE, Frame, Header
from landed.lock import Lock
from landed.publish import TEMP_PREFIX, TEMP_SUFFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.holder import Holder
    from landed.local.segments import Range

WINDOW: Final = 1 << 20
"""Bytes of a sequential read."""
UNREADABLE: Final = b"\xff"
"""What stands for a byte that the device does not give back: zeros would look like the end of the frames."""
PATIENCE: Final = 5.0
"""Seconds to wait for a write that seems to be under way."""
GLANCE: Final = 0.02
"""Seconds between two looks at it."""


class Survey:
    """What the names in a journal's directory say.

    Attributes:
        path: the directory, absolute.
        spans: the live segments, in order, whether or not they join.
        missing: the ranges of numbers that no segment stands for.
        replaced: the names of segments that a compaction has replaced.
        leftovers: the names of temp files.
        suspect: whether a flush failed, so that the page cache proves nothing.

    Raises:
        Refused: there is no journal.
        OSError: as the system does.
    """

    __slots__ = ("fs", "leftovers", "missing", "path", "replaced", "spans", "suspect")

    def __init__(self, path: str, fs: _fs.FileOps = _fs.LOCAL) -> None:
        refuse_address(path)
        self.path = os.path.abspath(path)
        self.fs = fs
        names = sorted(fs.listdir(self.path))
        found = list(filter(None, map(segments.span_of, names)))
        if not found and LOCK not in names:
            raise self._no_journal(names)
        self.spans, self.missing = _chain(found)
        self.replaced = segments.replaced(names, self.spans)
        self.leftovers = [name for name in names if _is_temp(name)]
        self.suspect = SUSPECT in names

    def _no_journal(self, names: list[str]) -> Refused:
        what, hint = "there is no journal here", "Name a journal's directory."
        if any(is_one_of_many(os.path.join(self.path, name), self.fs) for name in names):
            what = "many journals are kept here, each in a directory of its own"
            hint = "Name one of those directories; `landed audit` checks all."
        return Refused(what, path=self.path, step="open", hint=hint)

    def changed(self) -> bool:
        """Whether segments were added or removed since."""
        return Survey(self.path, self.fs).spans != self.spans

    def path_of(self, span: Range) -> str:
        """The path of a segment."""
        return os.path.join(self.path, segments.name_of(span))

    def size(self) -> int:
        """Bytes of the live segments.

        Raises:
            OSError: as the system does.
        """
        total = 0
        for span in self.spans:
            try:
                total += self.fs.stat(self.path_of(span), follow_symlinks=False).st_size
            except FileNotFoundError:
                continue  # compacted meanwhile
        return total

    def hold(self, name: str) -> Hold:
        """One of the journal's lock files."""
        return Hold(os.path.join(self.path, name), self.fs)


def _is_temp(name: str) -> bool:
    return name.startswith(TEMP) or (name.startswith(TEMP_PREFIX) and name.endswith(TEMP_SUFFIX))


def _chain(found: list[Range]) -> tuple[list[Range], list[Range]]:
    """The live ranges, and the gaps between them."""
    kept: list[Range] = []
    missing: list[Range] = []
    expected = 1
    for span in sorted(found, key=lambda span: (span[0], -span[1])):
        if span[1] < expected:
            continue  # replaced by a compaction
        if span[0] > expected:
            missing.append((expected, span[0] - 1))
        kept.append(span)
        expected = span[1] + 1
    return kept, missing if found else [(1, 1)]


class Hold:
    """A lock file as a bystander sees it: never created, never signed. As a context manager it is held without waiting.

    Attributes:
        held: whether somebody else holds it; None when it cannot be told.
        holder: who says so, or None.
    """

    __slots__ = ("_fd", "_fs", "held", "holder", "path")

    def __init__(self, path: str, fs: _fs.FileOps) -> None:
        self.path = path
        self._fs = fs
        self._fd = -1
        self.held: bool | None = None
        self.holder: Holder | None = None

    def look(self) -> Hold:
        """Try it for an instant, which nobody who waits notices; this object, with its attributes set."""
        try:
            with self:
                self.held = False
        except FileNotFoundError:
            self.held = False
        except OSError as error:
            self.held = True if error.errno in _fs.CONTENDED else None
            self.holder = Lock(self.path, fs=self._fs).holder() if self.held else None
        return self

    def __enter__(self) -> None:
        fd = self._fs.open(self.path, os.O_RDONLY | _fs.KEPT)
        try:
            self._fs.flock(fd, blocking=False)
        except BaseException:
            self._fs.close(fd)
            raise
        self._fd = fd

    def __exit__(self, *_: object) -> None:
        self._fs.close(self._fd)  # which gives it back


class SegmentFile:
    """One segment, whatever is left of it, for reading. What the device does not give back reads as 0xFF.

    Attributes:
        span: the numbers of the segments it stands for, by its name.
        size: of the file, in bytes.
        header: its header, or None when that does not check.
        id: what its frames are bound to, or None when nothing tells.
        unreadable: offsets of the pages that the device does not give back.

    Raises:
        OSError: it cannot be opened.
    """

    __slots__ = ("_fd", "_fs", "_start", "_window", "header", "id", "name", "path", "size", "span", "unreadable")

    def __init__(self, survey: Survey, span: Range, *, device: bool = False) -> None:
        self.span = span
        self.name = segments.name_of(span)
        self.path = survey.path_of(span)
        self.unreadable: set[int] = set()
        self._fs = survey.fs
        self._start, self._window = 0, b""
        self._fd = self._fs.open(self.path, os.O_RDONLY | _fs.KEPT)
        try:
            self.size = self._fs.fstat(self._fd).st_size
            if device:
                self._fs.drop_cache(self._fd)
            self.header = Header.decode(self._pread(0, HEADER.size))
        except BaseException:
            self.close()
            raise
        self.id = self.header.id if self.header is not None else None

    @property
    def limit(self) -> int:
        """The offset at which frames end at the latest."""
        return min(self.size, self.header.size) if self.header is not None else self.size

    def fault(self) -> str:
        """What is wrong with the header, in words; "" for nothing."""
        if self.header is None:
            return "the header does not check"
        if (self.header.first, self.header.last) != self.span:
            return f"the header says that this is {segments.name_of((self.header.first, self.header.last))}"
        if self.header.size != self.size:
            return f"the file has {self.size} bytes, its header says {self.header.size}"
        return ""

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from the file, fewer at its end; in the order of their offsets this costs few system calls."""
        at = offset - self._start
        if at < 0 or at + size > len(self._window):
            self._start, self._window, at = offset, self._pread(offset, max(size, WINDOW)), 0
        return self._window[at : at + size]

    def whole(self) -> bytes:
        """All of the file as it is now."""
        return self._pread(0, self.limit)

    def _pread(self, offset: int, size: int) -> bytes:
        parts: list[bytes] = []
        end = offset + size
        while offset < end:
            try:
                data = self._fs.pread(self._fd, min(end - offset, WINDOW), offset)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                data = self._page(offset, end)
            if not data:
                break
            parts.append(data)
            offset += len(data)
        return b"".join(parts)

    def _page(self, offset: int, end: int) -> bytes:
        """The rest of one page, or what stands for it."""
        size = min(end, self.size, offset // PAGE * PAGE + PAGE) - offset
        try:
            return self._fs.pread(self._fd, size, offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self.unreadable.add(offset // PAGE * PAGE)
            return UNREADABLE * size

    def frame_at(self, offset: int) -> Frame | None:
        """The good frame at `offset`, or None."""
        if self.id is None:
            return None
        head = frames.decode_head(self.id, offset, self.read(offset, FRAME_HEADER))
        if head is None or head.end > self.limit:
            return None
        payload = frames.decode_body(head, self.read(offset, head.end - offset), 0)
        return Frame(head, payload) if payload is not None else None

    def next_frame(self, offset: int, stop: int) -> Frame | None:
        """The first good frame from `offset` on that begins before `stop`."""
        while (found := self.find(FRAME_MAGIC, offset, stop)) >= 0:
            frame = self.frame_at(found)
            if frame is not None:
                return frame
            offset = found + 1
        return None

    def find(self, what: bytes, offset: int, stop: int) -> int:
        """Where `what` begins, from `offset` on and before `stop`; -1 for nowhere."""
        while offset < stop:
            data = self.read(offset, min(WINDOW // 2, stop - offset) + len(what) - 1)
            found = data.find(what)
            if found >= 0:
                return offset + found
            if len(data) < len(what):
                return -1
            offset += len(data) - len(what) + 1
        return -1

    def used_until(self, offset: int) -> int:
        """The end of the last byte from `offset` on that is not zero; `offset` when there is none."""
        used = offset
        while offset < self.limit:
            data = self.read(offset, min(WINDOW // 2, self.limit - offset))
            if not data:
                break
            rest = data.rstrip(b"\0")
            used = offset + len(rest) if rest else used
            offset += len(data)
        return used

    def close(self) -> None:
        self._fs.close(self._fd)


def settle(file: SegmentFile, lock: Hold, running: int) -> tuple[bytes, bool]:
    """The newest segment without a write under way, as far as waiting helps; and whether one seems to be still.

    What looks torn or damaged may be another process's write. Under the append lock there is none.
    """
    deadline = monotonic() + PATIENCE
    busy = False
    while True:
        data = file.whole()
        if not _looks_broken(file, data, running):
            return data, False
        try:
            with lock:
                return file.whole(), False
        except FileNotFoundError:
            return data, False  # a copy: nobody writes here
        except OSError as error:
            busy = error.errno in _fs.CONTENDED
        if monotonic() > deadline:
            return data, busy
        sleep(GLANCE)


def _looks_broken(file: SegmentFile, data: bytes, running: int) -> bool:
    if file.id is None or file.header is None:
        return False
    end, last = HEADER.size, None
    for frame in recovery.frames(file.id, data):
        end, last = frame.head.end, frame.head
    return recovery.judge(file.header, data, end, last, running) in {recovery.TORN, recovery.DAMAGE}
