"""A journal's directory: what is in it, and whether it still is what it was.

The directory's own inode and mtime say whether an entry was added or removed, or the path leads elsewhere. That is one
stat of a file that nobody flushes; a stat of the segment would make its next flush dearer (Linux 6.13 and later).
"""

from __future__ import annotations

import errno
import os
from time import time

from landed import _fs
from landed.engine import DIGITS
from landed.errors import NotLanded, Refused, from_os_error
from landed.local import segments
from landed.local.permissions import Permissions
from landed.publish import TEMP_PREFIX, TEMP_SUFFIX, temp_name
from landed.state import absolute, directory_mode, flush_ancestors, make_directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from landed.local.segments import Range

LOCK: Final = "lock"
SUSPECT: Final = "suspect"
"""A flush failed in this boot. It needs no flush itself: the page cache, of which it warns, ends with the boot too."""
NAME: Final = "name"
"""The file with the name of a journal that is one of many."""
SECOND: Final = 10**9
"""Nanoseconds."""
TICK: Final = 0.02
"""Seconds, more than a tick of the clock that stamps files: 10 ms at most on Linux, 15.6 on Windows. Two changes of a
directory within a tick can leave one mtime, so a younger one proves nothing."""
LONG_TICK: Final = 2.02
"""The same where times are whole seconds, as on ext4 with inodes of 128 bytes, or every other second, as on FAT."""


def is_one_of_many(path: str, fs: _fs.FileOps) -> bool:
    """Whether a path is that of a journal in a `landed.local.collection`."""
    if len(os.path.basename(path)) != DIGITS:
        return False
    try:
        fs.stat(os.path.join(path, NAME))
    except OSError:
        return False
    return True


