"""Whole files on engines beyond one machine: what `landed.files` does for paths, for addresses.

A file there is a line that says which write it is, then its bytes. The line holds a version with a nonce, so that no
two writes of the same bytes look the same to a store that tells objects apart by their digest, and a write whose answer
was lost can be told from another's. A file that was deleted leaves its line alone, so that versions go on.

A write is: look, compare, put in the place of what was seen, look again. No lock is held meanwhile; the engine's
conditional put decides between two writers.
"""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic

from landed.artifact import DIGEST_SHOWN, Verdict, not_as_written
from landed.cell import Unsure
from landed.digest import sha256
from landed.engines import open_cell
from landed.errors import LockTimeout, NotLanded, OutcomeUnknown, Refused, VerifyFailed
from landed.lock import DEFAULT_TIMEOUT
from landed.memory import check_arguments, unmet
from landed.publish import DEVICE, READ
from landed.records import ABSENT, LANDED, OUTSIDE, SEEN, Absent, Write, base_for, counter_of, next_write
from landed.retries import pauses, wait
from landed.values import Draft, Receipt, Snapshot, to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator
    from typing import Final

    from landed.cell import Cell, Held
    from landed.errors import LandedError
    from landed.files import Files
    from landed.values import Data, Expect, Path

FIRST_LINE: Final = b"landed file 1 "
LINE_LIMIT: Final = 2048
"""Bytes of the first line at most."""
NO_LINEAGE: Final = "-"
LINEAGE: Final = 16
"""Versions before it that the first line of a write names: by so many others a write may be overtaken until its writer
cannot tell any more that it landed."""
LAST_LOOK: Final = 1.0
"""Seconds that a look may take at least whose answer decides what a caller is told."""


class Sight:
    """What is in a cell, taken apart.

    Attributes:
        held: as the engine gives it; None for nothing.
        lineage: the versions that the write was built on, the last first; at most `LINEAGE` of them.
        write: the write that the first line tells of, or None.
        data: the file's bytes; None when there is no file.
        verdict: which version that is, and where it comes from.
    """

    __slots__ = ("data", "held", "lineage", "verdict", "write")

    def __init__(self, held: Held | None) -> None:
        self.held = held
        self.lineage: list[str] = []
        self.write: Write | None = None
        self.data: bytes | None = None
        if held is None:
            self.verdict = Verdict(ABSENT, LANDED)
            return
        self.data = held.data
        end = held.data.find(b"\n", 0, LINE_LIMIT)
        if end > 0 and held.data.startswith(FIRST_LINE):
            lineage, _, line = held.data[len(FIRST_LINE) : end].decode("utf-8", "replace").partition(" ")
            self.write = Write.decode(line)
            self.lineage = lineage.split(",") if lineage != NO_LINEAGE else []
        if self.write is not None:
            self.data = held.data[end + 1 :]
            if not self.write.digest and not self.data:
                self.data = None
                self.verdict = Verdict(ABSENT, LANDED)
                return
        digest = sha256(self.data)
        if self.write is not None and self.write.digest == digest:
            self.verdict = Verdict(self.write.version, LANDED)
        else:
            after = self.write.version if self.write is not None else "0"
            self.verdict = Verdict(f"{after}+{digest[:DIGEST_SHOWN]}", OUTSIDE)

    @property
    def words(self) -> str:
        """The version in words: who wrote it."""
        if self.data is None:
            return "no file"
        if self.verdict.origin == OUTSIDE:
            after = f" after version {self.write.version}" if self.write is not None else ""
            return f"bytes that something outside landed put there{after}"
        return f"version {self.write}"

    @property
    def writer(self) -> str:
        return str(self.write.owner) if self.write is not None and self.write.owner.pid else ""


def read(files: Files, path: Path, actor: Hashable) -> Snapshot:
    """As `Files.read`."""
    cell = open_cell(path)
    sight = Sight(cell.get(monotonic() + DEFAULT_TIMEOUT))
    files.memory.settle(cell.name)
    files.memory.remember(cell.name, sight.verdict.version, actor)
    if sight.data is None or isinstance(sight.verdict.version, Absent):
        raise FileNotFoundError(2, "No such file", cell.name)
    writer = sight.words if sight.verdict.origin == LANDED else ""
    return Snapshot(sight.data, sight.verdict.version, sha256(sight.data), cell.name, sight.verdict.origin, writer)


