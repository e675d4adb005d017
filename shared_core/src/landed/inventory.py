"""What a store knows of: which files, what the record of each says, and whether another store keeps them now.

For whoever looks at all files at once: `landed.audit`, `landed.standing`, `landed.sharing`.
"""

from __future__ import annotations

import os

from landed import _fs
from landed.errors import Corrupt
from landed.records import read_record
from landed.shelf import key_of
from landed.state import store_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.records import Record
    from landed.state import Store

START_AGAIN: Final = (
    "Read the file before the next write: landed starts again from the version that the file itself carries."
)
"""What a missing or damaged record asks for."""


def keys(store: Store, fs: _fs.FileOps = _fs.LOCAL) -> list[str]:
    """The keys of all files that `store` has locked, logged or recorded, in the order of their keys."""
    try:
        names = fs.listdir(store.artifacts)
    except FileNotFoundError:
        return []
    stems = (name.rpartition(".") for name in names)
    return sorted({stem for stem, _, kind in stems if kind in {"record", "lock", "log"}})


def load_unsettled(store: Store, key: str, fs: _fs.FileOps) -> Record | None:
    """The record as it is now, without the lock: one that is being created reads like a damaged one, so as none."""
    try:
        return load(store, key, fs)
    except Corrupt:
        return None


def load(store: Store, key: str, fs: _fs.FileOps) -> Record | None:
    """The record under `key`; None when there is none.

    Raises:
        Corrupt: it cannot be read, or it is another file's. Conclusive under the lock only.
        OSError: as the system does.
    """
    path = os.path.join(store.artifacts, key + ".record")
    try:
        record = read_record(path, fs)
    except FileNotFoundError:
        return None
    if record is None and _never_written(path, fs):
        return None
    if record is None:
        raise Corrupt("neither of its two copies can be read", path=path, step="record", hint=START_AGAIN)
    if key_of(record.name) != key:
        what = f"it stands under another file's key and says {record.name!r}"
        raise Corrupt(what, path=path, step="record", hint=f"Move it away. {START_AGAIN}")
    return record


def _never_written(path: str, fs: _fs.FileOps) -> bool:
    """Whether a record was created, and its first state never reached it: the disk was full, or the writer died."""
    fd = fs.open(path, os.O_RDONLY | _fs.KEPT)
    try:
        return not any(_fs.read_all(fs, fd, fs.fstat(fd).st_size))
    finally:
        _fs.close_read(fs, fd)


def within(path: str, under: str) -> bool:
    """Whether a path is `under` or below it; "" is above all."""
    return not under or path == under or path.startswith(under.rstrip(os.sep) + os.sep)


def kept_elsewhere(path: str, store: Store, fs: _fs.FileOps) -> bool:
    """Whether a shared store nearer to `path` took it over; what `store` says of it is the past then."""
    nearest = store_for(os.path.dirname(path), fs)
    return bool(nearest.base) and nearest.root != store.root
