"""Whole files of this machine: how each operation of `landed.files` goes, step by step.

A write is straight-line code: lock, look, check what was expected, begin, publish, end. Everything that can be refused
is refused before a byte moves. Loaded by the first operation: a program may import landed for what it does later.
"""

from __future__ import annotations

from time import monotonic, time

from landed.artifact import Artifact, Locked, Sight, Verdict, describe, not_as_written
from landed.digest import sha256
from landed.errors import Bypassed, NotLanded, OutcomeUnknown, from_os_error
from landed.files import Files, this_thread
from landed.lock import DEFAULT_TIMEOUT
from landed.memory import READ_AGAIN, check_arguments, unmet
from landed.process import me
from landed.publish import DEVICE, identity_of, publish, refuse_hard_link
from landed.records import ABSENT, LANDED, OUTSIDE, SEEN, Absent, Record, Write, base_for, next_write
from landed.shelf import State
from landed.state import flush_ancestors
from landed.values import Receipt, Snapshot, to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Final

    from landed import _fs
    from landed.values import Data, Expect, Path

LOOKS: Final = 3
"""Lock-free attempts to see bytes and record together before a reader takes the lock."""
DIRECTORIES: Final = 65_536
"""Directories of which a program remembers that their names are flushed."""


def read(files: Files, path: Path, actor: Hashable) -> Snapshot:
    """As `landed.read`."""
    artifact = Artifact(path, files._fs)
    if files.memory.is_doubted(artifact.path):
        return _read_again(files, artifact, actor)
    sight = artifact.look(access=True)
    record = artifact.shelf.load()
    verdict = artifact.judge(record, sight)
    for _ in range(LOOKS):
        if verdict.origin == LANDED or record.sequence == 0:
            break
        before = record.sequence
        sight, record = artifact.look(access=True), artifact.shelf.load()
        verdict = artifact.judge(record, sight)
        if record.sequence == before:
            break  # nobody wrote between the two records, and the sight lies between them
    else:
        return _read_again(files, artifact, actor)
    return _snapshot(files, artifact, record, sight, actor)


def _read_again(files: Files, artifact: Artifact, actor: Hashable) -> Snapshot:
    """Under the lock; from the device if an earlier outcome was unknown, and that is settled then."""
    with artifact, Locked(artifact, DEFAULT_TIMEOUT, actor) as directory:
        record, sight, _ = settle(files, artifact, directory)
        if files.memory.is_doubted(artifact.path):
            sight = artifact.look(device=True)
            files.memory.settle(artifact.path)
    return _snapshot(files, artifact, record, sight, actor)


def _snapshot(files: Files, artifact: Artifact, record: Record, sight: Sight | None, actor: Hashable) -> Snapshot:
    verdict = artifact.judge(record, sight)
    files.memory.remember(artifact.path, verdict.version, actor)
    if sight is None or isinstance(verdict.version, Absent):
        raise FileNotFoundError(2, "No such file", artifact.path)
    writer = describe(verdict.version, record) if verdict.origin == LANDED else ""
    return Snapshot(sight.data, verdict.version, sight.digest, artifact.path, verdict.origin, writer)


def write(
    files: Files, path: Path, data: Data, expect: Expect, verify: str, timeout: float, actor: Hashable
) -> Receipt:
    """As `landed.write`."""
    started = monotonic()
    artifact = Artifact(path, files._fs)
    content = to_bytes(data, artifact.path)
    check_arguments(artifact.path, expect, verify)
    files.memory.refuse_doubted(artifact.path)
    locked = Locked(artifact, timeout, actor, make=True)
    with artifact, locked as directory:
        record, sight, settled = settle(files, artifact, directory)
        verdict = artifact.judge(record, sight)
        check(files, artifact, record, verdict, expect, actor)
        make_durable(files, artifact, directory, locked.created)
        written = replace(files, artifact, directory, record, sight, verdict, content, verify)
        locked.landed = True
        files.memory.remember(artifact.path, written.version, actor)
    return Receipt(
        artifact.path,
        written.version,
        written.digest,
        written.size,
        verify,
        monotonic() - started,
        verdict.version,
        settled,
    )


def verify(files: Files, path: Path, level: str, timeout: float) -> Receipt:
    """As `landed.verify`."""
    started = monotonic()
    artifact = Artifact(path, files._fs)
    check_arguments(artifact.path, SEEN, level)
    try:
        with artifact, Locked(artifact, timeout, this_thread()) as directory:
            record, sight, settled = settle(files, artifact, directory)
            if level == DEVICE:
                sight = artifact.look(device=True)
    except FileNotFoundError:
        record, sight, settled = artifact.shelf.load(), None, ""
    verdict = artifact.judge(record, sight)
    last = record.landed
    if last is None or verdict.origin == OUTSIDE:
        raise not_as_written(artifact.path, verdict, describe(verdict.version, record), last)
    version = last.version if last.digest else ABSENT
    seconds = monotonic() - started
    return Receipt(artifact.path, version, last.digest, last.size, level, seconds, last.replaced, settled)