def write(
    files: Files, path: Path, data: Data, expect: Expect, verify: str, timeout: float, actor: Hashable
) -> Receipt:
    """As `Files.write`."""
    started = monotonic()
    cell = open_cell(path, timeout)
    content = to_bytes(data, cell.name)
    _check(cell, expect, verify)
    return _replace(files, cell, content, expect, started, timeout, actor)


def delete(files: Files, path: Path, expect: Expect, timeout: float, actor: Hashable) -> Receipt:
    """As `Files.delete`."""
    started = monotonic()
    cell = open_cell(path, timeout)
    _check(cell, expect, READ)
    return _replace(files, cell, None, expect, started, timeout, actor)


def verify(path: Path, level: str, timeout: float) -> Receipt:
    """As `Files.verify`."""
    started = monotonic()
    cell = open_cell(path, timeout)
    _check(cell, SEEN, level)
    sight = Sight(cell.get(started + timeout))
    last = sight.write
    if last is None or sight.verdict.origin == OUTSIDE:
        raise not_as_written(cell.name, sight.verdict, sight.words, last)
    version = sight.verdict.version
    return Receipt(cell.name, version, last.digest, last.size, level, monotonic() - started, last.replaced, "")


class RemoteEdit:
    """What `Files.edit` gives for an address. It holds no lock: leaving the block raises when another was faster."""

    __slots__ = ("_actor", "_data", "_draft", "_files", "_path", "_timeout", "_verify")

    def __init__(self, files: Files, path: Path, verify: str, timeout: float, actor: Hashable) -> None:
        self._files, self._path, self._verify, self._timeout, self._actor = files, path, verify, timeout, actor

    def __enter__(self) -> Draft:
        cell = open_cell(self._path, self._timeout)
        _check(cell, SEEN, self._verify)
        self._files.memory.refuse_doubted(cell.name)
        sight = Sight(cell.get(monotonic() + self._timeout))
        self._data = sight.data
        self._draft = Draft(sight.data or b"", sight.verdict.version, cell.name, sight.verdict.origin)
        return self._draft

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None:
            return
        draft = self._draft
        content = to_bytes(draft.data, draft.path)
        if content == (self._data or b""):
            self._files.memory.remember(draft.path, draft.version, self._actor)
            return
        draft.receipt = write(self._files, self._path, content, draft.version, self._verify, self._timeout, self._actor)


def _replace(
    files: Files, cell: Cell, content: bytes | None, expect: Expect, started: float, timeout: float, actor: Hashable
) -> Receipt:
    """Put a file's new bytes, None to delete it, in the place of what `expect` allows.

    Raises:
        StaleWrite, Bypassed: something else is there. Nothing was written.
        LockTimeout: others were faster for all of `timeout`. Nothing was written.
        NotLanded: the engine cannot be reached, or refuses. Nothing was written.
        OutcomeUnknown, VerifyFailed: as `Files.write`.
    """
    files.memory.refuse_doubted(cell.name)
    deadline = started + timeout
    waits = pauses(deadline)
    while True:
        sight = Sight(cell.get(max(deadline, monotonic() + LAST_LOOK)))
        met, wanted = files.memory.compare(cell.name, sight.verdict.version, expect, actor)
        if not met:
            raise unmet(cell.name, wanted, sight.verdict, sight.words, sight.writer)
        if content is None and sight.data is None:
            raise FileNotFoundError(2, "No such file", cell.name)
        new, body = _laid_out(content, sight)
        with _poisoning(files, cell):
            landed = _put(cell, body, new, sight, deadline)
        if landed:
            version: str | Absent = new.version if content is not None else ABSENT
            files.memory.remember(cell.name, version, actor)
            seconds = monotonic() - started
            return Receipt(cell.name, version, new.digest, new.size, READ, seconds, sight.verdict.version, "")
        if next(waits) is None:
            break
        # Again at once: who pauses is overtaken again. What another wrote is compared before anything is put.
    raise LockTimeout(
        "other writers were faster for the whole timeout",
        path=cell.name,
        step="write",
        hint="Try again, or allow a longer timeout.",
    )


