"""A journal's files: which segments are live, one open segment, and how a new one comes to be.

The layout is that of docs/reference/on-disk-format.md. Everything that decides or waits is in `landed.local.log`.
"""

from __future__ import annotations

import _thread
import os

from landed import _fs
from landed.errors import Corrupt, NotLanded, from_os_error
from landed.local import frames, recovery, sizes
from landed.local.ahead import FIRST_AHEAD, PIECE, Ahead
from landed.local.frames import END_MARK, HEADER, SEAL, Frame, Head, Header
from landed.process import boot_id
from landed.publish import publish, temp_name, write_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Final, TypeAlias

    from landed.engine import Position

    Range: TypeAlias = tuple[int, int]
    """The numbers of the first and the last segment that a segment stands for."""

SUFFIX: Final = ".seg"
FIRST: Final = (1, 1)
"""The range in the name of a new journal's segment."""
CATCH_UP: Final = 16 << 10
"""Bytes that are read at once of what other processes have appended."""
COMPARED: Final = 64 << 10
"""Bytes that are read back at once."""
SALVAGE: Final = "Restore the file, or read what is left with: landed journal salvage"
MARK: Final = len(END_MARK)
NOTHING: Final = bytes(frames.FRAME_HEADER)
"""What stands where the next frame's header will."""
READ_AHEAD: Final = 256 << 10
"""Bytes of a sequential read."""


def name_of(span: Range) -> str:
    """The file name of a segment."""
    return f"{span[0]:010d}-{span[1]:010d}{SUFFIX}"


def live(names: Iterable[str], path: str) -> list[Range]:
    """The live segments among a directory's names, in order.

    Raises:
        Corrupt: a segment is missing, or there is none.
    """
    spans = sorted(filter(None, map(span_of, names)), key=lambda span: (span[0], -span[1]))
    kept: list[Range] = []
    for span in spans:
        if kept and span[1] <= kept[-1][1]:
            continue  # replaced by a compaction
        expected = kept[-1][1] + 1 if kept else 1
        if span[0] != expected:
            raise missing((expected, expected), path)
        kept.append(span)
    if not kept:
        raise Corrupt("a journal without a segment", path=path, step="open", hint=SALVAGE)
    return kept


def covering(names: Iterable[str], span: Range) -> Range | None:
    """The segment among a directory's names that stands for the most, `span` included, or None."""
    wider = [other for other in filter(None, map(span_of, names)) if other[0] <= span[0] and span[1] <= other[1]]
    return max(wider, key=lambda other: other[1] - other[0], default=None)


def missing(span: Range, path: str) -> Corrupt:
    """The error for a segment that is not there."""
    return Corrupt(
        f"segment {span[0]} is missing", path=path, step="open", expected=name_of(span), found="no file", hint=SALVAGE
    )


def replaced(names: Iterable[str], kept: list[Range]) -> list[str]:
    """The segments among a directory's names that a compaction has replaced."""
    return [name_of(span) for span in sorted({*filter(None, map(span_of, names))}.difference(kept))]


def span_of(name: str) -> Range | None:
    """The range that a segment's file name tells; None when it is not one."""
    first, _, last = name.removesuffix(SUFFIX).partition("-")
    span = (int(first), int(last)) if first.isdecimal() and last.isdecimal() else None
    return span if span is not None and name_of(span) == name else None