class JournalDirectory:
    """The directory at `path`; created, with its parents and the journal's first segment, when there is none.

    Args:
        mode: permission bits of files; None for those that the directory, or the one above it, gives.
        create: False raises where there is no journal.
        max_bytes: the journal's growth limit, which the first segment heeds; None for none.

    Raises:
        Refused: it is a directory with many journals.
        NotLanded: it cannot be made or read; or there is none, and `create` is False.
    """

    def __init__(
        self, path: str, mode: int | None, fs: _fs.FileOps, *, create: bool, max_bytes: int | None = None
    ) -> None:
        self.path = absolute(path)
        self.fs = fs
        self._seen = -1
        self._permissions: Permissions | None = None
        if mode is None:
            self._permissions = self._given()
            mode = self._permissions.mode
        self.mode = mode
        self.made = b""
        """The id of the first segment, if it was made here, and all names that lead to it were flushed."""
        if create:
            self._make(max_bytes)
        self._identity = self._identify(self._stat())

    def _given(self) -> Permissions:
        try:
            return Permissions(self.path, self.fs)
        except OSError as error:
            raise self.failed(error, "the directory cannot be opened", "open") from error

    def _make(self, max_bytes: int | None) -> None:
        try:
            flushed = False
            try:
                if self._has_journal():
                    return
                self._refuse_root()
            except FileNotFoundError:
                created: list[str] = []
                make_directories(self.fs, self.path, directory_mode(self.mode), created)
                if self._permissions is not None:
                    for each in created:
                        self._permissions.share(each)
                flush_ancestors(self.fs, self.path, created)
                flushed = True
            try:
                first = segments.first(max_bytes)
                segments.create(self.path, first, self.mode, self.fs)
                self.made = first.id if flushed else b""
            except NotLanded:
                if not self._has_journal():  # else another process was first
                    raise
        except OSError as error:
            raise self.failed(error, "the directory cannot be opened", "open") from error

    def _has_journal(self) -> bool:
        try:  # nearly all have a lock, and a listing costs four calls more
            self.fs.stat(os.path.join(self.path, LOCK), follow_symlinks=False)
        except FileNotFoundError:
            return any(name.endswith(segments.SUFFIX) for name in self.fs.listdir(self.path))
        return True

    def _refuse_root(self) -> None:
        """A directory with many journals is none: what is asked for one would hear of this one, and of no other."""
        for name in self.fs.listdir(self.path):
            if is_one_of_many(os.path.join(self.path, name), self.fs):
                raise Refused(
                    "many journals are kept here, each in a directory of its own",
                    path=self.path,
                    step="open",
                    hint="Name another directory, or open it as `Journals`.",
                )

    @staticmethod
    def _identify(status: os.stat_result) -> tuple[int, int]:
        return (status.st_dev, status.st_ino)

    def _stat(self) -> os.stat_result:
        try:
            return self.fs.stat(self.path)
        except OSError as error:
            raise self._gone(error) from error

    def _gone(self, error: OSError) -> NotLanded:
        return self.failed(error, "the journal's directory is gone", "directory")

    def unchanged(self) -> bool:
        """Whether no entry was added or removed since `names` was last read.

        Raises:
            NotLanded: the directory is gone.
        """
        try:
            status = self.fs.stat(self.path)
        except OSError as error:
            raise self._gone(error) from error
        return status.st_mtime_ns == self._seen and (status.st_dev, status.st_ino) == self._identity

    def is_the_same(self) -> bool:
        """Whether the path still leads to the directory that was opened."""
        return self._identify(self._stat()) == self._identity

    def leads_here(self) -> bool:
        """Whether the path leads to the directory that was opened; False when it leads nowhere."""
        try:
            return self.is_the_same()
        except NotLanded as error:
            if error.errno == errno.ENOENT:
                return False
            raise

    def names(self) -> dict[str, int]:
        """The entries, each with its inode number; from here `unchanged` counts.

        Raises:
            NotLanded: the directory is gone, or another has taken its path.
        """
        now = time()  # first: what changes from here on has an mtime of its own if that of the stat is a tick older
        status = self._stat()
        if self._identify(status) != self._identity:
            raise NotLanded(
                "another directory has taken the path", path=self.path, step="directory", hint="Open the journal again."
            )
        try:
            names = self.fs.scandir(self.path)
        except OSError as error:
            raise self.failed(error, "the directory cannot be read", "directory") from error
        tick = TICK if status.st_mtime_ns % SECOND else LONG_TICK
        self._seen = status.st_mtime_ns if now - status.st_mtime > tick else -1
        return names

    def forget(self) -> None:
        """Let `unchanged` say False until `names` is read again."""
        self._seen = -1

    def sweep(self, names: Iterable[str], kept: list[Range]) -> None:
        """Remove what dead processes left. Needs the lock: segments are made under it, so that all others are dead."""
        replaced = segments.replaced(names, kept)
        if replaced:
            try:
                self.sync()  # the compacted segment's name first: the process that gave it that name may have died
            except OSError as error:
                raise self.failed(error, "the names cannot be flushed", "sync directory") from error
        dead = [name for name in names if name.startswith(TEMP_PREFIX) and name.endswith(TEMP_SUFFIX)]
        for name in dead + replaced:
            self.remove(name)

    def sync(self) -> None:
        """Flush the names in the directory.

        Raises:
            OSError: as the system does.
        """
        with _fs.Directory(self.path, self.fs) as directory:
            directory.sync()

    def remove(self, name: str) -> None:
        """Unlink an entry that may be gone already.

        Raises:
            NotLanded: it cannot be removed.
        """
        try:
            self.fs.unlink(os.path.join(self.path, name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise self.failed(error, f"{name} cannot be removed", "sweep") from error

    def mark_suspect(self) -> None:
        """Tell the other processes that the page cache may hold what the device does not.

        Raises:
            NotLanded: the mark cannot be made.
        """
        try:
            self._create(SUSPECT, os.O_CREAT)
        except NotLanded as error:
            try:  # a second name for the lock file needs neither an inode nor a descriptor
                self.fs.link(os.path.join(self.path, LOCK), os.path.join(self.path, SUSPECT))
            except FileExistsError:
                return
            except OSError:
                raise error from None

    def touch(self) -> None:
        """Change the directory, so that every process looks at it again.

        Raises:
            NotLanded: it cannot be changed.
        """
        beacon = temp_name(os.urandom(6).hex())
        self._create(beacon, os.O_CREAT | os.O_EXCL)
        self.remove(beacon)

    def _create(self, name: str, flags: int) -> None:
        try:
            path = os.path.join(self.path, name)
            self.fs.close(self.fs.open(path, os.O_WRONLY | _fs.KEPT | flags, self.mode))
        except OSError as error:
            raise self.failed(error, f"{name} cannot be made", "directory") from error

    def failed(self, error: OSError, what: str, step: str) -> NotLanded:
        """The landed error for a system call that failed before anything was changed."""
        return from_os_error(NotLanded, error, what, path=self.path, step=step)
