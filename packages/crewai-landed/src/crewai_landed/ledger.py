"""The books of a memory: what it accepted to store, and what became of that."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import landed


class NotStored(landed.LandedError):
    """Memories that had been accepted were not stored.

    Attributes:
        contents: their texts, to be remembered again.
        causes: what was raised meanwhile.
    """

    state = "They are not in the memory."

    def __init__(self, contents: list[str], causes: list[BaseException], accepted: int) -> None:
        self.contents = contents
        self.causes = causes
        why = f": {type(causes[0]).__name__}: {causes[0]}" if causes else ", and nothing says why"
        super().__init__(
            f"{len(contents)} of {accepted} memories that were accepted were not stored{why}",
            step="remember",
            hint="Remove the cause and remember them again; the error's `contents` has them.",
        )
        if any(isinstance(cause, landed.OutcomeUnknown) for cause in causes):
            self.outcome = landed.OutcomeUnknown.outcome
            self.state = "Whether they are in the memory is unknown."


@dataclass(frozen=True)
class Counts:
    """What has become of the texts that `LandedMemory.remember_many` was given.

    Attributes:
        accepted: all of them.
        stored: those that are in the memory, or that consolidation merged with what is there.
        duplicates: those that said the same as another of their batch.
        lost: those that could not be stored.
    """

    accepted: int = 0
    stored: int = 0
    duplicates: int = 0
    lost: int = 0

    @property
    def pending(self) -> int:
        """Those of which nothing is known yet."""
        return self.accepted - self.stored - self.duplicates - self.lost


@dataclass(eq=False)
class Batch:
    """Texts that were accepted together. Until it is known what became of them, they count as lost.

    Attributes:
        lost: those that were not stored.
        duplicates: how many said the same as another one.
        cause: why some were not stored, as far as something was raised.
        future: stands for the work on them.
    """

    contents: list[str]
    lost: list[str] = field(init=False)
    duplicates: int = 0
    cause: BaseException | None = None
    future: Future[Any] | None = None

    def __post_init__(self) -> None:
        self.lost = list(self.contents)

    def failure(self) -> NotStored | None:
        """The error for what was lost of it."""
        if not self.lost:
            return None
        error = NotStored(self.lost, [self.cause] if self.cause is not None else [], len(self.contents))
        error.__cause__ = self.cause
        return error


class Ledger:
    """The books of one memory. Safe for threads.

    Attributes:
        counts: up to now.
    """

    def __init__(self) -> None:
        self.counts = Counts()
        self._guard = threading.Lock()
        self._under_way: list[Batch] = []
        self._failed: list[Batch] = []
        """Failures that `raise_failures` has not raised yet."""

    def __deepcopy__(self, _: object) -> Ledger:
        return Ledger()  # a copy of the memory has accepted nothing yet

    def accept(self, contents: list[str]) -> Batch:
        """Note a batch, before anything is done with it."""
        batch = Batch(list(contents))
        with self._guard:
            self.counts = replace(self.counts, accepted=self.counts.accepted + len(batch.contents))
            self._under_way.append(batch)
        return batch

    def settle(self, batch: Batch) -> None:
        """Note that it is known what became of a batch; more than once does no harm."""
        with self._guard:
            if batch not in self._under_way:
                return
            self._under_way.remove(batch)
            lost = len(batch.lost)
            self.counts = replace(
                self.counts,
                stored=self.counts.stored + len(batch.contents) - batch.duplicates - lost,
                duplicates=self.counts.duplicates + batch.duplicates,
                lost=self.counts.lost + lost,
            )
            if lost:
                self._failed.append(batch)
                _unheard[id(self)] = self

    def wait(self) -> None:
        """Until everything that was submitted before is settled."""
        with self._guard:
            submitted = [batch for batch in self._under_way if batch.future is not None]
        for batch in submitted:
            if batch.future is not None:
                ended(batch.future)
            self.settle(batch)  # what ended without being settled was cancelled

    def raise_failures(self) -> None:
        """Raise what was lost and has not been raised here yet.

        Raises:
            NotStored: something was.
        """
        with self._guard:
            failed, self._failed = self._failed, []
            _unheard.pop(id(self), None)
            accepted = self.counts.accepted
        if failed:
            causes = [batch.cause for batch in failed if batch.cause is not None]
            error = NotStored([text for batch in failed for text in batch.lost], causes, accepted)
            raise error from (causes[0] if causes else None)


def ended(future: Future[Any]) -> None:
    """Wait until a future has ended in one way or another; `concurrent.futures.wait` overlooks some cancellations."""
    with suppress(CancelledError):
        future.exception()


_unheard: Final[dict[int, Ledger]] = {}
"""Ledgers with failures, by their identity; they stay until somebody has heard."""


@atexit.register
def _tell() -> None:
    """There is nobody left who could catch it; at this point all threads have ended."""
    for ledger in list(_unheard.values()):
        try:
            ledger.raise_failures()
        except NotStored as error:
            sys.stderr.write(f"LandedMemory: {error}\n")
            sys.stderr.writelines(f"  not stored: {text!r:.200}\n" for text in error.contents)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unheard.clear)  # they are the parent's to tell
