"""The system calls that differ between platforms, for Windows. Not run there yet: tested with stand-ins on Linux."""

from __future__ import annotations

import errno
import os

from landed._no_xattr import getxattr, listxattr, removexattr, setxattr

__all__ = ["getxattr", "listxattr", "removexattr", "setxattr"]


def pread(fd: int, size: int, offset: int) -> bytes:
    os.lseek(fd, offset, os.SEEK_SET)
    return os.read(fd, size)


def pwrite(fd: int, data: bytes | memoryview, offset: int) -> int:
    os.lseek(fd, offset, os.SEEK_SET)
    return os.write(fd, data)


fsync = os.fsync
fdatasync = os.fsync


def fchmod(fd: int, mode: int) -> None:
    """Windows has no permission bits to keep."""


def fchown(fd: int, uid: int, gid: int) -> None:
    """Windows has no numeric owners to keep."""


def flock(fd: int, *, blocking: bool, shared: bool = False) -> None:
    # filelock's LockFileEx code is the part worth not writing again; it takes the same byte as its FileLock does.
    from filelock import lock_descriptor

    if not lock_descriptor(fd, blocking=blocking):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def funlock(fd: int) -> None:
    from filelock import unlock_descriptor

    unlock_descriptor(fd)


def drop_cache(fd: int) -> None:
    """Windows has no call for it; a read then proves what the system holds."""


def real_directory(path: str) -> str:
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), path)


def is_ours(status: os.stat_result) -> bool:
    return False
