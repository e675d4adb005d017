"""What landed relies on, tried: the trials of `landed.doctor`, one function each.

Each does the thing in a `Bench`, a directory of its own, and answers with a status, what came of it and the next step.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from time import time

from landed import _fs
from landed.errors import NotLanded
from landed.files import Files
from landed.publish import XATTR
from landed.records import ABSENT
from landed.state import BENCH, STORE_NAME, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
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

RENAMES: Final = 100
"""How often a reader may look while the file is replaced."""
CHILD_TIMEOUT: Final = 20.0
"""Seconds to wait for a child process; starting one takes a fraction of one."""
CLOCK_SKEW: Final = 5.0
"""Seconds by which a file's time may differ from the clock before that is worth a word."""
EARLIEST: Final = 1_735_689_600
"""2025-01-01: no clock that is right says less."""

MOVE: Final = "Keep the files on another file system."

OLD: Final = b"the old bytes\n"
NEW: Final = b"the new bytes, which are longer\n"


class Bench:
    """A directory for trying things, removed with all that is in it."""

    def __init__(self, above: str, fs: _fs.FileOps) -> None:
        self.path = os.path.join(above, f"{BENCH}{os.urandom(4).hex()}")
        self._fs = fs

    def __enter__(self) -> Bench:
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
        try:
            shutil.rmtree(self.path, ignore_errors=True)
        finally:
            shutil.rmtree(self.path, ignore_errors=True)  # again: an interrupt may have stopped it halfway

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
        Files(self._fs).write(path, OLD, expect=ABSENT)
        return path


# Files.


def _exclusive_create(bench: Bench, fs: _fs.FileOps) -> Answer:  # noqa: ARG001 - one signature for all trials
    bench.put("exclusive")
    try:
        bench.put("exclusive")
    except FileExistsError:
        return OK, "O_CREAT|O_EXCL refuses a name that is taken", ""
    return FAIL, "O_CREAT|O_EXCL opened a file that was there", MOVE


def _link_is_put_if_absent(bench: Bench, fs: _fs.FileOps) -> Answer:
    source, target = bench.put("link-source", NEW), bench.put("link-target", OLD)
    try:
        fs.link(source, target)
    except FileExistsError:
        held = read(fs, target)
        if held != OLD:
            return FAIL, "link refused the name that is taken, and its file changed", MOVE
    else:
        return FAIL, "link replaced a file that was there", MOVE
    free = os.path.join(bench.path, "link-free")
    fs.link(source, free)
    if read(fs, free) != NEW:
        return FAIL, "link made a name that does not lead to the file", MOVE
    return OK, "link takes a free name and refuses one that is taken", ""


def _rename_is_atomic(bench: Bench, fs: _fs.FileOps) -> Answer:
    target = bench.put("rename-target", OLD)
    seen: list[str] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            try:
                held = read(fs, target)
            except OSError as error:
                seen.append(error.strerror or type(error).__name__)
                return
            if held not in {OLD, NEW}:
                seen.append(f"{len(held)} other bytes")
                return

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for turn in range(RENAMES):
            fs.rename(bench.put(f"rename-{turn}", (NEW, OLD)[turn % 2]), target)
    finally:
        done.set()
        reader.join()
    if seen:
        return FAIL, f"a reader met {seen[0]} while the file was replaced", MOVE
    if read(fs, target) != OLD:
        return FAIL, "after the last rename the name leads to older bytes", MOVE
    return OK, f"a reader saw old or new, nothing else, through {RENAMES} replacements", ""


def _directory_sync(bench: Bench, fs: _fs.FileOps) -> Answer:
    if _fs.WINDOWS:  # pragma: no cover - run on Windows only
        return NOTE, "Windows flushes directory entries with the file", ""
    with _fs.Directory(bench.path, fs) as directory:
        directory.sync()
    return OK, "fsync of a directory succeeds", ""


def _file_sync(bench: Bench, fs: _fs.FileOps) -> Answer:
    fd = fs.open(bench.put("sync", NEW), os.O_RDWR)
    try:
        fs.fsync(fd)
        fs.fdatasync(fd)
    finally:
        fs.close(fd)
    return OK, "fsync and fdatasync succeed", ""


def _xattrs(bench: Bench, fs: _fs.FileOps) -> Answer:
    fd = fs.open(bench.put("xattr"), os.O_RDWR)
    try:
        fs.setxattr(fd, XATTR, b"version")
        if fs.getxattr(fd, XATTR) != b"version":
            return FAIL, f"{XATTR} reads back otherwise than it was set", MOVE
    except OSError as error:
        if error.errno not in _fs.NO_XATTR:
            raise
        return NOTE, "there are none: landed flushes its record instead, one more flush for each write", ""
    finally:
        fs.close(fd)
    return OK, f"a file keeps its version in {XATTR}", ""


def _nofollow(bench: Bench, fs: _fs.FileOps) -> Answer:
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
        if error.errno == errno.ELOOP:
            return OK, "a symbolic link is not followed where landed does not want to", ""
        raise
    return FAIL, "O_NOFOLLOW followed a symbolic link", MOVE


def _clock(bench: Bench, fs: _fs.FileOps) -> Answer:
    now = time()
    skew = fs.stat(bench.put("clock")).st_mtime - now
    if now < EARLIEST:
        return WARN, "the clock is years behind: logs and reports will say wrong times", "Set the clock."
    if abs(skew) > CLOCK_SKEW:
        return WARN, f"files here are dated {skew:+.0f} s from this machine's clock", "Set both clocks (NTP)."
    return OK, "the clock and the files' times agree; no lock depends on either", ""


def _case(bench: Bench, fs: _fs.FileOps) -> Answer:
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


# Locks.


def _flock_between_descriptors(bench: Bench, fs: _fs.FileOps) -> Answer:
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


def _flock_between_processes(bench: Bench, fs: _fs.FileOps) -> Answer:
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


def read(fs: _fs.FileOps, path: str) -> bytes:
    """All bytes of a file."""
    fd = fs.open(path, os.O_RDONLY)
    try:
        return _fs.read_all(fs, fd, len(NEW))
    finally:
        fs.close(fd)


FILE_TRIALS: Final = (
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
LOCK_TRIALS: Final = (
    ("lock between descriptors", _flock_between_descriptors),
    ("lock between processes", _flock_between_processes),
)
