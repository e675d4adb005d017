"""A journal in object storage: an append replaces the head, if it is still the head that the writer knows.

The head holds the newest batches, so a small append is one put, and the read that proves it is one get. When they are
many or large they move into a segment, an object of its own that never changes, and the head names it.
"""

from __future__ import annotations

import os
import threading
from time import monotonic, time

from landed.engine import claimed, contended, full, stale
from landed.errors import (
    Claimed,
    Corrupt,
    LandedError,
    NotLanded,
    OutcomeUnknown,
    VerifyFailed,
)
from landed.lock import DEFAULT_TIMEOUT
from landed.objects import compaction
from landed.objects.group import Group
from landed.objects.head import FRAME, Head, Listed, encode_grave
from landed.objects.leases import LEASE, Renewal
from landed.objects.probe import prove
from landed.objects.segments import Gone, Known, Objects
from landed.objects.store import CONFLICT, ERRORS, FINAL, Store
from landed.process import me
from landed.retries import pauses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Final

    from landed.engine import Batch, Commit, Position, Rewrite
    from landed.objects.head import Frame

INLINE_BATCHES: Final = 64
"""Batches that the head holds; with one more they move into a segment."""
INLINE_BYTES: Final = 64 << 10
"""Bytes of batches that the head holds: each append sends them all again."""
HEAD_KEY: Final = "head"
SEGMENTS_KEY: Final = "segments/"
REMOVE: Final = "remove"
GROUP_BYTES: Final = 8 << 20
"""Bytes that one put may carry, one larger batch excepted."""
CONTENDED: Final = 0.1
"""Seconds between two tries of a step, at most about: a writer that appends all the time pauses not at all."""


