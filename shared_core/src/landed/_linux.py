"""The system calls that differ between platforms, as Linux (and most Unix systems) have them."""

from __future__ import annotations

import fcntl
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

pread = posix.pread
pwrite = posix.pwrite
fsync = posix.fsync
fdatasync = posix.fdatasync
fchmod = posix.fchmod
fchown = posix.fchown

if hasattr(posix, "listxattr"):
    listxattr = posix.listxattr
    getxattr = posix.getxattr
    setxattr = posix.setxattr
    removexattr = posix.removexattr
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
    posix.posix_fadvise(fd, 0, 0, posix.POSIX_FADV_DONTNEED)


def real_directory(path: str) -> str:
    """Where an existing directory is once every link is followed: asked of the kernel, not found out by each component.

    Raises:
        OSError: there is no such directory, or no /proc.
    """
    fd = posix.open(path, _PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        return posix.readlink(f"/proc/self/fd/{fd}")
    finally:
        posix.close(fd)


_PATH: int = getattr(posix, "O_PATH", 0)


def is_ours(status: os.stat_result) -> bool:
    return status.st_uid == posix.geteuid()
