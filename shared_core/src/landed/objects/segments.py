"""The objects of one journal: its head and segments, read, remembered and followed."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from time import monotonic

from landed.errors import Corrupt, NotLanded
from landed.objects.head import GRAVE, Head, Listed, decode_grave, decode_segment, encode_segment
from landed.objects.store import CONFLICT, ERRORS, FINAL, UNCHANGED, Object
from landed.retries import pauses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.objects.head import Frame
    from landed.objects.store import Store, Tag

KEPT_BYTES: Final = 16 << 20
"""Bytes of segments that one handle remembers; they never change."""


class Known:
    """A head as it was read, and the tag to replace it by.

    Attributes:
        modified: when it was written, by the store's clock.
    """

    __slots__ = ("head", "modified", "tag")

    def __init__(self, head: Head, tag: Tag, modified: float) -> None:
        self.head = head
        self.tag = tag
        self.modified = modified


class Gone(NotLanded):
    """A segment is there no more: of one that a head named, what was in it may be in another."""


class Objects:
    """One journal's objects.

    Args:
        key: of the head.
        prefix: of the segments, "/" at its end; each incarnation of the journal has a folder there.

    Attributes:
        unburied: whether the journal was removed, as it was looked at last, and its segments may be there yet.
    """

    def __init__(self, store: Store, key: str, prefix: str, timeout: float) -> None:
        self.store = store
        self.key = key
        self.prefix = prefix
        self.timeout = timeout
        self.name = f"{store.shown}/{key}"
        self.unburied = False
        self._guard = threading.Lock()
        self._kept: OrderedDict[str, list[Frame]] = OrderedDict()

    def load(self, known: Known | None = None, *, deadline: float | None = None) -> Known | None:
        """The head as it is now; `known` itself when it has not changed, None when there is none.

        Raises:
            Corrupt: it is damaged.
            NotLanded: it cannot be read.
        """
        tag = known.tag if known is not None else None
        until = monotonic() + self.timeout if deadline is None else deadline
        held = self.store.ask(lambda: self.store.get(self.key, tag), "the head cannot be read", until)
        if held == UNCHANGED:
            return known
        self.unburied = isinstance(held, Object) and held.data.startswith(GRAVE)
        if not isinstance(held, Object) or not held.data or self.unburied:
            return None
        return Known(Head.decode(held.data, self.name), held.tag, held.modified)

    def create(self, name: str | None) -> Known:
        """Put the first head of a journal, or take the one that another process was faster with.

        Raises:
            NotLanded: it cannot be made.
        """
        head = Head(os.urandom(8).hex(), name)
        deadline = monotonic() + self.timeout
        waits = pauses(deadline)
        while True:
            error: Exception | None = None
            try:
                self.store.put(self.key, head.encode(), self.grave())
            except CONFLICT:
                pass  # another was faster, or the reply to an earlier try was lost
            except ERRORS as failed:
                error = failed
            known = self.load(deadline=max(deadline, monotonic() + 1.0))
            if known is not None:
                return known
            if (pause := next(waits)) is None or isinstance(error, FINAL):
                what = "the journal cannot be made"
                raise self.store.failed(NotLanded, error or OSError("it is being removed"), what, "open")
            self.store.wait(pause, error)

    def grave(self) -> Tag | None:
        """The tag of what is in the place of a removed journal's head; None when there is nothing, or a journal.

        Segments that the removal has left are deleted: who removed it may have died.

        Raises:
            NotLanded: it cannot be read, or they cannot be deleted.
        """
        what = "what a removed journal has left cannot be read or deleted"
        return self.store.ask(self._bury, what, monotonic() + self.timeout)

    def _bury(self) -> Tag | None:
        held = self.store.get(self.key)
        if not isinstance(held, Object):
            return None
        if held.data.startswith(GRAVE):
            folder = self._folder(decode_grave(held.data, self.name))
            self.store.delete([key for key, _, _ in self.store.list(folder)])
            return self.store.put(self.key, b"", held.tag)
        return held.tag if not held.data else None

    def folder(self, head: Head) -> str:
        """Where the segments are."""
        return self._folder(head.incarnation)

    def _folder(self, incarnation: str) -> str:
        return f"{self.prefix}{incarnation}/"

    def frames(self, head: Head, listed: Listed) -> list[Frame] | None:
        """The batches of a segment; None when it is there no more.

        Raises:
            Corrupt: it is damaged.
            NotLanded: it cannot be read.
        """
        with self._guard:
            kept = self._kept.get(listed.id)
            if kept is not None:
                self._kept.move_to_end(listed.id)
                return kept
        key = self.folder(head) + listed.id
        deadline = monotonic() + self.timeout
        held = self.store.ask(lambda: self.store.get(key), "a segment cannot be read", deadline)
        if not isinstance(held, Object):
            return None
        frames = decode_segment(held.data, head.incarnation, listed, f"{self.store.shown}/{key}")
        self._keep(listed.id, frames)
        return frames

    def find(self, head: Head, sequence: int) -> Frame | None:
        """The batch with that first number, as a head says; None when there is none.

        Raises:
            Gone: its segment is there no more; the head is an old one.
            Corrupt, NotLanded: as `frames`.
        """
        frames = head.frames
        if not frames or sequence < frames[0].sequence:
            listed = next((each for each in head.segments if each.first <= sequence <= each.last), None)
            if listed is None:
                return None
            kept = self.frames(head, listed)
            if kept is None:
                raise Gone("the segment was merged since, and deleted", path=self.name, step="read")
            frames = kept
        return next((frame for frame in frames if frame.sequence == sequence), None)

    def _keep(self, id: str, frames: list[Frame]) -> None:  # noqa: A002 - its name
        with self._guard:
            self._kept[id] = frames
            while len(self._kept) > 1 and sum(_size(each) for each in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)

    def write(self, head: Head, frames: list[Frame], deadline: float) -> Listed:
        """Put a new segment, which no head names yet, and read it back: what it holds may leave the head then.

        Raises:
            NotLanded: it may or may not be there.
        """
        segment = f"{frames[0].sequence:020d}-{os.urandom(6).hex()}"
        key, data = self.folder(head) + segment, encode_segment(head.incarnation, frames)
        what = "a segment could not be put"
        waits = pauses(deadline)
        while True:
            conflict: Exception | None = None
            try:
                self.store.put(key, data, None)
            except CONFLICT as error:  # the reply to an earlier try was lost: the name is random
                conflict = error
            except ERRORS as error:
                if (pause := next(waits)) is None or isinstance(error, FINAL):
                    raise self.store.failed(NotLanded, error, what, "append", path=self.name) from error
                self.store.wait(pause, error)
                continue
            held = self.store.ask(lambda: self.store.get(key), what, max(deadline, monotonic() + 1.0))
            if held is None and conflict is not None:  # so S3 answers as well where two tries of a put meet
                if (pause := next(waits)) is None:
                    raise self.store.failed(NotLanded, conflict, what, "append", path=self.name) from conflict
                self.store.wait(pause, conflict)
                continue
            if not isinstance(held, Object) or held.data != data:
                kind = Gone if held is None else NotLanded
                raise kind(
                    "the store acknowledged a segment, and reads it back otherwise",
                    path=f"{self.store.shown}/{key}",
                    step="verify",
                    hint="See what else writes there.",
                )
            self._keep(segment, frames)
            return Listed.of(segment, frames)

    def discard(self, head: Head, ids: list[str]) -> bool:
        """Delete segments that no head names; whether they are gone. What stays costs space and nothing else."""
        try:
            self.store.delete([self.folder(head) + each for each in ids])
        except ERRORS:
            return False
        return True

    def missing(self, head: Head, listed: Listed) -> Corrupt:
        return Corrupt(
            f"the segment of batches {listed.first} to {listed.last} is missing",
            path=f"{self.store.shown}/{self.folder(head)}{listed.id}",
            step="read",
            hint="Restore the object, from its versions or from a backup.",
        )

    def compacted(self) -> NotLanded:
        return NotLanded(
            "a compaction has removed what was still being read", path=self.name, step="read", hint="Read it again."
        )


def _size(frames: list[Frame]) -> int:
    return sum(frame.size for frame in frames)
