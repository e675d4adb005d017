"""Whole files with compare-and-swap: `read`, `write`, `edit`, `delete`, `verify`.

What each does is in `landed.landing` for files of this machine, and in `landed.remote` for addresses of engines.
"""

from __future__ import annotations

import _thread

from landed import _fs
from landed.lock import DEFAULT_TIMEOUT
from landed.publish import READ
from landed.records import SEEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Final

    from landed.editing import Edit
    from landed.memory import Memory
    from landed.remote import RemoteEdit
    from landed.values import Data, Expect, Path, Receipt, Snapshot


class Files:
    """Whole-file reads and writes of one program, and its memory of what it has seen.

    The functions of the package (`landed.read` ...) are the methods of one such object. Threads (and tasks, through
    `landed.aio`) each have their own last-seen version; one that has seen nothing itself inherits the program's.

    Attributes:
        memory: what it has seen, and where an outcome is unknown.
    """

    memory: Memory

    def __init__(self, fs: _fs.FileOps = _fs.LOCAL) -> None:
        self._fs = fs
        self._durable: set[tuple[int, int]] = set()

    def __getattr__(self, name: str) -> Memory:
        if name != "memory":
            raise AttributeError(name, name=name, obj=self)
        from landed.memory import Memory  # with the first call: an import of landed is not the place to pay for it

        memory: Memory = self.__dict__.setdefault("memory", Memory())  # of two threads that are the first, one's
        return memory

    # The public operations.

    def read(self, path: Path) -> Snapshot:
        """Read a file and what landed knows of it.

        Raises:
            FileNotFoundError: there is none.
            NotLanded: it is not a regular file, or cannot be read.
        """
        return self._read(path, this_thread())

    def write(
        self,
        path: Path,
        data: Data,
        *,
        expect: Expect = SEEN,
        verify: str = READ,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Receipt:
        """Write a whole file: when this returns, the bytes are on the disk, under that name, verified.

        Args:
            data: the bytes, or text (stored as UTF-8, newlines as given).
            expect: what must be there: a version, a Snapshot or Receipt, `ABSENT` to create only, `ANY` to overwrite on
                purpose. Without it the write lands only on what this program last read or wrote there, or on nothing.
            verify: ``"read"``, or ``"device"`` to read back past the page cache.
            timeout: seconds to wait for the path's lock.

        Raises:
            StaleWrite: something else is there. Nothing was written.
            Bypassed: likewise, and it was not landed that put it there.
            LockTimeout: another writer held the path for all of `timeout`. Nothing was written.
            Refused: the target or an argument is one that landed does not write. Nothing was written.
            NotLanded: the system refused a step before the rename. The old file is intact, no temp file is left.
            OutcomeUnknown: a step after the rename failed. Further writes raise until the path has been read again.
            VerifyFailed: likewise: the name does not lead to these bytes.
        """
        return self._write(path, data, expect, verify, timeout, this_thread())

    def edit(self, path: Path, *, verify: str = READ, timeout: float = DEFAULT_TIMEOUT) -> Edit | RemoteEdit:
        """Read, change and write a file under its lock: ``with landed.edit(path) as doc: doc.text = ...``.

        A file that does not exist begins empty. Leaving the block writes `doc` if it changed; an exception in the block
        writes nothing. Other writers wait meanwhile.

        Raises:
            LandedError: as `write`, on entry (lock, target) and on exit (everything else).
        """
        return self._edit(path, verify, timeout, this_thread())

    def delete(self, path: Path, *, expect: Expect = SEEN, timeout: float = DEFAULT_TIMEOUT) -> Receipt:
        """Remove a file, flushed and verified. `expect` and the errors are those of `write`.

        Raises:
            FileNotFoundError: there is none.
        """
        return self._delete(path, expect, timeout, this_thread())

    def verify(self, path: Path, *, level: str = READ, timeout: float = DEFAULT_TIMEOUT) -> Receipt:
        """Compare a file with the last write that landed acknowledged for it.

        Returns:
            A receipt of that write; ``seconds`` is what this check took.

        Raises:
            VerifyFailed: the file is gone, its bytes are others, or landed has no record of it.
        """
        return self._verify(path, level, timeout)

    # The same with the caller named, for landed.aio. Addresses of engines part here.

    def _edit(self, path: Path, verify: str, timeout: float, actor: Hashable) -> Edit | RemoteEdit:
        if _is_address(path):
            from landed.remote import RemoteEdit

            return RemoteEdit(self, path, verify, timeout, actor)
        from landed.editing import Edit

        return Edit(self, path, verify, timeout, actor)

    def _read(self, path: Path, actor: Hashable) -> Snapshot:
        if _is_address(path):
            from landed import remote

            return remote.read(self, path, actor)
        from landed.landing import read

        return read(self, path, actor)

    def _write(self, path: Path, data: Data, expect: Expect, verify: str, timeout: float, actor: Hashable) -> Receipt:
        if _is_address(path):
            from landed import remote

            return remote.write(self, path, data, expect, verify, timeout, actor)
        from landed.landing import write

        return write(self, path, data, expect, verify, timeout, actor)

    def _delete(self, path: Path, expect: Expect, timeout: float, actor: Hashable) -> Receipt:
        if _is_address(path):
            from landed import remote

            return remote.delete(self, path, expect, timeout, actor)
        from landed.deleting import delete

        return delete(self, path, expect, timeout, actor)

    def _verify(self, path: Path, level: str, timeout: float) -> Receipt:
        if _is_address(path):
            from landed import remote

            return remote.verify(path, level, timeout)
        from landed.landing import verify

        return verify(self, path, level, timeout)


def this_thread() -> Hashable:
    """A token of the calling thread that no other thread ever has: identifiers are given out again."""
    token = getattr(_threads, "token", None)
    if token is None:
        token = _threads.token = object()
    return token


_threads = _thread._local()
"""What `threading.local` is in CPython; importing threading for it would cost a third of what landed may."""


def _is_address(path: Path) -> bool:
    """Whether an engine keeps it. What has no scheme is a file, and needs none of the engines.

    Raises:
        Refused: no engine has that scheme.
    """
    if ":/" not in str(path):
        return False
    from landed.engines import is_address

    return is_address(path)


FILES: Final = Files()
"""The files of this program."""

read = FILES.read
write = FILES.write
edit = FILES.edit
delete = FILES.delete
verify = FILES.verify
