"""The few file-system calls that landed makes, behind one object.

Everything in landed that touches storage does it through a `FileOps`, so that a test can fail, drop, reorder or kill
at each call by passing another one. The methods are the system calls under their own names and raise OSError as the
system does; nothing is retried, translated or remembered here. The differences between platforms end here as well.
"""

from __future__ import annotations

import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

WINDOWS: Final = sys.platform == "win32"
MACOS: Final = sys.platform == "darwin"

CLOEXEC: Final[int] = getattr(os, "O_CLOEXEC", 0)
NOFOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
DIRECTORY: Final[int] = getattr(os, "O_DIRECTORY", 0)
NONBLOCK: Final[int] = getattr(os, "O_NONBLOCK", 0)
BINARY: Final[int] = getattr(os, "O_BINARY", 0)

READ_SIZE: Final = 1 << 20
"""Bytes asked for in one read where the size is not known beforehand."""
READ_LIMIT: Final = 1 << 30
"""Bytes that one read may be asked for; Linux answers at most 2 GiB less a page."""

CONTENDED: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES})
"""What a non-blocking lock attempt answers when another holder has it; some file systems say EACCES."""

NO_XATTR: Final = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What an extended-attribute call answers where the file system or the platform has none."""
NO_SUCH_XATTR: Final = frozenset({errno.ENODATA, getattr(errno, "ENOATTR", errno.ENODATA)})
"""What reading an extended attribute answers when the file does not have it."""

NO_ENTRY: Final = errno.ENOENT
"""What a path with a missing directory answers."""
LOOP: Final = errno.ELOOP
"""What opening a symbolic link without following it answers."""

if WINDOWS:  # pragma: no cover - run on Windows only

    def _flock(fd: int, *, blocking: bool) -> None:
        # filelock's LockFileEx code is the part worth not writing again; it takes the same byte as its FileLock does.
        from filelock import lock_descriptor

        if not lock_descriptor(fd, blocking=blocking):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _funlock(fd: int) -> None:
        from filelock import unlock_descriptor

        unlock_descriptor(fd)

else:
    import fcntl

    def _flock(fd: int, *, blocking: bool) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX if blocking else fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _funlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


if sys.platform == "linux":
    _xattr = os
elif MACOS:  # pragma: no cover - run on macOS only
    from landed import _macos as _xattr
else:  # pragma: no cover - run on Windows only

    class _xattr:  # noqa: N801 - stands in for a module
        """Windows has no extended attributes that survive a copy; landed flushes its records instead."""

        @staticmethod
        def listxattr(fd: int) -> list[str]:
            return []

        @staticmethod
        def getxattr(fd: int, name: str) -> bytes:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), name)

        @staticmethod
        def setxattr(fd: int, name: str, value: bytes) -> None:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), name)

        @staticmethod
        def removexattr(fd: int, name: str) -> None:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), name)


class FileOps:
    """The operating system's own file operations."""

    def open(self, path: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
        return os.open(path, flags | CLOEXEC | BINARY, mode, dir_fd=dir_fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def read(self, fd: int, size: int) -> bytes:
        return os.read(fd, size)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        if WINDOWS:  # pragma: no cover - run on Windows only
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, size)
        return os.pread(fd, size, offset)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        return os.write(fd, data)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if WINDOWS:  # pragma: no cover - run on Windows only
            os.lseek(fd, offset, os.SEEK_SET)
            return os.write(fd, data)
        return os.pwrite(fd, data, offset)

    def ftruncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def fsync(self, fd: int) -> None:
        """Flush a file or a directory to stable storage."""
        if sys.platform == "darwin":  # pragma: no cover - run on macOS only
            # fsync there stops at the drive's cache; F_BARRIERFSYNC only orders. Fall back where the file system
            # (SMB, some FUSE) has no F_FULLFSYNC.
            try:
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                    raise
            else:
                return
        os.fsync(fd)

    def fdatasync(self, fd: int) -> None:
        """Flush a file's data and its size, but not its times."""
        if MACOS or WINDOWS:  # pragma: no cover - run on macOS and Windows only
            self.fsync(fd)
        else:
            os.fdatasync(fd)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def stat(self, path: str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        return os.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    def rename(self, source: str, target: str, *, dir_fd: int | None = None) -> None:
        """Rename within one directory, replacing the target."""
        os.replace(source, target, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)

    def link(self, source: str, target: str, *, dir_fd: int | None = None) -> None:
        """Make `target` a second name of `source`; EEXIST if `target` exists (put-if-absent)."""
        if dir_fd is None:
            os.link(source, target)
        else:
            os.link(source, target, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        os.unlink(path, dir_fd=dir_fd)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)

    def readlink(self, path: str) -> str:
        return os.readlink(path)

    def fchmod(self, fd: int, mode: int) -> None:
        if not WINDOWS:
            os.fchmod(fd, mode)

    def fchown(self, fd: int, uid: int, gid: int) -> None:
        if not WINDOWS:
            os.fchown(fd, uid, gid)

    def listxattr(self, fd: int) -> list[str]:
        return _xattr.listxattr(fd)

    def getxattr(self, fd: int, name: str) -> bytes:
        return _xattr.getxattr(fd, name)

    def setxattr(self, fd: int, name: str, value: bytes) -> None:
        _xattr.setxattr(fd, name, value)

    def removexattr(self, fd: int, name: str) -> None:
        _xattr.removexattr(fd, name)

    def flock(self, fd: int, *, blocking: bool) -> None:
        """Take the exclusive lock of the file behind `fd`, as filelock.FileLock does.

        Raises:
            OSError: with an errno in `CONTENDED` if not `blocking` and another holder has it.
        """
        _flock(fd, blocking=blocking)

    def funlock(self, fd: int) -> None:
        _funlock(fd)

    def drop_cache(self, fd: int) -> None:
        """Ask the system to forget the clean cached pages of a file, so that the next read comes from the device."""
        if sys.platform == "linux":
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        elif sys.platform == "darwin":  # pragma: no cover - run on macOS only
            fcntl.fcntl(fd, fcntl.F_NOCACHE, 1)


LOCAL: Final = FileOps()
"""The operating system itself."""


class Directory:
    """An open directory: names are looked up in it, so that nobody can redirect a write by renaming a parent.

    Windows has no directory descriptors: there the names are joined to the path, and `sync` does nothing, because
    the system flushes directory entries with the file (MOVEFILE_WRITE_THROUGH is not reachable from Python).
    """

    __slots__ = ("_fd", "_fs", "path")

    def __init__(self, path: str, fs: FileOps = LOCAL) -> None:
        self.path = path
        self._fs = fs
        self._fd: int | None = None if WINDOWS else fs.open(path, os.O_RDONLY | DIRECTORY)

    def _at(self, name: str) -> str:
        return name if self._fd is not None else os.path.join(self.path, name)

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        return self._fs.open(self._at(name), flags | NOFOLLOW, mode, dir_fd=self._fd)

    def lstat(self, name: str) -> os.stat_result:
        return self._fs.stat(self._at(name), dir_fd=self._fd, follow_symlinks=False)

    def rename(self, source: str, target: str) -> None:
        self._fs.rename(self._at(source), self._at(target), dir_fd=self._fd)

    def link(self, source: str, target: str) -> None:
        self._fs.link(self._at(source), self._at(target), dir_fd=self._fd)

    def unlink(self, name: str) -> None:
        self._fs.unlink(self._at(name), dir_fd=self._fd)

    def sync(self) -> None:
        if self._fd is not None:
            self._fs.fsync(self._fd)

    def close(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            close_read(self._fs, fd)

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def close_read(fs: FileOps, fd: int) -> None:
    """Close a descriptor that nothing was written to: whatever the close says, no bytes are lost by it."""
    try:
        fs.close(fd)
    except OSError:
        return


def write_all(fs: FileOps, fd: int, data: bytes) -> None:
    """Write all of `data`, looping on short writes (signals, over 2 GiB, nearly full disks).

    Raises:
        OSError: as write(2); also EIO when a write makes no progress, so that nothing loops for ever.
    """
    rest: bytes | memoryview = data
    while rest:
        written = fs.write(fd, rest)
        if written <= 0:
            raise OSError(errno.EIO, "write made no progress")
        rest = memoryview(rest)[written:] if written < len(rest) else b""


def pwrite_all(fs: FileOps, fd: int, data: bytes, offset: int) -> None:
    """As `write_all`, at `offset`."""
    rest: bytes | memoryview = data
    while rest:
        written = fs.pwrite(fd, rest, offset)
        if written <= 0:
            raise OSError(errno.EIO, "write made no progress")
        rest, offset = memoryview(rest)[written:] if written < len(rest) else b"", offset + written


def read_all(fs: FileOps, fd: int, size: int) -> bytes:
    """Read a whole file from the current offset; `size` is the expected length in bytes, not a limit."""
    # One more byte than expected: the usual read then ends with a short answer, and a file that grew shows.
    chunk = fs.read(fd, min(size + 1, READ_LIMIT))
    if len(chunk) == size:
        return chunk
    chunks = []
    while chunk:
        chunks.append(chunk)
        chunk = fs.read(fd, READ_SIZE)
    return b"".join(chunks)
