"""Whether landed can keep its promise here, by trying it.

    for check in landed.doctor.examine("/srv/project"):
        print(check.status, check.name, check.detail)

Every check does the thing that landed relies on and looks at what came of it, in a directory of its own that is removed
afterwards. The last ones break a write on purpose and show that it is noticed.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import threading
from time import time

from landed import _fs
from landed.artifact import ABSENT
from landed.errors import Bypassed, LandedError, NotLanded, VerifyFailed
from landed.files import Files
from landed.lock import Lock
from landed.publish import XATTR
from landed.state import STORE_NAME, Store, store_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final, TypeAlias

    Answer: TypeAlias = tuple[str, str, str]

OK: Final = "ok"
"""Status: it works."""
NOTE: Final = "note"
"""Status: it works otherwise than elsewhere; nothing to do."""
WARN: Final = "warn"
"""Status: landed works here and promises less; the hint says what."""
FAIL: Final = "fail"
"""Status: landed cannot keep its promise here."""
STATUSES: Final = (OK, NOTE, WARN, FAIL)

MOUNTS: Final = "/proc/self/mountinfo"
"""The mount table of this process (Linux)."""
RENAMES: Final = 100
"""How often a reader may look while the file is replaced."""
CHILD_TIMEOUT: Final = 20.0
"""Seconds to wait for a child process; starting one takes a fraction of one."""
CLOCK_SKEW: Final = 5.0
"""Seconds by which a file's time may differ from the clock before that is worth a word."""
EARLIEST: Final = 1_735_689_600
"""2025-01-01: no clock that is right says less."""

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


def examine(directory: str = ".", fs: _fs.FileOps = _fs.LOCAL) -> Iterator[Check]:
    """Try in `directory`, and where its locks are kept, what landed relies on.

    Args:
        directory: an existing directory that this user may write.
        fs: the file operations to try.

    Raises:
        NotLanded: a directory for trying things cannot be made there.
    """
    directory = os.path.realpath(directory)
    store = store_for(directory, fs)
    yield from _mounts(directory, store)
    usable = _attempt("state directory", lambda: _state_usable(store, fs))
    yield usable
    if usable.status == FAIL:
        return  # nothing can be written without it
    with _Bench(directory, fs) as bench:
        for name, check in _FILE_CHECKS:
            yield _attempt(name, lambda check=check: check(bench, fs))  # type: ignore[misc]
    with _Bench(store.root, fs) as bench:
        for name, check in _LOCK_CHECKS:
            yield _attempt(name, lambda check=check: check(bench, fs))  # type: ignore[misc]
    with _Bench(directory, fs) as bench:
        for number, (name, break_it) in enumerate(_BREAKS):
            yield _attempt(f"noticed: {name}", lambda b=break_it, n=number: b(bench.write_to(f"broken-{n}")))  # type: ignore[misc]


def _attempt(name: str, check: Callable[[], Answer]) -> Check:
    try:
        return Check(name, *check())
    except OSError as error:
        return Check(
            name, FAIL, f"the system answers {error.strerror or error}", "Keep the files on another file system."
        )
    except LandedError as error:
        return Check(name, FAIL, str(error))


class _Bench:
    """A directory for trying things, removed with all that is in it."""

    def __init__(self, above: str, fs: _fs.FileOps) -> None:
        self.path = os.path.join(above, f".landed-doctor-{os.urandom(4).hex()}")
        self._fs = fs

    def __enter__(self) -> _Bench:
        try:
            self._fs.mkdir(self.path, 0o700)
        except OSError as error:
            raise NotLanded(
                f"nothing can be tried: {error.strerror}",
                path=os.path.dirname(self.path),
                step="doctor",
                errno=error.errno,
                hint="Name an existing directory that this user may write.",
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def put(self, name: str, data: bytes = b"") -> str:
        path = os.path.join(self.path, name)
        fd = self._fs.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            _fs.write_all(self._fs, fd, data)
        finally:
            self._fs.close(fd)
        return path

    def write_to(self, name: str) -> str:
        """A file that landed wrote, whose records stand in the bench and go with it."""
        self._fs.mkdir(os.path.join(self.path, name), 0o700)
        Store(os.path.join(self.path, name, STORE_NAME)).make(self._fs)
        path = os.path.join(self.path, name, "file")
        Files(self._fs).write(path, _OLD, expect=ABSENT)
        return path


_OLD: Final = b"the old bytes\n"
_NEW: Final = b"the new bytes, which are longer\n"


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
            if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best[2]):
                best = (kind, ",".join([fields[5], *super_options]), point)
    return best


def _unescape(text: str) -> str:
    for code in ("040", "011", "012", "134"):
        text = text.replace("\\" + code, chr(int(code, 8)))
    return text


# Does it do what landed needs?


