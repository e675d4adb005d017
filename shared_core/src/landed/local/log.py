"""A journal on local files: append under the lock, flush outside it, verify, acknowledge.

An append by a lone writer costs one device flush: it overwrites zeros, so that neither the file's size nor its blocks
change. The flush runs outside the lock, so that processes append while another one's flush is under way, and the kernel
merges their flushes.
"""

from __future__ import annotations

import _thread
import os

from landed import _fs
from landed.errors import Corrupt, Full, NotLanded, OutcomeUnknown, StaleWrite, VerifyFailed, from_os_error
from landed.local import compaction, frames, pool, reading, recovery, segments
from landed.local.claim import CLAIM, Claim
from landed.local.directory import LOCK, SUSPECT, JournalDirectory
from landed.local.frames import BATCH, HEADER, OVERHEAD, SEAL, Head, Header, boot_tag, frame_size
from landed.local.segments import Segment
from landed.lock import DEFAULT_TIMEOUT, Lock
from landed.process import boot_id
from landed.state import flush_ancestors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Final

    from landed.engine import Batch, Commit, Position, Rewrite
    from landed.local.segments import Range

GROUP_BYTES: Final = 8 << 20
"""Bytes that one flush may cover, so that a queue of large batches does not wait for one huge write."""
RELOADS: Final = 16
"""How often a journal that changes under a reader is followed before that is an error."""


