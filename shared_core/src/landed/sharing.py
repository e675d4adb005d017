"""A directory that keeps its own locks and records, for several users or containers: ``DIR/.landed``.

The store is built aside, with the records of the files that the user's own store knows already, and appears under its
name by one rename. Until then every program finds the old locks, from then on the new ones. So that no writer is
between the two, the old locks of all known files are held while that happens.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager

from landed import _fs, log
from landed.artifact import Artifact
from landed.engines import refuse_address
from landed.errors import NotLanded, Refused, from_os_error
from landed.inventory import keys, within
from landed.lock import DEFAULT_TIMEOUT, Lock
from landed.records import Record, read_record
from landed.shelf import Shelf, key_of
from landed.state import ARTIFACTS, STORE_NAME, Store, store_for, user_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Final, TypeAlias

    _Carried: TypeAlias = tuple[Artifact, Record]
    """A file whose old lock is held, and its old record."""

STAGING: Final = "init"
"""In a store: where a store is built before it appears."""
CLOSED: Final = 0o711
"""Bits of a store that is being built: others may look for it, and make no names there that the builder would follow.
"""
IGNORE: Final = ".gitignore"
"""In a store: keeps locks and records, which mean nothing in another clone, out of version control."""


class Shared:
    """What `share` did.

    Attributes:
        store: the directory's store.
        carried: the files whose records came along from the user's store.
        existed: whether the directory had its store already.
    """

    __slots__ = ("carried", "existed", "store")

    def __init__(self, store: Store, carried: list[str], *, existed: bool) -> None:
        self.store = store
        self.carried = carried
        self.existed = existed


def share(
    directory: str,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    watch: Callable[[list[str]], Iterable[str]] = iter,
    fs: _fs.FileOps = _fs.LOCAL,
) -> Shared:
    """Give `directory` its own store. Who may write the directory may use the store.

    Programs that run as other users, and writes to files that landed does not know yet, cannot be waited for: do it
    before they start.

    Args:
        directory: an existing directory.
        timeout: seconds to wait for each file that is being written.
        watch: gives the list that it is given, one by one, and may tell how far it is.
        fs: the file operations to use.

    Raises:
        Refused: it is no directory, or it lies in a store or in a directory that has one. Nothing was changed.
        LockTimeout: a file in it was being written all the time. Nothing was changed.
        NotLanded: the system refused a step. The directory has no store; what was built aside is removed next time.
    """
    refuse_address(directory)
    base = os.path.realpath(directory)
    status = _status_of(base, fs)
    above = store_for(base, fs)
    _refuse_nested(base, above)
    if above.base == base:
        return Shared(above, [], existed=True)
    mode = stat.S_IMODE(status.st_mode) & 0o777
    if mode & 0o020:
        mode |= stat.S_ISGID  # files in it belong to the group that shares the directory, whoever creates them
    # The sticky bit is left out: under it Linux refuses to open another user's file with O_CREAT (protected_regular).
    root = os.path.join(base, STORE_NAME)
    _refuse_another_users(base, status)
    try:
        _make(root, fs)
        with _held(Lock(os.path.join(root, STAGING + ".lock"), mode=mode & 0o666, fs=fs), timeout):
            now = store_for(base, fs)
            if now.base == base:
                return Shared(now, [], existed=True)  # somebody else was faster
            return _build(base, mode, status, timeout, watch, fs)
    except OSError as error:
        raise from_os_error(
            NotLanded,
            error,
            "the store cannot be made",
            path=root,
            step="init",
            hint="Run it as a user who can write the directory.",
        ) from error


def _status_of(base: str, fs: _fs.FileOps) -> os.stat_result:
    try:
        status = fs.stat(base)
    except OSError as error:
        raise from_os_error(
            Refused, error, "the directory cannot be used", path=base, step="init", hint="Create it first."
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise Refused("it is not a directory", path=base, step="init", hint="Name the directory that holds the file.")
    return status


def _refuse_nested(base: str, above: Store) -> None:
    user = user_store().root
    if STORE_NAME in base.split(os.sep) or within(base, user):
        raise Refused("the directory is itself part of a store", path=base, step="init")
    if above.base and above.base != base:
        raise Refused(
            f"the directory lies in {above.base}, which keeps its locks and records for it",
            path=base,
            step="init",
            hint=f"There is nothing to do: programs that write here meet at the locks in {above.root}.",
        )


def _refuse_another_users(base: str, status: os.stat_result) -> None:
    """A store of somebody who does not own the directory would be refused by everybody else."""
    if not _fs.WINDOWS and not _fs.is_ours(status) and os.geteuid() != 0:
        raise Refused(
            f"the directory belongs to user {status.st_uid}",
            path=base,
            step="init",
            hint="Have its owner, or root, run landed init.",
        )


def _make(path: str, fs: _fs.FileOps) -> None:
    """Create a directory of the store, if it is not there."""
    try:
        fs.mkdir(path, CLOSED)
    except FileExistsError:
        found = fs.stat(path, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            raise
        if not _fs.WINDOWS and not _fs.is_ours(found):
            raise Refused(
                f"user {found.st_uid} has begun to make the store",
                path=path,
                step="init",
                hint="Remove it, or have that user run landed init.",
            ) from None
    with _fs.Directory(os.path.dirname(path), fs) as parent:
        parent.sync()


def _give(path: str, mode: int, shared: os.stat_result, fs: _fs.FileOps) -> None:
    """Give a directory of the store bits, and the group of the directory that is shared."""
    if _fs.WINDOWS:  # pragma: no cover - permissions there come from the parent
        return
    fd = fs.open(path, os.O_RDONLY | _fs.DIRECTORY | _fs.NOFOLLOW)
    try:
        own = fs.fstat(fd)
        if own.st_gid != shared.st_gid and mode & 0o020:
            fs.fchown(fd, -1, shared.st_gid)
        if stat.S_IMODE(own.st_mode) != mode:
            fs.fchmod(fd, mode)
        fs.fsync(fd)
    finally:
        fs.close(fd)


def _build(
    base: str,
    mode: int,
    status: os.stat_result,
    timeout: float,
    watch: Callable[[list[str]], Iterable[str]],
    fs: _fs.FileOps,
) -> Shared:
    root = os.path.join(base, STORE_NAME)
    aside = Store(os.path.join(root, STAGING), base, mode & 0o666)
    _give(root, CLOSED, status, fs)
    _clear(aside, fs)
    _make(aside.root, fs)
    _make(aside.artifacts, fs)
    _give(aside.artifacts, mode, status, fs)
    held: list[_Carried] = []
    try:
        _carry_over(base, aside, timeout, held, watch, fs)
        _give(root, mode, status, fs)
        _ignore(root, mode & 0o666, fs)
        fs.rename(aside.artifacts, os.path.join(root, ARTIFACTS))
        with _fs.Directory(root, fs) as store:
            store.sync()
        fs.rmdir(aside.root)
        for artifact, record in held:
            record.moved = root  # a writer that waits for the old lock finds this, and goes to the new store
            artifact.save(record)
    finally:
        for artifact, _ in held:
            artifact.shelf.lock.release()
    return Shared(Store(root, base, aside.mode), [artifact.path for artifact, _ in held], existed=False)


def _clear(aside: Store, fs: _fs.FileOps) -> None:
    """Remove what a predecessor that died has left."""
    for directory in (aside.artifacts, aside.root):
        try:
            _fs.remove_directory(fs, directory)
        except FileNotFoundError:
            continue


def _ignore(root: str, mode: int, fs: _fs.FileOps) -> None:
    path = os.path.join(root, IGNORE)
    if IGNORE in fs.listdir(root):
        fs.unlink(path)  # it may be a neighbour's second name for somebody's file
    fd = fs.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        _fs.write_all(fs, fd, b"*\n")
        fs.fsync(fd)
    finally:
        fs.close(fd)


def _carry_over(
    base: str,
    aside: Store,
    timeout: float,
    held: list[_Carried],
    watch: Callable[[list[str]], Iterable[str]],
    fs: _fs.FileOps,
) -> None:
    """Copy what the user's store knows of files below `base`; they are in `held` afterwards, locked."""
    old = user_store()
    for key in watch(keys(old, fs)):
        name = _name_of(old, key, fs)
        if name is None or not name.startswith(base + os.sep):
            continue
        artifact = Artifact(old.path_of(name), fs)
        if artifact.key != key or artifact.store.root != old.root:
            continue  # reached by another way by now, or a store further down keeps it
        artifact.shelf.lock.acquire(timeout, owner=object())
        held.append((artifact, Record(name)))
        record = _settled(artifact, fs)
        held[-1] = (artifact, record)
        _copy(record, artifact.shelf, _shelf_in(aside, artifact.path, fs))


