"""Who holds a lock: what the holder wrote beside it, checked against what the kernel says.

For messages and reports, and so apart from `landed.lock`: nothing that excludes anybody reads it.
"""

from __future__ import annotations

import os
from time import time

from landed import _fs, process
from landed.lock import HOLDER_OFFSET, HOLDER_SIZE, WATCHED
from landed.process import Owner


class Holder:
    """Who holds a lock and since when, as the holder wrote it down. For messages; nothing trusts it.

    Attributes:
        owner: the process.
        since: when it took the lock, in seconds since the epoch; None when it did not write that down.
    """

    __slots__ = ("owner", "since")

    def __init__(self, owner: Owner, since: float | None) -> None:
        self.owner = owner
        self.since = since

    def __str__(self) -> str:
        if self.since is None:
            return str(self.owner)
        return f"{self.owner}, for {max(0.0, time() - self.since):.1f} s"


def holder_of(path: str, fs: _fs.FileOps) -> Holder | None:
    """Who holds the lock file, by the kernel's word, or else who wrote it down last and lives; None when unknown."""
    try:
        fd = fs.open(path, os.O_RDONLY | _fs.KEPT)
        try:
            line = fs.pread(fd, HOLDER_SIZE, HOLDER_OFFSET)
            inode = fs.fstat(fd).st_ino
        finally:
            fs.close(fd)
    except OSError:
        return None
    since, _, rest = line.strip(b"\0\n ").partition(b" ")
    owner = Owner.decode(rest.decode("utf-8", "replace"))
    locker = process.locker(inode)
    if locker is not None and (owner is None or owner.host != locker.host or owner.pid != locker.pid):
        return Holder(locker, None)
    try:
        signed = None if since == WATCHED else float(since)
        return Holder(owner, signed) if owner is not None and owner.alive() is not False else None
    except ValueError:
        return None
