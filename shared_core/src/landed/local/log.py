"""A journal on local files: append under the lock, flush outside it, verify, acknowledge.

An append by a lone writer costs one device flush: it overwrites zeros, so that neither the file's size nor its blocks
change. The flush runs outside the lock, so that processes append while another one's flush is under way, and the kernel
merges their flushes.
"""

from __future__ import annotations

import os

from landed import _fs
from landed.engine import full, stale
from landed.errors import Corrupt, LandedError, NotLanded, OutcomeUnknown, VerifyFailed
from landed.local import ahead, compaction, doubt, reading, recovery, segments, sizes
from landed.local.directory import LOCK, SUSPECT, JournalDirectory
from landed.local.doubt import REOPEN
from landed.local.follower import Follower
from landed.local.frames import BATCH, HEADER, OVERHEAD, SEAL, Head, Header, boot_tag, frame_size
from landed.lock import DEFAULT_TIMEOUT, StoreLock
from landed.process import boot_id
from landed.state import flush_ancestors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Final

    from landed.engine import Batch, Commit, Position, Rewrite
    from landed.local.segments import Range, Segment

GROUP_BYTES: Final = 8 << 20
"""Bytes that one flush may cover, so that a queue of large batches does not wait for one huge write."""


class LocalLog:
    """The `Log` of local files.

    Args:
        directory: the journal's; created when missing, with its parents, unless `create` is False.
        max_bytes: growth limit in bytes of segments; None for none.
        mode: permission bits of files; None for those that the directory, or the one above it, gives.
        create: False raises where there is no journal.
        flush_names: flushes the names of the directory and of all above it.
        fresh: the id of the first segment, if the caller made it and has flushed its name, but not the directory's.

    Raises:
        Corrupt: a segment is missing, or damaged where it is looked at.
        Claimed: another process owns the journal alone.
        NotLanded: the directory cannot be made or read.
    """

    def __init__(
        self,
        directory: str,
        *,
        max_bytes: int | None = None,
        mode: int | None = None,
        create: bool = True,
        flush_names: Callable[[], None] | None = None,
        fresh: bytes = b"",
        fs: _fs.FileOps = _fs.LOCAL,
    ) -> None:
        self.fs = fs
        self.directory = JournalDirectory(directory, mode, fs, create=create, max_bytes=max_bytes)
        self.name = path = self.directory.path
        # Whether the lock file was replaced is noticed with any other change of the directory.
        self.lock = StoreLock(os.path.join(self.name, LOCK), mode=self.directory.mode, watched=True, fs=fs)
        self._max_bytes = max_bytes
        self._boot = boot_tag(boot_id())
        self._flush_names = flush_names or (lambda: flush_ancestors(fs, path))
        self._named = self.directory.made
        self._fresh = fresh
        self._doubt = doubt.Doubt(self.directory)
        doubt.recover_if_suspect(self.directory, self.lock, self._boot)
        self.follower = Follower(self.directory, self.lock, self._doubt, self._boot)
        self.follower.view()

    # Appending.

    def commit(self, commits: Sequence[Commit], timeout: float) -> int:
        """Decide the first of `commits`, and with them all that fit the segment and the group."""
        landing: list[Commit] = []
        decided = 0
        try:
            self.lock.acquire(timeout)
            try:
                with self.follower.state:
                    segment = self._make_room(self._ready(), commits[0])
                    start = segment.end
                    decided, data, last = self._lay_out(segment, commits, landing)
                    if last is not None:
                        if segment.last is None and segment.header.id != self._named:
                            self._make_durable(segment)
                        self._write(segment, data, start, group=last.offset > start)
                        segment.take(last)
                    segment.hold()  # until the flush
            finally:
                self.lock.release()
        except OutcomeUnknown as error:
            if not landing:
                raise
            for commit in landing:  # half-written, and not to be erased
                commit.error = error
            return decided
        except LandedError:
            raise
        except BaseException:
            self.lock.abandon()
            raise
        try:
            if landing:
                self._acknowledge(segment, data, start, landing)
        finally:
            with self.follower.state:
                segment.let_go()
        return decided

    def _ready(self) -> Segment:
        """The newest segment, fit to be appended to. Needs the lock and `follower.state`."""
        if self._doubt.why is not None:
            raise self._doubt.refuse()
        segment = self.follower.catch_up(locked=True)
        if not segment.granted:
            try:
                segment.demand()
            except OSError as error:
                raise self.directory.failed(error, "the newest segment cannot be opened", "open") from error
        if self.follower.found == recovery.END:
            return segment
        self.follower.refuse_damage(segment)
        if self.follower.found == recovery.TORN:
            try:
                segment.erase(segment.end, segment.header.size - segment.end)
            except OSError as error:
                raise self.directory.failed(error, "a torn frame cannot be erased", "write") from error
            self.follower.found = recovery.END
        return segment

    def _make_durable(self, segment: Segment) -> None:
        """Before the first frame of a segment, flush its name: the process that gave it that name may have died first.

        So whoever finds a frame in a segment knows that its name is on the device.
        """
        try:
            if segment.header.id != self._fresh:
                self.directory.sync()
            if segment.span[0] == 1:
                self._flush_names()
        except OSError as error:
            raise self.directory.failed(error, "the segment's name cannot be flushed", "sync directory") from error

    def _make_room(self, segment: Segment, commit: Commit) -> Segment:
        """A segment that the batch fits: after a crash tail, or when this one is full, a new one."""
        needed = frame_size(len(commit.payload))
        if segment.end + needed <= self._limit(segment):
            return segment
        refused = commit.expect is not None and commit.expect != segment.tail
        return segment if refused else self._roll(segment, needed)

    def _limit(self, segment: Segment) -> int:
        """Where frames must end, so that a seal fits behind them; nothing is written over a crash tail."""
        return segment.header.size - OVERHEAD if self.follower.found == recovery.END else segment.end

    def _lay_out(
        self, segment: Segment, commits: Sequence[Commit], landing: list[Commit]
    ) -> tuple[int, bytes, Head | None]:
        """Decide commits in order as long as they fit, and list those that land; how many, their frames, the last."""
        parts: list[bytes] = []
        head = segment.last
        offset, tail, limit = segment.end, segment.tail, self._limit(segment)
        decided = 0
        for commit in commits:
            if commit.expect is not None and commit.expect != tail:
                commit.error = stale(self.name, commit.expect, tail)
                decided += 1
                continue
            back = offset - head.offset if head is not None else 0
            following = Head(
                offset, BATCH, len(commit.payload), commit.count, tail + 1, segment.flushed, back, self._boot
            )
            if following.end > limit or (landing and following.end - segment.end > GROUP_BYTES):
                break
            head = following
            parts.append(head.encode(segment.header.id, commit.payload))
            landing.append(commit)
            commit.position, commit.sequence = segment.position_of(offset), tail + 1
            decided += 1
            offset, tail = head.end, head.tail
        return decided, b"".join(parts), head if landing else None

    def _write(self, segment: Segment, data: bytes, start: int, *, group: bool = False) -> None:
        try:
            segment.write(data, start, group=group)
        except OSError as error:
            failed = self.directory.failed(error, "the frame cannot be written", "write")
            try:
                segment.erase(start, len(data))
            except (OSError, NotLanded) as second:
                raise self._doubt.poison(f"a half-written frame cannot be erased: {second}") from error
            raise failed from error

    def _acknowledge(self, segment: Segment, data: bytes, start: int, landing: list[Commit]) -> None:
        """Flush and verify; what fails here is unknown for every commit that the flush covered."""
        end = start + len(data)
        try:
            try:
                segment.flush()
            except OSError as error:
                self._doubt.flush_failed(error)
                raise self._doubt.unknown(error, "the flush failed", "sync") from error
            self._prove(segment, data, start)
        except OutcomeUnknown as error:
            self._doubt.why = self._doubt.why or error.what
            for commit in landing:
                commit.error = error
            return
        segment.flushed = max(segment.flushed, end)

    def _prove(self, segment: Segment, data: bytes, start: int) -> None:
        """The path leads to the segment, and the segment holds our frames."""
        try:
            held = segment.holds(data, start)
        except NotLanded as error:
            what = f"the frame cannot be read back: {error.what}"
            raise OutcomeUnknown(what, path=segment.path, step="verify", errno=error.errno, hint=REOPEN) from error
        if not held:
            raise VerifyFailed("the frame reads back otherwise", path=segment.path, step="verify", hint=REOPEN)
        try:
            if self.directory.unchanged():
                return
            names = self.fs.scandir(self.name)
            if SUSPECT in names:
                raise OutcomeUnknown(
                    "a flush failed in another process meanwhile", path=self.name, step="sync", hint=REOPEN
                )
            if not self.follower.is_reachable(segment, names):
                raise VerifyFailed(
                    "the path no longer leads to the segment that was written",
                    path=segment.path,
                    step="verify",
                    hint=REOPEN,
                )
        except (NotLanded, Corrupt) as error:
            raise VerifyFailed(error.what, path=self.name, step="verify", hint=REOPEN) from error
        except OSError as error:
            raise self._doubt.unknown(error, "the segment cannot be looked up", "verify") from error

    # Rolling.

    def _roll(self, segment: Segment, needed: int, *, limited: bool = True) -> Segment:
        """Publish the next segment, for a frame of `needed` bytes. Needs the lock and `follower.state`.

        Every frame of the old one is flushed first: no frame of the new one may be acknowledged before it.
        """
        if segment.flushed < segment.end:
            try:
                segment.flush()
            except OSError as error:
                self._doubt.flush_failed(error)
                raise self.directory.failed(error, "the full segment cannot be flushed", "sync") from error
            segment.flushed = segment.end
        number = segment.span[1] + 1
        size = self._next_size(segment, needed) if limited else self._rest_size(segment)
        zeros = ahead.FIRST_AHEAD if needed >= ahead.LARGE or not limited else ahead.AHEAD
        header = Header(size, number, number, os.urandom(8), segment.tail, segment.header.id, segment.end, self._boot)
        try:
            segments.create(self.name, header, self.directory.mode, self.fs, zeros)
        except OutcomeUnknown as error:
            raise self._doubt.poison(error.what) from error
        self._named = header.id  # its name is on the device: this process has just flushed it
        if self.follower.found == recovery.END:
            self._seal(segment)
        self.directory.forget()
        return self.follower.reload(locked=True, empty=header.id)

    def _rest_size(self, segment: Segment) -> int:
        """For a roll before a compaction, which keeps no more than there are frames now."""
        if self._max_bytes is None:
            return sizes.REST_SIZE
        return sizes.rest_size(self._max_bytes - self._size_of(self.follower.spans[:-1]) - segment.end)

    def _next_size(self, segment: Segment, needed: int) -> int:
        used = self._size_of(self.follower.spans[:-1]) + segment.header.size  # its hole as well: a copy may fill it
        if self._max_bytes is None:
            return sizes.next_size(used, needed, sizes.LARGE_LIMIT)
        size = sizes.next_size(used, needed, self._max_bytes - used)
        if used + size > self._max_bytes:
            raise full(self.name, self._max_bytes, used + size)
        return size

    def _seal(self, segment: Segment) -> None:
        """Tell readers and appenders that know the old segment that there is a next one."""
        back = segment.end - segment.last.offset if segment.last is not None else 0
        head = Head(
            segment.end,
            SEAL,
            0,
            count=0,
            sequence=segment.tail + 1,
            flushed=segment.flushed,
            back=back,
            boot=self._boot,
        )
        self._write(segment, head.encode(segment.header.id, b""), segment.end)

    # Reading, compacting: in modules of their own.

    def tail(self) -> int:
        return self.follower.view()[1].tail

    def refuse_other_tail(self, expect: int) -> None:
        """Compare the tail. Needs the lock.

        Raises:
            StaleWrite: it is another.
            NotLanded, Corrupt: the journal is gone, or damaged.
        """
        with self.follower.state:
            segment = self.follower.catch_up(locked=True)
            self.follower.refuse_damage(segment)
            if segment.tail != expect:
                raise stale(self.name, expect, segment.tail)

    def size(self) -> int:
        """Bytes in use: of the live segments, of the newest as far as there are frames."""
        spans, newest = self.follower.view()
        return self._size_of(spans[:-1]) + newest.end

    def _size_of(self, spans: Sequence[Range]) -> int:
        total = 0
        for span in spans:
            try:
                total += self.fs.stat(os.path.join(self.name, segments.name_of(span))).st_size
            except FileNotFoundError:
                continue  # compacted meanwhile
            except OSError as error:
                raise self.directory.failed(error, "a segment's size cannot be read", "size") from error
        return total

    def batches(self, start: int, upto: int | None = None) -> Iterator[Batch]:  # noqa: ARG002 - looking is free here
        return reading.batches(self, start)

    def newest_first(self, upto: int | None = None) -> Iterator[Batch]:  # noqa: ARG002 - looking is free here
        return reading.newest_first(self)

    def fetch(self, position: Position) -> Batch | None:
        return reading.fetch(self, position)

    def rewrite(self, rewrite: Rewrite, timeout: float) -> tuple[int, int]:
        return compaction.compact(self, rewrite, timeout)

    def seal_all(self, timeout: float) -> list[Range]:
        """Roll, so that every segment with frames is sealed; the sealed ones."""
        self.lock.acquire(timeout)
        try:
            with self.follower.state:
                segment = self._ready()
                if segment.end > HEADER.size or self.follower.found == recovery.CRASH:
                    self._roll(segment, 0, limited=False)  # it makes room
                elif segment.header.id != self._named:
                    self._make_durable(segment)  # what is compacted is never there without the one after it
                return self.follower.spans[:-1]
        finally:
            self.lock.release()

    def replace_segments(self, publish: Callable[[], None], timeout: float) -> int:
        """Under the lock: `publish` a compacted segment, then remove the ones that it replaces.

        Returns:
            Bytes in use of the segment after it.
        """
        self.lock.acquire(timeout)
        try:
            with self.follower.state:
                try:
                    publish()
                except OutcomeUnknown as error:
                    self._doubt.why = error.what  # the old segments stay until it is known
                    raise
                self.directory.forget()
                try:
                    return self.follower.reload(locked=True).end
                except NotLanded as error:
                    raise OutcomeUnknown(
                        f"the compacted segment is in place, what it replaces is not removed yet: {error.what}",
                        path=self.name,
                        step="sweep",
                        errno=error.errno,
                        hint="The next append removes it.",
                    ) from error
        finally:
            self.lock.release()

    # Owning, resting, closing.

    def forked(self) -> None:
        self.follower.forked()

    def claim(self) -> None:
        self.follower.claim.take()
        # An append that began before has the lock; when it is free, none is under way that has not seen the claim.
        self.lock.acquire(DEFAULT_TIMEOUT)
        self.lock.release()

    def close(self) -> None:
        self.follower.close()
