"""What landed promises about a model disk, as checks: `History` runs operations and cuts the power inside each."""

from __future__ import annotations

import errno
from random import Random
from typing import NamedTuple

from model_calls import Fault
from model_crash import crash_states
from model_disk import Disk
from model_fs import oserror
from model_world import Killed, Program, content, deaths, litter, new_disk, power_cuts

from landed.audit import DAMAGED, INTACT, UNFINISHED, audit
from landed.errors import LandedError
from landed.records import ANY, LANDED
from landed.state import user_store
from landed.values import Receipt

LOST = "an acknowledged write is gone"
TORN = "neither the old nor the new bytes, whole"
OUTSIDE = "landed takes its own acknowledged bytes for somebody else's"
RENAMED = "acknowledged bytes have another version than was acknowledged"
REPEATED = "a version was given out twice"
STUCK = "the next write does not land"
LITTER = "temp files are left after the next write"
MISJUDGED = "the audit says of an acknowledged write that it is not intact"


DEEP_SAMPLE = 4
"""Disks of one operation on which the power is cut again inside the recovery."""


class Found(NamedTuple):
    """A broken promise, and where."""

    problem: str
    where: str


class Step(NamedTuple):
    """One operation of a history. `data` of None deletes."""

    path: str
    data: bytes | None
    how: str = "write"
    """``write``, ``edit``, ``delete``; ``fail``: no space for the bytes; ``die``: killed at the rename."""

    def __str__(self) -> str:
        return f"{self.how} {self.data and self.data[:8]!r}"


