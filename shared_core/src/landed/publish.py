"""Whole files: temp, write, sync, rename (or link), sync the directory, verify.

`publish` reads from top to bottom in the order in which things happen. Before the rename every failure is `NotLanded`:
the temp file is removed and the old file was never touched. After it every failure is `OutcomeUnknown`. A failed fsync
is never repeated: the kernel has dropped the dirty pages and would report success for bytes that never reached the
disk (fsyncgate; PostgreSQL, "data_sync_retry").
"""

from __future__ import annotations

import errno

from landed import _fs
from landed._fs import posix
from landed.errors import (
    LandedError,
    NotLanded,
    OutcomeUnknown,
    Refused,
    StaleWrite,
    VerifyFailed,
    from_os_error,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import Final

    from landed.errors import Kind

TEMP_PREFIX: Final = ".landed-"
TEMP_SUFFIX: Final = ".tmp"
COMPARED: Final = 1 << 17
"""Bytes that are read back and compared at once: they stay in the processor's cache, and memory for them is at hand."""
XATTR: Final = "user.landed"
"""The extended attribute in which a file carries its own version."""
READ: Final = "read"
"""Verify level: the name leads to our inode, and size and bytes match."""
DEVICE: Final = "device"
"""Verify level: the same, after the system was asked to forget what it has cached."""
LEVELS: Final = (READ, DEVICE)
SET_ID: Final = 0o6000
"""The set-user-id and set-group-id bits of a mode."""
ACCESS_LIST: Final = "system.posix_acl_access"
KEPT_XATTRS: Final = ("user.", ACCESS_LIST, "com.apple.")
"""What a replaced file hands on. Labels (security.*) are the policy's to set and capabilities end with the bytes."""


class Replaced:
    """The file that a publish replaces, as the caller saw it: what it hands on."""

    __slots__ = ("gid", "mode", "uid", "xattrs")

    def __init__(self, status: os.stat_result, xattrs: dict[str, bytes]) -> None:
        self.mode = status.st_mode & 0o7777
        self.uid = status.st_uid
        self.gid = status.st_gid
        self.xattrs = xattrs


def identity_of(status: os.stat_result) -> tuple[int, ...]:
    """What tells one state of a file from another without reading it: inode, size and times."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def temp_name(unique: str) -> str:
    """A temp file's name. Short, so that a name of 255 bytes still has one."""
    return f"{TEMP_PREFIX}{unique}{TEMP_SUFFIX}"


def publish(  # noqa: PLR0913 - each says something else of the file
    directory: _fs.Directory,
    name: str,
    data: bytes,
    *,
    temp: str,
    replaced: Replaced | None,
    tag: bytes | None = None,
    mode: int | None = None,
    verify: str = READ,
    before_rename: Callable[[], None] | None = None,
    size: int | None = None,
    piece: int | None = None,
    fs: _fs.FileOps = _fs.LOCAL,
) -> bool:
    """Put `data` under `name` in `directory`, flushed and verified. The caller holds the path's lock.

    Args:
        temp: the temp file's name; whatever has it is a dead writer's, and is removed.
        replaced: the file that is there now; None if none may be there (put-if-absent).
        tag: the value of the file's own ``user.landed`` attribute; None for none.
        mode: permission bits of a new file; None for what the umask leaves.
        verify: `READ` or `DEVICE`.
        before_rename: last check; whatever it raises stops the write.
        size: bytes of the file; what is behind `data` is a hole. None for no more than `data`.
        piece: bytes to write at once; None for all.

    Returns:
        Whether the file carries its tag; False where there are no extended attributes, or no room for one more.

    Raises:
        NotLanded: nothing was changed and no temp file is left.
        StaleWrite: a file appeared under a name that had to be free; it was not touched.
        OutcomeUnknown: the rename happened, its flush failed.
        VerifyFailed: after the rename the name does not lead to these bytes.
    """
    path = directory.join(name)
    ours, tagged = _write_temp(directory, temp, path, data, replaced, tag=tag, mode=mode, size=size, piece=piece, fs=fs)
    # 5. The name leads to the new bytes.
    try:
        if before_rename is not None:
            before_rename()
        _put_in_place(directory, temp, name, path, ours, replace=replaced is not None)
    except OutcomeUnknown:
        raise
    except BaseException as error:
        _discard(directory, temp, error)
        raise
    # From here on the new bytes may survive whatever happens.
    # 6. The flush of the name. Without it a power cut brings the old file back.
    try:
        directory.sync()
    except OSError as error:
        raise failed_step(OutcomeUnknown, error, path, "sync directory") from error
    # 7. The proof.
    verify_bytes(path, data, ours, verify, fs, size)
    return tagged


def write_new(
    directory: _fs.Directory,
    name: str,
    data: bytes,
    *,
    mode: int | None = None,
    size: int | None = None,
    piece: int | None = None,
    fs: _fs.FileOps = _fs.LOCAL,
) -> None:
    """Write a file into a directory that nobody else can know of yet, flushed and verified, under its own name at once.

    The caller flushes the directory, and gives it a name that others look for, after all its files are there: a flush
    of names for each of them would cost as much as that of its bytes.

    The arguments are those of `publish`.

    Raises:
        NotLanded: the file is removed.
        VerifyFailed: the name does not lead to these bytes.
    """
    path = directory.join(name)
    ours, _ = _write_temp(directory, name, path, data, None, tag=None, mode=mode, size=size, piece=piece, fs=fs)
    verify_bytes(path, data, ours, READ, fs, size)


def _write_temp(  # noqa: PLR0913 - as `publish`
    directory: _fs.Directory,
    temp: str,
    path: str,
    data: bytes,
    replaced: Replaced | None,
    *,
    tag: bytes | None,
    mode: int | None,
    size: int | None,
    piece: int | None,
    fs: _fs.FileOps,
) -> tuple[os.stat_result, bool]:
    """Write a temp file, whole and flushed; its status, and whether it carries its tag.

    Raises:
        NotLanded: it is removed.
    """
    step = "temp"
    try:
        # 1. A temp file in the same directory: the rename stays within one file system.
        fd = _create(directory, temp, _mode_of(replaced))
        try:
            # 2. The bytes, and what the old file hands on, before the flush that makes both durable.
            step = "write"
            _fs.write_all(fs, fd, data, piece)
            if size is not None:
                fs.ftruncate(fd, size)
            step = "attributes"
            ours = fs.fstat(fd)
            _hand_on(fs, fd, ours, replaced)
            if mode is not None:
                fs.fchmod(fd, mode)
            tagged = _tag(fs, fd, tag)
            # 3. The flush. Without it a power cut after the rename leaves a file of the right size full of zeros.
            step = "sync"
            fs.fsync(fd)
            step = "close"
        finally:
            # 4. Some file systems report a failed write only here.
            fs.close(fd)
    except OSError as error:
        failed = failed_step(NotLanded, error, path, step)
        if step != "temp":
            _discard(directory, temp, failed)
        raise failed from error
    except BaseException as error:
        _discard(directory, temp, error)
        raise
    return ours, tagged


def failed_step(kind: type[Kind], error: OSError, path: str, step: str) -> Kind:
    """The error of `kind` for a step that the system refused."""
    return from_os_error(kind, error, _FAILED[step], path=path, step=step)


def _create(directory: _fs.Directory, temp: str, mode: int) -> int:
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL
    try:
        return directory.open(temp, flags, mode)
    except FileExistsError:
        directory.unlink(temp)
        return directory.open(temp, flags, mode)


def _mode_of(replaced: Replaced | None) -> int:
    # A new file gets what the umask leaves. A replacement is nobody's to read until it has the old file's bits.
    return 0o666 if replaced is None else 0o600


def _hand_on(fs: _fs.FileOps, fd: int, own: os.stat_result, replaced: Replaced | None) -> None:
    if replaced is None:
        return
    mode = replaced.mode
    if (own.st_uid, own.st_gid) != (replaced.uid, replaced.gid):
        try:
            fs.fchown(fd, replaced.uid, replaced.gid)
        except PermissionError:
            # Only root may give a file away. As with any editor that saves by rename, the file becomes the writer's;
            # it keeps its group where the writer is a member, and never the set-id bits of another owner.
            mode &= ~(SET_ID)
            try:
                fs.fchown(fd, -1, replaced.gid)
            except PermissionError:
                mode &= ~0o070
    for key, value in replaced.xattrs.items():
        fs.setxattr(fd, key, value)
    if ACCESS_LIST not in replaced.xattrs and _has_access_list(fs, fd):
        fs.removexattr(fd, ACCESS_LIST)  # from the directory's default list, which is for files that are new
    fs.fchmod(fd, mode)


def _has_access_list(fs: _fs.FileOps, fd: int) -> bool:
    try:
        return ACCESS_LIST in fs.listxattr(fd)
    except OSError as error:
        if error.errno in _fs.NO_XATTR:
            return False
        raise


def _tag(fs: _fs.FileOps, fd: int, tag: bytes | None) -> bool:
    if tag is None:
        return False
    try:
        fs.setxattr(fd, XATTR, tag)
    except OSError as error:
        if error.errno in _fs.NO_XATTR or error.errno == errno.ENOSPC:  # the other attributes leave no room for it
            return False
        raise
    return True


def _put_in_place(
    directory: _fs.Directory, temp: str, name: str, path: str, ours: os.stat_result, *, replace: bool
) -> None:
    try:
        if replace:
            directory.rename(temp, name)
            return
        try:
            directory.link(temp, name)
        except FileExistsError as error:
            if _is_not(directory, name, ours):  # else it was made, and the answer lost
                raise StaleWrite(
                    "a file appeared where there was none",
                    path=path,
                    step="link",
                    errno=error.errno,
                    hint="Read it, then write on what it holds.",
                ) from error
    except OSError as error:
        # The name may be in place all the same: a remote file system can lose the answer.
        kind = NotLanded if _is_not(directory, name, ours) else OutcomeUnknown
        raise from_os_error(kind, error, "the file could not be put in place", path=path, step="rename") from error
    try:
        directory.unlink(temp)
    except OSError as error:
        raise failed_step(OutcomeUnknown, error, path, "unlink temp") from error


def put_in_place(directory: _fs.Directory, temp: str, name: str, *, replace: bool) -> None:
    """Give a flushed temp file its name, and flush that. The caller verifies.

    Args:
        replace: whether a file of that name is replaced, or the name must be free.

    Raises:
        StaleWrite: the name is taken.
        NotLanded: nothing was changed; the temp file is left to the caller.
        OutcomeUnknown: the name may or may not survive a crash.
    """
    path = directory.join(name)
    try:
        ours = directory.lstat(temp)
    except OSError as error:
        raise failed_step(NotLanded, error, path, "rename") from error
    _put_in_place(directory, temp, name, path, ours, replace=replace)
    try:
        directory.sync()
    except OSError as error:
        raise failed_step(OutcomeUnknown, error, path, "sync directory") from error


def _is_not(directory: _fs.Directory, name: str, ours: os.stat_result) -> bool:
    """Whether it is certain that `name` does not lead to our inode."""
    try:
        found = directory.lstat(name)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino)


