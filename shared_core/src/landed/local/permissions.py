"""Who may use a journal: its owner, and whoever may write the directory that it was made in.

Where that directory's group may write it, the journal's files are the group's as well (0660), and where everybody may,
everybody's (0666); they are private (0600) otherwise. A directory with the sticky bit shares nothing, as in ``/tmp``:
what is made in there is its maker's.
"""

from __future__ import annotations

import os
import stat

from landed import _fs
from landed.lock import PRIVATE
from landed.state import directory_mode


class Permissions:
    """What a directory gives to the journals that are made in it.

    Args:
        path: the directory; where there is none yet, the nearest above it that there is.

    Attributes:
        mode: permission bits of files.
        sticky: whether everybody makes names in it, and keeps to their own.

    Raises:
        OSError: it cannot be looked up.
    """

    __slots__ = ("_fs", "_group", "mode", "sticky")

    def __init__(self, path: str, fs: _fs.FileOps) -> None:
        self._fs = fs
        status = _nearest(path, fs)
        self._group = status.st_gid
        self.mode = PRIVATE
        self.sticky = bool(status.st_mode & stat.S_ISVTX) and not _fs.WINDOWS
        if _fs.WINDOWS or self.sticky:
            return
        if status.st_mode & 0o020 and _can_give(status):
            self.mode |= 0o060
        if status.st_mode & 0o002:
            self.mode |= 0o006

    def share(self, directory: str) -> None:
        """Give a directory that this process has just made the bits that the umask took, and its group.

        Raises:
            OSError: as the system does.
        """
        if self.mode == PRIVATE:
            return
        mode = directory_mode(self.mode)
        fd = self._fs.open(directory, os.O_RDONLY | _fs.DIRECTORY | _fs.NOFOLLOW)
        try:
            if self.mode & 0o060:
                if self._fs.fstat(fd).st_gid != self._group:
                    self._fs.fchown(fd, -1, self._group)
                mode |= stat.S_ISGID  # what is made in it belongs to the group, whoever makes it
            self._fs.fchmod(fd, mode)
        finally:
            self._fs.close(fd)


def _nearest(path: str, fs: _fs.FileOps) -> os.stat_result:
    while True:
        try:
            return fs.stat(path)
        except FileNotFoundError:
            if path == (path := os.path.dirname(path)):
                raise


def _can_give(status: os.stat_result) -> bool:
    """Whether this process may give files to the directory's group, or the system does."""
    return bool(
        status.st_mode & stat.S_ISGID
        or os.geteuid() == 0
        or status.st_gid == os.getegid()
        or status.st_gid in os.getgroups()
    )
