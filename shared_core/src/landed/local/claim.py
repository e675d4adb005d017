"""Owning a journal alone."""

from __future__ import annotations

import os

from landed.errors import Claimed, LockTimeout
from landed.lock import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.local.directory import JournalDirectory

CLAIM: Final = "claim"
TIMEOUT: Final = 1.0
"""Seconds; longer than others take to see that nobody has claimed."""
GLANCE: Final = 0.2
"""Seconds that an opener waits to see that; others may be looking at the same moment, and each holds it to look."""


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
        self._acquire(TIMEOUT)
        try:
            self._directory.touch()
        except BaseException:
            self._lock.release()
            raise

    def refuse_if_taken(self) -> None:
        """Raise `Claimed` if somebody else owns the journal."""
        if not self._lock.held:
            self._acquire(GLANCE)
            self._lock.release()

    def give_up(self) -> None:
        self._lock.release()

    def _acquire(self, timeout: float) -> None:
        try:
            self._lock.acquire(timeout, owner=self)
        except LockTimeout as error:
            claimed = Claimed(
                f"another process owns it alone: {error.holder or 'one that does not say who it is'}",
                path=self._directory.path,
                step="claim",
                hint="Use that process, or wait until it closes the journal.",
            )
            claimed.holder = error.holder
            raise claimed from error
