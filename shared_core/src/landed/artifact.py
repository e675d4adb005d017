"""One artifact: the bytes under a path, the record beside its lock, and what the two say together.

The version of an artifact is decided here, in one place:

* ``"<counter>-<nonce>"`` is a write that landed made. Counters only grow and nonces are random, so that no version
  comes twice, even after a record was lost.
* ``"<version>+<digest>"`` stands for bytes that something else put there after landed's `version` ("0" when landed
  never wrote the path).
* `ABSENT` is no file.
"""

from __future__ import annotations

from time import monotonic

from landed import _fs
from landed.digest import sha256, sha256_of
from landed.errors import NotLanded, OutcomeUnknown, VerifyFailed, from_os_error
from landed.lock import deadline_after
from landed.process import Owner
from landed.publish import KEPT_XATTRS, XATTR, Replaced, identity_of, publish, refuse_kind, temp_name
from landed.records import ABSENT, LANDED, OUTSIDE, Absent, Record, Write, base_of, counter_of
from landed.shelf import Shelf, State, key_of
from landed.state import Store, make_directories, remove_directories, resolve, store_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Hashable
    from typing import Final

    from landed.lease import Lease

CHECK_DIGITS: Final = 32
"""Hexadecimal digits of a tag's check."""
KEY_SHOWN: Final = 16
"""Hexadecimal digits of the key in the name of a temp file."""
LARGE: Final = 256 * 1024
"""Bytes of a file from which on it is not kept in memory for who asks for its digest alone."""
DIGEST_SHOWN: Final = 16
"""Hexadecimal digits of the digest in the version of an outside change."""


class Sight:
    """What stands under a path now.

    Attributes:
        size: how many bytes.
        status: of the inode they were read from.
        tag: the version that the inode says it is, if the tag is this path's own and its bytes are unchanged, else "".
        replaced: what a write over it hands on.
    """

    __slots__ = ("_again", "_data", "_digest", "replaced", "size", "status", "tag")

    def __init__(self, data: bytes, status: os.stat_result, replaced: Replaced) -> None:
        self.size = len(data)
        self.status = status
        self.tag = ""
        self.replaced = replaced
        self._data = data
        self._digest = ""
        self._again: Artifact | None = None

    @classmethod
    def without_data(cls, size: int, digest: str, status: os.stat_result, replaced: Replaced, again: Artifact) -> Sight:
        """A sight of bytes that were not kept; a look at `again` reads them anew."""
        sight = cls(b"", status, replaced)
        sight.size, sight._digest, sight._again = size, digest, again
        return sight

    @property
    def data(self) -> bytes:
        """The bytes.

        Raises:
            NotLanded: they were not kept, and are not there any more.
        """
        if self._again is not None:
            again = self._again.look()
            if again is None or again.digest != self._digest:
                raise NotLanded("the file changed while it was read", path=self._again.path, step="read")
            self._data, self._again = again.data, None
        return self._data

    @property
    def digest(self) -> str:
        """Their sha256 in hexadecimal, taken when it is first asked for: a megabyte takes 3 ms."""
        if not self._digest:
            self._digest = sha256(self._data)
        return self._digest


class Verdict:
    """Which version a sight is, and where it comes from."""

    __slots__ = ("origin", "version")

    def __init__(self, version: str | Absent, origin: str) -> None:
        self.version = version
        self.origin = origin


