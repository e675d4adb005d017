"""The few file-system calls that landed makes, behind one object.

Everything in landed that touches storage does it through a `FileOps`, so that a test can fail, drop, reorder or kill
at each call by passing another one. The methods are the system calls under their own names and raise OSError as the
system does; nothing is retried, translated or remembered here. The platforms differ in `_linux`, `_macos`, `_windows`.
"""

from __future__ import annotations

import errno
import sys
from time import sleep

# What os is made of. To load os itself, which an interpreter started with -S has not done, takes a third as long as to
# load all that is needed for a write: a program that starts for one write should not wait for that.
if sys.platform == "win32":  # pragma: no cover - run on Windows only
    import os as posix
else:
    import posix as posix  # noqa: PLC0414 - for the other modules as well

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Final

WINDOWS: Final = sys.platform == "win32"
SEP: Final = "\\" if WINDOWS else "/"
"""What parts the names in an absolute, resolved path."""

CLOEXEC: Final[int] = getattr(posix, "O_CLOEXEC", 0)
NOFOLLOW: Final[int] = getattr(posix, "O_NOFOLLOW", 0)
DIRECTORY: Final[int] = getattr(posix, "O_DIRECTORY", 0)
NONBLOCK: Final[int] = getattr(posix, "O_NONBLOCK", 0)
KEPT: Final[int] = NOFOLLOW | NONBLOCK
"""How landed opens what it keeps: no link is followed to somebody else's file, no FIFO in its place waited for."""
MADE: Final[int] = KEPT | posix.O_RDWR | posix.O_CREAT
"""The same for what is made when it is not there."""
NOATIME: Final[int] = getattr(posix, "O_NOATIME", 0)
BINARY: Final[int] = getattr(posix, "O_BINARY", 0)
SEEK_END: Final = 2

RENAME_PAUSES: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Seconds between tries of a rename that Windows refuses while somebody has the target open; then it is an error."""
READ_SIZE: Final = 1 << 20
"""Bytes asked for in one read where the size is not known beforehand."""
PIECE: Final = 1 << 16
"""Bytes of one piece of a file of which no copy is kept: fresh memory costs as much as reading into it."""
READ_LIMIT: Final = 1 << 30
"""Bytes that one read may be asked for; Linux answers at most 2 GiB less a page."""

CONTENDED: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES})
"""What a non-blocking lock attempt answers when another holder has it; some file systems say EACCES."""

READ_ONLY: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
"""What an open for writing answers where only reading is granted."""

NO_XATTR: Final = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What an extended-attribute call answers where the file system or the platform has none."""

NO_HOLES: Final = NO_XATTR | {errno.EINVAL, errno.ENOTTY}
"""What a search for a hole or for data answers where the system or the file system knows none."""

KIND: Final = 0o170000
"""The bits of a mode that say what kind of file it is."""
REGULAR: Final = 0o100000
LINK: Final = 0o120000

if sys.platform == "win32":  # pragma: no cover - run on Windows only
    from landed import _windows as _system
elif sys.platform == "darwin":  # pragma: no cover - run on macOS only
    from landed import _macos as _system
else:
    from landed import _linux as _system


