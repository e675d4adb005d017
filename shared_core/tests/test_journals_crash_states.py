"""The power fails while journals are made under a root and removed: what was acknowledged is so after every cut.

Such a journal has more above it than one alone: its own name in the root, the root's, and those of the directories that
were made for the root, which whoever made them may not have lived to flush.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from model_crash import crash_states, survivor
from model_journal import BOOT, HOME, Boot, Process, fresh_disk, model_machine
from model_world import LOOKS, Killed

from landed.journal import Journal
from landed.local.collection import LocalCollection

if TYPE_CHECKING:
    from collections.abc import Callable

    from model_disk import Disk

__all__ = ["model_machine"]

ROOT = f"{HOME}/new/deep/root"
STATES = 30
"""Disks that are looked at of one moment."""


class Member(Process):
    """A process that works on the journals under `ROOT`."""

    _root: LocalCollection | None = None

    @property
    def root(self) -> LocalCollection:
        if self._root is None:
            self._root = LocalCollection(ROOT, fs=self.fs)
        return self._root

    def add(self, name: str, data: bytes) -> None:
        self.run(lambda _: self._opened(name).append([data]))

    def remove(self, name: str) -> bool:
        return self.run(lambda _: self.root.remove(name, 0.0))

    def _opened(self, name: str) -> Journal:
        log = self.root.open(name, create=True)
        assert log is not None
        return Journal(log.name, timeout=0.0, log=log)

    def held(self) -> dict[str, list[bytes]]:
        """The journals that are there, each with what it holds."""
        return self.run(
            lambda _: {name: [entry.data for entry in self._opened(name).read()] for name in self.root.names()}
        )


def after_cuts(disk: Disk, seed: int = 1) -> list[dict[str, list[bytes]]]:
    """What processes of the next boot find on each disk that a power cut now may leave."""
    BOOT.reboot()
    return [Member(state).held() for state in crash_states(disk, STATES, Random(seed))]


def dead_at_every_call(operation: Callable[[Member], object]) -> list[Disk]:
    """The disks that a process leaves that dies after any of its calls."""
    disks: list[Disk] = []
    member = Member(fresh_disk())
    member.fs.boundary = lambda call: None if call.name in LOOKS else disks.append(survivor(member.fs.disk))
    operation(member)
    return disks


def test_made_and_appended_to(model_machine: Boot) -> None:
    member = Member(fresh_disk())
    expected: dict[str, list[bytes]] = {}
    for name in ("one", "two", "../three"):
        member.add(name, name.encode())
        expected[name] = [name.encode()]
        assert [found for found in after_cuts(member.fs.disk) if found != expected] == []


def test_made_where_another_process_died(model_machine: Boot) -> None:
    """It may have died before it flushed a name of its own: an append that is built on it flushes them all."""
    disks = dead_at_every_call(lambda member: member.add("one", b"never acknowledged"))
    assert len(disks) > 10
    for disk in disks:
        Member(disk).add("two", b"acknowledged")
        for found in after_cuts(disk):
            assert found["two"] == [b"acknowledged"]
            assert found.get("one", []) in ([], [b"never acknowledged"])


def test_removed(model_machine: Boot) -> None:
    member = Member(fresh_disk())
    for name in ("kept", "gone"):
        member.add(name, name.encode())
    assert member.remove("gone")
    assert [found for found in after_cuts(member.fs.disk) if found != {"kept": [b"kept"]}] == []


def test_cut_while_it_is_removed(model_machine: Boot) -> None:
    """Until then it is there, whole, or not at all."""
    member = Member(fresh_disk())
    for name in ("kept", "gone"):
        member.add(name, name.encode())
    disks: list[Disk] = []
    rng = Random(1)
    member.fs.boundary = lambda call: (
        None if call.name in LOOKS else disks.extend(crash_states(member.fs.disk, STATES, rng))
    )
    member.remove("gone")
    member.fs.boundary = None
    BOOT.reboot()
    seen = [Member(disk).held() for disk in disks]
    whole = {"kept": [b"kept"], "gone": [b"gone"]}
    assert [found for found in seen if found not in (whole, {"kept": [b"kept"]})] == []
    assert whole in seen
    assert {"kept": [b"kept"]} in seen


def test_killed_while_one_is_made(model_machine: Boot) -> None:
    """Whoever opens it next finds none, or a whole one."""
    for number in range(1, 60):
        member = Member(fresh_disk())
        member.kill_at(number)
        with pytest.raises(Killed):
            member.add("one", b"data")
        assert Member(survivor(member.fs.disk)).held().get("one", []) in ([], [b"data"])
