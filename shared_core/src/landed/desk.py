"""A path under its lock, for an agent whose tool writes the bytes: what stands there, and who may write it next.

    with Desk("plan.md", agent, timeout=5) as desk:    # before the tool
        if desk.sight is None or desk.sight.digest in seen:
            desk.lend(call, owner, seconds=120)
    ...
    with Desk("plan.md", agent, timeout=5) as desk:    # after it
        desk.landed(owner)
        desk.give_back()

The lease between the two is what `landed.lease` describes.
"""

from __future__ import annotations

from time import monotonic, time

from landed import _fs
from landed._fs import LOCAL, posix
from landed.artifact import Artifact
from landed.errors import NotLanded
from landed.lease import FIRST_PAUSE, LONGEST_PAUSE, Lease, uptime, wait_for
from landed.lock import DEFAULT_TIMEOUT
from landed.records import Write, next_write
from landed.shelf import Shelf, key_of
from landed.state import store_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os

    from landed.artifact import Sight
    from landed.process import Owner
    from landed.records import Record


class Desk:
    """One visit: under the path's lock from entering to leaving.

    Attributes:
        sight: what stands under the path, or None.
        record: what landed knows of it.

    Args:
        path: the file.
        agent: as in `Lease`.
        timeout: seconds to wait for the lock and for another agent's lease.
        patient: whether to wait for another agent's lease at all.
        keeps: whether the bytes will be asked for, and not their digest alone.
        known: as of `Artifact`.
        fs: the file operations to use.

    Raises:
        LockTimeout: on entry: a writer or another agent kept it for all of `timeout`; names which.
        Refused: on entry: the path is none that landed writes.
        NotLanded: on entry: the lock, the record or the file cannot be read.
        OutcomeUnknown: on entry: a dead writer left bytes there that cannot be flushed.
    """

    __slots__ = ("_agent", "_artifact", "_deadline", "_fs", "_patient", "record", "sight")

    record: Record
    sight: Sight | None

    def __init__(
        self,
        path: str,
        agent: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        patient: bool = True,
        keeps: bool = True,
        known: tuple[os.stat_result, bytes] | None = None,
        fs: _fs.FileOps = LOCAL,
    ) -> None:
        self._artifact = Artifact(path, fs, keeps=keeps)
        self._artifact.known = known
        self._agent = agent
        self._fs = fs
        self._deadline = monotonic() + timeout
        self._patient = patient

    @property
    def path(self) -> str:
        """Absolute, every symbolic link resolved."""
        return self._artifact.path

    @property
    def lease(self) -> Lease | None:
        """The lease that binds the path now, or None."""
        lease = self.record.lease
        return None if lease is None or lease.over else lease

    def __enter__(self) -> Desk:
        artifact = self._artifact
        pause = FIRST_PAUSE
        self._lock()
        try:
            while True:
                while artifact.follow():
                    self._lock()
                self.record, self.sight = self._settle()
                lease = self.lease
                if lease is None or lease.agent == self._agent or not self._patient:
                    break
                self._leave()
                wait_for(lease, self._deadline, artifact.path, pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                self._lock()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def lend(self, call: str, owner: Owner, seconds: float) -> Lease:
        """Write down that the agent's process may write for the next `seconds`. Again for a call that has it: longer.

        Raises:
            NotLanded: the record cannot be written; the lease is not granted.
        """
        now = time()
        lease = self.record.lease = Lease(self._agent, call, now, now + seconds, owner, uptime())
        self._artifact.save(self.record)
        return lease

    def give_back(self) -> None:
        """End the agent's lease; somebody else's stays.

        Raises:
            NotLanded: the record cannot be written; the lease ends with its time or its process.
        """
        if self.record.lease is not None and self.record.lease.agent == self._agent:
            self.record.lease = None
            self._artifact.save(self.record)

    def landed(self, owner: Owner, *, until: float | None = None) -> Write:
        """Write down that what stands there is the agent's write, and cut its lease short.

        Not flushed: after a power cut the bytes may count as put there from outside, which no write overwrites unseen.

        Args:
            owner: the process that wrote.
            until: when the agent's lease ends, in seconds since the epoch; None leaves it.

        Raises:
            NotLanded: the log or the record cannot be written, or nothing stands there.
        """
        if self.sight is None:
            raise NotLanded("nothing stands there", path=self.path, step="record")
        base = self.record.landed.version if self.record.landed is not None else ""
        write = next_write(self.record.counter, self.sight.digest, self.sight.size, base, owner)
        self._artifact.log(write)
        self.record.counter += 1
        self.record.landed = write
        if until is not None:
            self._shorten(until)
        self._artifact.save(self.record)
        return write

    def shorten(self, until: float) -> None:
        """Let the agent's lease end at `until`, in seconds since the epoch, if it does not end before.

        Raises:
            NotLanded: the record cannot be written; the lease stays as it was.
        """
        self._shorten(until)
        self._artifact.save(self.record)

    def missing(self) -> int:
        """How many directories above the file the tool has to make first."""
        directory, count = self._artifact.directory, 0
        while not posix.access(directory, posix.F_OK):
            directory = _fs.parent_of(directory)
            count += 1
        return count

    def flush(self, made: int) -> None:
        """Make the name durable: the tool flushes the file, but not where it renames it, nor the directories it makes.

        Args:
            made: how many directories above the file are new.

        Raises:
            OSError: as the system does.
        """
        path = self.path
        for _ in range(made + 1):
            path = _fs.parent_of(path)
            with _fs.Directory(path, self._fs) as directory:
                directory.sync()

    def _shorten(self, until: float) -> None:
        lease = self.record.lease
        if lease is not None and lease.agent == self._agent:
            lease.until = min(lease.until, lease.since + lease.age + until - time())  # the clock may have been set

    def _lock(self) -> None:
        self._artifact.shelf.acquire(max(0.0, self._deadline - monotonic()))

    def _settle(self) -> tuple[Record, Sight | None]:
        try:
            directory = _fs.Directory(self._artifact.directory, self._fs)
        except (FileNotFoundError, NotADirectoryError):
            return self._artifact.shelf.load(), None  # the tool will make it; nothing can stand there
        with directory:
            record, sight, _ = self._artifact.settle(directory)
        return record, sight

    def _leave(self) -> None:
        self._artifact.shelf.lock.release()


def end_lease(path: str, agent: str, timeout: float, fs: _fs.FileOps = LOCAL) -> None:
    """End the agent's lease on a path as it was when it was lent, wherever that leads by now, or whether to anything.

    Args:
        path: as `Desk.path` was then.
        agent: as in `Lease`.
        timeout: seconds to wait for the lock.
        fs: the file operations to use.

    Raises:
        LockTimeout: a writer kept the lock.
        NotLanded: the record cannot be read or written; the lease ends with its time or its process.
        OSError: likewise.
    """
    store = store_for(_fs.parent_of(path), fs)
    name = store.name_of(path)
    shelf = Shelf(store, name, key_of(name), fs)
    shelf.acquire(timeout)
    try:
        record = shelf.load()
        if record.lease is not None and record.lease.agent == agent:
            record.lease = None
            shelf.save(record)
    finally:
        shelf.lock.release()
