"""The ways to keep many small records that are compared, each with the settings that make an append durable."""

from __future__ import annotations

import importlib.util
import itertools
import os
import sqlite3
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable

BUSY_TIMEOUT = 60.0
"""Seconds that a SQLite connection waits for the others before it fails."""
MAP_SIZE = 4 << 30
"""Bytes of address space for LMDB; the file has what was written."""
REGION = 4 << 20
"""Zeros that each process of the floor overwrites, over and over: as many as the journal's largest segment has."""
PIECE = 16 << 10
"""Bytes of zeros that the floor writes at once: in one piece, Linux caches them so that all later writes cost more."""


class Store:
    """One store of records in a directory of its own, as one process has it open.

    Attributes:
        name: in tables.
        how: what an append is, in words.
        package: the module it needs, "" for none.
    """

    name: ClassVar[str]
    how: ClassVar[str]
    package: ClassVar[str] = ""

    def __init__(self, directory: str, number: int) -> None:
        """`number` is that of the process among those that share the directory."""
        self.directory = directory
        self.number = number

    @classmethod
    def missing(cls) -> bool:
        return bool(cls.package) and importlib.util.find_spec(cls.package) is None

    @classmethod
    def prepare(cls, directory: str) -> None:
        """Make what the processes will find."""
        os.mkdir(directory)

    def writer(self) -> Callable[[bytes], object]:
        """What appends one record durably; called in the thread that will use it."""
        raise NotImplementedError

    @classmethod
    def count(cls, directory: str) -> int | None:
        """Records in the store; None where it does not know."""
        raise NotImplementedError


class Journal(Store):
    name = "landed.Journal"
    how = "journal.append([data]); one Journal for all threads of a process"
    package = "landed"

    def __init__(self, directory: str, number: int) -> None:
        super().__init__(directory, number)
        import landed

        self._journal = landed.Journal(directory, timeout=BUSY_TIMEOUT)

    def writer(self) -> Callable[[bytes], object]:
        return lambda data: self._journal.append([data])

    @classmethod
    def count(cls, directory: str) -> int:
        import landed

        with landed.Journal(directory) as journal:
            return sum(1 for _ in journal.read())


class SQLite(Store):
    name = "SQLite"
    how = (
        "INSERT in autocommit, journal_mode=WAL, synchronous=FULL, checkpoints as they come; one connection for each "
        f"thread, busy timeout {BUSY_TIMEOUT:g} s"
    )

    @classmethod
    def prepare(cls, directory: str) -> None:
        super().prepare(directory)
        connection = cls._connect(directory)
        connection.execute("PRAGMA journal_mode=WAL").fetchone()
        connection.execute("CREATE TABLE records (sequence INTEGER PRIMARY KEY, data BLOB NOT NULL)")
        connection.close()

    @staticmethod
    def _connect(directory: str) -> sqlite3.Connection:
        path = os.path.join(directory, "records.db")
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def writer(self) -> Callable[[bytes], object]:
        connection = self._connect(self.directory)
        return lambda data: connection.execute("INSERT INTO records (data) VALUES (?)", (data,))

    @classmethod
    def count(cls, directory: str) -> int:
        connection = cls._connect(directory)
        (count,) = connection.execute("SELECT count(*) FROM records").fetchone()
        connection.close()
        return int(count)


class LMDB(Store):
    name = "LMDB"
    how = "put() in a write transaction of its own, sync=True; one environment for all threads of a process"
    package = "lmdb"

    def __init__(self, directory: str, number: int) -> None:
        super().__init__(directory, number)
        self._environment = self._open(directory)

    @staticmethod
    def _open(directory: str):  # type: ignore[no-untyped-def] # noqa: ANN205 - lmdb has no types, and may be missing
        import lmdb

        return lmdb.open(directory, map_size=MAP_SIZE)

    def writer(self) -> Callable[[bytes], object]:
        def append(data: bytes) -> None:
            with self._environment.begin(write=True) as transaction:
                sequence = transaction.stat()["entries"] + 1
                transaction.put(sequence.to_bytes(8, "big"), data, append=True)

        return append

    @classmethod
    def count(cls, directory: str) -> int:
        environment = cls._open(directory)
        count = environment.stat()["entries"]
        environment.close()
        return int(count)


class Files(Store):
    name = "file per record"
    how = "temp O_EXCL, write, fsync, rename, fsync(directory)"

    def __init__(self, directory: str, number: int) -> None:
        super().__init__(directory, number)
        self._names = itertools.count(1)  # next() on it is atomic among threads
        self._place = os.open(directory, os.O_RDONLY)

    def writer(self) -> Callable[[bytes], object]:
        def append(data: bytes) -> None:
            name = f"{self.number}-{next(self._names):08d}"
            temp = f".{name}.tmp"
            fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._place)
            try:
                if os.write(fd, data) != len(data):
                    raise OSError(f"{temp}: short write")
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temp, name, src_dir_fd=self._place, dst_dir_fd=self._place)
            os.fsync(self._place)

        return append

    @classmethod
    def count(cls, directory: str) -> int:
        return len(os.listdir(directory))


class Floor(Store):
    name = "pwrite + fdatasync"
    how = "overwrite zeros of one open file, fdatasync; no lock, no order, no check: the floor"

    def __init__(self, directory: str, number: int) -> None:
        super().__init__(directory, number)
        self._fd = os.open(os.path.join(directory, f"zeros-{number}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for _ in range(REGION // PIECE):
            os.write(self._fd, bytes(PIECE))
        os.fsync(self._fd)
        self._places = itertools.count()

    def writer(self) -> Callable[[bytes], object]:
        def append(data: bytes) -> None:
            os.pwrite(self._fd, data, next(self._places) * len(data) % REGION)
            os.fdatasync(self._fd)

        return append

    @classmethod
    def count(cls, directory: str) -> None:  # noqa: ARG003 - it keeps no count
        return None


STORES: tuple[type[Store], ...] = (Journal, SQLite, LMDB, Files, Floor)


def installed() -> list[type[Store]]:
    return [store for store in STORES if not store.missing()]


def not_installed() -> list[str]:
    return [f"{store.name}: not installed, not measured" for store in STORES if store.missing()]
