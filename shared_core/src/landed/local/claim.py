"""Owning a journal alone."""

from __future__ import annotations

import os
from time import monotonic, sleep

from landed import _fs
from landed.engine import claimed
from landed.errors import LockTimeout
from landed.lock import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.local.directory import JournalDirectory

CLAIM: Final = "claim"
TIMEOUT: Final = 1.0
"""Seconds; longer than others take to see that nobody has claimed."""
GLANCE: Final = 0.2
"""Seconds that an opener looks; where no lock can be shared, others that look at the same moment are in the way."""
PAUSE: Final = 0.01
"""Seconds between two looks."""


class Claim:
    """The claim on a journal's directory: a kernel lock, so that it ends with its owner."""

    def __init__(self, directory: JournalDirectory) -> None:
        self._directory = directory
        self._lock = Lock(os.path.join(directory.path, CLAIM), mode=directory.mode, fs=directory.fs)

    def take(self) -> None:
        """Own the journal until `give_up`, and let the others' next look find that.

        Raises:
            Claimed: another process owns it.
            NotLanded: the directory cannot be written.
        """
        if self._lock.held:
            return
        try:
            self._lock.acquire(TIMEOUT, owner=self)
        except LockTimeout as error:
            raise claimed(self._directory.path, error.holder) from error
        try:
            self._directory.touch()
        except BaseException:
            self._lock.release()
            raise

    def refuse_if_taken(self) -> None:
        """Raise `Claimed` if somebody else owns the journal.

        Raises:
            NotLanded: that cannot be told.
        """
        if self._lock.held:
            return
        deadline = monotonic() + GLANCE
        while self._is_taken():
            if monotonic() > deadline:
                holder = self._lock.holder()
                raise claimed(self._directory.path, str(holder) if holder else None)
            sleep(PAUSE)

    def _is_taken(self) -> bool:
        """Whether somebody has it alone; whoever looks at the same moment shares the lock with us."""
        fs = self._directory.fs
        try:
            fd = fs.open(self._lock.path, os.O_RDONLY | _fs.KEPT)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._directory.failed(error, "the claim cannot be looked at", "claim") from error
        try:
            fs.flock(fd, blocking=False, shared=True)
            fs.funlock(fd)  # not by the close alone: a child that is forked meanwhile shares the descriptor
        except OSError as error:
            if error.errno in _fs.CONTENDED:
                return True
            raise self._directory.failed(error, "the claim cannot be looked at", "claim") from error
        finally:
            _fs.close_read(fs, fd)
        return False

    def give_up(self) -> None:
        self._lock.release()
