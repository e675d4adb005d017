"""After a failed flush: nobody appends to the file that lost it, and whoever opens the journal asks the device.

The kernel reports a failed flush once, marks the pages clean and goes on answering reads from them. A second flush
would succeed and mean nothing.
"""

from __future__ import annotations

import os

from landed.errors import NotLanded, OutcomeUnknown, from_os_error
from landed.local import frames, recovery, segments
from landed.local.directory import SUSPECT
from landed.local.frames import Header
from landed.lock import DEFAULT_TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.local.directory import JournalDirectory
    from landed.local.segments import Segment
    from landed.lock import Lock

REOPEN: Final = "Close this journal and open it again: that re-reads it from the device."


class Doubt:
    """Why nothing more is appended through a handle.

    Attributes:
        why: in words; None while there is no doubt.
    """

    def __init__(self, directory: JournalDirectory) -> None:
        self.why: str | None = None
        self._directory = directory

    def poison(self, why: str) -> OutcomeUnknown:
        """Append nothing more through this handle; the error to raise."""
        self.why = why
        return OutcomeUnknown(why, path=self._directory.path, step="poisoned", hint=REOPEN)

    def flush_failed(self, error: OSError) -> None:
        """Append nothing more, and tell the other processes."""
        self.why = f"a flush failed: {error.strerror}"
        try:
            self._directory.mark_suspect()
        except NotLanded as second:
            self.why += f", and that cannot be marked: {second.what}"

    def refuse(self) -> OutcomeUnknown:
        """The error for an append after the doubt arose."""
        error = OutcomeUnknown(
            f"the outcome of an earlier append is unknown ({self.why})",
            path=self._directory.path,
            step="poisoned",
            hint=REOPEN,
        )
        error.state = "Nothing of this append was written."
        return error

    def unknown(self, error: OSError, what: str, step: str) -> OutcomeUnknown:
        """The landed error for a system call that leaves it unknown what is on the device."""
        return from_os_error(OutcomeUnknown, error, what, path=self._directory.path, step=step, hint=REOPEN)


def recover_if_suspect(directory: JournalDirectory, lock: Lock, boot: int) -> None:
    """Re-read the newest segment from the device and go on in a new one. Idempotent; crash-safe at every step."""
    if SUSPECT not in directory.names():
        return
    lock.acquire(DEFAULT_TIMEOUT)
    try:
        names = directory.names()
        if SUSPECT not in names:
            return
        segment = segments.open_newest(directory.path, segments.live(names, directory.path)[-1], directory.fs)
        try:
            _continue_after(segment, directory, boot)
        finally:
            segment.close()
        directory.remove(SUSPECT)
    except OSError as error:
        raise directory.failed(error, "the journal cannot be recovered", "recover") from error
    finally:
        lock.release()


def _continue_after(segment: Segment, directory: JournalDirectory, boot: int) -> None:
    """A new segment after what the device holds of `segment`: never again a frame in a file that lost a flush."""
    segment.advance()
    seen = segment.tail  # with what the page cache shows; somebody may have read it
    segment.drop_cache()
    segment.flush()  # what others have written since was not dropped, and is not on the device yet
    if segment.find_end(frames.NO_BOOT, thorough=True) == recovery.DAMAGE:
        raise segment.corrupt(segment.end, "bytes that were on the device have changed")
    if segment.sealed:
        return  # the newest has no frame yet, and the one before it was flushed before it was sealed
    number, size = segment.span[1] + 1, segment.header.size
    base = max(seen, segment.tail)
    header = Header(size, number, number, os.urandom(8), base, segment.header.id, segment.end, boot)
    segments.create(directory.path, header, directory.mode, directory.fs)