class FileOps:
    """The operating system's own file operations."""

    def open(self, path: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
        return posix.open(path, flags | CLOEXEC | BINARY, mode, dir_fd=dir_fd)

    def close(self, fd: int) -> None:
        posix.close(fd)

    def read(self, fd: int, size: int) -> bytes:
        return posix.read(fd, size)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return _system.pread(fd, size, offset)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        return posix.write(fd, data)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        return _system.pwrite(fd, data, offset)

    def ftruncate(self, fd: int, size: int) -> None:
        posix.ftruncate(fd, size)

    def fsync(self, fd: int) -> None:
        """Flush a file or a directory to stable storage."""
        _system.fsync(fd)

    def fdatasync(self, fd: int) -> None:
        """Flush a file's data and its size, but not its times."""
        _system.fdatasync(fd)

    def fstat(self, fd: int) -> os.stat_result:
        return posix.fstat(fd)

    def stat(self, path: str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        return posix.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    def rename(self, source: str, target: str, *, dir_fd: int | None = None) -> None:
        """Rename within one directory, replacing the target."""
        posix.replace(source, target, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)

    def link(self, source: str, target: str, *, dir_fd: int | None = None) -> None:
        """Make `target` a second name of `source`; EEXIST if `target` exists (put-if-absent)."""
        if dir_fd is None:
            posix.link(source, target)
        else:
            posix.link(source, target, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        posix.unlink(path, dir_fd=dir_fd)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        posix.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        posix.rmdir(path)

    def listdir(self, path: str) -> list[str]:
        return posix.listdir(path)

    def scandir(self, path: str) -> dict[str, int]:
        """The names in a directory, each with its inode number, which costs no stat of the files."""
        with posix.scandir(path) as entries:
            return {entry.name: entry.inode() for entry in entries}

    def fchmod(self, fd: int, mode: int) -> None:
        _system.fchmod(fd, mode)

    def fchown(self, fd: int, uid: int, gid: int) -> None:
        _system.fchown(fd, uid, gid)

    def listxattr(self, fd: int) -> list[str]:
        return _system.listxattr(fd)

    def getxattr(self, fd: int, name: str) -> bytes:
        return _system.getxattr(fd, name)

    def setxattr(self, fd: int, name: str, value: bytes) -> None:
        _system.setxattr(fd, name, value)

    def removexattr(self, fd: int, name: str) -> None:
        _system.removexattr(fd, name)

    def flock(self, fd: int, *, blocking: bool, shared: bool = False) -> None:
        """Take the exclusive lock of the file behind `fd`, as filelock.FileLock does.

        Args:
            shared: take it together with others that do; exclusively where the platform has no shared one.

        Raises:
            OSError: with an errno in `CONTENDED` if not `blocking` and another holder has it.
        """
        _system.flock(fd, blocking=blocking, shared=shared)

    def funlock(self, fd: int) -> None:
        _system.funlock(fd)

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        return posix.lseek(fd, offset, whence)

    def drop_cache(self, fd: int) -> None:
        """Ask the system to forget the clean cached pages of a file, so that the next read comes from the device."""
        _system.drop_cache(fd)


def parent_of(path: str) -> str:
    """The directory above an absolute path; a root is its own."""
    head, _, _ = path.rpartition(SEP)
    return head if SEP in head else head + SEP


def os_path() -> ModuleType:
    """`os.path`, for the paths that are not the usual ones; see `posix`."""
    import os

    return os.path


def encoded(name: str) -> bytes:
    """A name as the file system has it, as `os.fsencode` makes it.

    Raises:
        UnicodeEncodeError: it has no form in bytes.
    """
    return name.encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())


def decoded(name: bytes) -> str:
    """What `encoded` made of a name, as `os.fsdecode` does."""
    return name.decode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())


def environ(name: str) -> str | None:
    """A variable of the environment: of `os.environ` where a program has that, which it may have changed."""
    loaded = getattr(sys.modules.get("os"), "environ", None)
    if loaded is None:
        value = posix.environ.get(name.encode())
        loaded = {} if value is None else {name: decoded(value)}
    return loaded.get(name)


def real_directory(path: str) -> str:
    """Where an existing directory is once every link is followed, asked of the kernel.

    Raises:
        OSError: there is no such directory, or the platform does not say.
    """
    return _system.real_directory(path)


def is_regular(status: os.stat_result) -> bool:
    """Whether it is a regular file."""
    return status.st_mode & KIND == REGULAR


def is_ours(status: os.stat_result) -> bool:
    """Whether this process's user owns the file."""
    return _system.is_ours(status)


LOCAL: Final = FileOps()
"""The operating system itself."""

# Its own functions, where a method of ours would only pass its arguments on: a write makes some fifty calls.
for _module, _names in (
    (posix, ("close", "read", "write", "lseek", "fstat", "stat", "unlink")),
    (_system, ("pread", "pwrite", "fchmod", "listxattr", "getxattr", "setxattr", "flock", "funlock")),
):
    for _name in _names:
        setattr(LOCAL, _name, getattr(_module, _name))


class Directory:
    """An open directory: names are looked up in it, so that nobody can redirect a write by renaming a parent.

    Windows has no directory descriptors: there the names are joined to the path, and `sync` does nothing, because
    the system flushes directory entries with the file (MOVEFILE_WRITE_THROUGH is not reachable from Python).

    Args:
        follow: False where a symbolic link in the last place is a neighbour's: NotADirectoryError.
    """

    __slots__ = ("_fd", "_fs", "path")

    def __init__(self, path: str, fs: FileOps = LOCAL, *, follow: bool = True) -> None:
        self.path = path
        self._fs = fs
        flags = posix.O_RDONLY | DIRECTORY | (0 if follow else NOFOLLOW)
        self._fd: int | None = None if WINDOWS else fs.open(path, flags)

    def status(self) -> os.stat_result:
        return self._fs.stat(self.path) if self._fd is None else self._fs.fstat(self._fd)

    def join(self, name: str) -> str:
        """The path of a name in it."""
        return f"{self.path}{'' if self.path.endswith(SEP) else SEP}{name}"

    def _at(self, name: str) -> str:
        return name if self._fd is not None else self.join(name)

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        return self._fs.open(self._at(name), flags | NOFOLLOW, mode, dir_fd=self._fd)

    def lstat(self, name: str) -> os.stat_result:
        return self._fs.stat(self._at(name), dir_fd=self._fd, follow_symlinks=False)

    def rename(self, source: str, target: str) -> None:
        for pause in RENAME_PAUSES if WINDOWS else ():
            try:
                return self._fs.rename(self._at(source), self._at(target))
            except PermissionError:
                sleep(pause)  # a reader (an indexer, a virus scanner) has the target open
        return self._fs.rename(self._at(source), self._at(target), dir_fd=self._fd)

    def link(self, source: str, target: str) -> None:
        self._fs.link(self._at(source), self._at(target), dir_fd=self._fd)

    def unlink(self, name: str) -> None:
        self._fs.unlink(self._at(name), dir_fd=self._fd)

    def change(self, passing: str) -> None:
        """Change the directory by a passing name. A flush that failed is not repeated; the next one then is another."""
        try:
            fd = self.open(passing, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL)
        except FileExistsError:
            fd = -1  # of somebody who died here
        if fd >= 0:
            self._fs.close(fd)
        self.unlink(passing)

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


def remove_directory(fs: FileOps, path: str) -> None:
    """Remove a directory with the files in it; a name that a neighbour redirects meanwhile leads nowhere else.

    Raises:
        OSError: as the system does; NotADirectoryError for a symbolic link in its place.
    """
    with Directory(path, fs, follow=False) as directory:
        for name in fs.listdir(path):
            directory.unlink(name)
    fs.rmdir(path)


def open_regular(fs: FileOps, path: str, *, access: bool = False) -> int:
    """Open what should be a regular file for reading: no link is followed, no FIFO waited for.

    Args:
        access: whether that counts as one. What is read to check it should not move the access time, which costs the
            file system a change of the inode; only its owner may spare it that.

    Raises:
        OSError: as the system does.
    """
    flags = posix.O_RDONLY | KEPT
    if NOATIME and not access:
        try:
            return fs.open(path, flags | NOATIME)
        except PermissionError:
            pass  # somebody else's
    return fs.open(path, flags)


def close_read(fs: FileOps, fd: int) -> None:
    """Close a descriptor that nothing was written to: whatever the close says, no bytes are lost by it."""
    try:
        fs.close(fd)
    except OSError:
        return


def open_or_look(fs: FileOps, path: str, flags: int, mode: int = 0o600, *, look: bool = True) -> tuple[int, bool]:
    """Open a file, and where that is not granted, for reading alone; the descriptor, and whether it was.

    Args:
        look: False does not try the second.

    Raises:
        OSError: as the first open(2) does.
    """
    try:
        return fs.open(path, flags, mode), True
    except OSError as error:
        if not look or error.errno not in READ_ONLY:
            raise
        try:
            return fs.open(path, posix.O_RDONLY | KEPT), False
        except OSError:
            raise error from None


def write_all(fs: FileOps, fd: int, data: bytes, piece: int | None = None) -> None:
    """Write all of `data`, at most `piece` bytes at once, looping on short writes (signals, over 2 GiB, full disks).

    Raises:
        OSError: as write(2); also EIO when a write makes no progress, so that nothing loops for ever.
    """
    rest: bytes | memoryview = data
    while rest:
        written = fs.write(fd, rest[:piece] if piece is not None else rest)
        if written <= 0:
            raise OSError(errno.EIO, "write made no progress")
        rest = memoryview(rest)[written:] if written < len(rest) else b""


def pwrite_all(fs: FileOps, fd: int, data: bytes, offset: int) -> None:
    """As `write_all`, at `offset`."""
    written = fs.pwrite(fd, data, offset)
    while written < len(data):
        more = fs.pwrite(fd, memoryview(data)[written:], offset + written)
        if more <= 0:
            raise OSError(errno.EIO, "write made no progress")
        written += more


def hole_after(fs: FileOps, fd: int, offset: int) -> int:
    """Where, from `offset` on, a file's first hole begins; its end where there is none, or the system tells of none."""
    found = None if WINDOWS else _seek(fs, fd, offset, posix.SEEK_HOLE)
    return fs.lseek(fd, 0, SEEK_END) if found is None else found


def data_after(fs: FileOps, fd: int, offset: int) -> int:
    """Where, from `offset` on, a file's first bytes stand that are no hole; its end where there are none."""
    found = None if WINDOWS else _seek(fs, fd, offset, posix.SEEK_DATA)
    return offset if found is None else found


def _seek(fs: FileOps, fd: int, offset: int, whence: int) -> int | None:
    """Where it is; None where the system does not tell of holes, as gVisor for files in memory."""
    try:
        return fs.lseek(fd, offset, whence)
    except OSError as error:
        if error.errno in NO_HOLES:
            return None
        if error.errno != errno.ENXIO:
            raise
        return fs.lseek(fd, 0, SEEK_END)


def pieces(fs: FileOps, fd: int, each: Callable[[bytes], None] | None = None) -> Iterator[bytes]:
    """A file from the current offset on, in pieces that take the same memory one after the other.

    Args:
        each: hears of each of them.
    """
    while piece := fs.read(fd, PIECE):
        if each is not None:
            each(piece)
        yield piece


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