def _state_usable(store: Store, fs: _fs.FileOps) -> Answer:
    store.make(fs)
    with _Bench(store.root, fs) as bench:
        lock = Lock(os.path.join(bench.path, "lock"), mode=store.mode, fs=fs)
        lock.acquire(timeout=0, owner=object())
        lock.release()
    mode = stat.S_IMODE(fs.stat(store.root).st_mode)
    if not store.base and mode & 0o022 and not _fs.WINDOWS:
        return WARN, f"{store.root} can be written by other users (mode {mode:o})", f"chmod go-w {store.root}"
    whose = f"shared by the users of {store.base}" if store.base else "this user's"
    return OK, f"{store.root}, {whose}", ""


def _exclusive_create(bench: _Bench, fs: _fs.FileOps) -> Answer:  # noqa: ARG001 - one signature for all checks
    bench.put("exclusive")
    try:
        bench.put("exclusive")
    except FileExistsError:
        return OK, "O_CREAT|O_EXCL refuses a name that is taken", ""
    return FAIL, "O_CREAT|O_EXCL opened a file that was there", _MOVE


_MOVE: Final = "Keep the files on another file system."


def _link_is_put_if_absent(bench: _Bench, fs: _fs.FileOps) -> Answer:
    source, target = bench.put("link-source", _NEW), bench.put("link-target", _OLD)
    try:
        fs.link(source, target)
    except FileExistsError:
        held = _read(fs, target)
        if held != _OLD:
            return FAIL, "link refused the name that is taken, and its file changed", _MOVE
    else:
        return FAIL, "link replaced a file that was there", _MOVE
    free = os.path.join(bench.path, "link-free")
    fs.link(source, free)
    if _read(fs, free) != _NEW:
        return FAIL, "link made a name that does not lead to the file", _MOVE
    return OK, "link takes a free name and refuses one that is taken", ""


def _rename_is_atomic(bench: _Bench, fs: _fs.FileOps) -> Answer:
    target = bench.put("rename-target", _OLD)
    seen: list[str] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            try:
                held = _read(fs, target)
            except OSError as error:
                seen.append(error.strerror or type(error).__name__)
                return
            if held not in {_OLD, _NEW}:
                seen.append(f"{len(held)} other bytes")
                return

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for turn in range(RENAMES):
            fs.rename(bench.put(f"rename-{turn}", (_NEW, _OLD)[turn % 2]), target)
    finally:
        done.set()
        reader.join()
    if seen:
        return FAIL, f"a reader met {seen[0]} while the file was replaced", _MOVE
    if _read(fs, target) != _OLD:
        return FAIL, "after the last rename the name leads to older bytes", _MOVE
    return OK, f"a reader saw old or new, nothing else, through {RENAMES} replacements", ""


def _directory_sync(bench: _Bench, fs: _fs.FileOps) -> Answer:
    if _fs.WINDOWS:  # pragma: no cover - run on Windows only
        return NOTE, "Windows flushes directory entries with the file", ""
    with _fs.Directory(bench.path, fs) as directory:
        directory.sync()
    return OK, "fsync of a directory succeeds", ""


def _file_sync(bench: _Bench, fs: _fs.FileOps) -> Answer:
    fd = fs.open(bench.put("sync", _NEW), os.O_RDWR)
    try:
        fs.fsync(fd)
        fs.fdatasync(fd)
    finally:
        fs.close(fd)
    return OK, "fsync and fdatasync succeed", ""


def _xattrs(bench: _Bench, fs: _fs.FileOps) -> Answer:
    fd = fs.open(bench.put("xattr"), os.O_RDWR)
    try:
        fs.setxattr(fd, XATTR, b"version")
        if fs.getxattr(fd, XATTR) != b"version":
            return FAIL, f"{XATTR} reads back otherwise than it was set", _MOVE
    except OSError as error:
        if error.errno not in _fs.NO_XATTR:
            raise
        return NOTE, "there are none: landed flushes its record instead, one more flush for each write", ""
    finally:
        fs.close(fd)
    return OK, f"a file keeps its version in {XATTR}", ""


def _nofollow(bench: _Bench, fs: _fs.FileOps) -> Answer:
    if not _fs.NOFOLLOW:  # pragma: no cover - run on Windows only
        return NOTE, "this platform has no O_NOFOLLOW", ""
    link = os.path.join(bench.path, "link")
    try:
        os.symlink(bench.put("link-of"), link)
    except OSError as error:
        if error.errno in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}:
            return NOTE, "there are no symbolic links here", ""
        raise
    try:
        fs.close(fs.open(link, os.O_RDONLY | _fs.NOFOLLOW))
    except OSError as error:
        if error.errno == _fs.LOOP:
            return OK, "a symbolic link is not followed where landed does not want to", ""
        raise
    return FAIL, "O_NOFOLLOW followed a symbolic link", _MOVE


