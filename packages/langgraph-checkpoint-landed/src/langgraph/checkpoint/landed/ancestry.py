"""What a checkpoint owes to its ancestors: a DeltaChannel stores no value, but is rebuilt from the writes before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from langgraph.checkpoint.landed.records import INLINE, Typed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from langgraph.checkpoint.landed.history import History, Stored

COUNTERS = "counters_since_delta_snapshot"
"""The key of a checkpoint's metadata that names the delta channels which it has no value of."""
TASKS = "__pregel_tasks"
"""The channel of what a superstep sends; before version 4 it was kept as writes of the parent."""
SENDS_APART = 4
"""The first version of checkpoints that hold their sends themselves."""


class Channel(NamedTuple):
    """What a channel is rebuilt from.

    Attributes:
        writes: (task id, value) from the oldest to the newest.
        seed: the value to start from, or the checkpoint that has it inline; None to start empty.
    """

    writes: list[tuple[str, Typed]]
    seed: Typed | Stored | None


def ancestors(history: History, ns: str, stored: Stored) -> Iterator[Stored]:
    """The parents of a checkpoint, nearest first. A checkpoint that was put again may have its descendant as parent."""
    seen = {stored.id}
    parent = history.find(ns, stored.parent) if stored.parent else None
    while parent is not None and parent.id not in seen:
        seen.add(parent.id)
        yield parent
        parent = history.find(ns, parent.parent) if parent.parent else None


def trace(history: History, ns: str, stored: Stored, channels: Iterable[str]) -> dict[str, Channel]:
    """What each channel of a checkpoint is rebuilt from. Needs the history's guard.

    Its own writes are pending and do not count; those of the ancestor that has a value do, as they came after it.

    Raises:
        Moved: a compaction moved it.
        Corrupt: it cannot be read.
    """
    writes: dict[str, list[tuple[str, Typed]]] = {channel: [] for channel in channels}
    seeds: dict[str, Typed | Stored] = {}
    for ancestor in ancestors(history, ns, stored):
        if len(seeds) == len(writes):
            break
        for write in reversed(history.writes_of(ns, ancestor.id)):
            if write.channel in writes and write.channel not in seeds:
                writes[write.channel].append((write.task_id, history.write(write)))
        for channel in writes:
            ref = ancestor.refs.get(channel)
            if ref is not None and channel not in seeds:
                seeds[channel] = ancestor if ref == INLINE else history.value(ref)
    return {channel: Channel(found[::-1], seeds.get(channel)) for channel, found in writes.items()}


def needed(history: History, ns: str, stored: Stored, metadata: Mapping[str, Any], version: int) -> set[str]:
    """The ids of the ancestors without which a checkpoint would read otherwise. Needs the history's guard."""
    needed: set[str] = set()
    missing = {channel for channel in metadata.get(COUNTERS) or () if channel not in stored.refs}
    for ancestor in ancestors(history, ns, stored) if missing else ():
        needed.add(ancestor.id)
        missing -= ancestor.refs.keys()
        if not missing:
            break
    parent = history.find(ns, stored.parent) if stored.parent and version < SENDS_APART else None
    if parent is not None and any(write.channel == TASKS for write in history.writes_of(ns, parent.id)):
        needed.add(parent.id)
    return needed