class Artifact:
    """A path, resolved, with its shelf in its store. Two spellings of one file make equal artifacts.

    Args:
        path: of the file.
        fs: the file operations to use.
        keeps: whether who looks will ask for the bytes; a large file's are else read again when they are asked for.

    Attributes:
        known: what a file held, and its status then, where that vouches for it: while the status is the same, whoever
            looks need not read it again. None for nothing.

    Raises:
        Refused: the path cannot be an artifact's.
    """

    __slots__ = ("_loaded", "directory", "fs", "keeps", "key", "known", "name", "path", "shelf", "store")

    def __init__(self, path: str | os.PathLike[str], fs: _fs.FileOps = _fs.LOCAL, *, keeps: bool = True) -> None:
        self.path = resolve(path)
        self.fs = fs
        self.keeps = keeps
        self.known: tuple[os.stat_result, bytes] | None = None
        self.directory = _fs.parent_of(self.path)
        self.name = self.path.rpartition(_fs.SEP)[2]
        self._put_in(store_for(self.directory, fs))

    def _put_in(self, store: Store) -> None:
        self.store = store
        true_name = store.name_of(self.path)
        self.key = key_of(true_name)
        self.shelf = Shelf(store, true_name, self.key, self.fs)
        self._loaded: Record | None = None

    def follow(self) -> bool:
        """Load the record, and go to the store that keeps the path now if a shared directory was made meanwhile.

        Needs the lock of the store it was in, and gives it back when it goes.

        Returns:
            Whether it went.
        """
        self._loaded = self.shelf.load()
        if not self._loaded.moved:
            return False
        store = store_for(self.directory, self.fs)
        if store.root == self.store.root:
            return False  # the shared directory's store is gone again
        self.shelf.lock.release()
        self._put_in(store)
        return True

    def __enter__(self) -> Artifact:
        return self

    def __exit__(self, *_: object) -> None:
        """Give the lock back where an interrupt has struck just before `Locked` would have."""
        self.shelf.lock.release()

    def lease(self) -> Lease | None:
        """The lease that binds the path, in the record that `follow` has just loaded; one that is over is dropped."""
        record = self._loaded
        if record is not None and record.lease is not None and record.lease.over:
            record.lease = None
        return record.lease if record is not None else None

    @property
    def temp(self) -> str:
        """The one name of this path's temp files.

        Whoever finds it under the lock knows that its writer is dead; no directory is listed for that. The store is
        part of it, so that programs whose stores, and so locks, are not the same do not take each other's.
        """
        return temp_name(f"{self.key[:KEY_SHOWN]}-{self.store.identity(self.fs)}")

    def tag_of(self, version: str, digest: str) -> bytes:
        """The ``user.landed`` attribute of this path's bytes: a copy of the file under another name does not count.

        At most 64 bytes: ext4 keeps that in the inode, and a longer one in a block of its own, which makes the flush of
        the file and the rename a third dearer.
        """
        return f"1 {version} {sha256(f'{version} {digest} {self.key}'.encode())[:CHECK_DIGITS]}".encode()

    def look(
        self, *, device: bool = False, access: bool = False, each: Callable[[bytes], None] | None = None
    ) -> Sight | None:
        """Read what stands under the path; None when nothing does.

        Args:
            device: past the page cache.
            access: whether it counts as one, and may move the file's access time.
            each: told of the pieces of a file whose bytes are not kept, in their order.

        Raises:
            Refused: it is not a regular file.
            NotLanded: it cannot be read.
        """
        try:
            fd = _fs.open_regular(self.fs, self.path, access=access)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._refuse_unopenable()
            raise self._cannot_read(error) from error
        try:
            status = self.fs.fstat(fd)
            refuse_kind(self.path, status)
            if device:
                self.fs.drop_cache(fd)
            digest = data = None
            if self.known is not None and not device and identity_of(status) == identity_of(self.known[0]):
                data = self.known[1]
            elif self.keeps or status.st_size < LARGE:
                data = _fs.read_all(self.fs, fd, status.st_size)
            else:
                digest = sha256_of(status.st_size, _fs.pieces(self.fs, fd, each))
            xattrs = self._xattrs(fd)
        except OSError as error:
            raise self._cannot_read(error) from error
        finally:
            _fs.close_read(self.fs, fd)
        own = xattrs.pop(XATTR, b"")
        replaced = Replaced(status, xattrs)
        if data is not None:
            sight = Sight(data, status, replaced)
        else:
            again = Artifact(self.path, self.fs)
            sight = Sight.without_data(status.st_size, digest or "", status, replaced, again)
        version = own.decode("ascii", "replace").split(" ")[1:2]
        if version and own == self.tag_of(version[0], sight.digest):
            sight.tag = version[0]
        return sight

    def _refuse_unopenable(self) -> None:
        """Name the kind of a file that cannot be opened for reading (a socket, a directory on Windows)."""
        try:
            status = self.fs.stat(self.path, follow_symlinks=False)
        except OSError:
            return
        refuse_kind(self.path, status)

    def _cannot_read(self, error: OSError) -> NotLanded:
        return from_os_error(NotLanded, error, "the file cannot be read", path=self.path, step="read")

    def _xattrs(self, fd: int) -> dict[str, bytes]:
        try:
            names = self.fs.listxattr(fd)
        except OSError as error:
            if error.errno in _fs.NO_XATTR:
                return {}
            raise
        return {name: self.fs.getxattr(fd, name) for name in names if name.startswith(KEPT_XATTRS)}

    def judge(self, record: Record, sight: Sight | None) -> Verdict:
        """Which version the sight is. Needs a record that was read after the sight, or the lock."""
        known = [write for write in (record.begun, record.landed) if write is not None]
        if sight is None:
            gone = not known or any(write.digest == "" for write in known)
            return Verdict(ABSENT, LANDED if gone else OUTSIDE)
        if record.lags(sight.tag):
            return Verdict(sight.tag, LANDED)  # the record lags behind after a power cut; the file itself does not
        for write in known:
            if write.digest == sight.digest:
                return Verdict(write.version, LANDED)
        base = record.landed.version if record.landed is not None else "0"
        return Verdict(f"{base}+{sight.digest[:DIGEST_SHOWN]}", OUTSIDE)

    def settle(self, directory: _fs.Directory) -> tuple[Record, Sight | None, str]:
        """Bring record and disk together. Needs the lock: who holds it and finds a begun write knows that it ended.

        Returns:
            The record, the sight, and what became of an unfinished write ("" when there was none).

        Raises:
            OutcomeUnknown: an unfinished write is in place and cannot be flushed.
            NotLanded: the record or the file cannot be read.
            Corrupt: the record is another artifact's.
        """
        record, self._loaded = self._loaded or self.shelf.load(), None
        begun = record.begun
        if begun is None:
            return self._adopt_tag(record, directory)
        # Its writer may have met an I/O error: what the page cache says is no evidence.
        self._sweep(directory)
        sight = self.look(device=True)
        if sight is not None and record.lags(sight.tag):
            record.begun = None  # the record on the device is older than the file
            return self._adopt_tag(record, directory)
        if (sight.digest if sight is not None else "") == begun.digest:
            self._land_again(directory, begun, sight)
            sight = self.look()
            record.landed = begun
            story = f"{begun}: in place, though its writer never learned so"
        else:
            story = f"{begun}: aborted, it never reached the file"
        record.begun = None
        self.save(record)
        return record, sight, story

    def _adopt_tag(self, record: Record, directory: _fs.Directory) -> tuple[Record, Sight | None, str]:
        """After a power cut the record may lag behind the file, whose own tag was flushed with it."""
        sight = self.look()
        if sight is None:
            return record, None, ""
        if sight.status.st_nlink > 1 and self._sweep(directory):
            sight = self.look()  # a put-if-absent that died between link and unlink
        if sight is not None and record.lags(sight.tag):
            base = record.landed.version if record.landed is not None else ""
            record.counter = counter_of(sight.tag)
            record.landed = Write(
                sight.tag, sight.digest, len(sight.data), base, Owner(0, "-", "-", "unknown"), sight.status.st_mtime
            )
        return record, sight, ""

    def _sweep(self, directory: _fs.Directory) -> bool:
        """Remove the temp file that a dead writer may have left; whether there was one."""
        try:
            directory.unlink(self.temp)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise from_os_error(
                NotLanded, error, "a dead writer's temp file cannot be removed", path=self.path, step="sweep"
            ) from error
        return True

    def _land_again(self, directory: _fs.Directory, begun: Write, sight: Sight | None) -> None:
        """Make durable what an unfinished write put in place, before anything is built on it.

        Its flush may have failed, and a failed flush is not repeated: the bytes are written again, to a new inode.
        """
        if sight is not None:
            tag = self.tag_of(begun.version, begun.digest)
            publish(directory, self.name, sight.data, temp=self.temp, replaced=sight.replaced, tag=tag, fs=self.fs)
            return
        try:
            directory.change(self.temp)  # a delete
            directory.sync()
        except OSError as error:
            raise from_os_error(
                OutcomeUnknown, error, "an unfinished delete cannot be flushed", path=self.path, step="settle"
            ) from error

    def log(self, write: Write) -> None:
        """Append a line for a write that begins. Needs the lock.

        Raises:
            NotLanded: it cannot be written.
        """
        try:
            self.shelf.log(write)
        except OSError as error:
            raise from_os_error(NotLanded, error, "the log cannot be written", path=self.path, step="log") from error

    def save(self, record: Record, *, flush: bool = False) -> None:
        """Write the record down. Needs the lock.

        Raises:
            NotLanded: it cannot be written; the state before stays readable.
        """
        try:
            self.shelf.save(record, flush=flush)
        except OSError as error:
            raise self._cannot_record(error) from error

    def put(self, state: State, *, flush: bool = False) -> None:
        """Write down a state of the record that was made beforehand, as `save` does."""
        try:
            self.shelf.put(state, flush=flush)
        except OSError as error:
            raise self._cannot_record(error) from error

    def _cannot_record(self, error: OSError) -> NotLanded:
        what = "the record cannot be written"
        return from_os_error(NotLanded, error, what, path=self.shelf.record_path, step="record")


