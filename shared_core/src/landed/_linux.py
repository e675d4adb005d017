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


_EXACT = frozenset({"ext4", "xfs"})
"""File systems with multigrain timestamps. btrfs has them too, but its device numbers do not tell which it is."""
_MULTIGRAIN = (6, 13)
"""The first Linux with them."""
_exact: dict[int, bool] = {}


def exact_times(device: int) -> bool:
    known = _exact.get(device)
    if known is None:
        known = _exact[device] = _find_exact(device)
    return known


def _find_exact(device: int) -> bool:
    release = os.uname().release.split(".")
    if len(release) <= 1 or not all(part.isdigit() for part in release[:2]):
        return False
    if (int(release[0]), int(release[1])) < _MULTIGRAIN:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            for mount in mounts:
                fields = mount.split()
                if fields[2] == number:
                    return fields[fields.index("-") + 1] in _EXACT
    except (OSError, ValueError, IndexError):
        return False
    return False