def _discard(directory: _fs.Directory, temp: str, cause: BaseException) -> None:
    try:
        directory.unlink(temp)
    except FileNotFoundError:
        return
    except OSError as error:
        if isinstance(cause, LandedError):
            cause.hint = f"{cause.hint} Its temp file {temp} could not be removed ({error.strerror}).".strip()


def verify_bytes(path: str, data: bytes, ours: os.stat_result, level: str, fs: _fs.FileOps, size: int | None) -> None:
    """Show that `path` leads to the inode `ours` and that it holds `data`, and a hole behind it up to `size`.

    Raises:
        VerifyFailed: it does not.
        OutcomeUnknown: it cannot be told.
    """

    def failed(what: str, expected: object, found: object) -> VerifyFailed:
        return VerifyFailed(
            what,
            path=path,
            step="verify",
            expected=str(expected),
            found=str(found),
            hint="Read it again, and find out what else writes there.",
        )

    try:
        fd = _fs.open_regular(fs, path)
    except FileNotFoundError:
        raise failed("the file vanished after the rename", f"inode {ours.st_ino}", "no file") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise failed("a symbolic link took the name after the rename", f"inode {ours.st_ino}", "a link") from None
        raise from_os_error(OutcomeUnknown, error, "the file cannot be opened", path=path, step="verify") from error
    try:
        found = fs.fstat(fd)
        if (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino):
            raise failed("another file took the name", f"inode {ours.st_ino}", f"inode {found.st_ino}")
        if level == DEVICE:
            fs.drop_cache(fd)
        if not _holds(fs, fd, data, whole=size is None):
            raise failed("the bytes differ", f"{len(data)} bytes as written", "others")
        if size is not None and found.st_size != size:
            raise failed("the size differs", size, found.st_size)
    except OSError as error:
        raise from_os_error(OutcomeUnknown, error, "the file cannot be read", path=path, step="verify") from error
    finally:
        _fs.close_read(fs, fd)


