"""Many local journals under one root: a directory for each, named by the hash of its name, which it holds.

    ROOT/3f2a.../name           the name itself, as UTF-8; its hash is the directory's name
    ROOT/3f2a.../*.seg, lock    the journal
    ROOT/locks/3f2a...          the lock that goes by the name; it outlives the journal
    ROOT/.new-..., .removed-... a journal on its way in, or out

A journal is removed by a rename, under its lock: from that moment its path leads nowhere, or to a new one, and whoever
has it open finds that at the next append.
"""

from __future__ import annotations

import errno
import os
from time import time

from landed import _fs
from landed.engine import DIGITS, claimed, decode_name, digest_of_name, encode_name
from landed.errors import Corrupt, LockTimeout, NotLanded, OutcomeUnknown, Refused, StaleWrite, from_os_error
from landed.local import segments
from landed.local.claim import CLAIM, GLANCE
from landed.local.directory import LOCK, NAME
from landed.local.log import LocalLog
from landed.local.permissions import Permissions
from landed.lock import Lock
from landed.publish import publish, write_new
from landed.state import absolute, directory_mode, flush_ancestors, make_directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from landed.engine import Log

LOCKS: Final = "locks"
NEW: Final = ".new-"
REMOVED: Final = ".removed-"
ABANDONED: Final = 3600.0
"""Seconds after which a journal that was not put in place yet never will be."""
ATTEMPTS: Final = 16
"""How often a journal may be removed while it is being made before that is an error."""


