"""A journal on local files: append under the lock, flush outside it, verify, acknowledge.

An append by a lone writer costs one device flush: it overwrites zeros, so that neither the file's size nor its blocks
change. The flush runs outside the lock, so that processes append while another one's flush is under way, and the kernel
merges their flushes. Nothing here asks for the segment's times (since Linux 6.13 a stat makes the next flush dearer);
the directory's own inode and mtime say whether the path still leads to the open segment.
"""

from __future__ import annotations

import _thread
import os
import weakref
from time import time

from landed import _fs, compaction, frames, reading, recovery, segments
from landed.engine import Batch, Commit
from landed.errors import (
    Claimed,
    Corrupt,
    Full,
    LandedError,
    LockTimeout,
    NotLanded,
    OutcomeUnknown,
    StaleWrite,
    VerifyFailed,
    from_os_error,
)
from landed.frames import BATCH, HEADER, OVERHEAD, SEAL, Header, boot_tag, encode_frame, frame_size
from landed.lock import DEFAULT_TIMEOUT, Lock
from landed.process import boot_id
from landed.publish import TEMP_PREFIX, TEMP_SUFFIX
from landed.segments import Segment
from landed.state import make_directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Final

    from landed.engine import Position, Rewrite
    from landed.segments import Range

LOCK: Final = "lock"
CLAIM: Final = "claim"
COMPACT: Final = "compact"
SUSPECT: Final = "suspect"
"""A flush failed in this boot. It needs no flush itself: what it warns of, the page cache, does not outlive the boot."""
TICK: Final = 0.05
"""Seconds: two changes of a directory within the clock's tick can leave one mtime; younger ones prove nothing."""
GROUP_BYTES: Final = 8 << 20
"""Bytes that one flush may cover, so that a queue of large batches does not wait for one huge write."""
RELOADS: Final = 16
"""How often a directory that changes under a reader is followed before that is an error."""
OPEN_SEGMENTS: Final = 256
"""Descriptors that the journals of a process keep open; the longest unused rest."""
CLAIM_TIMEOUT: Final = 1.0
"""Seconds; longer than another opener takes to see that nobody has claimed."""


