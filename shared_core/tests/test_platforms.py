"""The other platforms, as far as they can be tried on this one.

Not run here: real F_FULLFSYNC, LockFileEx and MoveFileEx, the case folding of a real APFS or NTFS, and the constants
that _fs takes from the platform when it is imported. What is tried is the code that this platform does not reach.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
from typing import TYPE_CHECKING, Any

import filelock
import pytest
from recording import Recording, failing

import landed
from landed import _fs, _macos, _windows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

linux = pytest.mark.skipif(not hasattr(os, "getxattr"), reason="the fake stands on Linux's extended attributes")


class FakeLibc:
    """The calls of macOS (with its position and options) on the attributes of Linux."""

    def __init__(self) -> None:
        self.options: list[int] = []

    def _answer(self, work: Callable[[], bytes], buffer: Any, size: int) -> int:
        try:
            value = work()
        except OSError as error:
            ctypes.set_errno(error.errno or 0)
            return -1
        if buffer is not None:
            if size < len(value):
                ctypes.set_errno(errno.ERANGE)
                return -1
            ctypes.memmove(buffer, value, len(value))
        return len(value)

    def flistxattr(self, fd: int, buffer: Any, size: int, options: int) -> int:
        self.options.append(options)
        return self._answer(lambda: b"".join(os.fsencode(name) + b"\0" for name in os.listxattr(fd)), buffer, size)

    def fgetxattr(self, fd: int, name: bytes, buffer: Any, size: int, position: int, options: int) -> int:
        self.options += [position, options]
        return self._answer(lambda: os.getxattr(fd, name), buffer, size)

    def fsetxattr(self, fd: int, name: bytes, value: bytes, size: int, position: int, options: int) -> int:
        self.options += [position, options]
        assert size == len(value)
        return self._answer(lambda: os.setxattr(fd, name, value) or b"", None, 0)


@pytest.fixture
def libc(monkeypatch: pytest.MonkeyPatch) -> FakeLibc:
    fake = FakeLibc()
    monkeypatch.setattr(_macos, "_libc", lambda: fake)
    return fake


@linux
def test_extended_attributes_of_macos(libc: FakeLibc, tmp_path: Path) -> None:
    with open(tmp_path / "a", "wb") as file:
        fd = file.fileno()
        assert _macos.listxattr(fd) == []
        for name, value in (("user.one", b"1\0two"), ("user.empty", b""), ("user.\xe9", b"x" * 1000)):
            _macos.setxattr(fd, name, value)
            assert _macos.getxattr(fd, name) == value
        assert sorted(_macos.listxattr(fd)) == sorted(["user.one", "user.empty", "user.\xe9"])
        with pytest.raises(OSError, match=os.strerror(errno.ENODATA)) as caught:
            _macos.getxattr(fd, "user.none")
    assert caught.value.errno == errno.ENODATA
    assert set(libc.options) == {0}


@linux
def test_a_write_with_the_attributes_of_macos(libc: FakeLibc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fs, "_system", _macos)
    files = landed.Files()
    first = files.write(tmp_path / "a", b"one")
    os.setxattr(tmp_path / "a", "user.colour", b"blue")
    files.write(tmp_path / "a", b"two", expect=first)
    assert os.getxattr(tmp_path / "a", "user.colour") == b"blue"
    assert os.getxattr(tmp_path / "a", "user.landed").startswith(b"1 2-")


@pytest.fixture
def full_sync(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Pretend to be macOS; the calls that its flush makes."""
    calls: list[object] = []
    monkeypatch.setattr(_fs, "_system", _macos)
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, command: calls.append(command))
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append("fsync"))
    return calls


@pytest.mark.parametrize("flush", [_fs.LOCAL.fsync, _fs.LOCAL.fdatasync])
def test_a_flush_on_macos_goes_through_the_drives_cache(full_sync: list[object], flush: Callable[[int], None]) -> None:
    flush(3)
    assert full_sync == [51]


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.EINVAL, errno.ENOTTY])
def test_a_file_system_without_full_flush_gets_the_plain_one(
    full_sync: list[object], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(fd: int, command: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    _fs.LOCAL.fsync(3)
    assert full_sync == ["fsync"]


def test_a_full_flush_that_fails_is_not_papered_over(full_sync: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, command: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "fcntl", fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        _fs.LOCAL.fsync(3)
    assert full_sync == []


@pytest.mark.parametrize("name", ["fsync", "fdatasync", "drop_cache"])
def test_the_system_is_asked_once(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A second flush would succeed, for bytes that never reached the disk."""
    asked = []

    def fail(fd: int) -> None:
        asked.append(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(f"landed._fs._system.{name}", fail)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        getattr(_fs.FileOps(), name)(3)
    assert asked == [3]


# Windows: no directory descriptors, no extended attributes, no owners; a lock through filelock.


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch, fs: Recording) -> Recording:
    monkeypatch.setattr(_fs, "WINDOWS", True)
    monkeypatch.setattr(_fs, "_system", _windows)
    monkeypatch.setattr(sys, "platform", "win32")
    return fs


def test_a_write_as_on_windows(windows: Recording, tmp_path: Path) -> None:
    files, path = landed.Files(windows), tmp_path / "a"
    files.write(path, b"one")
    with files.edit(path) as doc:
        doc.data += b" and two"
    assert path.read_bytes() == b"one and two"
    assert files.verify(path, level="device").size == 11
    with pytest.raises(landed.StaleWrite):
        landed.Files(windows).write(path, b"x")
    files.delete(path)
    assert not path.exists()
    assert not [call for call in windows.calls if call.kwargs.get("dir_fd") is not None]
    assert not windows.named("fsync", on=str(tmp_path))  # a directory cannot be opened there
    assert len(windows.named("fdatasync", on=".record")) == 4  # so the record says which version it is


def test_failures_as_on_windows(windows: Recording, tmp_path: Path) -> None:
    files, path = landed.Files(windows), tmp_path / "a"
    files.write(path, b"one")
    windows.before("rename", failing(errno.EIO))
    with pytest.raises(landed.NotLanded):
        files.write(path, b"two")
    assert path.read_bytes() == b"one"
    assert sorted(os.listdir(tmp_path)) == ["a", "state"]


def test_records_are_read_and_written_by_seeking_on_windows(windows: Recording, tmp_path: Path) -> None:
    fs = _fs.FileOps()
    fd = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    try:
        assert fs.pwrite(fd, b"block", 100) == 5
        assert fs.pread(fd, 10, 98) == b"\0\0block"
        fs.fchmod(fd, 0)  # neither does anything there
        fs.fchown(fd, 1, 1)
        assert os.fstat(fd).st_mode & 0o777 != 0
    finally:
        os.close(fd)


def test_a_reader_that_has_the_file_open_on_windows_is_waited_for(windows: Recording, tmp_path: Path) -> None:
    files = landed.Files(windows)
    files.write(tmp_path / "a", b"one")
    windows.before("rename", failing(errno.EACCES))
    files.write(tmp_path / "a", b"two")


def test_filelock_offers_what_the_lock_on_windows_needs(tmp_path: Path) -> None:
    """The two functions that _fs takes there exist here as well, and exclude."""
    first, second = (os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT) for _ in range(2))
    try:
        assert filelock.lock_descriptor(first, blocking=False)
        assert not filelock.lock_descriptor(second, blocking=False)
        filelock.unlock_descriptor(first)
        assert filelock.lock_descriptor(second, blocking=False)
    finally:
        os.close(first)
        os.close(second)