class LocalCollection:
    """The `Collection` of local files.

    Args:
        root: created when missing, with its parents. Whoever may write it may use its journals
            (`landed.local.permissions`).
        max_bytes: growth limit of each journal in bytes; None for none.

    Raises:
        Refused: it is the directory of one journal.
        NotLanded: the root cannot be made or read.
    """

    def __init__(self, root: str, *, max_bytes: int | None = None, fs: _fs.FileOps = _fs.LOCAL) -> None:
        self.name = absolute(root)
        self._fs = fs
        self._max_bytes = max_bytes
        try:
            self._permissions = Permissions(self.name, fs)
            self._mode = self._permissions.mode
            made: list[str] = []
            make_directories(fs, self.name, directory_mode(self._mode), made)
            if made:
                for each in made:
                    self._permissions.share(each)
                flush_ancestors(fs, self.name, made)
            self._settled = bool(made)
            self._root = self._identity()
            if not made:
                self._refuse_journal()
        except OSError as error:
            raise self._failed(error, "the root cannot be made", "open") from error

    def open(self, name: str, *, create: bool) -> LocalLog | None:
        path = self._path(name)
        self._check_root()  # a root that was replaced may hold a copy of everything, or an older one
        made = b""
        for _ in range(ATTEMPTS):
            if not self._exists(path):
                self._check_root()
                if not create:
                    return None
                made = self._make(path, name)
            self._refuse_planted(path, "open")
            try:
                log = self._log(path, made)
            except NotLanded as error:
                if error.errno == errno.ENOENT and not self._exists(path):
                    continue  # it was removed meanwhile
                raise
            if self._is_named(path, name) and self.current(log):
                return log
            log.close()
        raise NotLanded(f"removed {ATTEMPTS} times while it was opened", path=path, step="open", hint="Try again.")

    def _log(self, path: str, made: bytes = b"") -> LocalLog:
        return LocalLog(
            path,
            max_bytes=self._max_bytes,
            mode=self._mode,
            create=False,
            flush_names=self._flush_names,
            fresh=made,
            fs=self._fs,
        )

    def _flush_names(self) -> None:
        """Flush the names in the root, and once per process those above it: what leads to a journal.

        Raises:
            OSError: as the system does.
        """
        with _fs.Directory(self.name, self._fs) as root:
            root.sync()
        if not self._settled:
            flush_ancestors(self._fs, self.name)
            self._settled = True

    def current(self, log: Log) -> bool:
        return isinstance(log, LocalLog) and log.directory.leads_here()

    def names(self) -> Iterator[str]:
        self._check_root()
        for entry in self._entries():
            path = os.path.join(self.name, entry)
            if len(entry) == DIGITS:
                name = self._name_in(path)
                if name is not None:
                    yield name
                elif self._exists(path):
                    hint = "Open it by its name, which restores it."
                    raise Corrupt("a journal has lost its name", path=path, step="open", hint=hint)

    def remove(self, name: str, timeout: float, expect: int | None = None) -> bool:
        path = self._path(name)
        self._check_root()
        self._sweep()
        if not self._exists(path):
            return False
        self._refuse_planted(path, "remove")
        self._refuse_if_claimed(path)
        log = None
        lock = Lock(os.path.join(path, LOCK), mode=self._mode, fs=self._fs)
        try:
            if expect is not None:
                log = self._log(path)
                lock = log.lock  # its own: where a writer was killed it looks at what that left under its lock
            lock.acquire(timeout)
        except LockTimeout:
            raise
        except NotLanded:
            if self._exists(path):
                raise
            return False  # another process was first
        out = os.path.join(self.name, f"{REMOVED}{os.urandom(6).hex()}")
        try:
            if log is not None and expect is not None:
                log.refuse_other_tail(expect)
            self._rename(path, out)
        finally:
            lock.release()
            if log is not None:
                log.close()
        self._clear(out)
        return True

    def lock(self, name: str) -> Lock:
        self._check_root()
        directory = os.path.join(self.name, LOCKS)
        try:
            self._fs.mkdir(directory, directory_mode(self._mode))
            self._permissions.share(directory)
        except FileExistsError:
            self._refuse_planted(directory, "lock")
        except OSError as error:
            raise self._failed(error, "the directory of locks cannot be made", "lock") from error
        return Lock(os.path.join(directory, digest_of_name(name)), mode=self._mode, fs=self._fs)

    # Making one.

    def _make(self, path: str, name: str) -> bytes:
        """Put a journal with its name in it in place, whole: whoever finds its directory finds both.

        The directory's own name is flushed with the journal's first append.

        Returns:
            The id of its first segment; b"" when another process was first.
        """
        new = os.path.join(self.name, f"{NEW}{os.urandom(6).hex()}")
        first = segments.first(self._max_bytes)
        try:
            self._fs.mkdir(new, directory_mode(self._mode))
            try:
                self._permissions.share(new)
                with _fs.Directory(new, self._fs) as directory:
                    write_new(directory, NAME, encode_name(name), mode=self._mode, fs=self._fs)
                    segments.create_first(directory, first, self._mode, self._fs)
                    directory.sync()
                self._fs.rename(new, path)
            except BaseException:
                self._clear(new)
                raise
            return first.id
        except OSError as error:
            if not self._exists(path):  # else another process was first
                raise self._failed(error, "a journal cannot be made", "open") from error
        return b""

    def _put_name(self, path: str, name: str) -> None:
        with _fs.Directory(path, self._fs) as directory:
            temp = f"{NEW}{os.urandom(6).hex()}"
            publish(directory, NAME, encode_name(name), temp=temp, replaced=None, mode=self._mode, fs=self._fs)

    def _is_named(self, path: str, name: str) -> bool:
        """Whether the directory holds that name, which it gets back if it was lost; False when it is gone.

        Raises:
            Corrupt: it holds another.
        """
        found = self._name_in(path)
        if found is None and self._exists(path):
            try:
                self._put_name(path, name)
            except (OSError, StaleWrite) as error:
                if self._exists(path) and not isinstance(error, StaleWrite):
                    raise self._failed(error, "a journal's name cannot be restored", "open") from error
            found = self._name_in(path)
        if found is not None and found != name:
            raise self._misnamed(path)
        return found is not None

    def _name_in(self, path: str) -> str | None:
        """The name that a directory holds; None when there is no name or no directory."""
        try:
            with _fs.Directory(path, self._fs) as directory:
                fd = directory.open(NAME, os.O_RDONLY | _fs.KEPT)
                try:
                    data = _fs.read_all(self._fs, fd, self._fs.fstat(fd).st_size)
                finally:
                    _fs.close_read(self._fs, fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed(error, "a journal's name cannot be read", "open") from error
        try:
            name = decode_name(data)
        except UnicodeDecodeError:
            raise self._misnamed(path) from None
        if digest_of_name(name) != os.path.basename(path):
            raise self._misnamed(path)
        return name

    def _misnamed(self, path: str) -> Corrupt:
        return Corrupt("a journal bears a name that is not its own", path=os.path.join(path, NAME), step="open")

    # Removing one.

    def _rename(self, path: str, out: str) -> None:
        try:
            self._fs.rename(path, out)
        except OSError as error:
            raise self._failed(error, "the journal cannot be removed", "rename") from error
        try:
            with _fs.Directory(self.name, self._fs) as root:
                root.sync()
        except OSError as error:
            raise from_os_error(
                OutcomeUnknown, error, "the removal cannot be flushed", path=path, step="sync directory"
            ) from error

    def _clear(self, path: str) -> None:
        """Delete what a rename took out; what cannot be deleted now is deleted at the next removal."""
        try:
            _fs.remove_directory(self._fs, path)
        except OSError:
            return

    def _sweep(self) -> None:
        """Delete what dead processes left: journals half removed, and some that were never put in place."""
        for entry in self._entries():
            path = os.path.join(self.name, entry)
            if entry.startswith(REMOVED) or (entry.startswith(NEW) and self._age(path) > ABANDONED):
                self._clear(path)

    def _age(self, path: str) -> float:
        try:
            return time() - self._fs.stat(path).st_mtime
        except OSError:
            return 0.0  # it is in place by now

    def _refuse_if_claimed(self, path: str) -> None:
        claim = os.path.join(path, CLAIM)
        if not self._exists(claim):
            return
        lock = Lock(claim, mode=self._mode, fs=self._fs)
        try:
            lock.acquire(GLANCE)
        except LockTimeout as error:
            raise claimed(path, error.holder) from error
        lock.release()

    # Paths.

    def _refuse_planted(self, path: str, step: str) -> None:
        """In a directory with the sticky bit everybody makes names, and nobody may use another's."""
        if not self._permissions.sticky:
            return
        try:
            status = self._fs.stat(path, follow_symlinks=False)
        except FileNotFoundError:
            return  # it was removed meanwhile
        except OSError as error:
            raise self._failed(error, "it cannot be looked up", step) from error
        if status.st_uid != 0 and not _fs.is_ours(status):
            raise Refused(
                f"user {status.st_uid} has made it, in a directory where everybody keeps to what is their own",
                path=path,
                step=step,
                hint="Keep journals in a directory of your own, or of a group that shares it.",
            )

    def _path(self, name: str) -> str:
        return os.path.join(self.name, digest_of_name(name))

    def _exists(self, path: str) -> bool:
        try:
            self._fs.stat(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._failed(error, "it cannot be looked up", "open") from error
        return True

    def _refuse_journal(self) -> None:
        """One journal's directory is no root: an import or a copy into it would mix what nothing takes apart again."""
        signs = (LOCK, segments.name_of(segments.FIRST))  # a root with ten thousand journals is not listed for this
        if not any(self._exists(os.path.join(self.name, sign)) for sign in signs):
            return
        names = self._entries()
        if any(map(segments.span_of, names)) and not any(len(name) == DIGITS for name in names):
            raise Refused(
                "one journal is kept here, and not many",
                path=self.name,
                step="open",
                hint="Name another directory, or open it as a `Journal`.",
            )

    def _identity(self) -> tuple[int, int]:
        status = self._fs.stat(self.name)
        return (status.st_dev, status.st_ino)

    def _check_root(self) -> None:
        """Raise when the root was removed or replaced: nothing in it would be what the caller has seen."""
        try:
            if self._identity() == self._root:
                return
        except OSError as error:
            raise self._failed(error, "the root is gone", "directory") from error
        raise NotLanded("another directory has taken the root's path", path=self.name, step="directory")

    def _entries(self) -> list[str]:
        try:
            return self._fs.listdir(self.name)
        except OSError as error:
            raise self._failed(error, "the root cannot be read", "open") from error

    def _failed(self, error: OSError, what: str, step: str) -> NotLanded:
        return from_os_error(NotLanded, error, what, path=self.name, step=step)


def kind_of(place: str) -> tuple[bool, bool]:
    """Whether there is a journal in a directory, and whether there are journals below it."""
    try:
        names = os.listdir(place)
    except (FileNotFoundError, NotADirectoryError):
        return False, False
    return any(name.endswith(segments.SUFFIX) for name in names), any(len(name) == DIGITS for name in names)
