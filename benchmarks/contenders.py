"""The ways to write a whole file that are compared, each called as its own documentation says.

A contender whose package is not installed is named in the report, not left out in silence.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


class Writer:
    """One file, and one way to write it.

    All writers share a directory: ext4 puts the inodes of different ones in different block groups, and makes a new
    inode dearer by up to hundreds of microseconds the more of its group were freed within the last minutes.

    Attributes:
        name: in tables.
        how: the call that is measured, in words.
        package: the module it needs, "" for none.
        flushes: whether the call itself flushes the bytes; if not, the frame does it outside the clock.
    """

    name: ClassVar[str]
    how: ClassVar[str]
    package: ClassVar[str] = ""
    flushes: ClassVar[bool] = True

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.path = os.path.join(directory, f"{type(self).__name__}.md")

    @classmethod
    def missing(cls) -> bool:
        return bool(cls.package) and importlib.util.find_spec(cls.package.partition(".")[0]) is None

    @classmethod
    def serve(cls, directory: str) -> AbstractContextManager[object]:  # noqa: ARG003 - for those that need a server
        """What must run while files below `directory` are written."""
        return contextlib.nullcontext()

    def write(self, data: bytes) -> object:
        raise NotImplementedError

    def change(self, change: Callable[[bytes], bytes]) -> object:
        """Read, change and write; a writer that has a way to do this safely does it that way."""
        with open(self.path, "rb") as file:
            data = file.read()
        return self.write(change(data))

    def settle(self) -> None:
        """Flush what the call left for the kernel to write later."""
        if not self.flushes:
            _sync(self.path)
        _sync(self.directory)


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class ByHand(Writer):
    name = "by hand"
    how = (
        "flock on a kept descriptor, temp O_EXCL, write, the old mode, fsync, rename, fsync(directory), reopen: "
        "the inode that was written, sha256 of what it holds"
    )

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self._lock = os.open(os.path.join(directory, "by-hand.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._count = 0

    def write(self, data: bytes) -> None:
        self._locked(lambda: self._replace(data))

    def change(self, change: Callable[[bytes], bytes]) -> None:
        def act() -> None:
            with open(self.path, "rb") as file:
                data = file.read()
            self._replace(change(data))

        self._locked(act)

    def create(self, name: str, data: bytes) -> None:
        """The same for a name that must be free: link and unlink in place of the rename."""
        path = os.path.join(self.directory, name)

        def put(temp: str) -> None:
            os.link(temp, path)
            os.unlink(temp)

        self._locked(lambda: self._publish(path, data, put, None))

    def _locked(self, act: Callable[[], None]) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            act()
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _replace(self, data: bytes) -> None:
        try:
            mode = stat.S_IMODE(os.stat(self.path).st_mode)
        except FileNotFoundError:
            mode = None
        self._publish(self.path, data, lambda temp: os.rename(temp, self.path), mode)

    def _publish(self, path: str, data: bytes, put: Callable[[str], None], mode: int | None) -> None:
        self._count += 1
        temp = os.path.join(self.directory, f".{os.getpid()}-{self._count}.tmp")
        fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if os.write(fd, data) != len(data):
                raise OSError(f"{temp}: short write")
            if mode is not None:
                os.fchmod(fd, mode)
            ours = os.fstat(fd)
            os.fsync(fd)
        finally:
            os.close(fd)
        put(temp)
        _sync(self.directory)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.read(fd, len(data) + 1)
            theirs = os.fstat(fd)
        finally:
            os.close(fd)
        if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
            raise OSError(f"{path} leads to another file")
        if hashlib.sha256(found).digest() != hashlib.sha256(data).digest():
            raise OSError(f"{path} holds other bytes")


class Landed(Writer):
    name = "landed.write"
    how = "landed.write(path, data, expect=<the version written last>); changes by landed.edit(path)"
    package = "landed"

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self._version: str | None = None

    def write(self, data: bytes) -> object:
        import landed

        receipt = landed.write(self.path, data, expect=landed.ANY if self._version is None else self._version)
        assert isinstance(receipt.version, str)
        self._version = receipt.version
        return receipt

    def create(self, name: str, data: bytes) -> object:
        import landed

        return landed.write(os.path.join(self.directory, name), data, expect=landed.ABSENT)

    def change(self, change: Callable[[bytes], bytes]) -> object:
        import landed

        with landed.edit(self.path) as doc:
            doc.data = change(doc.data)
        return doc.receipt


class AtomicWrites(Writer):
    name = "atomicwrites"
    how = 'with atomicwrites.atomic_write(path, mode="wb", overwrite=True) as file: file.write(data)'
    package = "atomicwrites"

    def write(self, data: bytes) -> None:
        from atomicwrites import atomic_write

        with atomic_write(self.path, mode="wb", overwrite=True) as file:
            file.write(data)


class FileLockReplace(Writer):
    name = "filelock + os.replace"
    how = 'with FileLock(path + ".lock"): temp beside it, write, flush, os.fsync, os.replace'
    package = "filelock"

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        from filelock import FileLock

        self._lock = FileLock(self.path + ".lock")

    def write(self, data: bytes) -> None:
        with self._lock:
            self._replace(data)

    def change(self, change: Callable[[bytes], bytes]) -> None:
        with self._lock:
            with open(self.path, "rb") as file:
                data = file.read()
            self._replace(change(data))

    def _replace(self, data: bytes) -> None:
        temp = self.path + ".tmp"
        with open(temp, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, self.path)


class Safer(Writer):
    name = "safer"
    how = 'with safer.open(path, "wb", temp_file=True) as file: file.write(data)'
    package = "safer"
    flushes = False

    def write(self, data: bytes) -> None:
        import safer

        with safer.open(self.path, "wb", temp_file=True) as file:
            file.write(data)


class Plain(Writer):
    name = "open().write()"
    how = 'with open(path, "wb") as file: file.write(data)'
    flushes = False

    def write(self, data: bytes) -> None:
        with open(self.path, "wb") as file:
            file.write(data)


class Coherence(Writer):
    name = "CoherentVolume"
    how = (
        'agent-coherence: CoherentVolume(root, managed=("*.md",)).write(path, data); changes by write_cas(); its '
        "coordinator runs in a process of its own, as between two programs"
    )
    package = "ccs"

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        from ccs.adapters.coherent_volume import CoherentVolume

        self._volume = CoherentVolume(directory, managed=("*.md",))

    @classmethod
    @contextlib.contextmanager
    def serve(cls, directory: str) -> Iterator[None]:
        # The first volume of a workspace becomes its coordinator; this one does so and then only waits.
        program = "import sys, contenders; contenders.Coherence(sys.argv[1]); print(flush=True); sys.stdin.read()"
        server = subprocess.Popen(
            [sys.executable, "-c", program, directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=os.path.dirname(__file__) or ".",
        )
        assert server.stdout is not None
        server.stdout.readline()
        try:
            yield
        finally:
            server.communicate(timeout=30)

    def write(self, data: bytes) -> None:
        self._volume.write(self.path, data)

    def change(self, change: Callable[[bytes], bytes]) -> object:
        return self._volume.write_cas(self.path, change)


WRITERS: tuple[type[Writer], ...] = (ByHand, Landed, AtomicWrites, FileLockReplace, Safer, Plain, Coherence)


def installed() -> list[type[Writer]]:
    return [writer for writer in WRITERS if not writer.missing()]


def not_installed() -> list[str]:
    return [f"{writer.name}: not installed, not measured" for writer in WRITERS if writer.missing()]
