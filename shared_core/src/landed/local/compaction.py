"""Compacting a local log while others append and read.

Everything that is there is sealed by a roll; what is kept of it is written to one new file; its publication under the
wider name is the moment at which the old files stop to count. A power cut before leaves a temp file, one after leaves
old files that no longer count; both are swept.
"""

from __future__ import annotations

import os

from landed import _fs
from landed.errors import LandedError, NotLanded, VerifyFailed, from_os_error
from landed.local import frames, reading, segments
from landed.local.frames import HEADER
from landed.local.full import FullSegment
from landed.lock import Lock
from landed.publish import put_in_place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.engine import Rewrite
    from landed.local.frames import Head
    from landed.local.log import LocalLog
    from landed.local.segments import Range

LOCK: Final = "compact"
TEMP: Final = ".compacting-"


def compact(log: LocalLog, rewrite: Rewrite, timeout: float) -> tuple[int, int]:
    """Replace all segments but the newest by what `rewrite` keeps of them; the bytes in use before and after.

    Raises:
        LockTimeout: another compaction runs.
        Corrupt: a frame does not check. Nothing was changed.
        NotLanded: it could not be written. Nothing was changed.
        OutcomeUnknown: it was put in place, and the flush of that failed.
    """
    lock = Lock(os.path.join(log.name, LOCK), mode=log.directory.mode, fs=log.fs)
    lock.acquire(timeout)
    try:
        _sweep(log)
        before = log.size()
        old = log.seal_all(timeout)
        if not old:
            return before, before
        output = _write(log, old, rewrite)
        return before, output.size + log.replace_segments(output.publish, timeout)
    except OSError as error:
        raise from_os_error(NotLanded, error, "the compaction failed", path=log.name, step="compact") from error
    finally:
        lock.release()


def _sweep(log: LocalLog) -> None:
    """What dead compactions left. Needs the compaction lock."""
    for name in log.fs.listdir(log.name):  # not `JournalDirectory.names`: no change that it finds is taken in here
        if name.startswith(TEMP):
            log.directory.remove(name)


def _write(log: LocalLog, old: list[Range], rewrite: Rewrite) -> _Output:
    output = _Output(log, old)
    try:
        for batch, head in reading.frames_of(log, old):
            payload = rewrite(batch)
            if payload:
                output.add(head, payload)
        output.finish()
    except BaseException:
        output.discard()
        raise
    return output


class _Output:
    """The compacted segment while it is written under a temp name, and then ready to be put in place."""

    def __init__(self, log: LocalLog, old: list[Range]) -> None:
        self._log = log
        self._span = (old[0][0], old[-1][1])
        self._replaces = len(old) == 1
        last = log.follower.open_segment(old[-1])
        last.close()
        self._temp = f"{TEMP}{os.urandom(6).hex()}"
        self._path = os.path.join(log.name, self._temp)
        self._segment = FullSegment(self._path, self._span, last.header.id, log.directory.mode, log.fs)

    def add(self, head: Head, payload: bytes) -> None:
        self._segment.add(head, payload)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._segment.size

    def finish(self) -> None:
        """Flush it, and prove that it reads back: what it replaces goes when it gets its name."""
        header = self._segment.finish()
        if self._read(0, HEADER.size) != header or not self._reads_back():
            raise NotLanded("the compacted segment reads back otherwise", path=self._path, step="verify")
        self._segment.close()

    def _reads_back(self) -> bool:
        offset = HEADER.size
        while offset < self.size:
            head = frames.decode_head(self._segment.id, offset, self._read(offset, frames.FRAME_HEADER))
            if head is None or frames.decode_body(head, self._read(offset, head.end - offset), 0) is None:
                return False
            offset = head.end
        return offset == self.size

    def _read(self, offset: int, size: int) -> bytes:
        data, fd = b"", self._segment.fd
        while len(data) < size and (more := self._log.fs.pread(fd, size - len(data), offset + len(data))):
            data += more
        return data

    def publish(self) -> None:
        """Give it its name, and show that the name leads to it. Needs the append lock."""
        name = segments.name_of(self._span)
        try:
            directory = _fs.Directory(self._log.name, self._log.fs)
        except OSError as error:
            raise self._log.directory.failed(error, "the directory cannot be opened", "open") from error
        with directory:
            put_in_place(directory, self._temp, name, replace=self._replaces)
        try:
            segment = self._log.follower.open_segment(self._span)
        except (LandedError, OSError) as error:
            raise self._not_proved() from error
        segment.close()
        if not segment.header.compacted or segment.header.size != self.size:
            raise self._not_proved()

    def _not_proved(self) -> VerifyFailed:
        return VerifyFailed("the name does not lead to the compacted segment", path=self._log.name, step="verify")

    def discard(self) -> None:
        self._segment.abandon()
        self._log.directory.remove(self._temp)