def _laid_out(content: bytes | None, sight: Sight) -> tuple[Write, bytes]:
    """The write that comes next, and the bytes of its cell."""
    before = sight.write
    base = base_for(sight.verdict.version, before)
    digest = sha256(content) if content is not None else ""
    new = next_write(counter_of(before.version) if before is not None else 0, digest, len(content or b""), base)
    # Whatever came between from outside: what counts is which of landed's writes were seen.
    lineage = ",".join([before.version, *sight.lineage][:LINEAGE]) if before is not None else NO_LINEAGE
    return new, FIRST_LINE + f"{lineage} {new.encode()}\n".encode() + (content or b"")


@contextmanager
def _poisoning(files: Files, cell: Cell) -> Iterator[None]:
    """Whatever is published or interrupted and not known: nothing more is built on it before it was read again."""
    try:
        yield
    except NotLanded:
        raise
    except BaseException as error:
        files.memory.doubt(cell.name, error)
        raise


def _put(cell: Cell, body: bytes, new: Write, sight: Sight, deadline: float) -> bool:
    """Put a body in the place of what was seen, and read it back; False when another was first.

    An answer that was lost is told by the nonce: the same body is put again, under the same condition, as long as what
    was seen is still there. When another write is there by now, its lineage says whether it was built on this one. A
    conflict is looked into likewise: what passes a put on may try it twice, and give the second answer.

    Raises:
        OutcomeUnknown: the engine does not say; or more than `LINEAGE` others wrote meanwhile.
        VerifyFailed: the engine acknowledged it, and gives back something else.
        NotLanded: nothing was written.
    """
    lost: Unsure | None = None
    waits = pauses(deadline)
    while True:
        done = False
        try:
            done = cell.put(body, sight.held, deadline)
        except Unsure as error:
            lost = error
        except NotLanded as error:
            if lost is None:
                raise
            raise _unknown(cell, lost) from error
        try:
            now = Sight(cell.get(max(deadline, monotonic() + LAST_LOOK)))
            landed = (now.held is not None and now.held.data == body) or overtaken(now, new)
            if landed and lost is not None:
                cell.confirm(max(deadline, monotonic() + LAST_LOOK))
        except NotLanded as error:
            raise _unknown(cell, lost or error) from error
        if landed:
            return True
        if done:
            raise _lied(cell, new, now)
        if _changed(now, sight) or (pause := next(waits)) is None:
            break
        wait(pause, cell.name, str(lost or "another was faster"))
    if lost is None:
        return False
    raise _unknown(cell, lost)


def overtaken(now: Sight, new: Write) -> bool:
    """Whether a write landed, and what is there by now was written on top of it."""
    return new.version in now.lineage


def _changed(now: Sight, before: Sight) -> bool:
    """Whether what was seen is there no more, so that the condition of the put can never be met again."""
    if now.held is None or before.held is None:
        return now.held is not before.held
    return now.held.data != before.held.data


def _unknown(cell: Cell, error: Exception) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"whether the write landed is not known: {error}",
        path=cell.name,
        step="write",
        hint="Read it again before writing.",
    )


def _lied(cell: Cell, new: Write, now: Sight) -> LandedError:
    if now.write is not None and counter_of(now.write.version) > counter_of(new.version):
        return OutcomeUnknown(
            "the engine acknowledged the write, and others wrote before it could be read back",
            path=cell.name,
            step="verify",
            hint="Read it again before writing.",
        )
    return VerifyFailed(
        "the engine acknowledged the write, and gives back something else",
        path=cell.name,
        step="verify",
        expected=f"version {new}",
        found=now.words,
        hint="Read it again, and see what else writes there.",
    )


def _check(cell: Cell, expect: object, level: str) -> None:
    check_arguments(cell.name, expect, level)
    if level == DEVICE:
        raise Refused(
            "an engine's device cannot be read past its caches",
            path=cell.name,
            step="argument",
            hint=f"Use verify={READ!r}: the engine is asked for the bytes again.",
        )
