"""Whether landed can keep its promise here, by trying it.

    for check in landed.doctor.examine("/srv/project"):
        print(check.status, check.name, check.detail)

Every check does the thing that landed relies on and looks at what came of it, in a directory of its own that is removed
afterwards. The last ones break a write on purpose and show that it is noticed.
"""

from __future__ import annotations

import errno
import os
import stat

from landed import _fs
from landed.engines import refuse_address
from landed.errors import Bypassed, LandedError, NotLanded, VerifyFailed
from landed.files import Files
from landed.inventory import within
from landed.lock import Lock
from landed.state import Store, store_for
from landed.trials import FAIL, FILE_TRIALS, LOCK_TRIALS, MOVE, NEW, NOTE, OK, OLD, WARN, Bench, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final

    from landed.trials import Answer

__all__ = ["FAIL", "NOTE", "OK", "STATUSES", "WARN", "Check", "examine", "mount_of"]

STATUSES: Final = (OK, NOTE, WARN, FAIL)
"""It works; works otherwise than elsewhere; landed promises less here (the hint says what); cannot keep its promise."""

MOUNTS: Final = "/proc/self/mountinfo"
"""The mount table of this process (Linux)."""
RISKS: Final = {
    "tmpfs": "it lives in memory: nothing on it survives a restart of the machine",
    "ramfs": "it lives in memory: nothing on it survives a restart of the machine",
    "nfs": "its locks can be lost when the server restarts, and the answer to a rename can be lost on the way",
    "nfs4": "its locks can be lost when the server restarts, and the answer to a rename can be lost on the way",
    "cifs": "locks and flushes go as far as the server lets them, and close may report a failed write",
    "smb3": "locks and flushes go as far as the server lets them, and close may report a failed write",
    "9p": "a lock often excludes one machine's programs only, not those on the other side",
    "virtiofs": "a lock often excludes one machine's programs only, not those on the other side",
    "fuse": "what a flush and a lock mean there is up to the program that serves it",
    "vfat": "it keeps no journal: a power cut can damage the directory itself",
    "exfat": "it keeps no journal: a power cut can damage the directory itself",
}
"""File systems on which the promise is weaker, and why."""


class Check:
    """One thing that was tried.

    Attributes:
        name: what, in a few words.
        status: one of `STATUSES`.
        detail: what came of it.
        hint: the next step; "" when there is nothing to do.
    """

    __slots__ = ("detail", "hint", "name", "status")

    def __init__(self, name: str, status: str, detail: str, hint: str = "") -> None:
        self.name = name
        self.status = status
        self.detail = detail
        self.hint = hint

    def __repr__(self) -> str:
        return f"<Check {self.status}: {self.name}: {self.detail}>"


def examine(directory: str, fs: _fs.FileOps = _fs.LOCAL) -> Iterator[Check]:
    """Try in `directory`, and where its locks are kept, what landed relies on.

    Args:
        directory: an existing directory that this user may write.
        fs: the file operations to try.

    Raises:
        Refused: it is an address.
        NotLanded: a directory for trying things cannot be made there.
    """
    refuse_address(directory)
    directory = os.path.realpath(directory)
    store = store_for(directory, fs)
    with Bench(directory, fs) as bench:  # first of all: where none can be made, nothing else is either
        yield from _mounts(directory, store)
        usable = _attempt("state directory", lambda: _state_usable(store, fs))
        yield usable
        if usable.status == FAIL:
            return  # nothing can be written without it
        for name, check in FILE_TRIALS:
            yield _attempt(name, lambda check=check: check(bench, fs))  # type: ignore[misc]
    with Bench(store.root, fs) as bench:
        for name, check in LOCK_TRIALS:
            yield _attempt(name, lambda check=check: check(bench, fs))  # type: ignore[misc]
    with Bench(directory, fs) as bench:
        for number, (name, break_it) in enumerate(_BREAKS):
            yield _attempt(f"noticed: {name}", lambda b=break_it, n=number: b(bench.write_to(f"broken-{n}")))  # type: ignore[misc]


def _attempt(name: str, check: Callable[[], Answer]) -> Check:
    try:
        return Check(name, *check())
    except OSError as error:
        return Check(name, FAIL, f"the system answers {error.strerror or error}", MOVE)
    except LandedError as error:
        where = f"{error.path}: " if error.path is not None else ""
        return Check(name, FAIL, f"{where}{error.what}", error.hint)


# What is it?


def _mounts(directory: str, store: Store) -> Iterator[Check]:
    yield _file_system("file system", directory)
    if not store.base:
        yield _file_system("file system of the state directory", store.root)


