"""Writing a segment that is full from the start, as a compaction and a salvage leave one: its frames, then its header.

A crash before the end leaves a file without a header, which nobody takes for a segment.
"""

from __future__ import annotations

import os

from landed import _fs
from landed.local import frames
from landed.local.frames import BATCH, HEADER, Head, Header
from landed.lock import PRIVATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.local.segments import Range

WRITE_SIZE: Final = 1 << 20
"""Bytes collected before they are written."""


class FullSegment:
    """A new file that becomes a full segment. Its methods raise OSError as the system does.

    Args:
        path: where it is written; nothing may be there.
        span: the numbers of the segments it will stand for.
        segment_id: its id, which the header of the segment after it names.
        mode: its permission bits.

    Attributes:
        fd: its descriptor; -1 once it is closed.
        size: bytes of it so far.
    """

    def __init__(self, path: str, span: Range, segment_id: bytes, mode: int, fs: _fs.FileOps) -> None:
        self._fs = fs
        self._span = span
        self.id = segment_id
        self.fd = fs.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _fs.NOFOLLOW, mode)
        try:
            if mode != PRIVATE:
                fs.fchmod(self.fd, mode)  # the umask's part as well
        except BaseException:
            self.abandon()
            raise
        self._parts = [bytes(HEADER.size)]
        self._collected = self.size = HEADER.size
        self._back = 0

    def add(self, head: Head, payload: bytes) -> None:
        """Add the batch of a frame, with a payload that may be another."""
        moved = Head(
            self.size,
            BATCH,
            len(payload),
            count=head.count,
            sequence=head.sequence,
            flushed=0,
            back=self._back,
            boot=frames.NO_BOOT,
        )
        data = moved.encode(self.id, payload)
        self._parts.append(data)
        self._collected += len(data)
        self.size += len(data)
        self._back = len(data)
        if self._collected >= WRITE_SIZE:
            self._drain()

    def _drain(self) -> None:
        _fs.write_all(self._fs, self.fd, b"".join(self._parts))
        self._parts, self._collected = [], 0

    def finish(self) -> bytes:
        """Write what is left and the header, and flush; the header."""
        self._drain()
        edition = os.urandom(8)  # a later compaction may write the same frames to other places
        header = Header(self.size, *self._span, self.id, 0, edition, compacted=True).encode()
        _fs.pwrite_all(self._fs, self.fd, header, 0)
        self._fs.fsync(self.fd)
        return header

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self._fs.close(fd)

    def abandon(self) -> None:
        """Close what will be removed."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            _fs.close_read(self._fs, fd)
