"""What a read-only mount answers."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from landed import _fs


class ReadOnly(_fs.FileOps):
    """A directory as a read-only mount shows it; everywhere else the real thing."""

    def __init__(self, directory: Path) -> None:
        self._below = str(directory)

    def _refuse(self, path: str) -> None:
        if os.path.abspath(path).startswith(self._below):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    def open(self, path: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            self._refuse(path)
        return super().open(path, flags, mode, dir_fd=dir_fd)

    def rename(self, source: str, target: str, *, dir_fd: int | None = None) -> None:
        self._refuse(source)
        self._refuse(target)
        super().rename(source, target, dir_fd=dir_fd)

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        self._refuse(path)
        super().unlink(path, dir_fd=dir_fd)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self._refuse(path)
        super().mkdir(path, mode)
