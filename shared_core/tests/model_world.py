"""Programs that use landed on a model disk, and the power cuts, deaths and faults that befall them."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from model_calls import Call, Fault
from model_crash import crash_states, survivor
from model_disk import Disk
from model_fs import ModelFS

from landed import lock, state
from landed.files import Files
from landed.publish import TEMP_PREFIX

WORK = "/model/work"
STATE = "/model/state"
PATH = f"{WORK}/plan.md"


class Killed(BaseException):
    """The process is dead: no call of it does anything any more."""


class Program:
    """A process that uses landed: its own descriptors, its own idea of the locks it holds, its own memory."""

    def __init__(self, disk: Disk) -> None:
        self.fs = ModelFS(disk)
        self.files = Files(fs=self.fs)
        self._slots: dict[str, Any] = {}
        self._descriptors: set[int] = set()
        self._stores: dict[Any, Any] = {}
        self._unflushed: set[str] = set()

    @contextmanager
    def running(self) -> Iterator[Files]:
        """What landed keeps for the whole process is this program's for the length of the block."""
        before = lock._slots, lock._descriptors, state._user_stores, state._unflushed
        lock._slots, lock._descriptors = self._slots, self._descriptors
        state._user_stores, state._unflushed = self._stores, self._unflushed
        try:
            yield self.files
        finally:
            lock._slots, lock._descriptors, state._user_stores, state._unflushed = before

    @property
    def kept_descriptors(self) -> int:
        """How many descriptors landed keeps open for the next time."""
        return len(self._descriptors)

    def call(self, operation: Callable[[Files], Any]) -> Any:
        with self.running() as files:
            return operation(files)

    def kill_at(self, number: int) -> None:
        """Let the process die just before its `number`-th call from now on."""
        last = len(self.fs.log) + number
        self.fs.fault = lambda call: Fault(Killed()) if call.number >= last else None

    def die_at(self, name: str, *, kind: int | None = None) -> None:
        """Let the process die just before its next call of this name (on an open file of this kind)."""

        def fault(call: Call) -> Fault | None:
            if call.name != name or (kind is not None and (call.node is None or call.node.kind != kind)):
                return None
            self.fs.fault = lambda _: Fault(Killed())
            return Fault(Killed())

        self.fs.fault = fault

    def die(self) -> None:
        self.fs.exit()


def new_disk(*, xattrs: bool = True, work: str = WORK) -> Disk:
    """A disk with a synced, empty directory to work in."""
    disk = Disk(xattrs=xattrs)
    fs = ModelFS(disk)
    path = ""
    for part in work.strip("/").split("/"):
        path += "/" + part
        fs.mkdir(path)
    disk.sync()
    return disk


def foreign_write(disk: Disk, path: str, data: bytes) -> None:
    """Something that does not use landed replaces a file."""
    fs = ModelFS(disk)
    fd = fs.open(path + "~", 0o1101)  # write, create, truncate
    fs.write(fd, data)
    fs.close(fd)
    fs.rename(path + "~", path)


def foreign_delete(disk: Disk, path: str) -> None:
    ModelFS(disk).unlink(path)


def content(disk: Disk, path: str) -> bytes | None:
    """The bytes that programs see under a path, or None."""
    node = disk.root
    for part in path.strip("/").split("/"):
        child = node.entries.get(part)
        if child is None:
            return None
        node = child
    return node.now.data


def litter(disk: Disk) -> list[str]:
    """The temp files on a disk."""
    found = []
    todo = [("", disk.root)]
    while todo:
        path, node = todo.pop()
        for name, child in node.entries.items():
            if child.kind == stat.S_IFDIR:
                todo.append((f"{path}/{name}", child))
            elif name.startswith(TEMP_PREFIX):
                found.append(f"{path}/{name}")
    return found


LOOKS = frozenset(
    {
        *("close", "flock", "fstat", "funlock", "getxattr", "listdir", "listxattr", "lseek"),
        *("pread", "read", "scandir", "stat"),
    }
)
"""Calls that change nothing on a disk: the states that there may be after one are those that there were before it."""


def power_cuts(program: Program, operation: Callable[[Files], Any], limit: int, rng: Random) -> tuple[Any, list[Disk]]:
    """Run an operation; the disks that a power cut at any boundary of its calls may leave, before it is acknowledged.

    Returns:
        What the operation returned, and the disks, each once.
    """
    disks: list[Disk] = []
    known: set[object] = set()

    def gather(call: Call | None = None) -> None:
        if call is None or call.name not in LOOKS:
            disks.extend(crash_states(program.fs.disk, limit, rng, known=known))

    gather()
    program.fs.boundary = gather
    try:
        result = program.call(operation)
    finally:
        program.fs.boundary = None
    return result, disks


def deaths(program: Program, operation: Callable[[Files], Any]) -> tuple[Any, list[Disk]]:
    """Run an operation; the disks that the death of its process at any boundary of its calls leaves."""
    disks = [survivor(program.fs.disk)]
    program.fs.boundary = lambda call: None if call.name in LOOKS else disks.append(survivor(program.fs.disk))
    try:
        result = program.call(operation)
    finally:
        program.fs.boundary = None
    return result, disks