class History:
    """Operations on one disk, with what was acknowledged so far.

    Attributes:
        acknowledged: for each path its bytes (None: no file) and version.
        possible: for each path bytes that may be there as well, because their writer never heard.
    """

    def __init__(self, *, xattrs: bool = True, limit: int = 8, seed: int = 1) -> None:
        self.disk = new_disk(xattrs=xattrs)
        self.program = Program(self.disk)
        self.limit = limit
        self.rng = Random(seed)
        self.acknowledged: dict[str, tuple[bytes | None, str]] = {}
        self.possible: dict[str, set[bytes | None]] = {}
        self.versions: set[str] = set()
        self.found: list[Found] = []
        self.examined = 0

    def run(self, steps: list[Step], *, deep: bool = False, kill: bool = False) -> list[Found]:
        """Do the steps; examine every disk that a power cut (or, with `kill`, a death) in each may leave.

        Args:
            deep: cut the power again inside the first write after each cut.
        """
        for step in steps:
            before = dict(self.acknowledged)
            self.possible.setdefault(step.path, set()).add(step.data)
            receipt, disks = self._interrupted(step, kill=kill)
            if deep:
                disks = self.rng.sample(disks, min(len(disks), DEEP_SAMPLE))
            for disk in disks:
                self.examine(disk, before, f"during {step}", deep=deep)
            if receipt is None:
                self._not_acknowledged(step)
                continue
            self.possible[step.path] = set()
            self._acknowledge(step.path, step.data, str(receipt.version))
            for disk in crash_states(self.disk, 4 * self.limit, self.rng):
                self.examine(disk, self.acknowledged, f"after {step}")
        return self.found

    def _interrupted(self, step: Step, *, kill: bool) -> tuple[Receipt | None, list[Disk]]:
        """Do a step; its receipt, and the disks that a power cut or a death inside it leaves."""
        if kill:
            return deaths(self.program, lambda _: _do(self.program, step))
        return power_cuts(self.program, lambda _: _do(self.program, step), self.limit, self.rng)

    def _acknowledge(self, path: str, data: bytes | None, version: str) -> None:
        if data is not None and version in self.versions:
            self.found.append(Found(REPEATED, path))
        self.versions.add(version)
        self.acknowledged[path] = (data, version)

    def _not_acknowledged(self, step: Step) -> None:
        if step.how == "die":
            self.program.die()
            self.program = Program(self.disk)
        else:
            self.possible[step.path].discard(step.data)

    def examine(
        self, disk: Disk, acknowledged: dict[str, tuple[bytes | None, str]], where: str, *, deep: bool = False
    ) -> None:
        """Boot a program on the disk; let it read everything, write everything, and look at what it left."""
        self.examined += 1
        program = Program(disk)
        before = len(self.found)
        self._audit(program, acknowledged, where)
        for path in acknowledged.keys() | self.possible.keys():
            self._read(program, path, acknowledged.get(path, (None, "")), where)
        if len(self.found) > before:
            return  # what is built on it says nothing more
        for path in sorted(acknowledged.keys() | self.possible.keys()):
            self._write(program, path, acknowledged.get(path, (None, "")), where, deep=deep)
        if litter(disk):
            self.found.append(Found(LITTER, f"{where}: {litter(disk)}"))

    def _audit(self, program: Program, acknowledged: dict[str, tuple[bytes | None, str]], where: str) -> None:
        for finding in program.call(lambda _: list(audit(user_store(), fs=program.fs))):
            data, version = acknowledged.get(finding.path, (None, ""))
            interrupted = bool(self.possible.get(finding.path))
            if finding.verdict == UNFINISHED and finding.write is not None:
                deleted = not finding.write.digest and data is None
                wrong = finding.write.version in self.versions or (deleted and not interrupted)
            elif finding.verdict in {INTACT, DAMAGED}:
                wrong = False  # of a file whose record and log a power cut took, the audit says that it cannot tell
            else:
                wrong = self.disk.xattrs or not interrupted
            if wrong:
                self.found.append(Found(MISJUDGED, f"{where}: {finding}, acknowledged: {version}"))

    def _read(self, program: Program, path: str, acknowledged: tuple[bytes | None, str], where: str) -> None:
        data, version = acknowledged
        try:
            seen = program.call(lambda files: files.read(path))
        except FileNotFoundError:
            if data is not None and None not in self.possible.get(path, set()):
                self.found.append(Found(LOST, f"{path} {where}: no file"))
            return
        if seen.data == data:
            if seen.origin != LANDED:
                self.found.append(Found(OUTSIDE, f"{path} {where}: {seen.version}, not {version}"))
            elif seen.version != version and data not in self.possible.get(path, set()):
                self.found.append(Found(RENAMED, f"{path} {where}: {seen.version}, not {version}"))
        elif seen.data not in self.possible.get(path, set()):
            whole = data is None or not self.possible.get(path)
            self.found.append(Found(LOST if whole else TORN, f"{path} {where}: {seen.data[:40]!r}"))

    def _write(
        self, program: Program, path: str, acknowledged: tuple[bytes | None, str], where: str, *, deep: bool
    ) -> None:
        old = content(program.fs.disk, path)
        again: list[Disk] = []
        try:
            if deep:
                receipt, again = power_cuts(program, lambda files: files.write(path, b"next", expect=ANY), 3, self.rng)
            else:
                receipt = program.call(lambda files: files.write(path, b"next", expect=ANY))
        except LandedError as error:
            self.found.append(Found(STUCK, f"{path} {where}: {error}"))
            return
        if receipt.version in self.versions:
            self.found.append(Found(REPEATED, f"{path} {where}: {receipt.version}"))
        possible, self.possible = self.possible, {path: {b"next", old, *self.possible.get(path, ())}}
        for disk in again:
            self.examine(disk, {path: acknowledged}, f"{where}, and again during recovery")
        self.possible = {path: set()}
        for disk in crash_states(program.fs.disk, 4, self.rng):
            self._read(Program(disk), path, (b"next", receipt.version), f"{where}, and again after recovery")
        self.possible = possible


def _do(program: Program, step: Step) -> Receipt | None:
    """Carry a step out; its receipt, or None when nothing was acknowledged."""
    files, path, data = program.files, step.path, step.data
    if step.how == "edit":
        with files.edit(path) as draft:
            draft.data = data or b""
        return draft.receipt
    if step.how == "delete" or data is None:
        return files.delete(path, expect=ANY)
    if step.how == "write":
        return files.write(path, data, expect=ANY)

    if step.how == "die":
        program.die_at("link" if content(program.fs.disk, path) is None else "rename")
    else:
        program.fs.fault = lambda call: Fault(oserror(errno.ENOSPC)) if call.name in {"rename", "link"} else None
    try:
        files.write(path, data, expect=ANY)
    except (LandedError, Killed):
        return None
    finally:
        program.fs.fault = None
    raise AssertionError("the fault was not met")
