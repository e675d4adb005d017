"""The system calls that differ between platforms, as Linux (and most Unix systems) have them."""

from __future__ import annotations

import fcntl
import os

pread = os.pread
pwrite = os.pwrite
fsync = os.fsync
fdatasync = os.fdatasync
fchmod = os.fchmod
fchown = os.fchown

if hasattr(os, "listxattr"):
    listxattr = os.listxattr
    getxattr = os.getxattr
    setxattr = os.setxattr
    removexattr = os.removexattr
else:  # pragma: no cover - run on other Unix systems only
    from landed import _no_xattr

    listxattr = _no_xattr.listxattr  # type: ignore[assignment]
    getxattr = _no_xattr.getxattr  # type: ignore[assignment]
    setxattr = _no_xattr.setxattr  # type: ignore[assignment]
    removexattr = _no_xattr.removexattr  # type: ignore[assignment]


def flock(fd: int, *, blocking: bool, shared: bool = False) -> None:
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fcntl.flock(fd, kind if blocking else kind | fcntl.LOCK_NB)


def funlock(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_UN)


def drop_cache(fd: int) -> None:
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def real_directory(path: str) -> str:
    """Where an existing directory is once every link is followed: asked of the kernel, not found out by each component.

    Raises:
        OSError: there is no such directory, or no /proc.
    """
    fd = os.open(path, _PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


_PATH: int = getattr(os, "O_PATH", 0)


def is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid()