class LocalLog:
    """The `Log` of local files.

    Args:
        directory: the journal's; created when missing, with its parents.
        max_bytes: growth limit in bytes of segments; None for none.
        mode: permission bits of files.

    Raises:
        Corrupt: a segment is missing, or damaged where it is looked at.
        Claimed: another process owns the directory alone.
        NotLanded: the directory cannot be made or read.
    """

    def __init__(
        self, directory: str, *, max_bytes: int | None = None, mode: int = 0o600, fs: _fs.FileOps = _fs.LOCAL
    ) -> None:
        self.name = os.path.abspath(directory)
        self.fs = fs
        self.mode = mode
        self._max_bytes = max_bytes
        self._boot = boot_tag(boot_id())
        self._state = _thread.allocate_lock()
        self._poisoned: str | None = None
        self._claim: Lock | None = None
        self._newest: Segment | None = None
        self._users = 0
        self._found = recovery.END
        self._spans: list[Range] = []
        self._mtime = -1
        self._prepare()
        self.lock = Lock(os.path.join(self.name, LOCK), mode=mode, fs=fs)
        status = self._stat_directory()
        self._identity = (status.st_dev, status.st_ino)
        self._recover_if_suspect()
        self.tail()

    # Opening.

    def _prepare(self) -> None:
        """Make the directory and its first segment where there is neither."""
        try:
            try:
                if self._has_journal():
                    return
            except FileNotFoundError:
                for made in make_directories(self.fs, self.name, self.mode | 0o100):
                    with _fs.Directory(os.path.dirname(made), self.fs) as parent:
                        parent.sync()
            try:
                segments.create(self.name, Header(segments.FIRST_SIZE, 1, 1, os.urandom(8), 0), self.fs)
            except NotLanded:
                if not self._has_journal():  # else another process was first
                    raise
        except OSError as error:
            raise self._failed(NotLanded, error, "the directory cannot be opened", "open") from error

    def _has_journal(self) -> bool:
        names = self.fs.listdir(self.name)
        return LOCK in names or any(name.endswith(segments.SUFFIX) for name in names)

    def _stat_directory(self) -> os.stat_result:
        try:
            return self.fs.stat(self.name)
        except OSError as error:
            raise self._failed(NotLanded, error, "the journal's directory is gone", "directory") from error

    def _reload(self, *, locked: bool) -> None:
        """Look at the directory again: live segments, claim, newest segment. Needs `_state`."""
        status = self._stat_directory()
        if (status.st_dev, status.st_ino) != self._identity:
            raise NotLanded("another directory has taken the path", path=self.name, step="directory", hint=_REOPEN)
        names = self._list()
        if SUSPECT in names:
            raise self._poison("a flush failed in another process")
        self._spans = segments.live(names, self.name)
        if not self._spans:
            raise Corrupt("a journal without a segment", path=self.name, step="open", hint="Restore its files.")
        if CLAIM in names and self._claim is None:
            self._refuse_claimed()
        if locked:
            self._sweep(names)
        self._open_newest()
        # A change that is as young as the clock's tick may hide another one: look again next time.
        self._mtime = status.st_mtime_ns if time() - status.st_mtime > TICK else -1

    def _list(self) -> list[str]:
        try:
            return self.fs.listdir(self.name)
        except OSError as error:
            raise self._failed(NotLanded, error, "the directory cannot be read", "directory") from error

    def _sweep(self, names: list[str]) -> None:
        """Remove what dead processes left. Segments are made under the lock, so under the lock all others are dead."""
        dead = [name for name in names if name.startswith(TEMP_PREFIX) and name.endswith(TEMP_SUFFIX)]
        for name in dead + segments.replaced(names, self._spans):
            try:
                self.fs.unlink(os.path.join(self.name, name))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._failed(NotLanded, error, f"{name} cannot be removed", "sweep") from error

    def _open_newest(self) -> None:
        span, before = self._spans[-1], self._newest
        if before is not None and before.span == span:
            if self._same_file(before):
                return
            raise self._poison("another file has taken the newest segment's name")
        try:
            if before is not None:
                self._follow(before)
            segment = Segment(self.name, span, self.fs, writable=True)
        except OSError as error:
            raise self._failed(NotLanded, error, "the newest segment cannot be opened", "open") from error
        self._found = segment.find_end(self._boot)
        self._newest = segment
        if before is not None:
            before.close()
        _opened(self)

    def _follow(self, before: Segment) -> None:
        """The segment after the one we knew must begin where our frames end, or a recovery has dropped some."""
        number = before.span[1] + 1
        if (number, number) not in self._spans:
            return  # a compaction has taken it in, with all that was acknowledged
        successor = Segment(self.name, (number, number), self.fs, writable=False)
        successor.close()
        before.advance()
        end = before.last.offset if before.last is not None and before.sealed else before.end
        if successor.header.previous_id == before.header.id and successor.header.previous_end < end:
            raise self._poison("another process recovered the journal, without frames that this one had seen")

    def _same_file(self, segment: Segment) -> bool:
        """Whether the segment's name still leads to the open file. Rare: only after the directory changed."""
        try:
            status = self.fs.stat(segment.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        opened = self.fs.fstat(segment.fd)
        return (status.st_dev, status.st_ino) == (opened.st_dev, opened.st_ino)

    def _unchanged(self) -> bool:
        """Whether nothing was added to or removed from the directory since it was looked at."""
        status = self._stat_directory()
        return status.st_mtime_ns == self._mtime and (status.st_dev, status.st_ino) == self._identity

    def _catch_up(self, *, locked: bool) -> Segment:
        """The newest segment, with all that others have appended. Needs `_state`; exact under the lock."""
        for _ in range(RELOADS):
            if self._newest is None or not self._unchanged():
                self._reload(locked=locked)
            segment = self._newest
            assert segment is not None
            if segment.fd < 0:
                self._wake(segment)
            if self._found == recovery.END and not segment.advance():
                self._found = segment.find_end(self._boot, thorough=True)
            if not segment.sealed:
                return segment
            self._mtime = -1
        assert segment.last is not None
        raise segment.corrupt(segment.last.offset, "the segment after a sealed one is missing")

    def _wake(self, segment: Segment) -> None:
        """Open the newest segment again after a rest."""
        try:
            segment.reopen()
        except OSError as error:
            raise self._failed(NotLanded, error, "the newest segment cannot be opened", "open") from error
        _opened(self)

    # Appending.

    def commit(self, commits: Sequence[Commit], timeout: float) -> int:
        """Decide the first of `commits`, and with them all that fit the segment and the group."""
        self._refuse_poisoned()
        self.lock.acquire(timeout)
        try:
            with self._state:
                self._refuse_poisoned()
                segment = self._catch_up(locked=True)
                self._refuse_damage(segment)
                segment = self._make_room(segment, commits[0])
                decided, landing, data = self._lay_out(segment, commits)
                start = segment.end
                if landing:
                    self._write(segment, data, start)
                    segment.advance()
                self._users += 1  # until the flush: the descriptor must not be put to rest
        finally:
            self.lock.release()
        try:
            if landing:
                self._acknowledge(segment, data, start, landing)
        finally:
            with self._state:
                self._users -= 1
        return decided

    def _refuse_damage(self, segment: Segment) -> None:
        if self._found == recovery.DAMAGE:
            raise segment.corrupt(segment.end, "bytes that were on the device have changed")

    def _make_room(self, segment: Segment, commit: Commit) -> Segment:
        """A segment that a batch can be appended to: after a crash tail, or when it is full, a new one."""
        if self._found == recovery.TORN:
            self._erase(segment)
        needed = frame_size(len(commit.payload))
        if self._found != recovery.CRASH and segment.end + needed + OVERHEAD <= segment.header.size:
            return segment
        if commit.expect is not None and commit.expect != segment.tail:
            return segment  # it will be refused; nothing to make room for
        return self._roll(segment, needed, self.size())

    def _lay_out(self, segment: Segment, commits: Sequence[Commit]) -> tuple[int, list[Commit], bytes]:
        """Decide commits in order as long as they fit; the frames of those that land."""
        parts: list[bytes] = []
        landing: list[Commit] = []
        offset, tail = segment.end, segment.tail
        back = segment.end - segment.last.offset if segment.last is not None else 0
        decided = 0
        for commit in commits:
            if commit.expect is not None and commit.expect != tail:
                commit.error = self._stale(commit.expect, tail)
                decided += 1
                continue
            size = frame_size(len(commit.payload))
            full = offset + size + OVERHEAD > segment.header.size
            if full or (landing and offset + size - segment.end > GROUP_BYTES):
                break
            commit.sequence, commit.position = tail + 1, (*segment.span, offset)
            parts.append(
                encode_frame(
                    segment.header.id,
                    offset,
                    BATCH,
                    commit.payload,
                    count=commit.count,
                    sequence=tail + 1,
                    flushed=segment.flushed,
                    back=back,
                    boot=self._boot,
                )
            )
            landing.append(commit)
            decided += 1
            offset, back, tail = offset + size, size, tail + commit.count
        return decided, landing, parts[0] if len(parts) == 1 else b"".join(parts)

    def _stale(self, expected: int, tail: int) -> StaleWrite:
        return StaleWrite(
            f"expected the journal at {expected}, it is at {tail}",
            path=self.name,
            step="compare",
            expected=str(expected),
            found=str(tail),
            hint="Read what was appended since, then append to that.",
        )

    def _write(self, segment: Segment, data: bytes, start: int) -> None:
        try:
            segment.write(data, start)
        except OSError as error:
            failed = self._failed(NotLanded, error, "the frame cannot be written", "write")
            try:
                segment.write(bytes(len(data)), start)
            except OSError as second:
                raise self._poison(f"a half-written frame cannot be erased: {second.strerror}") from error
            raise failed from error

    def _acknowledge(self, segment: Segment, data: bytes, start: int, landing: list[Commit]) -> None:
        """Flush and verify; what fails here is unknown for every commit that the flush covered."""
        end = start + len(data)
        try:
            try:
                segment.flush()
            except OSError as error:
                # Never again on this file: the kernel has marked the pages clean, a second flush would succeed.
                self._mark_suspect()
                raise self._failed(OutcomeUnknown, error, "the flush failed", "sync", _REOPEN) from error
            self._prove(segment, data, start)
        except OutcomeUnknown as error:
            self._poisoned = str(error)
            for commit in landing:
                commit.error = error
            return
        segment.flushed = max(segment.flushed, end)

    def _prove(self, segment: Segment, data: bytes, start: int) -> None:
        """The path leads to the segment, and the segment holds our frames."""
        try:
            held = segment.read(start, len(data))
        except OSError as error:
            raise self._failed(OutcomeUnknown, error, "the frame cannot be read back", "verify", _REOPEN) from error
        if held != data:
            raise VerifyFailed("the frame reads back otherwise", path=segment.path, step="verify", hint=_REOPEN)
        try:
            if not self._unchanged() and not self._still_reachable(segment):
                raise VerifyFailed(
                    "the path no longer leads to the segment that was written",
                    path=segment.path,
                    step="verify",
                    hint=_REOPEN,
                )
        except NotLanded as error:
            raise VerifyFailed(error.what, path=self.name, step="verify", hint=_REOPEN) from error

    def _still_reachable(self, segment: Segment) -> bool:
        status = self._stat_directory()
        if (status.st_dev, status.st_ino) != self._identity:
            return False
        if self._same_file(segment):
            return True
        # Another process may have rolled and compacted since: then its frames live on in a wider segment.
        spans = segments.live(self._list(), self.name)
        return any(first <= segment.span[0] and segment.span[1] < last for first, last in spans)

    # Rolling.

    def _roll(self, segment: Segment, needed: int, wanted: int) -> Segment:
        """Publish the next segment, of `wanted` bytes if that does. Needs the lock and `_state`.

        Every frame of the old one is flushed first: no frame of the new one may be acknowledged before it.
        """
        self._flush_for_roll(segment)
        used = self.size()
        size = segments.next_size(wanted, needed, (self._max_bytes or 1 << 62) - used)
        if self._max_bytes is not None and used + size > self._max_bytes:
            raise Full(
                "the growth limit is reached",
                path=self.name,
                step="grow",
                expected=str(self._max_bytes),
                found=str(used + size),
                hint="Compact it, or raise max_bytes.",
            )
        number = segment.span[1] + 1
        header = Header(size, number, number, os.urandom(8), segment.tail, segment.header.id, segment.end)
        try:
            segments.create(self.name, header, self.fs)
        except OutcomeUnknown as error:
            raise self._poison(error.what) from error
        if self._found == recovery.END:
            self._seal(segment)
        self._newest = None
        segment.close()
        self._reload(locked=True)
        assert self._newest is not None
        return self._newest

    def _flush_for_roll(self, segment: Segment) -> None:
        try:
            segment.flush()
        except OSError as error:
            self._mark_suspect()
            self._poisoned = "a flush failed"
            raise self._failed(NotLanded, error, "the full segment cannot be flushed", "sync", _REOPEN) from error
        segment.flushed = segment.end

    def _seal(self, segment: Segment) -> None:
        """Tell readers and appenders that know the old segment that there is a next one."""
        back = segment.end - segment.last.offset if segment.last is not None else 0
        seal = encode_frame(
            segment.header.id,
            segment.end,
            SEAL,
            b"",
            count=0,
            sequence=segment.tail + 1,
            flushed=segment.flushed,
            back=back,
            boot=self._boot,
        )
        self._write(segment, seal, segment.end)

    def _erase(self, segment: Segment) -> None:
        """Zeros over what a killed writer left."""
        try:
            segment.write(bytes(segment.header.size - segment.end), segment.end)
        except OSError as error:
            raise self._failed(NotLanded, error, "a torn frame cannot be erased", "write") from error
        self._found = recovery.END

    # After a failed flush.

    def _mark_suspect(self) -> None:
        """Tell the other processes: their page cache may hold what the device does not."""
        path = os.path.join(self.name, SUSPECT)
        try:
            self.fs.close(self.fs.open(path, os.O_WRONLY | os.O_CREAT | _fs.NOFOLLOW, self.mode))
        except OSError as error:
            self._poisoned = f"a flush failed, and that cannot be marked: {error.strerror}"

    def _recover_if_suspect(self) -> None:
        """Re-read the newest segment from the device and go on in a new one. Idempotent; crash-safe at every step."""
        if SUSPECT not in self._list():
            return
        self.lock.acquire(DEFAULT_TIMEOUT)
        try:
            names = self._list()
            if SUSPECT not in names:
                return
            self._spans = segments.live(names, self.name)
            segment = Segment(self.name, self._spans[-1], self.fs, writable=True)
            try:
                self._continue_after(segment)
            finally:
                segment.close()
            self.fs.unlink(os.path.join(self.name, SUSPECT))
        except OSError as error:
            raise self._failed(NotLanded, error, "the journal cannot be recovered", "recover") from error
        finally:
            self.lock.release()

    def _continue_after(self, segment: Segment) -> None:
        """A new segment after what the device holds of `segment`: never again a frame in a file that lost a flush."""
        segment.advance()
        seen = segment.tail  # with what the page cache shows; somebody may have read it
        segment.drop_cache()
        if segment.find_end(frames.NO_BOOT, thorough=True) == recovery.DAMAGE:
            raise segment.corrupt(segment.end, "bytes that were on the device have changed")
        number, size = segment.span[1] + 1, segment.header.size
        base = max(seen, segment.tail)
        header = Header(size, number, number, os.urandom(8), base, segment.header.id, segment.end)
        segments.create(self.name, header, self.fs)

    def _poison(self, why: str) -> OutcomeUnknown:
        self._poisoned = why
        return OutcomeUnknown(why, path=self.name, step="poisoned", hint=_REOPEN)

    def _refuse_poisoned(self) -> None:
        if self._poisoned is not None:
            error = OutcomeUnknown(
                f"the outcome of an earlier append is unknown ({self._poisoned})",
                path=self.name,
                step="poisoned",
                hint=_REOPEN,
            )
            error.state = "Nothing of this append was written."
            raise error

    # Reading, compacting: in modules of their own.

    def view(self) -> tuple[list[Range], int, str]:
        """The live segments, the offset where the newest one's frames end, and what follows there."""
        with self._state:
            segment = self._catch_up(locked=False)
            if self._found in {recovery.TORN, recovery.DAMAGE}:
                segment = self._look_again()
            return list(self._spans), segment.end, self._found

    def _look_again(self) -> Segment:
        """What looks torn or damaged may be another process's write under way; under the lock there is none."""
        self.lock.acquire(DEFAULT_TIMEOUT)
        try:
            segment = self._catch_up(locked=True)
            self._found = segment.find_end(self._boot, thorough=True)
            self._refuse_damage(segment)
        finally:
            self.lock.release()
        return segment

    def tail(self) -> int:
        self.view()
        assert self._newest is not None
        return self._newest.tail

    def size(self) -> int:
        """Bytes of all live segments."""
        total = 0
        for span in self._spans:
            if self._newest is not None and span == self._newest.span:
                total += self._newest.header.size
                continue
            try:
                total += self.fs.stat(os.path.join(self.name, segments.name_of(span))).st_size
            except FileNotFoundError:
                continue  # compacted meanwhile
        return total

    def batches(self, start: int) -> Iterator[Batch]:
        return reading.batches(self, start)

    def newest_first(self) -> Iterator[Batch]:
        return reading.newest_first(self)

    def fetch(self, position: Position) -> Batch | None:
        return reading.fetch(self, position)

    def open_segment(self, span: Range) -> Segment:
        """A live segment for reading.

        Raises:
            FileNotFoundError: a compaction has replaced it.
            Corrupt: its header does not check.
        """
        return Segment(self.name, span, self.fs, writable=False)

    def rewrite(self, rewrite: Rewrite, timeout: float) -> tuple[int, int]:
        return compaction.compact(self, rewrite, timeout)

    def seal_all(self, timeout: float) -> list[Range]:
        """Roll, so that every segment with frames is sealed; the sealed ones."""
        self._refuse_poisoned()
        self.lock.acquire(timeout)
        try:
            with self._state:
                segment = self._catch_up(locked=True)
                self._refuse_damage(segment)
                if self._found == recovery.TORN:
                    self._erase(segment)
                if segment.end > HEADER.size or self._found == recovery.CRASH:
                    self._roll(segment, 0, segments.FIRST_SIZE)
                return self._spans[:-1]
        finally:
            self.lock.release()

    def replace_segments(self, publish: Callable[[], None], timeout: float) -> None:
        """Under the lock: `publish` a compacted segment, then remove the ones that it replaces."""
        self.lock.acquire(timeout)
        try:
            with self._state:
                publish()
                self._mtime = -1
                self._reload(locked=True)
        finally:
            self.lock.release()

    # Owning, closing.

    def claim(self) -> None:
        claim = Lock(os.path.join(self.name, CLAIM), mode=self.mode, fs=self.fs)
        try:
            claim.acquire(CLAIM_TIMEOUT, owner=self)
        except LockTimeout as error:
            raise self._claimed(error.holder) from error
        self._claim = claim
        try:
            # The others look at the directory again when it changes, and find the claim.
            beacon = os.path.join(self.name, f"{TEMP_PREFIX}{os.urandom(6).hex()}{TEMP_SUFFIX}")
            self.fs.close(self.fs.open(beacon, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self.mode))
            self.fs.unlink(beacon)
            # An append that began before has the lock; after this, none is under way that has not seen the claim.
            self.lock.acquire()
            self.lock.release()
        except OSError as error:
            self._give_up_claim()
            raise self._failed(NotLanded, error, "the claim cannot be announced", "claim") from error
        except BaseException:
            self._give_up_claim()
            raise

    def _refuse_claimed(self) -> None:
        claim = Lock(os.path.join(self.name, CLAIM), mode=self.mode, fs=self.fs)
        try:
            claim.acquire(0, owner=self)
        except LockTimeout as error:
            raise self._claimed(error.holder) from error
        claim.release()

    def _claimed(self, holder: str | None) -> Claimed:
        error = Claimed(
            f"another process owns it alone: {holder or 'one that does not say who it is'}",
            path=self.name,
            step="claim",
            hint="Use that process, or wait until it closes the journal.",
        )
        error.holder = holder
        return error

    def _give_up_claim(self) -> None:
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.release()

    def rest(self) -> bool:
        """Give back the descriptor until the next use; False while it is in use."""
        if not self._state.acquire(blocking=False):
            return False
        try:
            if self._users == 0 and self._newest is not None:
                self._newest.close()
            return self._users == 0
        finally:
            self._state.release()

    def close(self) -> None:
        self._give_up_claim()
        with self._state:
            if self._newest is not None:
                self._newest.close()
        _closed(self)

    def __del__(self) -> None:
        if getattr(self, "_newest", None) is not None:
            self._newest.close()

    def _failed(self, kind: type[LandedError], error: OSError, what: str, step: str, hint: str = "") -> LandedError:
        return from_os_error(kind, error, what, path=self.name, step=step, hint=hint)


_REOPEN: Final = "Close this journal and open it again: that re-reads it from the device."


_pool_guard = _thread.allocate_lock()
_pool: dict[int, weakref.ref[LocalLog]] = {}
"""The logs with an open segment, the longest unused first, by id."""


def _opened(log: LocalLog) -> None:
    """Count a log's descriptor, and put the longest unused ones to rest."""
    with _pool_guard:
        _pool.pop(id(log), None)
        _pool[id(log)] = weakref.ref(log)
        surplus = list(_pool)[:-OPEN_SEGMENTS] if len(_pool) > OPEN_SEGMENTS else []
        logs = [(key, _pool[key]()) for key in surplus]
        for key, other in logs:
            if other is None or other.rest():
                del _pool[key]


def _closed(log: LocalLog) -> None:
    with _pool_guard:
        _pool.pop(id(log), None)


def _after_fork_in_child() -> None:
    global _pool_guard  # noqa: PLW0603 - a forked child starts afresh
    _pool_guard = _thread.allocate_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
