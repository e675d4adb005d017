"""Knowing where a journal on local files ends, while other processes append, roll and compact."""

from __future__ import annotations

import _thread
import sys

from landed.errors import Corrupt, NotLanded
from landed.local import pool, recovery, segments
from landed.local.claim import CLAIM, Claim
from landed.local.directory import SUSPECT
from landed.local.segments import Segment
from landed.lock import DEFAULT_TIMEOUT
from landed.publish import TEMP_PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

    from landed.local.directory import JournalDirectory
    from landed.local.doubt import Doubt
    from landed.local.segments import Range
    from landed.lock import StoreLock

RELOADS: Final = 16
"""How often a journal that changes under a reader is followed before that is an error."""


class _Unsettled(Exception):
    """Without the lock it cannot be told what is there: another process is changing it."""


class Follower:
    """The live segments of a journal, and the newest of them open, up to its last good frame.

    Attributes:
        state: the mutex of the attributes below, among the threads of this process.
        spans: the live segments.
        newest: the newest of them; None before the first look.
        found: what follows its last good frame (`landed.local.recovery`).
        recovered: what a crash had left unfinished, in words; "" for nothing.
        claim: on the journal.
    """

    def __init__(self, directory: JournalDirectory, lock: StoreLock, doubt: Doubt, boot: int) -> None:
        self.state = _thread.allocate_lock()
        self.spans: list[Range] = []
        self.newest: Segment | None = None
        self.found = recovery.END
        self.recovered = ""
        self.claim = Claim(directory)
        self._directory = directory
        self._fs = directory.fs
        self._path = directory.path
        self._lock = lock
        self._doubt = doubt
        self._boot = boot
        self._swept: dict[str, int] = {}
        """The directory's entries when they were last gone through under the lock."""

    def view(self) -> tuple[list[Range], Segment]:
        """The live segments and the newest one, with all that is acknowledged; exact for a moment."""
        with self.state:
            try:
                segment = self.catch_up(locked=False)
            except _Unsettled:
                pass
            else:
                if self.found in {recovery.END, recovery.CRASH}:
                    return list(self.spans), segment
        # What looks torn, damaged or incomplete may be another process at work; under the lock there is none.
        self._lock.acquire(DEFAULT_TIMEOUT)
        try:
            with self.state:
                segment = self.catch_up(locked=True)
                self.refuse_damage(segment)
                return list(self.spans), segment
        finally:
            self._lock.release()

    def catch_up(self, *, locked: bool) -> Segment:
        """The newest segment, with all that others have appended. Needs `state`; exact under the lock."""
        segment = None
        for _ in range(RELOADS):
            segment = self.newest
            if segment is None or segment.fd < 0 or not self._directory.unchanged():
                segment = self.reload(locked=locked)
            # Frames of others are hopped over, so only where nothing but good ones can follow: not behind a crash.
            if self.found not in recovery.GOOD or not segment.advance():
                self.found = segment.find_end(self._boot, thorough=True)
            if not segment.sealed:
                return segment
            self._directory.forget()
        raise Corrupt(
            "the segment after a sealed one is missing",
            path=segment.path if segment is not None else self._path,
            step="open",
            hint=segments.SALVAGE,
        )

    def reload(self, *, locked: bool, empty: bytes = b"") -> Segment:
        """Look at the directory again: live segments, claim, newest segment. Needs `state`.

        Args:
            empty: the id of a segment that this process has just made, under the lock: nothing can be in it.
        """
        names = self._directory.names()
        try:
            return self._load(names, empty, locked=locked)
        except BaseException as error:
            self._directory.forget()  # what was not taken in is looked at again
            if isinstance(error, FileNotFoundError) and not locked:
                raise _Unsettled from error  # a compaction has just removed it
            if isinstance(error, OSError):
                raise self._directory.failed(error, "the newest segment cannot be opened", "open") from error
            raise

    def _load(self, names: dict[str, int], empty: bytes, *, locked: bool) -> Segment:
        if names == self._swept and self.newest is not None and self.newest.fd >= 0:
            if CLAIM in names:
                self.claim.refuse_if_taken()
            return self.newest  # what changed a moment ago is looked at again and again until a tick has passed
        if SUSPECT in names:
            raise self._doubt.poison("a flush failed in another process")
        try:
            spans = segments.live(names, self._path)
        except Corrupt:
            if locked:
                raise
            # A long directory is read in pieces: a compaction may have added behind us and removed before us.
            raise _Unsettled from None
        if CLAIM in names:
            self.claim.refuse_if_taken()
        if locked:
            if not self._lock.still_ours():
                self._lock.forget_file()
                raise NotLanded("the lock file was replaced", path=self._lock.path, step="lock", hint="Try again.")
            self._directory.sweep(names, spans)
        segment = self._open_newest(names, spans, empty, locked=locked)
        self.spans, self.newest = spans, segment
        if locked:
            self._swept = names
        if not locked and any(name.startswith(TEMP_PREFIX) for name in names):
            self._directory.forget()  # the next appender sweeps what a dead one left
        pool.opened(self)
        return segment

    def _open_newest(self, names: dict[str, int], spans: list[Range], empty: bytes, *, locked: bool) -> Segment:
        before = self.newest
        if before is not None and before.span == spans[-1]:
            if before.fd < 0:
                before.reopen()
            elif not before.leads_here(names):
                raise self._doubt.poison("another file has taken the newest segment's name")
            return before
        if before is not None:
            if before.span > spans[-1]:
                raise segments.missing(before.span, self._path)
            self._check_succession(before, spans)
        try:
            segment = segments.open_newest(self._path, spans[-1], self._fs)
        except Corrupt:
            if locked:
                raise
            raise _Unsettled from None  # as above
        segment.running = self._boot
        try:
            self.found = recovery.END if segment.header.id == empty else segment.find_end(self._boot)
        except BaseException:
            segment.close()
            raise
        if self.found == recovery.CRASH:
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
        if successor.header.previous_id != before.header.id:
            raise self._doubt.poison("the segments were replaced by others")
        if successor.header.previous_end < end:
            raise self._doubt.poison("another process recovered the journal, without frames that this one had seen")

    def _report(self, segment: Segment) -> None:
        import logging

        self.recovered = (
            f"{segment.path}: the machine stopped during an append; the bytes from offset {segment.end} on were never "
            "acknowledged and are left where they are"
        )
        logging.getLogger("landed").warning("%s", self.recovered)

    def refuse_damage(self, segment: Segment) -> None:
        if self.found == recovery.DAMAGE:
            raise segment.corrupt(segment.end, "bytes that were on the device have changed")

    def is_reachable(self, segment: Segment, names: dict[str, int]) -> bool:
        """Whether what was written to `segment` is found under the journal's path.

        Args:
            names: what is in the directory.

        Raises:
            OSError: as the system does.
            NotLanded, Corrupt: the directory, or what is in it, cannot be used.
        """
        if not self._directory.is_the_same():
            return False
        if segment.leads_here(names):
            return True
        # Another process may have rolled and compacted since: then its frames live on in a compacted segment.
        for _ in range(RELOADS):
            before = self._fs.stat(self._path).st_mtime_ns
            covering = segments.covering(self._fs.listdir(self._path), segment.span)
            if covering is not None:
                found = self.open_segment(covering)
                found.close()
                return found.header.compacted
            if self._fs.stat(self._path).st_mtime_ns == before:
                break  # else it was compacted again while we looked
        return False

    def open_segment(self, span: Range) -> Segment:
        """A live segment for reading.

        Raises:
            FileNotFoundError: a compaction has replaced it.
            Corrupt: its header does not check.
            NotLanded: it cannot be opened.
        """
        try:
            return Segment(self._path, span, self._fs, writable=False)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._directory.failed(error, "a segment cannot be opened", "open") from error

    def rest(self) -> bool:
        """Give back the descriptor until the next use; False while it is in use."""
        if not self.state.acquire(blocking=False):
            return False
        try:
            if self.newest is None:
                return True
            if self.newest.in_use:
                return False
            self.newest.close()
            return True
        finally:
            self.state.release()

    def close(self) -> None:
        self.claim.give_up()
        pool.closed(self)
        with self.state:
            if self.newest is not None:
                self.newest.close()

    def forked(self) -> None:
        """In a forked child: another thread of the parent may have been at work in here, and lives on there only.

        The child's copy of the descriptor goes, or it would keep the space of what the parent compacts. Readers that
        were begun before have descriptors of their own and go on.
        """
        self.state = _thread.allocate_lock()
        newest, self.newest = self.newest, None
        if newest is not None:
            newest.forked()
        self._directory.forget()

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        newest = getattr(self, "newest", None)
        if newest is not None and not ending():  # when the interpreter ends, what closing needs may be gone already
            newest.close()