def settle(files: Files, artifact: Artifact, directory: _fs.Directory) -> tuple[Record, Sight | None, str]:
    """Bring record and disk together; see `Artifact.settle`."""
    try:
        return artifact.settle(directory)
    except OutcomeUnknown as error:
        files.memory.doubt(artifact.path, error)
        raise


# One write, once the path is locked.


def make_durable(files: Files, artifact: Artifact, directory: _fs.Directory, made: list[str]) -> None:
    """Flush the names of the directories above, once for each directory that this program writes to."""
    try:
        status = directory.status()
        identity = (status.st_dev, status.st_ino)
        if identity in files._durable:
            return
        flush_ancestors(files._fs, directory.path, made)
    except OSError as error:
        raise from_os_error(
            NotLanded, error, "the directories above cannot be flushed", path=artifact.path, step="directory"
        ) from error
    if len(files._durable) >= DIRECTORIES:
        files._durable.clear()
    files._durable.add(identity)


def replace(
    files: Files,
    artifact: Artifact,
    directory: _fs.Directory,
    record: Record,
    sight: Sight | None,
    verdict: Verdict,
    content: bytes,
    verify: str,
) -> Write:
    """Put `content` in the place of what is in sight, once the expectation holds: begin, publish, end."""
    if sight is not None:
        refuse_hard_link(artifact.path, sight.status)
    write = begin(artifact, record, sha256(content), len(content), verdict, flush=False)

    def put() -> bool:
        return publish(
            directory,
            artifact.name,
            content,
            temp=artifact.temp,
            replaced=sight.replaced if sight is not None else None,
            tag=artifact.tag_of(write.version, write.digest),
            verify=verify,
            before_rename=lambda: still_the_same(artifact, directory, sight),
            fs=files._fs,
        )

    land(files, artifact, record, write, put, flush=False)
    return write


def begin(artifact: Artifact, record: Record, digest: str, size: int, verdict: Verdict, *, flush: bool) -> Write:
    """Write down what is about to happen, and who does it."""
    write = next_write(record.counter, digest, size, base_for(verdict.version, record.landed))
    artifact.log(write)
    record.counter += 1
    record.begun = write
    artifact.save(record, flush=flush)
    return write


def land(
    files: Files, artifact: Artifact, record: Record, write: Write, put: Callable[[], bool | None], *, flush: bool
) -> None:
    """Publish, then write down that it landed. What happened in between decides what the caller hears."""
    try:
        done = record.following()
        done.landed, done.begun = write, None
        state = State(done)  # now, because every step is dear after a flush
        tagged = put()
        try:
            artifact.put(state, flush=flush or not tagged)
        except NotLanded as error:
            raise OutcomeUnknown(
                f"the bytes are in place, but that cannot be written down: {error.what}",
                path=artifact.path,
                step="record",
                errno=error.errno,
                hint="Read it again before writing.",
            ) from error
    except NotLanded as error:
        record.begun = None
        try:
            artifact.save(record)
        except NotLanded as second:
            # The next writer finds it begun, compares with the disk, and settles that nothing came of it.
            error.hint = f"{error.hint} The record still says begun ({second.what}).".strip()
        raise
    except BaseException as error:
        files.memory.doubt(artifact.path, error)
        raise


def still_the_same(artifact: Artifact, directory: _fs.Directory, sight: Sight | None) -> None:
    """The last look before the rename: the lock is still the path's, and nobody bypassed it meanwhile."""
    if not artifact.shelf.lock.still_ours():
        raise NotLanded(
            "the lock file was removed while the path was locked, or the lock is a parent process's",
            path=artifact.path,
            step="fence",
            hint="Leave landed's state directory alone while programs run.",
        )
    if sight is None:
        return  # link() looks for itself
    try:
        now: object = identity_of(directory.lstat(artifact.name))
    except FileNotFoundError:
        now = None
    except OSError as error:
        raise from_os_error(
            NotLanded, error, "the file cannot be looked up", path=artifact.path, step="fence"
        ) from error
    if now != identity_of(sight.status):
        raise Bypassed(
            "something that does not use landed changed the file while it was being written",
            path=artifact.path,
            step="fence",
            hint=READ_AGAIN,
        )


def check(files: Files, artifact: Artifact, record: Record, verdict: Verdict, expect: Expect, actor: Hashable) -> None:
    """Refuse a write on another version than the expected one.

    Raises:
        StaleWrite: it is another. The refusal is in the log.
    """
    met, wanted = files.memory.compare(artifact.path, verdict.version, expect, actor)
    if met:
        return
    writer = str(record.landed.owner) if record.landed is not None and record.landed.owner.pid else ""
    stale = unmet(artifact.path, wanted, verdict, describe(verdict.version, record), writer)
    from landed.log import Refusal, refuse  # most writes are not refused

    expected = wanted if isinstance(wanted, str) else ""
    found = verdict.version if isinstance(verdict.version, str) else ""
    refuse(artifact.shelf, Refusal(expected, found, me(), time()), record.counter)
    raise stale
