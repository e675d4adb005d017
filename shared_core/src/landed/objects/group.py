"""Commits on their way into one head."""

from __future__ import annotations

import os

from landed.objects.head import Frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from landed.engine import Commit
    from landed.errors import LandedError
    from landed.objects.head import Head
    from landed.objects.segments import Objects


class Group:
    """Commits laid out on a head: the head that comes of them.

    Attributes:
        before: bytes of the journal without them.
        bytes: theirs.
        head: the new head.
        frames, landing: the batches and their commits.
    """

    def __init__(self, head: Head, epoch: int) -> None:
        self.before = head.size
        self.bytes = 0
        self.head = head.copy()
        if epoch != head.epoch:
            self.head.owner, self.head.epoch = None, epoch
        self.frames: list[Frame] = []
        self.landing: list[Commit] = []

    def add(self, commit: Commit) -> None:
        """Lay out one more, behind the others."""
        commit.error = None  # of an earlier try
        frame = Frame(self.head.tail + 1, commit.count, 0, os.urandom(16), commit.payload)
        self.head.frames.append(frame)
        self.head.tail = frame.tail
        self.bytes += frame.size
        self.frames.append(frame)
        self.landing.append(commit)

    def share(self, error: LandedError) -> None:
        """One put, one fate. Were only one told, the others would be appended once more."""
        for commit in self.landing:
            if not commit.decided:
                commit.error = error

    def found(self, head: Head, objects: Objects) -> list[Frame] | None:
        """The batches of this group as a head has them, as the store gives it; None when it does not have them all.

        Each stands under its nonce, with its bytes or with those that a compaction has put in their place since.
        """
        found: list[Frame] = []
        for frame in self.frames:
            held = objects.find(head, frame.sequence)
            if held is None or held.nonce != frame.nonce:
                return None
            if held.payload != frame.payload and held.revision <= self.head.revision:
                return None
            found.append(held)
        return found