def _holds(fs: _fs.FileOps, fd: int, data: bytes, *, whole: bool) -> bool:
    """Whether the file begins with `data`, and, if it is the whole, ends there."""
    at = 0
    while asked := min(COMPARED, len(data) - at + whole):  # one more than there should be: a file that grew shows
        chunk = fs.read(fd, asked)
        if not data.startswith(chunk, at):
            return False
        at += len(chunk)
        if not chunk or (at == len(data) and len(chunk) < asked):
            break
    return at == len(data)


def refuse_kind(path: str, status: os.stat_result) -> None:
    """Refuse what is not a regular file.

    Raises:
        Refused: it is a directory, a FIFO, a socket, a device or a link.
    """
    kind = _KINDS.get(status.st_mode & _fs.KIND)
    if kind is not None:
        raise Refused(f"the target is {kind}, not a regular file", path=path, step="target")


def refuse_hard_link(path: str, status: os.stat_result) -> None:
    """Refuse a file with other names: a rename would part them.

    Raises:
        Refused: it has other names.
    """
    if status.st_nlink > 1:
        raise Refused(
            f"the target has {status.st_nlink} names (hard links), and replacing it would part them",
            path=path,
            step="target",
            hint="Copy it under this name alone first.",
        )


_FAILED: Final = {
    "temp": "no file can be made in its directory",
    "write": "the bytes cannot be written",
    "attributes": "it cannot have the attributes of the old file",
    "sync": "the bytes cannot be flushed",
    "close": "what was written cannot be closed",
    "rename": "the file cannot be put in place",
    "unlink": "the file cannot be removed",
    "unlink temp": "its temp file cannot be removed",
    "sync directory": "its directory cannot be flushed",
}
_KINDS: Final = {
    0o040000: "a directory",
    0o010000: "a FIFO",
    0o140000: "a socket",
    0o020000: "a character device",
    0o060000: "a block device",
    _fs.LINK: "a symbolic link",
}
"""What is no regular file, by its bits; they are the same on every Unix, and Python's own on Windows."""
