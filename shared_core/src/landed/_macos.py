"""The system calls that differ between platforms, for macOS. Not run there yet: tested with stand-ins on Linux.

Extended attributes go through libc by ctypes, because the os module has none on macOS.
"""

from __future__ import annotations

import errno
import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from typing import Final

F_FULLFSYNC: Final[int] = getattr(fcntl, "F_FULLFSYNC", 51)
F_NOCACHE: Final[int] = getattr(fcntl, "F_NOCACHE", 48)

pread = os.pread
pwrite = os.pwrite
fchmod = os.fchmod
fchown = os.fchown


def fsync(fd: int) -> None:
    # os.fsync stops at the drive's cache there, and F_BARRIERFSYNC only orders. Fall back where the file system (SMB,
    # some FUSE) has no F_FULLFSYNC.
    try:
        fcntl.fcntl(fd, F_FULLFSYNC)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
            raise
        os.fsync(fd)


fdatasync = fsync


def flock(fd: int, *, blocking: bool, shared: bool = False) -> None:
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fcntl.flock(fd, kind if blocking else kind | fcntl.LOCK_NB)


def funlock(fd: int) -> None:
    fcntl.flock(fd, fcntl.LOCK_UN)


def drop_cache(fd: int) -> None:
    fcntl.fcntl(fd, F_NOCACHE, 1)


def real_directory(path: str) -> str:
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), path)


def is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid()


def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _check(answer: int, name: str) -> int:
    if answer < 0:
        import ctypes

        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return answer


def listxattr(fd: int) -> list[str]:
    import ctypes

    libc = _libc()
    size = _check(libc.flistxattr(fd, None, 0, 0), "")
    buffer = ctypes.create_string_buffer(max(size, 1))
    size = _check(libc.flistxattr(fd, buffer, size, 0), "")
    return [os.fsdecode(name) for name in buffer.raw[:size].split(b"\0") if name]


def getxattr(fd: int, name: str) -> bytes:
    import ctypes

    libc = _libc()
    encoded = os.fsencode(name)
    size = _check(libc.fgetxattr(fd, encoded, None, 0, 0, 0), name)
    buffer = ctypes.create_string_buffer(max(size, 1))
    size = _check(libc.fgetxattr(fd, encoded, buffer, size, 0, 0), name)
    return buffer.raw[:size]


def setxattr(fd: int, name: str, value: bytes) -> None:
    _check(_libc().fsetxattr(fd, os.fsencode(name), value, len(value), 0, 0), name)


def removexattr(fd: int, name: str) -> None:
    _check(_libc().fremovexattr(fd, os.fsencode(name), 0), name)
