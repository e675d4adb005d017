"""Operations with one or two failing calls, and what must hold afterwards."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple, TypeAlias

from model_calls import Call, Fault
from model_crash import crash_states, survivor
from model_disk import Disk, Node
from model_fs import oserror
from model_world import PATH, WORK, Killed, Program, content, litter, new_disk

from landed.errors import LandedError, NotLanded, OutcomeUnknown
from landed.files import Files
from landed.records import ANY

OLD, NEW, DYING = b"old bytes", b"new bytes, and a few more", b"dying"
MODE, COLOUR = 0o640, "user.colour"
NESTED = f"{WORK}/a/b/c.md"

RAW = "something else than a LandedError is raised"
CHANGED = "NotLanded, but something changed"
LEFT = "temp files are left"
LOCKED = "the lock is not free"
NOT_POISONED = "the outcome is unknown, and the next write builds on it"
STUCK = "not usable afterwards"
RETRIED = "a failed flush is repeated"
LOST = "acknowledged and then lost, or never there whole"
LEAK = "a descriptor is left open"
STRIPPED = "acknowledged without the mode or the attributes of the file that it replaced"
SWALLOWED = "an interrupt is swallowed"

ERRORS: dict[str, tuple[int, ...]] = {
    "open": (errno.EIO, errno.ENOSPC, errno.EMFILE, errno.EACCES, errno.EROFS, errno.ESTALE),
    "close": (errno.EIO, errno.EDQUOT),
    "read": (errno.EIO, errno.ESTALE),
    "pread": (errno.EIO, errno.ENOMEM),
    "lseek": (errno.EIO,),
    "scandir": (errno.EIO, errno.ENOENT),
    "write": (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EINTR),
    "pwrite": (errno.EIO, errno.ENOSPC),
    "fsync": (errno.EIO, errno.ENOSPC, errno.EDQUOT),
    "fdatasync": (errno.EIO, errno.ENOSPC),
    "stat": (errno.EIO, errno.EACCES, errno.ESTALE),
    "fstat": (errno.EIO, errno.ESTALE),
    "rename": (errno.EIO, errno.ENOSPC, errno.EROFS),
    "link": (errno.EIO, errno.EDQUOT, errno.EPERM),
    "unlink": (errno.EIO, errno.EROFS, errno.EACCES),
    "mkdir": (errno.ENOSPC, errno.EACCES, errno.EROFS),
    "flock": (errno.ENOLCK, errno.EIO, errno.EINTR),
    "funlock": (errno.EIO,),
    "setxattr": (errno.ENOSPC, errno.EDQUOT, errno.EIO),
    "getxattr": (errno.EIO,),
    "listxattr": (errno.EIO, errno.ENOMEM),
}
"""What each call may answer."""
LOST_REPLIES: dict[str, int] = {"rename": errno.EIO, "link": errno.EEXIST, "unlink": errno.ENOENT}
"""What a remote file system answers to a call that it carried out, when the reply was lost and the call sent again."""


class Case(NamedTuple):
    """An operation, what is there before, and what there is after it; `after` is `before` for a read.

    `unheard` is what a dead writer put there before, if it did, or None; it may be there and may vanish.
    """

    prepare: Callable[[Program], Any]
    operation: Callable[[Files], Any]
    path: str
    before: bytes | None
    after: bytes | None
    unheard: bytes | None = None


def old_file(program: Program) -> None:
    """A file that landed wrote, with a mode and attributes of its own."""
    program.files.write(PATH, OLD)
    fd = program.fs.open(PATH, 0)
    program.fs.fchmod(fd, MODE)
    if program.fs.disk.xattrs:
        program.fs.setxattr(fd, COLOUR, b"blue")
    program.fs.close(fd)
    program.fs.disk.sync()


def dead_writer(
    call: str, *, kind: int | None = None, old: Callable[[Program], Any] | None = old_file
) -> Callable[[Program], None]:
    """A writer that died at a call."""

    def prepare(program: Program) -> None:
        if old is not None:
            old(program)
        program.die_at(call, kind=kind)
        try:
            program.files.write(PATH, DYING, expect=ANY)
        except Killed:
            return
        raise AssertionError(f"no call of {call}")

    return prepare


def _edit(files: Files) -> None:
    with files.edit(PATH) as draft:
        draft.data = NEW


def _write(files: Files) -> None:
    files.write(PATH, NEW, expect=ANY)


def nothing(program: Program) -> None:
    """No file."""


CASES: dict[str, Case] = {
    "create": Case(nothing, _write, PATH, None, NEW),
    "create in new directories": Case(old_file, lambda f: f.write(NESTED, NEW, expect=ANY), NESTED, None, NEW),
    "replace": Case(old_file, _write, PATH, OLD, NEW),
    "edit": Case(old_file, _edit, PATH, OLD, NEW),
    "delete": Case(old_file, lambda files: files.delete(PATH, expect=ANY), PATH, OLD, None),
    "read": Case(old_file, lambda files: files.read(PATH), PATH, OLD, OLD),
    "verify": Case(old_file, lambda files: files.verify(PATH, level="device"), PATH, OLD, OLD),
    "write after a writer that died before its rename": Case(dead_writer("rename"), _write, PATH, OLD, NEW),
    "write after a writer that died after its rename": Case(
        dead_writer("fsync", kind=stat.S_IFDIR), _write, PATH, OLD, NEW, DYING
    ),
    "write after a writer that died between link and unlink": Case(
        dead_writer("unlink", old=None), _write, PATH, None, NEW, DYING
    ),
}


def start(case: Case, *, xattrs: bool) -> Disk:
    """The disk before the operation."""
    program = Program(new_disk(xattrs=xattrs))
    program.call(lambda _: case.prepare(program))
    return survivor(program.fs.disk)


def calls_of(case: Case, disk: Disk) -> list[Call]:
    """The calls that the operation makes when nothing fails."""
    program = Program(survivor(disk))
    program.call(case.operation)
    return list(program.fs.log)


def faults(call: Call) -> Iterator[Fault]:
    """Every way in which a call may fail."""
    for code in ERRORS.get(call.name, (errno.EIO,)):
        yield Fault(oserror(code))
    if call.name in LOST_REPLIES:
        yield Fault(oserror(LOST_REPLIES[call.name]), after=True)
    if call.name in {"write", "pwrite"}:
        yield Fault(short=1)
        yield Fault(short=0)


def _tree(node: Node) -> object:
    """What programs see here and below."""
    if node.kind != stat.S_IFDIR:
        return (node.target, node.now)
    return {name: _tree(child) for name, child in node.entries.items()}


class Trial:
    """One run of a case with faults, and what is wrong after it."""

    def __init__(self, case: Case, disk: Disk, faults: dict[int, Fault]) -> None:
        self.case = case
        self.disk = survivor(disk)
        self.program = Program(self.disk)
        self.program.fs.fault = lambda call: faults.get(call.number)
        self.single = len(faults) == 1
        self.faults = faults
        self.before = self._state()
        self.error: BaseException | None = None
        self.problems: list[str] = []

    def _state(self) -> object:
        """What must not change when nothing landed: the work directory, or after two failures the file alone."""
        node = self.disk.root.entries["model"].entries["work"]
        if not self.single or self.case.prepare is not old_file:
            name = self.case.path.rpartition("/")[2]
            return node.entries[name].now if name in node.entries else None
        return _tree(node)

    def run(self) -> list[tuple[str, str]]:
        """Run it; the problems, each with where."""
        try:
            self.program.call(self.case.operation)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - which one it is, is what is checked
            self.error = error
        self.program.fs.fault = None
        self._check_error()
        self._check_flushes(self.program.fs.log + self._check_usable())
        calls = [repr(call) for call in self.program.fs.log if call.number in self.faults]
        return [(problem, f"{', '.join(calls)}: {self.error!r}") for problem in self.problems]

    def _check_error(self) -> None:
        case, error = self.case, self.error
        old = {case.before, case.unheard}
        interrupted = any(isinstance(fault.error, KeyboardInterrupt) for fault in self.faults.values())
        # Lock file, record and log stay open for the next time. An interrupt between open(2) and Python loses any
        # descriptor.
        if self.program.fs.open_descriptors > min(3, self.program.kept_descriptors) and not interrupted:
            self.problems.append(LEAK)
        if interrupted and not isinstance(error, KeyboardInterrupt):
            self.problems.append(SWALLOWED)
        if isinstance(error, KeyboardInterrupt):
            self._check_durable(old | {case.after})
        elif isinstance(error, NotLanded):
            if self.case.unheard is None and self._state() != self.before:
                litters = content(self.disk, case.path) == case.before and litter(self.disk)
                if not litters or not self._told():
                    self.problems.append(LEFT if litters else CHANGED)
            self._check_durable(old)
        elif isinstance(error, OutcomeUnknown):
            self._check_durable(old | {case.after})
            self._check_poisoned()
        elif error is None:
            self._check_durable({case.after})
            if case.prepare is old_file and case.path == PATH and case.after is not None and not self._handed_on():
                self.problems.append(STRIPPED)
        elif not isinstance(error, LandedError):
            self.problems.append(RAW)

    def _handed_on(self) -> bool:
        held = self.disk.root.entries["model"].entries["work"].entries["plan.md"].now
        return held.mode == MODE and dict(held.xattrs).get(COLOUR) == (b"blue" if self.disk.xattrs else None)

    def _told(self) -> bool:
        """Whether the error says that a temp file is left; it may be when removing it failed as well."""
        return not self.single and isinstance(self.error, LandedError) and "temp file" in self.error.hint

    def _check_durable(self, allowed: set[bytes | None]) -> None:
        disks = [self.disk, *crash_states(self.disk, 6, Random(1))]
        if any(content(disk, self.case.path) not in allowed for disk in disks):
            self.problems.append(LOST)

    def _check_poisoned(self) -> None:
        if self.case.after == self.case.before:
            return  # a read or a check ends no write
        before = content(self.disk, self.case.path)
        try:
            self.program.call(lambda files: files.write(self.case.path, b"built on it", expect=ANY))
        except OutcomeUnknown:
            if content(self.disk, self.case.path) == before:
                return
        except LandedError:
            pass
        self.problems.append(NOT_POISONED)

    def _check_flushes(self, log: list[Call]) -> None:
        """A flush that failed dropped what was owed: to ask for it again, with nothing new owed, proves nothing."""
        if any(call.name in {"fsync", "fdatasync"} and call.lost and not call.owed for call in log):
            self.problems.append(RETRIED)

    def _check_usable(self) -> list[Call]:
        """Another program goes on at once, and so does this one. Returns the calls of the other."""
        other = Program(self.disk)
        path = self.case.path
        try:
            other.call(lambda files: files.write(path, b"theirs", expect=ANY, timeout=0))
            other.die()
            self.program.call(lambda files: files.read(path))
            self.program.call(lambda files: files.write(path, b"ours", timeout=0))
        except (LandedError, OSError) as error:
            self.problems.append(LOCKED if getattr(error, "step", "") == "lock" else STUCK)
            return other.fs.log
        if content(self.disk, path) != b"ours":
            self.problems.append(LOST)
        if litter(self.disk):
            self.problems.append(LEFT)
        return other.fs.log


def single_faults(case: Case, disk: Disk) -> Iterator[dict[int, Fault]]:
    """Every call, failing in every way."""
    for call in calls_of(case, disk):
        for fault in faults(call):
            yield {call.number: fault}


def double_faults(
    case: Case, disk: Disk, reach: int = 4, first: Callable[[Call], bool] = lambda _: True
) -> Iterator[dict[int, Fault]]:
    """Every call failing, and one of the calls that follow it: clean-up, or the next step where the first was borne."""
    for call in filter(first, calls_of(case, disk)):
        for second in range(call.number + 1, call.number + 1 + reach):
            yield {number: Fault(oserror(errno.EIO)) for number in (call.number, second)}


def failed_flushes(case: Case, disk: Disk) -> Iterator[dict[int, Fault]]:
    """Those of `double_faults` that begin with a flush, and what follows it to the end of the clean-up."""
    return double_faults(case, disk, reach=8, first=lambda call: call.name == "fsync")


def interrupts(case: Case, disk: Disk) -> Iterator[dict[int, Fault]]:
    """Control-C before and after every call."""
    for call in calls_of(case, disk):
        for after in (False, True):
            yield {call.number: Fault(KeyboardInterrupt(), after=after)}


Plan: TypeAlias = "Callable[[Case, Disk], Iterator[dict[int, Fault]]]"
KINDS: dict[str, Plan] = {"one failure": single_faults, "two failures": double_faults, "interrupt": interrupts}


def problems_of(name: str, kind: Plan, *, xattrs: bool) -> dict[str, list[str]]:
    """What is wrong after a case has met each of these faults, by problem."""
    case = CASES[name]
    disk = start(case, xattrs=xattrs)
    found: dict[str, list[str]] = {}
    trials = 0
    for planned in kind(case, disk):
        trials += 1
        for problem, where in Trial(case, disk, planned).run():
            found.setdefault(problem, []).append(where)
    assert trials >= 12, "too few faults to mean anything"
    return found