def _file_system(name: str, path: str) -> Check:
    try:
        mount = mount_of(path)
    except OSError:
        return Check(name, NOTE, "this platform does not say which it is")
    kind, options, point = mount
    detail = f"{kind} at {point} ({options})"
    risk = RISKS.get(kind) or (RISKS["fuse"] if kind.startswith("fuse") and kind != "fuseblk" else "")
    if kind == "overlay" and "volatile" in options.split(","):
        risk = "it is an overlay mounted `volatile`, which ignores every flush"
    if risk:
        return Check(
            name, WARN, f"{detail}: {risk}", "Keep what must survive on a local disk (ext4, xfs, btrfs, APFS, NTFS)."
        )
    return Check(name, OK, detail)


def mount_of(path: str) -> tuple[str, str, str]:
    """File-system type, mount and super-block options, and mount point of `path` (Linux).

    Raises:
        OSError: the platform has no mount table in ``/proc``.
    """
    best = ("unknown", "", "")
    with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            left, _, right = line.partition(" - ")
            fields, (kind, _, *super_options) = left.split(), right.split()
            point = _unescape(fields[4])
            # The last mount on a point hides those before it.
            if within(path, point) and len(point) >= len(best[2]):
                best = (kind, ",".join([fields[5], *super_options]), point)
    return best


def _unescape(text: str) -> str:
    for code in ("040", "011", "012", "134"):
        text = text.replace("\\" + code, chr(int(code, 8)))
    return text


# Where are the locks?


def _state_usable(store: Store, fs: _fs.FileOps) -> Answer:
    store.make(fs)
    with Bench(store.root, fs) as bench:
        lock = Lock(os.path.join(bench.path, "lock"), mode=store.mode, fs=fs)
        lock.acquire(timeout=0, owner=object())
        lock.release()
    mode = stat.S_IMODE(fs.stat(store.root).st_mode)
    if not store.base and mode & 0o022 and not _fs.WINDOWS:
        return WARN, f"{store.root} can be written by other users (mode {mode:o})", f"chmod go-w {store.root}"
    whose = f"shared by the users of {store.base}" if store.base else "this user's"
    return OK, f"{store.root}, {whose}", ""


# Is a broken write noticed?


class _DropsBytes(_fs.FileOps):
    """Says that all was written and keeps half, as a failing disk or a full one behind a cache may."""

    def write(self, fd: int, data: bytes | memoryview) -> int:
        if bytes(data) != NEW:
            return super().write(fd, data)
        super().write(fd, bytes(data)[: len(data) // 2])
        return len(data)


class _LosesRename(_fs.FileOps):
    """Says that the file was put in place and leaves the old one, as a remote file system may."""

    def rename(self, source: str, target: str, *, dir_fd: int | None = None) -> None:  # noqa: ARG002
        self.unlink(source, dir_fd=dir_fd)


class _FailsSync(_fs.FileOps):
    """Cannot flush."""

    def fsync(self, fd: int) -> None:  # noqa: ARG002 - the signature of FileOps
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def _bytes_dropped(path: str) -> Answer:
    return _broken(Files(_DropsBytes()), path, VerifyFailed)


def _rename_lost(path: str) -> Answer:
    return _broken(Files(_LosesRename()), path, VerifyFailed)


def _sync_failed(path: str) -> Answer:
    answer = _broken(Files(_FailsSync()), path, NotLanded)
    if read(_fs.LOCAL, path) != OLD:
        return FAIL, "after a failed flush the old bytes are gone", _REPORT
    return answer


def _bypass(path: str) -> Answer:
    files = Files()
    version = files.read(path).version
    with open(path, "ab") as other:
        other.write(b"a line from a program that does not use landed\n")
    return _broken(files, path, Bypassed, version)


_REPORT: Final = "Please report this to the project: it must not happen."


def _broken(files: Files, path: str, expected: type[LandedError], version: str = "") -> Answer:
    try:
        files.write(path, NEW, expect=version or Files().read(path))
    except expected as error:
        return OK, f"the caller got {type(error).__name__}: {error.what}", ""
    except LandedError as error:
        return FAIL, f"the caller got {type(error).__name__} instead of {expected.__name__}", _REPORT
    return FAIL, "the write was acknowledged", _REPORT


_BREAKS: Final = (
    ("half of the bytes dropped", _bytes_dropped),
    ("rename lost", _rename_lost),
    ("flush failed", _sync_failed),
    ("changed by another program", _bypass),
)
