"""A machine's storage in memory: what programs see, what the device holds, and what it is still owed.

What is durable follows POSIX and the harsher of the real file systems:

* ``fsync`` of a file makes its data, size, mode, owner and extended attributes durable, but none of its names.
* ``fdatasync`` makes its data and size durable.
* ``fsync`` of a directory makes the entries of that directory durable, but not the directory's own name.
* A failed flush drops what it should have written: the page cache still shows it, a second flush succeeds and writes
  nothing, and only dropping the cache shows the truth (fsyncgate).
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

EPOCH_NS = 1_700_000_000_000_000_000
CLOCK_STEP_NS = 1_000


class Saved(NamedTuple):
    """What the device holds of one file; never changed, so that disks share it."""

    data: bytes
    mode: int
    uid: int
    gid: int
    xattrs: frozenset[tuple[str, bytes]] = frozenset()


class Data:
    """An unsynced write."""

    __slots__ = ("data", "offset")

    def __init__(self, offset: int, data: bytes) -> None:
        self.offset = offset
        self.data = data

    def apply(self, saved: Saved) -> Saved:
        held = saved.data.ljust(self.offset, b"\0")
        return saved._replace(data=held[: self.offset] + self.data + held[self.offset + len(self.data) :])


class Size:
    """An unsynced truncation (or extension with zeros)."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size

    def apply(self, saved: Saved) -> Saved:
        return saved._replace(data=saved.data[: self.size].ljust(self.size, b"\0"))


class Meta:
    """An unsynced change of mode, owner or extended attributes."""

    __slots__ = ("change",)

    def __init__(self, change: Callable[[Saved], Saved]) -> None:
        self.change = change

    def apply(self, saved: Saved) -> Saved:
        return self.change(saved)


class Entries:
    """An unsynced change of a directory: names that now lead to a node, or to nothing; all at once or not at all."""

    __slots__ = ("changes",)

    def __init__(self, *changes: tuple[str, Node | None]) -> None:
        self.changes = changes

    def apply(self, entries: dict[str, Node]) -> None:
        for name, node in self.changes:
            if node is None:
                entries.pop(name, None)
            else:
                entries[name] = node


Operation: TypeAlias = "Data | Size | Meta | Entries"


class Node:
    """An inode: `now` and `entries` are what programs see, `saved` and `saved_entries` what the device holds."""

    __slots__ = (
        *("ctime", "entries", "flush_failures", "kind", "links", "locked_by", "lost", "mtime", "now", "number"),
        *("opens", "pending", "saved", "saved_entries", "shared_by", "target", "written"),
    )

    def __init__(self, kind: int, number: int, saved: Saved, target: str = "") -> None:
        self.kind = kind
        self.number = number
        self.target = target
        self.now = saved
        self.saved = saved
        self.entries: dict[str, Node] = {}
        self.saved_entries: dict[str, Node] = {}
        self.pending: list[Operation] = []
        self.lost: list[Operation] = []
        """Operations that a failed flush dropped: a power cut may find them, no later flush writes them."""
        self.written = len(saved.data)
        """Where the hole behind all that was ever written begins, as far as programs are told."""
        self.links = 0
        self.opens = 0
        self.mtime = self.ctime = EPOCH_NS
        self.flush_failures = 0
        """How often a program was told that a flush failed."""
        self.locked_by: object = None
        self.shared_by: set[object] = set()

    def do(self, operation: Operation) -> None:
        """Apply an operation to what programs see, and owe it to the device."""
        if isinstance(operation, Entries):
            operation.apply(self.entries)
        else:
            self.now = operation.apply(self.now)
        self.pending.append(operation)

    def persist(self, *, metadata: bool = True) -> None:
        """What a successful flush does."""
        kept = []
        for operation in self.pending:
            if isinstance(operation, Entries):
                operation.apply(self.saved_entries)
                self._settle({name for name, _ in operation.changes})
            elif metadata or not isinstance(operation, Meta):
                self.saved = operation.apply(self.saved)
            else:
                kept.append(operation)
        self.pending = kept

    def _settle(self, names: set[str]) -> None:
        """What became of names that a failed flush dropped no longer matters once later changes of them are durable."""
        lost: list[Operation] = []
        for operation in self.lost:
            if not isinstance(operation, Entries):
                lost.append(operation)
            elif kept := [change for change in operation.changes if change[0] not in names]:
                lost.append(Entries(*kept))
        self.lost = lost

    def forget(self) -> None:
        """What a failed flush does."""
        self.lost += self.pending
        self.pending = []

    def evict(self) -> None:
        """What dropping the clean pages of a file shows: bytes that a failed flush dropped are gone."""
        if self.lost and self.kind == stat.S_IFREG:
            held = self.saved
            for operation in self.pending:
                if not isinstance(operation, Entries):
                    held = operation.apply(held)
            self.now = self.now._replace(data=held.data)


class Disk:
    """A machine's storage, shared by the processes that run on it.

    Args:
        xattrs: whether files have extended attributes.
    """

    def __init__(self, *, xattrs: bool = True) -> None:
        self.xattrs = xattrs
        self.clock = EPOCH_NS
        self.numbers: set[int] = set()
        self.mutex = threading.RLock()
        self.unlocked = threading.Condition(self.mutex)
        self.root = self.new(stat.S_IFDIR, 0o755)
        self.root.links = 1

    def new(self, kind: int, mode: int, target: str = "") -> Node:
        # The lowest free number, as ext4 does: a file that replaces another soon has its number.
        number = next(n for n in range(2, len(self.numbers) + 3) if n not in self.numbers)
        self.numbers.add(number)
        node = Node(kind, number, Saved(b"", mode, os.geteuid(), os.getegid()), target)
        self.touch(node, data=True)
        return node

    def touch(self, node: Node, *, data: bool) -> None:
        self.clock += CLOCK_STEP_NS
        node.ctime = self.clock
        if data:
            node.mtime = self.clock

    def release(self, node: Node) -> None:
        if node.links == 0 and node.opens == 0:
            self.numbers.discard(node.number)

    def sync(self) -> None:
        """Flush everything, as sync(2)."""
        seen: set[int] = set()
        todo = [self.root]
        while todo:
            node = todo.pop()
            if id(node) not in seen:
                seen.add(id(node))
                node.persist()
                todo += node.entries.values()