class Segment:
    """One open segment.

    Attributes:
        span: the numbers of the segments it stands for.
        header: its header.
        inode: its number.
        ahead: the zeros that this process writes ahead in it.
        granted: whether it was opened as was asked; else it can only be read.
        running: the boot tag of the running kernel, once it is told; its frames are in the cache as they were written.
        end: where the good frames end that this process has seen.
        last: the header of the last of them, or None.
        tail: the highest sequence number given out up to `end`.
        sealed: whether the last of them is a seal: another segment follows.
        flushed: below this offset everything is on the device, as far as this process knows.
    """

    __slots__ = (
        *("_flags", "_fs", "_look", "_place", "_retired", "_users", "ahead", "directory", "fd", "granted", "header"),
        *("inode", "running", "span", "end", "flushed", "last", "sealed", "tail"),
    )

    def __init__(self, directory: str, span: Range, fs: _fs.FileOps, *, writable: bool) -> None:
        self.directory = directory
        self.span = span
        self._fs = fs
        self._flags = (os.O_RDWR if writable else os.O_RDONLY) | _fs.KEPT
        self.fd = -1
        self.inode = 0
        self._users: list[int] = []
        self.running = frames.NO_BOOT
        self._retired = False
        self.header = self._open()
        self._place = (*span, int.from_bytes(self.header.id, "little"), self.header.edition)
        self.flushed = HEADER.size
        self.ahead = Ahead(fs)
        self._look = frames.FRAME_HEADER
        self._rewind()

    def _rewind(self) -> None:
        self.end = HEADER.size  # first: after an interrupt the frames are found again
        self.last: Head | None = None
        self.tail = self.header.base
        self.sealed = False

    def _open(self) -> Header:
        self.fd, self.granted = _fs.open_or_look(self._fs, self.path, self._flags)
        try:
            status = self._fs.fstat(self.fd)
            header = Header.decode(self.read(0, HEADER.size))
        except BaseException:
            self.close()
            raise
        if header is None or (header.first, header.last) != self.span or header.size != status.st_size:
            self.close()
            raise self.corrupt(
                0, "the header does not check" if header is None else "the size or number is not its own"
            )
        self.inode = status.st_ino
        return header

    def reopen(self) -> None:
        """Open the file again after `close`; it must be the same segment.

        Raises:
            Corrupt: it is another.
        """
        if self._open().id != self.header.id:
            self.close()
            raise self.corrupt(0, "another segment has taken the name")

    def demand(self) -> None:
        """Open again for writing what could only be read.

        Raises:
            OSError: it still cannot be written.
            Corrupt: as `reopen`.
        """
        self._fs.close(self._fs.open(self.path, self._flags))
        self.close()
        self.reopen()

    @property
    def path(self) -> str:
        return os.path.join(self.directory, name_of(self.span))

    def position_of(self, offset: int) -> Position:
        """Where the frame at `offset` stands, for `Log.fetch`."""
        return (*self._place, offset)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from the file, fewer at its end; loops on short reads.

        Raises:
            NotLanded: the system does not give them.
        """
        try:
            data = self._fs.pread(self.fd, size, offset)
            while len(data) < size:
                more = self._fs.pread(self.fd, size - len(data), offset + len(data)) if data else b""
                if not more:
                    break
                data += more
        except OSError as error:
            raise from_os_error(NotLanded, error, "it cannot be read", path=self.path, step="read") from error
        return data

    def holds(self, data: bytes, offset: int) -> bool:
        """Whether the file has `data` at `offset`; in pieces, as fresh memory for all of a large one costs more.

        Raises:
            NotLanded: the system does not give it.
        """
        if len(data) <= COMPARED:
            return self.read(offset, len(data)) == data
        for at in range(0, len(data), COMPARED):
            asked = min(COMPARED, len(data) - at)
            piece = self.read(offset + at, asked)
            if len(piece) != asked or not data.startswith(piece, at):
                return False
        return True

    def write(self, data: bytes, offset: int, *, group: bool = False) -> None:
        """Write at `offset`; what is behind may be filled with zeros.

        Args:
            group: whether many appends go into this one write.

        Raises:
            OSError: as the system does; some of it may be there.
        """
        end = offset + len(data)
        hole = self.ahead.is_hole(self.fd, offset, end)
        _fs.pwrite_all(self._fs, self.fd, data, offset)
        if hole:
            self.ahead.fill(self.fd, offset, end, self.header.size, group=group)

    def erase(self, offset: int, size: int) -> None:
        """Put zeros over what a write that failed has left. No more than that: on a full disk there is no more.

        The last page first: who dies here leaves less of that write, which stops at a page as before.

        Raises:
            OSError: as the system does.
            NotLanded: what it left cannot be read.
        """
        end = offset + len(self.read(offset, size).rstrip(b"\0"))
        while end > offset:
            start = max(offset, (end - 1) // frames.PAGE * frames.PAGE)
            _fs.pwrite_all(self._fs, self.fd, bytes(end - start), start)
            end = start

    def head_at(self, offset: int) -> Head | None:
        return frames.decode_head(self.header.id, offset, self.read(offset, frames.FRAME_HEADER))

    def frame_at(self, offset: int) -> Frame | None:
        """The good frame at `offset`, or None."""
        head = self.head_at(offset)
        if head is None or head.end > self.header.size:
            return None
        data = self.read(offset, head.end - offset)
        payload = frames.decode_body(head, data, 0)
        return Frame(head, payload) if payload is not None else None

    def forward(self, offset: int, stop: int) -> Iterator[Frame]:
        """The good frames from `offset`, up to `stop` or the first bad one."""
        start, data = offset, b""
        while offset < stop:
            frame = frames.decode_frame(self.header.id, offset, data, offset - start)
            if frame is None:
                head = self.head_at(offset)
                if head is None or head.end > self.header.size:
                    return
                start, data = offset, b""  # what was read before goes first
                data = self.read(offset, min(stop - offset, max(READ_AHEAD, head.end - offset)))
                frame = frames.decode_frame(self.header.id, offset, data)
                if frame is None:
                    return
            yield frame
            offset = frame.head.end

    def advance(self) -> bool:
        """Move `end` past the good frames that others have added; whether zeros or a seal follow, as they should."""
        while not self.sealed:
            start = self.end
            data = self.read(start - MARK, MARK + self._look)
            if not data.startswith(END_MARK) and self.last is not None:
                return False  # an older copy has taken its place, or its writer has taken it back
            if data.startswith(NOTHING, MARK) or not any(data[MARK:]):  # fewer bytes at the file's end are nothing, too
                self._look = frames.FRAME_HEADER
                return True
            data = data[MARK:]
            head = frames.decode_head(self.header.id, start, data)
            if head is None or head.end > self.header.size:
                return False
            self._look = CATCH_UP  # whoever appends is likely to have appended more, the next time
            wanted = max(CATCH_UP, head.end - start)
            if len(data) < wanted:
                data += self.read(start + len(data), wanted - len(data))
            if not self._take_last(head, data):
                return False
            if data.startswith(NOTHING, self.end - start):
                return True
        return True

    def _take_last(self, head: Head, data: bytes) -> bool:
        """Take the last of the frames in `data`, the first of which has the header `head`; False if it is not good.

        Those before it are hopped over, as when a segment is opened: nobody appends behind a frame that was cut short,
        and whoever reads them checks them.
        """
        hop = head.boot == self.running != frames.NO_BOOT  # else a power cut may have left a hole before a good frame
        at = frames.last_whole(data, 0) if hop else 0
        last = frames.decode_head(self.header.id, self.end + at, data, at) if at else head
        if last is None or last.end - self.end > len(data) or frames.decode_body(last, data, at) is None:
            return False
        self.take(last)
        return True

    def backward(self, last: Head) -> Iterator[Frame]:
        """The frames from the one behind `last` back to the first.

        Raises:
            Corrupt: one of them does not check.
        """
        offset = last.offset
        while True:
            frame = self.frame_at(offset)
            if frame is None:
                raise self.corrupt(offset, "a frame does not check")
            yield frame
            if frame.head.back == 0:
                return
            offset -= frame.head.back

    def take(self, head: Head) -> None:
        """Count the frame behind `head` as seen."""
        self.last = head
        self.tail = head.tail
        self.sealed = head.type == SEAL
        self.flushed = max(self.flushed, head.flushed)
        self.end = head.end  # last: an interrupt before it leaves a frame that is found again

    def find_end(self, running: int, *, thorough: bool = False) -> str:
        """Move `end` and `last` to the segment's last good frame, and say what follows (`landed.local.recovery`).

        Args:
            running: the boot tag of the running kernel. Under it nothing can be missing before the last frame, and a
                few reads find that; otherwise the whole segment is read.
            thorough: check every frame; else those below a `flushed` that a good frame tells are left to their readers,
                as in a sealed segment.
        """
        self.running = running
        if not thorough and running != frames.NO_BOOT:
            head = recovery.find_last(self.read, self.header.id, self.header.size)
            frame = self.frame_at(head.offset) if head is not None and head.boot == running else None
            if frame is not None:
                self.take(frame.head)
                if self.advance() and (self.sealed or self._is_zero_from(self.end)):
                    return recovery.SEALED if self.sealed else recovery.END
        self._rewind()
        data = self.read(0, self.header.size)
        start = HEADER.size if thorough else recovery.flushed_until(self.header.id, data)
        for frame in recovery.frames(self.header.id, data, start):
            self.take(frame.head)
        found = recovery.judge(self.header, data, self.end, self.last, running)
        return found if self.flushed <= self.end else recovery.DAMAGE

    def _is_zero_from(self, offset: int) -> bool:
        """Whether nothing follows: a page that was lost in the middle must not pass for the end."""
        at = self._seek(_fs.data_after, offset)
        while at < self.header.size:
            stop = self._seek(_fs.hole_after, at)
            rest = self.read(at, stop - at) if stop > at else b"cut off"
            if rest != bytes(len(rest)):
                return False
            at = self._seek(_fs.data_after, stop)
        return True

    def _seek(self, to: Callable[[_fs.FileOps, int, int], int], offset: int) -> int:
        try:
            return to(self._fs, self.fd, offset)
        except OSError as error:
            raise from_os_error(NotLanded, error, "it cannot be read", path=self.path, step="read") from error

    def corrupt(self, offset: int, what: str) -> Corrupt:
        """The error for bytes that fail their check at `offset`."""
        return Corrupt(
            f"{what} (offset {offset})",
            path=self.path,
            step="read",
            found=f"offset {offset}",
            hint=SALVAGE,
        )

    def leads_here(self, names: Mapping[str, int]) -> bool:
        """Whether the name still leads to the open file, by a listing of the directory if that suffices.

        Some file systems list other numbers than they stat; but a stat makes the next flush dearer.

        Raises:
            OSError: as the system does.
        """
        if names.get(name_of(self.span)) == self.inode:
            return True
        try:
            status = self._fs.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        opened = self._fs.fstat(self.fd)
        return (status.st_dev, status.st_ino) == (opened.st_dev, opened.st_ino)

    def flush(self) -> None:
        self._fs.fdatasync(self.fd)

    def drop_cache(self) -> None:
        self._fs.drop_cache(self.fd)

    def hold(self) -> None:
        """Keep the descriptor open, whoever closes the segment, until `let_go`."""
        self._users.append(_thread.get_ident())

    def let_go(self) -> None:
        self._users.remove(_thread.get_ident())
        if self._retired:
            self.close()

    @property
    def in_use(self) -> bool:
        return bool(self._users)

    def forked(self) -> None:
        """In a forked child: give back the descriptor. Of those who held it, only the thread that forked goes on."""
        self._users = [user for user in self._users if user == _thread.get_ident()]
        self.close()

    def close(self) -> None:
        """Give back the descriptor, as soon as nobody holds it."""
        self._retired = self.in_use
        if self._retired:
            return
        fd, self.fd = self.fd, -1
        if fd >= 0:
            _fs.close_read(self._fs, fd)  # what was written to it was flushed, or its failure told


def open_newest(directory: str, span: Range, fs: _fs.FileOps) -> Segment:
    """The segment that is appended to; never a compacted one, which is put in place when the one after it is there.

    Raises:
        Corrupt: its header does not check, or the segment after it is missing.
        OSError: it cannot be opened.
    """
    segment = Segment(directory, span, fs, writable=True)
    if segment.header.compacted:
        segment.close()
        raise missing((span[1] + 1, span[1] + 1), directory)
    return segment


def first(max_bytes: int | None) -> Header:
    """The header of a new journal's first segment.

    Args:
        max_bytes: the journal's growth limit; None for none.
    """
    size = sizes.first_size(max_bytes)
    return Header(size, *FIRST, os.urandom(8), 0, boot=frames.boot_tag(boot_id()))


def create(directory: str, header: Header, mode: int, fs: _fs.FileOps, ahead: int = FIRST_AHEAD) -> None:
    """Publish an empty segment: zeros, most of them a hole, after the header to its size. Put-if-absent.

    Args:
        ahead: bytes that are no hole.

    Raises:
        StaleWrite: it exists.
        NotLanded: nothing was changed.
        OutcomeUnknown: it may or may not survive a crash.
    """
    try:
        place = _fs.Directory(directory, fs)
    except OSError as error:
        raise from_os_error(NotLanded, error, "the journal's directory is gone", path=directory, step="open") from error
    with place:
        temp = temp_name(os.urandom(6).hex())
        name = name_of((header.first, header.last))
        data = _empty(header, ahead)
        publish(place, name, data, temp=temp, replaced=None, mode=mode, size=header.size, piece=PIECE, fs=fs)


def create_first(place: _fs.Directory, header: Header, mode: int, fs: _fs.FileOps) -> None:
    """The same for the first segment of a directory that nobody else can know of yet; the caller flushes its name.

    Raises:
        NotLanded: there is none.
        VerifyFailed: it is not what was written.
    """
    name = name_of((header.first, header.last))
    write_new(place, name, _empty(header, FIRST_AHEAD), mode=mode, size=header.size, piece=PIECE, fs=fs)


def _empty(header: Header, ahead: int) -> bytes:
    return header.encode() + bytes(min(ahead, header.size) - HEADER.size)
