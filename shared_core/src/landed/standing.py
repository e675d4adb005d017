"""Who is at a file now: what `landed status` shows of it."""

from __future__ import annotations

import os

from landed._fs import LOCAL
from landed.errors import LockTimeout, NotLanded
from landed.inventory import kept_elsewhere, load_unsettled, within
from landed.lock import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from landed.holder import Holder
    from landed.records import Record
    from landed.state import Store


class Standing:
    """Who is at one file, as `standing` saw it.

    Attributes:
        path: the file, or None when its first write has not got as far as a record.
        landed: the last acknowledged write, or None.
        begun: a write without an end, or None.
        held: whether somebody holds the lock; None when it cannot be tried.
        holder: who says so, or None.
        lease: the agent that may write it now, or None.
    """

    __slots__ = ("begun", "held", "holder", "landed", "lease", "path")

    def __init__(self, path: str | None, record: Record | None, held: bool | None, holder: Holder | None) -> None:  # noqa: FBT001 - a field
        self.path = path
        self.landed = record.landed if record is not None else None
        self.begun = record.begun if record is not None else None
        lease = record.lease if record is not None else None
        self.lease = lease if lease is not None and not lease.over else None
        self.held = held
        self.holder = holder


def standing(store: Store, key: str, *, under: str = "") -> Standing | None:
    """Who is at one file now. Tries its lock for an instant, which no writer notices.

    Returns:
        None where it is not `under`, another store keeps it, nothing was ever begun, or its record is damaged.

    Raises:
        OSError: as the system does.
    """
    record = load_unsettled(store, key, LOCAL)
    path = store.path_of(record.name) if record is not None else None
    if path is not None and (not within(path, under) or kept_elsewhere(path, store, LOCAL)):
        return None
    lock = Lock(os.path.join(store.artifacts, key + ".lock"), mode=store.mode)
    try:
        LOCAL.stat(lock.path, follow_symlinks=False)
        lock.acquire(0, owner=object())
    except FileNotFoundError:
        return Standing(path, record, held=False, holder=None) if record is not None else None
    except LockTimeout:
        return Standing(path, record, held=True, holder=lock.holder())
    except NotLanded:
        return Standing(path, record, held=None, holder=lock.holder())
    try:
        record = load_unsettled(store, key, LOCAL)  # what was begun a moment ago may have ended
    finally:
        lock.release()
    return Standing(store.path_of(record.name), record, held=False, holder=None) if record is not None else None
