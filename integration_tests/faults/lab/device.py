"""A block device that remembers and misbehaves: one file, served by FUSE, for a loop device to stand on.

Run as ``python -m lab.device MOUNTPOINT IMAGE LOG``. The mountpoint then has three files:

- ``disk`` is the device. Its bytes are those of IMAGE. Every write, every flush and every mark goes to LOG in the
  order in which they arrive: one thread serves them all.
- ``marks``: what is written here is put into LOG between the writes and flushes, for a program to say "from here on
  this is acknowledged".
- ``orders``: a JSON object written here makes the device misbehave from now on (`Orders`); an empty one ends it.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import stat
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import mfusepy

from lab.log import ENTRY, FLUSH, MARK, WRITE

PR_SET_PDEATHSIG = 1


@dataclass
class Orders:
    """How the device is to misbehave.

    Attributes:
        fail: the kinds of request, ``write``, ``flush`` and ``read``, that are answered with EIO.
        after: so many of them are served before.
        times: so many are failed; -1 for all.
        offsets: only requests that touch this range of bytes count.
        flush_ms: a flush takes so long.
        lie: a flush is answered without anything being made durable: it is left out of the log.
    """

    fail: str = ""
    after: int = 0
    times: int = -1
    offsets: tuple[int, int] | None = None
    flush_ms: float = 0
    lie: bool = False

    def hits(self, kind: str, offset: int = 0, size: int = 0) -> bool:
        if self.fail != kind or self.times == 0:
            return False
        if self.offsets is not None and not (offset < self.offsets[1] and self.offsets[0] < offset + size):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        return True


class Device(mfusepy.Operations):
    """The files of the mountpoint."""

    use_ns = True

    def __init__(self, image: str, log: str) -> None:
        self._disk = os.open(image, os.O_RDWR)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._orders = Orders()
        self.failed = 0

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
        if path not in {"/disk", "/marks", "/orders"}:
            raise mfusepy.FuseOSError(errno.ENOENT)
        size = os.fstat(self._disk).st_size if path == "/disk" else 0
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": size}

    def open(self, path: str, flags: int) -> int:
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        if path == "/orders":
            return str(self.failed).encode()[offset : offset + size]
        if self._orders.hits("read", offset, size):
            self._fail()
        return os.pread(self._disk, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        if path == "/orders":
            self._orders, self.failed = Orders(**json.loads(data)), 0
        elif path == "/marks":
            self._note(MARK, 0, data)
        elif self._orders.hits("write", offset, len(data)):
            self._fail()
        else:
            os.pwrite(self._disk, data, offset)
            self._note(WRITE, offset, data)
        return len(data)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        if path != "/disk":
            return 0
        if self._orders.hits("flush"):
            self._fail()
        if self._orders.flush_ms:
            time.sleep(self._orders.flush_ms / 1000)
        if not self._orders.lie:
            self._note(FLUSH, 0, b"")
        return 0

    def _fail(self) -> None:
        self.failed += 1
        raise mfusepy.FuseOSError(errno.EIO)

    def _note(self, kind: bytes, offset: int, data: bytes) -> None:
        os.writev(self._log, [ENTRY.pack(kind, offset, len(data)), data])


if __name__ == "__main__":
    mountpoint, image, log = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # or it would keep the namespace of one that was killed
    with suppress(RuntimeError):  # it is ended by a signal, and whoever waits for it sees that it did not start
        mfusepy.FUSE(
            Device(image, log), mountpoint, foreground=True, nothreads=True, direct_io=True, fsname="landed-lab"
        )
