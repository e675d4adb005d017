"""Whole files with compare-and-swap: `read`, `write`, `edit`, `delete`, `verify`.

A write is straight-line code: lock, look, check what was expected, begin, publish, end. Everything that can be refused
is refused before a byte moves.
"""

from __future__ import annotations

from time import monotonic, time

from landed import _fs
from landed.artifact import ABSENT, LANDED, OUTSIDE, Absent, Artifact, Locked, Sight, Verdict, describe, verify_hint
from landed.digest import sha256
from landed.errors import (
    Bypassed,
    NotLanded,
    OutcomeUnknown,
    VerifyFailed,
    from_os_error,
)
from landed.lock import DEFAULT_TIMEOUT
from landed.memory import READ_AGAIN, Memory, check_arguments, this_thread, unmet
from landed.process import me
from landed.publish import DEVICE, READ, identity_of, publish, refuse_hard_link, remove
from landed.records import Record, State, Write, next_write
from landed.state import flush_ancestors
from landed.values import SEEN, Receipt, Snapshot, to_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Final

    from landed.editing import Edit
    from landed.remote import RemoteEdit
    from landed.values import Data, Expect, Path

LOOKS: Final = 3
"""Lock-free attempts to see bytes and record together before a reader takes the lock."""
DIRECTORIES: Final = 65_536
"""Directories of which a program remembers that their names are flushed."""