class Locked:
    """The path's lock and its open directory.

    With `make`, missing directories are created, and removed again unless `landed` says that a file stands in them.
    Without it a missing directory is a FileNotFoundError.
    """

    __slots__ = ("_actor", "_artifact", "_directory", "_make", "_timeout", "created", "landed")

    def __init__(self, artifact: Artifact, timeout: float, actor: Hashable, *, make: bool = False) -> None:
        self._artifact = artifact
        self._timeout = timeout
        self._actor = actor
        self._make = make
        self.created: list[str] = []
        self.landed = False

    def __enter__(self) -> _fs.Directory:
        artifact = self._artifact
        deadline = deadline_after(self._timeout)
        try:
            artifact.shelf.acquire(self._timeout, self._actor)
            while artifact.follow() or self._leased(deadline):
                artifact.shelf.acquire(max(0.0, deadline - monotonic()), self._actor)
            self._directory = self._open_directory()
        except BaseException:
            self._give_back()
            raise
        return self._directory

    def _leased(self, deadline: float) -> bool:
        """Whether an agent's tool may be writing now, and so the lock was given back for a while."""
        lease = self._artifact.lease()
        if lease is None:
            return False
        from landed.lease import wait_for

        self._give_back()
        wait_for(lease, deadline, self._artifact.path)
        return True

    def _open_directory(self) -> _fs.Directory:
        artifact = self._artifact
        path = artifact.directory
        try:
            try:
                return _fs.Directory(path, artifact.fs)
            except FileNotFoundError:
                if not self._make:
                    raise
            make_directories(artifact.fs, path, 0o777, self.created)  # flushed with all above them
            return _fs.Directory(path, artifact.fs)
        except OSError as error:
            remove_directories(self._artifact.fs, self.created)
            if isinstance(error, FileNotFoundError) and not self._make:
                raise
            raise from_os_error(
                NotLanded, error, "its directory cannot be opened", path=artifact.path, step="directory"
            ) from error

    def _give_back(self) -> None:
        self._artifact.shelf.lock.release()

    def __exit__(self, *_: object) -> None:
        try:
            self._directory.close()
            if not self.landed:
                remove_directories(self._artifact.fs, self.created)
        finally:
            self._give_back()


def describe(version: str | Absent, record: Record) -> str:
    """A version in words: who wrote it."""
    if isinstance(version, Absent):
        return "no file"
    if "+" in version:
        after = base_of(version)
        return "bytes that something outside landed put there" + (f" after version {after}" if after != "0" else "")
    for write in (record.landed, record.begun):
        if write is not None and write.version == version:
            return f"version {write}"
    return f"version {version}"


def not_as_written(path: str, verdict: Verdict, there: str, last: Write | None) -> VerifyFailed:
    """The error for a file that is not as landed wrote it `last`; `there` says in words what is there."""
    if not isinstance(verdict.version, Absent):
        hint = "Read it to adopt what is there."
    else:
        hint = "Check the path." if last is None else "It is gone: write it again, with expect=ABSENT."
    error = VerifyFailed(
        "landed has no record of it" if last is None else "it is not what landed wrote last",
        path=path,
        step="verify",
        expected=f"version {last}" if last is not None else None,
        found=there,
        hint=hint,
    )
    error.state = f"Found: {there}." + (f" landed wrote {error.expected}." if last is not None else "")
    return error
