"""Rewriting segments, merging small ones, and deleting what no head names any more."""

from __future__ import annotations

from time import monotonic, time

from landed.errors import LandedError, NotLanded, StaleWrite
from landed.objects.head import Frame, Head, Listed
from landed.objects.leases import ObjectMutex
from landed.objects.segments import Gone
from landed.objects.store import ERRORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, TypeAlias

    from landed.engine import Rewrite
    from landed.objects.log import ObjectLog
    from landed.objects.segments import Objects

    Change: TypeAlias = Callable[[Head], None]

MERGED_BYTES: Final = 1 << 20
"""Bytes up to which segments are merged: so many that a head names few, so few that one is fetched for one batch."""
MERGED_SEGMENTS: Final = 16
"""Small segments at the end of which one larger is made."""
ORPHANED: Final = 3600.0
"""Seconds after which a segment that no head names never will be."""
GRACE: Final = 60.0
"""Seconds that a segment stays after the last head that named it, for those who read by that head."""


def merge(objects: Objects, head: Head) -> None:
    """When a head names many small segments, put one in their place. What cannot be merged now stays as it is."""
    small: list[Listed] = []
    size = 0
    for listed in reversed(head.segments):
        if listed.last <= head.compacting or listed.size >= MERGED_BYTES // 2 or size + listed.size > MERGED_BYTES:
            break
        small.insert(0, listed)
        size += listed.size
    if len(small) < MERGED_SEGMENTS:
        return
    frames: list[Frame] = []
    for listed in small:
        try:
            part = objects.frames(head, listed)
        except LandedError:
            return  # who reads it is told
        if part is None:
            return
        frames += part
    try:
        merged = objects.write(head, frames, monotonic())
    except NotLanded:
        return
    head.segments[-len(small) :] = [merged]
    head.garbage += [(listed.id, time()) for listed in small]


def sweep(objects: Objects, head: Head) -> list[str]:
    """Delete what no head has named for a while; the head that is about to be put forgets it. Returns their ids."""
    old = [name for name, since in head.garbage if time() - since > GRACE]
    if not old or not objects.discard(head, old):
        return []
    head.garbage = [each for each in head.garbage if each[0] not in old]
    return old


def discard(objects: Objects, head: Head, known: Head) -> None:
    """Delete the segments that were put for a head which is not the journal's, and never will be.

    Each of them holds the batches that were to be appended: where those are not found, no later head names it.
    """
    objects.discard(head, [*_named(head) - _named(known)])


def compact(log: ObjectLog, seen: Head, rewrite: Rewrite, timeout: float) -> tuple[int, int]:
    """Rewrite every batch that is there now; returns the bytes in use before and after.

    Args:
        seen: the journal's head as it was a moment ago.

    Raises:
        LockTimeout: another compaction runs.
        NotLanded: nothing was changed.
        OutcomeUnknown: all of it happened, or nothing.
        Corrupt: a segment is damaged. Nothing was changed.
    """
    objects = log.objects
    turn = ObjectMutex(objects.store, f"{objects.prefix}compaction", f"{log.name} (compaction)")
    turn.acquire(timeout)
    put: list[str] = []
    try:
        head = _settle(log, put)
        before, old = head.size, [*head.segments]
        new = _rewritten(log, head, rewrite, put)

        def change(latest: Head) -> None:
            same = [each.id for each in latest.segments[: len(old)]] == [each.id for each in old]
            if not same or latest.revision != head.revision:  # another compaction has swept what no head names yet
                raise StaleWrite(
                    "another process compacted it or merged segments meanwhile",
                    path=log.name,
                    step="compact",
                    hint="Compact it again.",
                )
            kept = {each.id for each in new}
            latest.segments[: len(old)] = new
            latest.garbage += [(each.id, time()) for each in old if each.id not in kept]
            latest.revision += 1
            latest.compacting = 0

        after = log.replace(change, monotonic() + objects.timeout, "compact").head
        _sweep_orphans(objects)
        return before, after.size
    except Gone:
        log.tail()  # raises where the journal was removed meanwhile, and its segments with it
        raise
    except NotLanded:
        if log.gone:  # no later compaction will sweep them
            objects.discard(seen, put)
        raise
    finally:
        turn.release()


def _sweep_orphans(objects: Objects) -> None:
    """Delete segments that a writer put and no head ever named, because it died or was overtaken in between.

    How old they are is told by the store's clock alone, as the head was written a moment ago: a host whose clock is
    ahead would delete what another is about to name.
    """
    try:
        known = objects.load()
        if known is None:
            return
        head, folder = known.head, objects.folder(known.head)
        found = [(key.removeprefix(folder), modified) for key, _, modified in objects.store.list(folder)]
    except (LandedError, *ERRORS):
        return  # the next compaction looks again
    named = _named(head)
    objects.discard(
        head, [name for name, modified in found if name not in named and known.modified - modified > ORPHANED]
    )


def _named(head: Head) -> set[str]:
    """The ids of the segments that a head names, those included that it names as garbage."""
    return {each.id for each in head.segments} | {each[0] for each in head.garbage}


def _settle(log: ObjectLog, put: list[str]) -> Head:
    """Move the newest batches into a segment, so that all there is to rewrite is segments; returns the head.

    What takes requests of its own is done before the head is looked at to be replaced. Were it done in between, those
    who append all the time would be faster, again and again. What they append meanwhile stays in the head.
    """
    objects = log.objects
    known = objects.load()
    seen = known.head if known is not None else Head("")  # removed: it cannot be replaced
    swept = sweep(objects, seen)
    settled = [(frame.nonce, *frame.position) for frame in seen.frames]
    moved = [objects.write(seen, seen.frames, monotonic() + objects.timeout)] if settled else []
    put += [each.id for each in moved]

    def change(head: Head) -> None:
        head.garbage = [each for each in head.garbage if each[0] not in swept]
        if [(frame.nonce, *frame.position) for frame in head.frames[: len(settled)]] == settled:
            head.segments += moved
            head.frames = head.frames[len(settled) :]
        head.compacting = head.segments[-1].last if head.segments else 0

    head = log.replace(change, monotonic() + objects.timeout, "compact").head
    objects.discard(head, [each.id for each in moved if each.id not in _named(head)])  # others had moved the batches
    return head


def _rewritten(log: ObjectLog, head: Head, rewrite: Rewrite, put: list[str]) -> list[Listed]:
    """New segments with what is kept; those that nothing changes in are taken as they are."""
    objects = log.objects
    new: list[Listed] = []
    pending: list[Frame] = []

    def flush() -> None:
        if pending:
            new.append(objects.write(head, [*pending], monotonic() + objects.timeout))
            put.append(new[-1].id)
            pending.clear()

    for listed in head.segments:
        frames = objects.frames(head, listed)
        if frames is None:
            log.moved(head, listed)  # raises where it was removed or compacted meanwhile
            raise objects.missing(head, listed)
        kept: list[Frame] = []
        for frame in frames:
            payload = rewrite(frame.batch())
            if payload is not None:
                same = payload == frame.payload
                revision = frame.revision if same else head.revision + 1
                kept.append(Frame(frame.sequence, frame.count, revision, frame.nonce, payload))
        if listed.size >= MERGED_BYTES // 2 and [each.position for each in kept] == [each.position for each in frames]:
            flush()
            new.append(listed)
            continue
        for frame in kept:
            if pending and sum(each.size for each in pending) + frame.size > MERGED_BYTES:
                flush()
            pending.append(frame)
    flush()
    return new