class Files:
    """Whole-file reads and writes of one program, and its memory of what it has seen.

    The functions of the package (`landed.read` ...) are the methods of one such object. Threads (and tasks, through
    `landed.aio`) each have their own last-seen version; one that has seen nothing itself inherits the program's.
    """

    def __init__(self, fs: _fs.FileOps = _fs.LOCAL) -> None:
        self._fs = fs
        self.memory = Memory()
        self._durable: set[tuple[int, int]] = set()

    # The public operations.

    def read(self, path: Path) -> Snapshot:
        """Read a file and what landed knows of it.

        Raises:
            FileNotFoundError: there is none.
            NotLanded: it is not a regular file, or cannot be read.
        """
        return self._read(path, this_thread())

    def write(
        self,
        path: Path,
        data: Data,
        *,
        expect: Expect = SEEN,
        verify: str = READ,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Receipt:
        """Write a whole file: when this returns, the bytes are on the disk, under that name, verified.

        Args:
            data: the bytes, or text (stored as UTF-8, newlines as given).
            expect: what must be there: a version, a Snapshot or Receipt, `ABSENT` to create only, `ANY` to overwrite on
                purpose. Without it the write lands only on what this program last read or wrote there, or on nothing.
            verify: ``"read"``, or ``"device"`` to read back past the page cache.
            timeout: seconds to wait for the path's lock.

        Raises:
            StaleWrite: something else is there. Nothing was written.
            Bypassed: likewise, and it was not landed that put it there.
            LockTimeout: another writer held the path for all of `timeout`. Nothing was written.
            Refused: the target or an argument is one that landed does not write. Nothing was written.
            NotLanded: the system refused a step before the rename. The old file is intact, no temp file is left.
            OutcomeUnknown: a step after the rename failed. Further writes raise until the path has been read again.
            VerifyFailed: likewise: the name does not lead to these bytes.
        """
        return self._write(path, data, expect, verify, timeout, this_thread())

    def edit(self, path: Path, *, verify: str = READ, timeout: float = DEFAULT_TIMEOUT) -> Edit | RemoteEdit:
        """Read, change and write a file under its lock: ``with landed.edit(path) as doc: doc.text = ...``.

        A file that does not exist begins empty. Leaving the block writes `doc` if it changed; an exception in the block
        writes nothing. Other writers wait meanwhile.

        Raises:
            LandedError: as `write`, on entry (lock, target) and on exit (everything else).
        """
        return self._edit(path, verify, timeout, this_thread())

    def delete(self, path: Path, *, expect: Expect = SEEN, timeout: float = DEFAULT_TIMEOUT) -> Receipt:
        """Remove a file, flushed and verified. `expect` and the errors are those of `write`.

        Raises:
            FileNotFoundError: there is none.
        """
        return self._delete(path, expect, timeout, this_thread())

    def verify(self, path: Path, *, level: str = READ, timeout: float = DEFAULT_TIMEOUT) -> Receipt:
        """Compare a file with the last write that landed acknowledged for it.

        Returns:
            A receipt of that write; ``seconds`` is what this check took.

        Raises:
            VerifyFailed: the file is gone, its bytes are others, or landed has no record of it.
        """
        return self._verify(path, level, timeout)

    # The same with the caller named, for landed.aio. Addresses of engines part here.

    def _edit(self, path: Path, verify: str, timeout: float, actor: Hashable) -> Edit | RemoteEdit:
        if _is_address(path):
            from landed.remote import RemoteEdit

            return RemoteEdit(self, path, verify, timeout, actor)
        from landed.editing import Edit

        return Edit(self, path, verify, timeout, actor)

    def _read(self, path: Path, actor: Hashable) -> Snapshot:
        if _is_address(path):
            from landed import remote

            return remote.read(self, path, actor, DEFAULT_TIMEOUT)
        artifact = Artifact(path, self._fs)
        if self.memory.is_doubted(artifact.path):
            return self._read_again(artifact, actor)
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
            return self._read_again(artifact, actor)
        return self._snapshot(artifact, record, sight, actor)

    def _read_again(self, artifact: Artifact, actor: Hashable) -> Snapshot:
        """Under the lock; from the device if an earlier outcome was unknown, and that is settled then."""
        with Locked(artifact, DEFAULT_TIMEOUT, actor) as directory:
            record, sight, _ = self._settle(artifact, directory)
            if self.memory.is_doubted(artifact.path):
                sight = artifact.look(device=True)
                self.memory.settle(artifact.path)
        return self._snapshot(artifact, record, sight, actor)

    def _snapshot(self, artifact: Artifact, record: Record, sight: Sight | None, actor: Hashable) -> Snapshot:
        verdict = artifact.judge(record, sight)
        self.memory.remember(artifact.path, verdict.version, actor)
        if sight is None or isinstance(verdict.version, Absent):
            raise FileNotFoundError(2, "No such file", artifact.path)
        writer = describe(verdict.version, record) if verdict.origin == LANDED else ""
        return Snapshot(sight.data, verdict.version, sight.digest, artifact.path, verdict.origin, writer)

    def _write(self, path: Path, data: Data, expect: Expect, verify: str, timeout: float, actor: Hashable) -> Receipt:
        if _is_address(path):
            from landed import remote

            return remote.write(self, path, data, expect, verify, timeout, actor)
        started = monotonic()
        artifact = Artifact(path, self._fs)
        content = to_bytes(data, artifact.path)
        check_arguments(artifact.path, expect, verify)
        self.memory.refuse_doubted(artifact.path)
        locked = Locked(artifact, timeout, actor, make=True)
        with locked as directory:
            record, sight, settled = self._settle(artifact, directory)
            verdict = artifact.judge(record, sight)
            self._check(artifact, record, verdict, expect, actor)
            self._make_durable(artifact, directory, locked.created)
            written = self._publish(artifact, directory, record, sight, verdict, content, verify)
            locked.landed = True
            self.memory.remember(artifact.path, written.version, actor)
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

    def _delete(self, path: Path, expect: Expect, timeout: float, actor: Hashable) -> Receipt:
        if _is_address(path):
            from landed import remote

            return remote.delete(self, path, expect, timeout, actor)
        started = monotonic()
        artifact = Artifact(path, self._fs)
        check_arguments(artifact.path, expect, READ)
        self.memory.refuse_doubted(artifact.path)
        with Locked(artifact, timeout, actor) as directory:
            record, sight, settled = self._settle(artifact, directory)
            verdict = artifact.judge(record, sight)
            self._check(artifact, record, verdict, expect, actor)
            if sight is None:
                raise FileNotFoundError(2, "No such file", artifact.path)
            # Once the file is gone, only the record can say that it was deleted and not lost: it is flushed.
            write = self._begin(artifact, record, "", 0, verdict, flush=True)

            def put() -> None:
                remove(
                    directory,
                    artifact.name,
                    before_unlink=lambda: self._still_the_same(artifact, directory, sight),
                    fs=self._fs,
                )

            self._land(artifact, record, write, put, flush=True)
            self.memory.remember(artifact.path, ABSENT, actor)
        return Receipt(artifact.path, ABSENT, "", 0, READ, monotonic() - started, verdict.version, settled)

    def _verify(self, path: Path, level: str, timeout: float) -> Receipt:
        if _is_address(path):
            from landed import remote

            return remote.verify(path, level, timeout)
        started = monotonic()
        artifact = Artifact(path, self._fs)
        check_arguments(artifact.path, SEEN, level)
        try:
            with Locked(artifact, timeout, this_thread()) as directory:
                record, sight, settled = self._settle(artifact, directory)
                if level == DEVICE:
                    sight = artifact.look(device=True)
        except FileNotFoundError:
            record, sight, settled = artifact.shelf.load(), None, ""
        verdict = artifact.judge(record, sight)
        last = record.landed
        if last is None or verdict.origin == OUTSIDE:
            error = VerifyFailed(
                "landed has no record of it" if last is None else "it is not what landed wrote last",
                path=artifact.path,
                step="verify",
                expected=f"version {last}" if last is not None else None,
                found=describe(verdict.version, record),
                hint=verify_hint(verdict.version, last),
            )
            error.state = f"There is {error.found}." + (f" landed wrote {error.expected}." if last is not None else "")
            raise error
        replaced = last.base if last.base and not last.base.endswith("+absent") else ABSENT
        version = last.version if last.digest else ABSENT
        return Receipt(artifact.path, version, last.digest, last.size, level, monotonic() - started, replaced, settled)

    def _settle(self, artifact: Artifact, directory: _fs.Directory) -> tuple[Record, Sight | None, str]:
        try:
            return artifact.settle(directory)
        except OutcomeUnknown as error:
            self.memory.doubt(artifact.path, error)
            raise

    # One write, once the path is locked and the expectation holds.

    def _make_durable(self, artifact: Artifact, directory: _fs.Directory, made: list[str]) -> None:
        """Flush the names of the directories above, once for each directory that this program writes to."""
        try:
            status = directory.status()
            identity = (status.st_dev, status.st_ino)
            if identity in self._durable:
                return
            flush_ancestors(self._fs, directory.path, made)
        except OSError as error:
            raise from_os_error(
                NotLanded, error, "the directories above cannot be flushed", path=artifact.path, step="directory"
            ) from error
        if len(self._durable) >= DIRECTORIES:
            self._durable.clear()
        self._durable.add(identity)

    def _publish(
        self,
        artifact: Artifact,
        directory: _fs.Directory,
        record: Record,
        sight: Sight | None,
        verdict: Verdict,
        content: bytes,
        verify: str,
    ) -> Write:
        if sight is not None:
            refuse_hard_link(artifact.path, sight.status)
        write = self._begin(artifact, record, sha256(content), len(content), verdict, flush=False)

        def put() -> bool:
            return publish(
                directory,
                artifact.name,
                content,
                temp=artifact.temp,
                replaced=sight.replaced if sight is not None else None,
                tag=artifact.tag_of(write.version, write.digest),
                verify=verify,
                before_rename=lambda: self._still_the_same(artifact, directory, sight),
                fs=self._fs,
            )

        self._land(artifact, record, write, put, flush=False)
        return write

    def _begin(
        self, artifact: Artifact, record: Record, digest: str, size: int, verdict: Verdict, *, flush: bool
    ) -> Write:
        if not artifact.shelf.lock.held:
            raise NotLanded(
                "the lock is another process's: this one was forked from it", path=artifact.path, step="fence"
            )
        base = verdict.version
        if isinstance(base, Absent):
            base = f"{record.landed.version}+absent" if record.landed is not None else ""
        write = next_write(record.counter, digest, size, base)
        artifact.log(write)
        record.counter += 1
        record.begun = write
        artifact.save(record, flush=flush)
        return write

    def _land(
        self, artifact: Artifact, record: Record, write: Write, put: Callable[[], bool | None], *, flush: bool
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
            self.memory.doubt(artifact.path, error)
            raise

    def _still_the_same(self, artifact: Artifact, directory: _fs.Directory, sight: Sight | None) -> None:
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

    # Expectations.

    def _check(self, artifact: Artifact, record: Record, verdict: Verdict, expect: Expect, actor: Hashable) -> None:
        met, wanted = self.memory.compare(artifact.path, verdict.version, expect, actor)
        if met:
            return
        writer = str(record.landed.owner) if record.landed is not None and record.landed.owner.pid else ""
        stale = unmet(artifact.path, wanted, verdict, describe(verdict.version, record), writer)
        from landed.log import Refusal, refuse  # most writes are not refused

        expected = wanted if isinstance(wanted, str) else ""
        found = verdict.version if isinstance(verdict.version, str) else ""
        refuse(artifact.shelf, Refusal(expected, found, me(), time()), record.counter)
        raise stale


def _is_address(path: Path) -> bool:
    """Whether an engine keeps it. What has no scheme is a file, and needs none of the engines.

    Raises:
        Refused: no engine has that scheme.
    """
    if "://" not in str(path):
        return False
    from landed.engines import is_address

    return is_address(path)


FILES: Final = Files()
"""The files of this program."""

read = FILES.read
write = FILES.write
edit = FILES.edit
delete = FILES.delete
verify = FILES.verify