class ObjectLog:
    """The `Log` of object storage.

    Args:
        url: the journal's address (`landed.objects.address`).
        max_bytes: growth limit in bytes of batches; None for none.
        timeout: seconds in which the store must answer.

    Raises:
        Refused: the address is none, or the store does not honour conditional puts.
        NotLanded: the store cannot be reached.
        Claimed: another process owns the journal alone.
        Corrupt: the head is damaged.
    """

    def __init__(self, url: str, *, max_bytes: int | None = None, timeout: float = DEFAULT_TIMEOUT) -> None:
        store = Store(url)
        prove(store, timeout)
        objects = Objects(store, HEAD_KEY, SEGMENTS_KEY, timeout)
        known = objects.load() or objects.create(None)
        self._begin(objects, known, store.shown, max_bytes)

    @classmethod
    def of_head(cls, objects: Objects, known: Known, name: str, *, max_bytes: int | None) -> ObjectLog:
        """The log of a head, for a collection; `name` is what messages call it. Raises `Claimed`."""
        log = cls.__new__(cls)
        log._begin(objects, known, name, max_bytes)
        return log

    @staticmethod
    def exists(url: str) -> bool:
        """Whether there is a journal at an address; makes none."""
        return Objects(Store(url), HEAD_KEY, SEGMENTS_KEY, DEFAULT_TIMEOUT).load() is not None

    def _begin(self, objects: Objects, known: Known, name: str, max_bytes: int | None) -> None:
        self.name = name
        self.objects = objects
        self.gone = False
        self._incarnation = known.head.incarnation
        self._known = known
        self._limit = max_bytes
        self._guard = threading.Lock()
        self._epoch: int | None = None
        self._renewal: Renewal | None = None
        self._refuse_if_claimed(known)

    # Appending.

    def commit(self, commits: Sequence[Commit], timeout: float) -> int:
        """Decide the first of `commits`, and with them all that one put carries."""
        deadline = monotonic() + timeout
        known, sure = self._known, False
        if known.head.owner is not None and self._epoch != known.head.epoch:
            known, sure = self._look(deadline), True  # another's claim, which may have been renewed or ended since
        waits = pauses(deadline)
        while True:
            self._refuse_if_claimed(known)
            group = Group(known.head, self._next_epoch(known))
            decided = self._lay_out(group, commits)
            if group.frames:
                if self._land(group, known, deadline):
                    return decided
                known = self._known  # the head that was faster
            elif sure and decided:
                return decided
            elif sure:
                needed = known.head.size + len(commits[0].payload) + FRAME.size
                raise full(self.name, self._limit or 0, needed)
            else:
                known = self._look(deadline)
            sure = True
            for commit in commits[:decided]:
                commit.error = None  # decided on a head that is not the journal's
            if next(waits) is None:
                raise contended(self.name)
            # At once: who was overtaken and pauses is overtaken again by those who do not, and starves.

    def _lay_out(self, group: Group, commits: Sequence[Commit]) -> int:
        """Decide commits in order on the head as we know it, as long as one put carries them; how many."""
        for decided, commit in enumerate(commits):
            size = group.bytes + FRAME.size + len(commit.payload)
            if commit.expect is not None and commit.expect != group.head.tail:
                commit.error = stale(self.name, commit.expect, group.head.tail)
            elif (self._limit is not None and group.before + size > self._limit) or (
                group.frames and size > GROUP_BYTES
            ):
                return decided
            else:
                group.add(commit)
        return len(commits)

    def _land(self, group: Group, known: Known, deadline: float) -> bool:
        """Decide a group on the head that we know; False when that is not the journal's any more."""
        self._move_out(group, deadline)
        try:
            return self._put(group, known, deadline)
        except OutcomeUnknown as error:
            group.share(error)
            return True
        except LandedError:
            raise
        except BaseException as error:  # an interrupt
            group.share(self._failed(OutcomeUnknown, error, "whether the append landed is unknown"))
            raise

    def _put(self, group: Group, known: Known, deadline: float) -> bool:
        """Put the group's head in the place of the one we know, and read it back."""
        data = group.head.encode()
        lost: Exception | None = None
        waits = pauses(deadline)
        while True:
            try:
                tag = self.objects.store.put(self.objects.key, data, known.tag)
            except CONFLICT:
                tag = None
            except FINAL as error:
                if lost is not None:  # this time it was not taken
                    raise self._failed(OutcomeUnknown, lost, "whether the append landed is unknown") from error
                compaction.discard(self.objects, group.head, known.head)
                raise self._failed(NotLanded, error, "the append was not taken") from error
            except ERRORS as error:  # it may have landed, or land later
                lost = error
                tag = None
            try:
                now, found = self._prove(group, deadline, lost)
            except NotLanded:
                if tag is None and lost is None:  # removed, and its other segments may have been deleted before
                    compaction.discard(self.objects, group.head, known.head)
                raise
            if found is not None:
                self._acknowledge(group, found, now)
                return True
            if tag is not None:
                raise self._unproved(compacted=now.head.revision > known.head.revision)
            if now.tag != known.tag and not now.head.behind(known.head):
                if lost is not None and now.head.revision != known.head.revision:
                    break  # a compaction may have dropped what landed
                compaction.discard(self.objects, group.head, known.head)
                self._remember(now)
                return False  # overtaken: the head that it replaces is gone for good
            if (pause := next(waits)) is None:
                break
            self.objects.store.wait(pause, lost)
        if lost is None:
            raise contended(self.name)
        raise self._failed(OutcomeUnknown, lost, "whether the append landed is unknown") from lost

    def _move_out(self, group: Group, deadline: float) -> None:
        """Move the newest batches into a segment if they are too many for the head."""
        head = group.head
        if len(head.frames) <= INLINE_BATCHES and sum(frame.size for frame in head.frames) <= INLINE_BYTES:
            return
        frames, head.frames = head.frames, []
        try:
            head.segments.append(self.objects.write(head, frames, deadline))
        except Gone:
            self._look(deadline)  # raises where the journal was removed meanwhile, and its segments with it
            raise
        compaction.merge(self.objects, head)
        compaction.sweep(self.objects, head)

    def _prove(self, group: Group, deadline: float, lost: Exception | None) -> tuple[Known, list[Frame] | None]:
        """The head as the store gives it now, and the group's batches in it, or None when it does not have them.

        Raises:
            OutcomeUnknown: it cannot be read, and what was put may be there, whatever the answer was: what passes it on
                may have tried it twice, and given the second.
        """
        try:
            now = self.objects.load(deadline=max(deadline, monotonic() + 1.0))
            if now is not None and now.head.incarnation == self._incarnation:
                return now, group.found(now.head, self.objects)
        except (NotLanded, Corrupt) as error:
            raise self._failed(OutcomeUnknown, lost or error, "whether the append landed is unknown") from error
        raise self._removed()

    def _acknowledge(self, group: Group, found: list[Frame], now: Known) -> None:
        for commit, frame in zip(group.landing, found, strict=True):
            commit.position = frame.position
            commit.sequence = frame.sequence
        self._remember(now)

    def _unproved(self, *, compacted: bool) -> OutcomeUnknown:
        if compacted:
            return OutcomeUnknown(
                "the store acknowledged the append, and a compaction came before it could be read back",
                path=self.name,
                step="verify",
                hint="Read the journal again: the batch is there, or the compaction dropped it.",
            )
        return VerifyFailed(
            "the store acknowledged the append, and reads it back otherwise",
            path=self.name,
            step="verify",
            hint="Read the journal again, and see what else writes there.",
        )

    # Looking.

    def _remember(self, known: Known) -> None:
        with self._guard:
            self._known = known

    def _look(self, deadline: float | None = None) -> Known:
        now = self.objects.load(self._known, deadline=deadline)
        if now is None or now.head.incarnation != self._incarnation:
            raise self._removed()
        self._remember(now)
        return now

    def _look_beyond(self, tail: int | None) -> Known:
        """The head, which is looked for only if the one that is known does not reach to `tail`."""
        known = self._known
        return known if tail is not None and known.head.tail >= tail else self._look()

    def tail(self) -> int:
        return self._look().head.tail

    def size(self) -> int:
        return self._look().head.size

    def batches(self, start: int, upto: int | None = None) -> Iterator[Batch]:
        known = self._look_beyond(upto)
        head, following = known.head, start
        end = head.tail
        while following <= end:
            for listed in [each for each in head.segments if each.last >= following]:
                frames = self.objects.frames(head, listed)
                if frames is None:
                    break
                for frame in frames:
                    if frame.tail >= following:
                        yield frame.batch()
                following = listed.last + 1
            else:
                for frame in head.frames:
                    if following <= frame.tail and frame.sequence <= end:
                        yield frame.batch()
                return
            head = self.moved(head, listed)

    def newest_first(self, upto: int | None = None) -> Iterator[Batch]:
        head = self._look_beyond(upto).head
        below = head.tail + 1
        for frame in reversed(head.frames):
            yield frame.batch()
            below = frame.sequence
        while True:
            for listed in reversed([each for each in head.segments if each.first < below]):
                frames = self.objects.frames(head, listed)
                if frames is None:
                    break
                for frame in reversed(frames):
                    if frame.sequence < below:
                        yield frame.batch()
                below = listed.first
            else:
                return
            head = self.moved(head, listed)

    def moved(self, head: Head, listed: Listed) -> Head:
        """The head that names what became of a segment that is gone: a merge has moved its batches.

        Raises:
            Corrupt: nothing has; it is missing.
            NotLanded: a compaction has removed it.
        """
        now = self._look().head
        if now.revision != head.revision:
            raise self.objects.compacted()
        if any(each.id == listed.id for each in now.segments):
            raise self.objects.missing(now, listed)
        return now

    def fetch(self, position: Position) -> Batch | None:
        try:
            frame = self.objects.find(self._known.head, position[0])
        except Gone:
            frame = None
        if frame is None or frame.position != position:
            frame = self.objects.find(self._look().head, position[0])  # it may have moved since
        return frame.batch() if frame is not None and frame.position == position else None

    # Compacting.

    def rewrite(self, rewrite: Rewrite, timeout: float) -> tuple[int, int]:
        return compaction.compact(self, self._look().head, rewrite, timeout)

    def replace(self, change: compaction.Change, deadline: float, step: str) -> Known:
        """Put a changed head in the place of the one that is there, again until nobody is faster.

        Args:
            change: changes the head that it is given.
            step: what is done, for messages; ``"remove"`` leaves a grave in the head's place.

        Raises:
            NotLanded: nothing was changed.
            OutcomeUnknown: it is not known.
            LockTimeout: others were faster until the deadline.
        """
        head = self._known.head
        sent: set[str] = set()
        lost: Exception | None = None
        pause: float | None = 0.0
        waits = pauses(deadline, CONTENDED)
        while True:
            try:
                known = self._look(deadline)
                if known.head.change in sent:
                    return known  # it was the reply that was lost
                if pause is None:
                    break
                self._refuse_if_claimed(known)
                head = known.head.copy()
                change(head)
            except NotLanded as error:
                if sent and step == REMOVE and self.gone:
                    return Known(head, {}, 0.0)
                if lost is not None or (sent and type(error) is NotLanded and not self.gone):
                    raise self._failed(
                        OutcomeUnknown, lost or error, f"whether the step '{step}' was taken is unknown"
                    ) from error
                raise
            head.change = os.urandom(8).hex()
            sent.add(head.change)  # whatever the answer is: what passes the put on may try it twice
            try:
                data = encode_grave(head.incarnation) if step == REMOVE else head.encode()
                tag = self.objects.store.put(self.objects.key, data, known.tag)
            except CONFLICT:
                pass  # another was faster
            except ERRORS as error:
                if lost is None and isinstance(error, FINAL):
                    raise self._failed(NotLanded, error, f"the step '{step}' was not taken") from error
                lost = lost or error
            else:
                now = Known(head, tag, time())
                self._remember(now)
                return now
            if (pause := next(waits)) is not None:
                self.objects.store.wait(pause, lost)
        if lost is None:
            raise contended(self.name)
        raise self._failed(OutcomeUnknown, lost, f"whether the step '{step}' was taken is unknown") from lost

    # Owning.

    def claim(self) -> None:
        """Own the journal alone, as long as the claim is renewed (`landed.objects.leases`)."""
        if self._epoch is not None:
            self._refuse_if_claimed(self._look())
            return

        def own(head: Head) -> None:
            head.owner = str(me())
            head.epoch += 1

        self._epoch = self.replace(own, monotonic() + self.objects.timeout, "claim").head.epoch
        self._renewal = Renewal(self._renew)

    def _renew(self) -> bool:
        """Write the head anew, so that the store's clock says that the owner lives."""
        try:
            self.replace(lambda _: None, monotonic() + LEASE / 4, "renew")
        except Claimed:
            return False
        except LandedError:
            return True  # the next renewal may get through
        return True

    def _next_epoch(self, known: Known) -> int:
        """The epoch that an append belongs to: one more than an abandoned claim's."""
        return known.head.epoch + (known.head.owner is not None and self._epoch != known.head.epoch)

    def _refuse_if_claimed(self, known: Known) -> None:
        """Refuse when another owns the journal and has renewed that lately."""
        head = known.head
        if self._epoch is not None:
            if self._epoch != head.epoch:
                raise claimed(self.name, head.owner, away=True)
        elif head.owner is not None and time() - known.modified <= LEASE:
            raise claimed(self.name, head.owner)

    def forked(self) -> None:
        """Nothing: the client refuses to work in a forked child (`landed.objects.store`)."""

    def close(self) -> None:
        renewal, self._renewal = self._renewal, None
        if renewal is None:
            return
        renewal.stop()

        def disown(head: Head) -> None:
            head.owner = None
            head.epoch += 1

        try:
            self.replace(disown, monotonic() + 1.0, "close")
        except LandedError:
            return  # the claim ends when it is not renewed
        finally:
            self._epoch = None

    # What goes wrong.

    def _removed(self) -> NotLanded:
        self.gone = True
        return NotLanded("the journal was removed", path=self.name, step="append", hint="Open it again to begin anew.")

    def _failed(self, kind: type[LandedError], error: BaseException, what: str) -> LandedError:
        return self.objects.store.failed(kind, error, what, "append", path=self.name)