class LocalLog:
    """The `Log` of local files.

    Args:
        directory: the journal's; created when missing, with its parents.
        max_bytes: growth limit in bytes of segments; None for none.
        mode: permission bits of files.

    Attributes:
        recovered: what a crash had left unfinished when the journal was opened, in words; "" for nothing.

    Raises:
        Corrupt: a segment is missing, or damaged where it is looked at.
        Claimed: another process owns the journal alone.
        NotLanded: the directory cannot be made or read.
    """

    def __init__(
        self, directory: str, *, max_bytes: int | None = None, mode: int = 0o600, fs: _fs.FileOps = _fs.LOCAL
    ) -> None:
        self.fs = fs
        self.recovered = ""
        self.directory = JournalDirectory(directory, mode, fs)
        self.name = self.directory.path
        # Whether the lock file was replaced is noticed with any other change of the directory.
        self.lock = Lock(os.path.join(self.name, LOCK), mode=mode, watched=True, fs=fs)
        self._claim = Claim(self.directory)
        self._max_bytes = max_bytes
        self._boot = boot_tag(boot_id())
        self._state = _thread.allocate_lock()
        self._poisoned: str | None = None
        self._spans: list[Range] = []
        self._newest: Segment | None = None
        self._found = recovery.END
        self._recover_if_suspect()
        self.view()

    # Knowing where the journal ends.

    def view(self) -> tuple[list[Range], Segment]:
        """The live segments and the newest one, with all that is acknowledged; exact for a moment."""
        with self._state:
            segment = self._catch_up(locked=False)
            if self._found in {recovery.END, recovery.CRASH}:
                return list(self._spans), segment
        # What looks torn or damaged may be another process's write under way; under the lock there is none.
        self.lock.acquire(DEFAULT_TIMEOUT)
        try:
            with self._state:
                segment = self._catch_up(locked=True)
                self._refuse_damage(segment)
                return list(self._spans), segment
        finally:
            self.lock.release()

    def _catch_up(self, *, locked: bool) -> Segment:
        """The newest segment, with all that others have appended. Needs `_state`; exact under the lock."""
        segment = None
        for _ in range(RELOADS):
            segment = self._newest
            if segment is None or segment.fd < 0 or not self.directory.unchanged():
                segment = self._reload(locked=locked)
            if self._found in {recovery.TORN, recovery.DAMAGE} or not segment.advance():
                self._found = segment.find_end(self._boot, thorough=True)
            if not segment.sealed:
                return segment
            self.directory.forget()
        raise Corrupt(
            "the segment after a sealed one is missing",
            path=segment.path if segment is not None else self.name,
            step="open",
            hint=segments.SALVAGE,
        )

    def _reload(self, *, locked: bool) -> Segment:
        """Look at the directory again: live segments, claim, newest segment. Needs `_state`."""
        names = self.directory.names()
        try:
            return self._load(names, locked=locked)
        except BaseException as error:
            self.directory.forget()  # what was not taken in is looked at again
            if isinstance(error, OSError):
                raise self.directory.failed(error, "the newest segment cannot be opened", "open") from error
            raise

    def _load(self, names: list[str], *, locked: bool) -> Segment:
        if SUSPECT in names:
            raise self._poison("a flush failed in another process")
        spans = segments.live(names, self.name)
        if not spans:
            raise Corrupt("a journal without a segment", path=self.name, step="open", hint=segments.SALVAGE)
        if CLAIM in names:
            self._claim.refuse_if_taken()
        if locked:
            if not self.lock.still_ours():
                self.lock.forget_file()
                raise NotLanded("the lock file was replaced", path=self.lock.path, step="lock", hint="Try again.")
            self.directory.sweep(names, spans)
        segment = self._open_newest(spans)
        self._spans, self._newest = spans, segment
        pool.opened(self)
        return segment

    def _open_newest(self, spans: list[Range]) -> Segment:
        before = self._newest
        if before is not None and before.span == spans[-1]:
            if before.fd < 0:
                before.reopen()
            elif not before.leads_here():
                raise self._poison("another file has taken the newest segment's name")
            return before
        if before is not None:
            if before.span > spans[-1]:
                raise segments.missing(before.span, self.name)
            self._check_succession(before, spans)
        segment = Segment(self.name, spans[-1], self.fs, writable=True)
        try:
            self._found = segment.find_end(self._boot)
        except BaseException:
            segment.close()
            raise
        if self._found == recovery.CRASH:
            self._report(segment)
        if before is not None:
            before.close()
        return segment

    def _check_succession(self, before: Segment, spans: list[Range]) -> None:
        """The segment after the one we knew must begin where our frames end, or a recovery has dropped some."""
        following = (before.span[1] + 1, before.span[1] + 1)
        if following not in spans:
            return  # a compaction has taken it in, with all that was acknowledged
        successor = self.open_segment(following)
        successor.close()
        if before.fd >= 0:
            before.advance()
        end = before.last.offset if before.last is not None and before.sealed else before.end
        if successor.header.previous_id == before.header.id and successor.header.previous_end < end:
            raise self._poison("another process recovered the journal, without frames that this one had seen")

    def _report(self, segment: Segment) -> None:
        import logging

        self.recovered = (
            f"{segment.path}: the machine stopped during an append; the bytes from offset {segment.end} on were never "
            "acknowledged and are left where they are"
        )
        logging.getLogger("landed").warning("%s", self.recovered)

    def _refuse_damage(self, segment: Segment) -> None:
        if self._found == recovery.DAMAGE:
            raise segment.corrupt(segment.end, "bytes that were on the device have changed")

    # Appending.

    def commit(self, commits: Sequence[Commit], timeout: float) -> int:
        """Decide the first of `commits`, and with them all that fit the segment and the group."""
        decided = 0
        landing: list[Commit] = []
        self.lock.acquire(timeout)
        try:
            with self._state:
                segment = self._ready()
                segment = self._make_room(segment, commits[0])
                decided, landing, heads, data = self._lay_out(segment, commits)
                start = segment.end
                if landing:
                    if segment.last is None:
                        self._make_durable(segment)
                    self._write(segment, data, start)
                    segment.take(heads[-1])
                segment.hold()  # until the flush
        except OutcomeUnknown as error:
            if not landing:
                raise
            for commit in landing:  # half-written, and not to be erased
                commit.error = error
            return decided
        finally:
            self.lock.release()
        try:
            if landing:
                self._acknowledge(segment, data, start, landing)
        finally:
            with self._state:
                segment.let_go()
        return decided

    def _ready(self) -> Segment:
        """The newest segment, fit to be appended to. Needs the lock and `_state`."""
        self._refuse_poisoned()
        segment = self._catch_up(locked=True)
        self._refuse_damage(segment)
        if self._found == recovery.TORN:
            try:
                segment.write(bytes(segment.header.size - segment.end), segment.end)
            except OSError as error:
                raise self.directory.failed(error, "a torn frame cannot be erased", "write") from error
            self._found = recovery.END
        return segment

    def _make_durable(self, segment: Segment) -> None:
        """Before the first frame of a segment, flush its name: the process that gave it that name may have died first.

        So whoever finds a frame in a segment knows that its name is on the device.
        """
        try:
            self.directory.sync()
            if segment.span[0] == 1:
                flush_ancestors(self.fs, self.name)
        except OSError as error:
            raise self.directory.failed(error, "the segment's name cannot be flushed", "sync directory") from error

    def _make_room(self, segment: Segment, commit: Commit) -> Segment:
        """A segment that the batch fits: after a crash tail, or when this one is full, a new one."""
        needed = frame_size(len(commit.payload))
        fits = self._found == recovery.END and segment.end + needed + OVERHEAD <= segment.header.size
        refused = commit.expect is not None and commit.expect != segment.tail
        return segment if fits or refused else self._roll(segment, needed, self.size())

    def _lay_out(self, segment: Segment, commits: Sequence[Commit]) -> tuple[int, list[Commit], list[Head], bytes]:
        """Decide commits in order as long as they fit; how many, those that land, and their frames."""
        parts: list[bytes] = []
        landing: list[Commit] = []
        heads: list[Head] = []
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
            commit.sequence, commit.position = tail + 1, segment.position_of(offset)
            head = Head(
                offset,
                BATCH,
                len(commit.payload),
                count=commit.count,
                sequence=tail + 1,
                flushed=segment.flushed,
                back=back,
                boot=self._boot,
            )
            parts.append(head.encode(segment.header.id, commit.payload))
            heads.append(head)
            landing.append(commit)
            decided += 1
            offset, back, tail = offset + size, size, tail + commit.count
        return decided, landing, heads, parts[0] if len(parts) == 1 else b"".join(parts)

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
            failed = self.directory.failed(error, "the frame cannot be written", "write")
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
                self._flush_failed(error)
                raise self._unknown(error, "the flush failed", "sync") from error
            self._prove(segment, data, start)
        except OutcomeUnknown as error:
            self._poisoned = self._poisoned or error.what
            for commit in landing:
                commit.error = error
            return
        segment.flushed = max(segment.flushed, end)

    def _prove(self, segment: Segment, data: bytes, start: int) -> None:
        """The path leads to the segment, and the segment holds our frames."""
        try:
            held = segment.read(start, len(data))
        except NotLanded as error:
            what = f"the frame cannot be read back: {error.what}"
            raise OutcomeUnknown(what, path=segment.path, step="verify", errno=error.errno, hint=_REOPEN) from error
        if held != data:
            raise VerifyFailed("the frame reads back otherwise", path=segment.path, step="verify", hint=_REOPEN)
        try:
            if self.directory.unchanged():
                return
            if SUSPECT in self.fs.listdir(self.name):
                raise OutcomeUnknown(
                    "a flush failed in another process meanwhile", path=self.name, step="sync", hint=_REOPEN
                )
            if not self._still_reachable(segment):
                raise VerifyFailed(
                    "the path no longer leads to the segment that was written",
                    path=segment.path,
                    step="verify",
                    hint=_REOPEN,
                )
        except (NotLanded, Corrupt) as error:
            raise VerifyFailed(error.what, path=self.name, step="verify", hint=_REOPEN) from error
        except OSError as error:
            raise self._unknown(error, "the segment cannot be looked up", "verify") from error

    def _still_reachable(self, segment: Segment) -> bool:
        if not self.directory.is_the_same():
            return False
        if segment.leads_here():
            return True
        # Another process may have rolled and compacted since: then its frames live on in a compacted segment.
        for span in segments.live(self.fs.listdir(self.name), self.name):
            if span[0] <= segment.span[0] and segment.span[1] <= span[1]:
                covering = self.open_segment(span)
                covering.close()
                return covering.header.compacted
        return False

    # Rolling.

    def _roll(self, segment: Segment, needed: int, wanted: int, *, limited: bool = True) -> Segment:
        """Publish the next segment, of `wanted` bytes if that does. Needs the lock and `_state`.

        Every frame of the old one is flushed first: no frame of the new one may be acknowledged before it.
        """
        try:
            segment.flush()
        except OSError as error:
            self._flush_failed(error)
            raise self.directory.failed(error, "the full segment cannot be flushed", "sync") from error
        segment.flushed = segment.end
        number = segment.span[1] + 1
        size = self._next_size(needed, wanted) if limited else segments.FIRST_SIZE
        header = Header(size, number, number, os.urandom(8), segment.tail, segment.header.id, segment.end, self._boot)
        try:
            segments.create(self.name, header, self.directory.mode, self.fs)
        except OutcomeUnknown as error:
            raise self._poison(error.what) from error
        if self._found == recovery.END:
            self._seal(segment)
        self.directory.forget()
        return self._reload(locked=True)

    def _next_size(self, needed: int, wanted: int) -> int:
        if self._max_bytes is None:
            return segments.next_size(wanted, needed, segments.SIZE_LIMIT)
        used = self.size()
        size = segments.next_size(wanted, needed, self._max_bytes - used)
        if used + size > self._max_bytes:
            raise Full(
                "the growth limit is reached",
                path=self.name,
                step="grow",
                expected=str(self._max_bytes),
                found=str(used + size),
                hint="Compact it, or raise max_bytes.",
            )
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

    # After a failed flush.

    def _flush_failed(self, error: OSError) -> None:
        """Never again on this file: the kernel has marked the pages clean, and a second flush would succeed."""
        self._poisoned = f"a flush failed: {error.strerror}"
        try:
            self.directory.mark_suspect()
        except NotLanded as second:
            self._poisoned += f", and that cannot be marked: {second.what}"

    def _recover_if_suspect(self) -> None:
        """Re-read the newest segment from the device and go on in a new one. Idempotent; crash-safe at every step."""
        if SUSPECT not in self.directory.names():
            return
        self.lock.acquire(DEFAULT_TIMEOUT)
        try:
            names = self.directory.names()
            if SUSPECT not in names:
                return
            segment = Segment(self.name, segments.live(names, self.name)[-1], self.fs, writable=True)
            try:
                self._continue_after(segment)
            finally:
                segment.close()
            self.directory.remove(SUSPECT)
        except OSError as error:
            raise self.directory.failed(error, "the journal cannot be recovered", "recover") from error
        finally:
            self.lock.release()

    def _continue_after(self, segment: Segment) -> None:
        """A new segment after what the device holds of `segment`: never again a frame in a file that lost a flush."""
        segment.advance()
        seen = segment.tail  # with what the page cache shows; somebody may have read it
        segment.drop_cache()
        if segment.find_end(frames.NO_BOOT, thorough=True) == recovery.DAMAGE:
            raise segment.corrupt(segment.end, "bytes that were on the device have changed")
        if segment.sealed:
            return  # the newest has no frame yet, and the one before it was flushed before it was sealed
        number, size = segment.span[1] + 1, segment.header.size
        base = max(seen, segment.tail)
        header = Header(size, number, number, os.urandom(8), base, segment.header.id, segment.end, self._boot)
        segments.create(self.name, header, self.directory.mode, self.fs)

    def _poison(self, why: str) -> OutcomeUnknown:
        self._poisoned = why
        return OutcomeUnknown(why, path=self.name, step="poisoned", hint=_REOPEN)

    def _unknown(self, error: OSError, what: str, step: str) -> OutcomeUnknown:
        return from_os_error(OutcomeUnknown, error, what, path=self.name, step=step, hint=_REOPEN)

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

    def tail(self) -> int:
        return self.view()[1].tail

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
            except OSError as error:
                raise self.directory.failed(error, "a segment's size cannot be read", "size") from error
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
            NotLanded: it cannot be opened.
        """
        try:
            return Segment(self.name, span, self.fs, writable=False)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self.directory.failed(error, "a segment cannot be opened", "open") from error

    def rewrite(self, rewrite: Rewrite, timeout: float) -> tuple[int, int]:
        return compaction.compact(self, rewrite, timeout)

    def seal_all(self, timeout: float) -> list[Range]:
        """Roll, so that every segment with frames is sealed; the sealed ones."""
        self.lock.acquire(timeout)
        try:
            with self._state:
                segment = self._ready()
                if segment.end > HEADER.size or self._found == recovery.CRASH:
                    self._roll(segment, 0, segments.FIRST_SIZE, limited=False)  # it makes room
                return self._spans[:-1]
        finally:
            self.lock.release()

    def replace_segments(self, publish: Callable[[], None], timeout: float) -> int:
        """Under the lock: `publish` a compacted segment, then remove the ones that it replaces.

        Returns:
            Bytes of the segment after it.
        """
        self.lock.acquire(timeout)
        try:
            with self._state:
                try:
                    publish()
                except OutcomeUnknown as error:
                    self._poisoned = error.what  # the old segments stay until it is known
                    raise
                self.directory.forget()
                try:
                    return self._reload(locked=True).header.size
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
        """In a forked child: another thread of the parent may have been at work in here, and lives on there only."""
        self._state = _thread.allocate_lock()
        self._newest = None
        self.directory.forget()

    def claim(self) -> None:
        self._claim.take()
        # An append that began before has the lock; when it is free, none is under way that has not seen the claim.
        self.lock.acquire(DEFAULT_TIMEOUT)
        self.lock.release()

    def rest(self) -> bool:
        """Give back the descriptor until the next use; False while it is in use."""
        if not self._state.acquire(blocking=False):
            return False
        try:
            if self._newest is None:
                return True
            if self._newest.in_use:
                return False
            self._newest.close()
            return True
        finally:
            self._state.release()

    def close(self) -> None:
        self._claim.give_up()
        pool.closed(self)
        with self._state:
            if self._newest is not None:
                self._newest.close()

    def __del__(self) -> None:
        newest = getattr(self, "_newest", None)
        if newest is not None:
            newest.close()


_REOPEN: Final = "Close this journal and open it again: that re-reads it from the device."
