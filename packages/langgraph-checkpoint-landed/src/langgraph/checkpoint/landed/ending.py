"""The end of a thread's journal: enough of it to go on from the latest checkpoint, however long the history is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from langgraph.checkpoint.landed.records import CheckpointRecord, Fields, ValueRecord, WritesRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from landed import Entry, Journal
    from langgraph.checkpoint.landed.records import Position

    Decode = Callable[[int, bytes], Fields]
    Read = tuple[Entry, Fields]

FARTHEST: Final = 1024
"""Records after the latest checkpoint, beyond which all is read."""


class Moved(Exception):
    """A compaction has moved what the index led to: it has to be built anew."""


class Reading:
    """What was appended after sequence number `seen`, 0 for everything, and up to `tail`; oldest first.

    All of it is as it stood at one time. If it was compacted meanwhile, some would be as before, and some as after it,
    where it is no longer told what was dropped.
    """

    def __init__(self, journal: Journal, seen: int, tail: int) -> None:
        self._journal = journal
        self._seen = self._reached = seen
        self._tail = tail
        self._first: Position = ()
        self._last: Position = ()

    def __iter__(self) -> Iterator[Entry]:
        """The entries.

        Raises:
            Moved: it was compacted meanwhile.
        """
        for entry in self._journal.read(self._seen + 1, upto=self._tail):
            if self._seen and entry.sequence != self._reached + 1:
                raise Moved
            self._first, self._last = self._first or entry.position, entry.position
            self._reached = entry.sequence
            yield entry
        if self.compacted():
            raise Moved

    def compacted(self) -> bool:
        """Whether it was compacted since it was begun: then numbers are missing, or the first batch has moved."""
        if self._seen:
            return self._reached < self._tail
        return self._first != self._last and self._journal.fetch(self._first) is None


def read_end(journal: Journal, decode: Decode, tail: int) -> list[Read] | None:
    """The latest checkpoint of the root namespace with its values, and all that came after it, oldest first.

    Each put says whether its checkpoint is the latest, and where the values stand that it has from earlier ones, so
    that the first put from the end tells everything, unless checkpoints were dropped since.

    Returns:
        None when it does not: nothing less than the whole journal will do.
    """
    read: list[Read] = []
    head: Read | None = None
    for entry in journal.read(newest_first=True, upto=tail):
        if head is not None and entry.position != head[0].position:
            break
        fields = decode(entry.kind, entry.data)
        if head is None:
            if isinstance(fields, CheckpointRecord) and not fields.ns:
                head = (entry, fields)
            elif not isinstance(fields, CheckpointRecord | ValueRecord | WritesRecord) or len(read) > FARTHEST:
                return None
        read.append((entry, fields))
    if head is None or not isinstance(head[1], CheckpointRecord) or not head[1].head:
        return None
    read.reverse()
    here = {entry.sequence: fields for entry, fields in read if isinstance(fields, ValueRecord)}
    earlier = list((head[1].places | head[1].early).items())
    earlier += [(fields.base, fields.at) for fields in here.values() if fields.base and fields.base not in here]
    found = _fetch(journal, decode, earlier)
    return None if found is None else found + read


def _fetch(journal: Journal, decode: Decode, wanted: list[tuple[int, list[int]]]) -> list[Read] | None:
    """Records by number and place, and the values from which these differ; oldest first, None when one has moved."""
    found: dict[int, Read] = {}
    while wanted:
        sequence, place = wanted.pop()
        if sequence in found:
            continue
        batch = journal.fetch(tuple(place))
        entries = {entry.sequence: entry for entry in batch or ()}
        while sequence:
            entry = entries.get(sequence)
            if entry is None:
                return None
            fields = decode(entry.kind, entry.data)
            found[sequence] = (entry, fields)
            sequence = 0
            if isinstance(fields, ValueRecord) and fields.base:
                if fields.at:
                    wanted.append((fields.base, fields.at))
                else:
                    sequence = fields.base  # in the same batch: a copy of a thread is one
    return [found[sequence] for sequence in sorted(found)]