def _clock(bench: _Bench, fs: _fs.FileOps) -> Answer:
    now = time()
    skew = fs.stat(bench.put("clock")).st_mtime - now
    if now < EARLIEST:
        return WARN, "the clock is years behind: logs and reports will say wrong times", "Set the clock."
    if abs(skew) > CLOCK_SKEW:
        return WARN, f"files here are dated {skew:+.0f} s from this machine's clock", "Set both clocks (NTP)."
    return OK, "the clock and the files' times agree; no lock depends on either", ""


def _case(bench: _Bench, fs: _fs.FileOps) -> Answer:
    bench.put("Case")
    try:
        fs.stat(os.path.join(bench.path, "cASE"))
    except FileNotFoundError:
        return OK, "names that differ in case are different files", ""
    if sys.platform in {"darwin", "win32"}:
        return NOTE, "names that differ in case are one file; landed keys them so", ""
    return (
        WARN,
        "names that differ in case are one file here, and landed takes them for two",
        "Spell each path one way.",
    )


def _flock_between_descriptors(bench: _Bench, fs: _fs.FileOps) -> Answer:
    path = bench.put("two-descriptors")
    first, second = fs.open(path, os.O_RDWR), fs.open(path, os.O_RDWR)
    try:
        fs.flock(first, blocking=False)
        if _can_lock(fs, second):
            return FAIL, "two descriptors hold the exclusive lock at once", _MOVE_STATE
        fs.funlock(first)
        if not _can_lock(fs, second):
            return FAIL, "a lock that was given back cannot be taken", _MOVE_STATE
    finally:
        fs.close(first)
        fs.close(second)
    return OK, "of two descriptors one has the lock", ""


_MOVE_STATE: Final = "Set LANDED_STATE_DIR to a directory on a local disk."


def _flock_between_processes(bench: _Bench, fs: _fs.FileOps) -> Answer:
    path = bench.put("two-processes")
    child = subprocess.Popen([sys.executable, "-c", _CHILD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    fd = fs.open(path, os.O_RDWR)
    try:
        assert child.stdout is not None  # noqa: S101 - asked for above
        if child.stdout.readline().strip() != b"held":
            return FAIL, "another process cannot take the lock", _MOVE_STATE
        if _can_lock(fs, fd):
            return FAIL, "two processes hold the exclusive lock at once", _MOVE_STATE
        child.kill()
        child.wait(CHILD_TIMEOUT)
        if not _can_lock(fs, fd):
            return FAIL, "the lock of a process that was killed is still held", _MOVE_STATE
    finally:
        fs.close(fd)
        child.kill()
        child.communicate(timeout=CHILD_TIMEOUT)
    return OK, "of two processes one has the lock, and it is free when that one is killed", ""


_CHILD: Final = """
import os, sys
from landed import _fs
_fs.LOCAL.flock(os.open(sys.argv[1], os.O_RDWR), blocking=False)
print("held", flush=True)
sys.stdin.read()
"""


def _can_lock(fs: _fs.FileOps, fd: int) -> bool:
    try:
        fs.flock(fd, blocking=False)
    except OSError as error:
        if error.errno in _fs.CONTENDED:
            return False
        raise
    return True


def _read(fs: _fs.FileOps, path: str) -> bytes:
    fd = fs.open(path, os.O_RDONLY)
    try:
        return _fs.read_all(fs, fd, len(_NEW))
    finally:
        fs.close(fd)


# Is a broken write noticed?


class _DropsBytes(_fs.FileOps):
    """Says that all was written and keeps half, as a failing disk or a full one behind a cache may."""

    def write(self, fd: int, data: bytes | memoryview) -> int:
        if bytes(data) != _NEW:
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
    if _read(_fs.LOCAL, path) != _OLD:
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
        files.write(path, _NEW, expect=version or Files().read(path))
    except expected as error:
        return OK, f"the caller got {type(error).__name__}: {error.what}", ""
    except LandedError as error:
        return FAIL, f"the caller got {type(error).__name__} instead of {expected.__name__}", _REPORT
    return FAIL, "the write was acknowledged", _REPORT


_FILE_CHECKS: Final = (
    ("exclusive create", _exclusive_create),
    ("put if absent", _link_is_put_if_absent),
    ("atomic replace", _rename_is_atomic),
    ("file flush", _file_sync),
    ("directory flush", _directory_sync),
    ("extended attributes", _xattrs),
    ("links refused", _nofollow),
    ("clock", _clock),
    ("case", _case),
)
_LOCK_CHECKS: Final = (
    ("lock between descriptors", _flock_between_descriptors),
    ("lock between processes", _flock_between_processes),
)
_BREAKS: Final = (
    ("half of the bytes dropped", _bytes_dropped),
    ("rename lost", _rename_lost),
    ("flush failed", _sync_failed),
    ("changed by another program", _bypass),
)
