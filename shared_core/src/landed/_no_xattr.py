"""Where there are no extended attributes: landed flushes its records instead."""

from __future__ import annotations

import errno
import os


def listxattr(fd: int) -> list[str]:
    return []


def getxattr(fd: int, name: str) -> bytes:
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), name)


def setxattr(fd: int, name: str, value: bytes) -> None:
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), name)


def removexattr(fd: int, name: str) -> None:
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), name)