def _name_of(store: Store, key: str, fs: _fs.FileOps) -> str | None:
    try:
        record = read_record(os.path.join(store.artifacts, key + ".record"), fs)
    except FileNotFoundError:
        return None
    return record.name if record is not None else None


def _shelf_in(store: Store, path: str, fs: _fs.FileOps) -> Shelf:
    name = store.name_of(path)
    return Shelf(store, name, key_of(name), fs)


def _settled(artifact: Artifact, fs: _fs.FileOps) -> Record:
    """The artifact's record, an unfinished write settled as the next writer would settle it."""
    try:
        directory = _fs.Directory(os.path.dirname(artifact.path), fs)
    except (FileNotFoundError, NotADirectoryError):
        return artifact.shelf.load()  # its directory is gone: the record tells the audit that it was lost
    with directory:
        try:
            record, _, _ = artifact.settle(directory)
        except Refused:
            return artifact.shelf.load()  # no regular file any more: likewise
    return record


def _copy(record: Record, old: Shelf, new: Shelf) -> None:
    """Write down under the new name what the record says. The old one stays: a nearer store outranks it."""
    copy = Record(new.name)
    copy.landed, copy.begun, copy.lease, copy.counter = record.landed, record.begun, record.lease, record.counter
    with _held(new.lock, 0):
        for write, _ in log.writes(old):
            new.log(write)
        new.save(copy, flush=True)
        new.lock.forget_file()  # its directory is about to get another name


@contextmanager
def _held(lock: Lock, timeout: float) -> Iterator[None]:
    """A lock for the time of a block, with a timeout of one's own."""
    lock.acquire(timeout, owner=object())
    try:
        yield
    finally:
        lock.release()
