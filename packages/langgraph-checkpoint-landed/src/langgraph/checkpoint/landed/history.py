"""One thread's checkpoints, values and writes, as its journal tells them: an index in memory, in step with the tail.

Whatever any process appends is applied here record by record, in one order, so that all of them see the same. Bodies
stay on the disk; the ones used last are cached.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from landed import Corrupt, Journal, Record
from langgraph.checkpoint.landed import difference
from langgraph.checkpoint.landed.company import Company
from langgraph.checkpoint.landed.ending import Moved, Reading, read_end
from langgraph.checkpoint.landed.records import (
    CODES,
    INLINE,
    CheckpointRecord,
    CompactedRecord,
    DroppedRecord,
    Fields,
    Position,
    Typed,
    ValueRecord,
    WritesRecord,
    decode,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langgraph.checkpoint.landed.cache import Cache

SPECIAL: Final = 0
"""Indices below this are of special writes (errors, interrupts, resumes), of which the last one counts."""

_keys = count()


class Value:
    """A stored channel value: where, whose, and how many checkpoints and differences need it."""

    __slots__ = ("base", "channel", "depth", "needed", "place", "version")

    def __init__(self, fields: ValueRecord, place: Position) -> None:
        self.place = place
        self.channel = fields.channel
        self.version = fields.version
        self.depth = fields.depth
        self.base = fields.base
        self.needed = 0


MISMADE: Final = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What comes of a record that checks, and whose fields are of other types than ours: somebody else wrote it."""


class Stored:
    """A stored checkpoint: where, what it refers to, and its metadata, which filters read of all of them."""

    __slots__ = ("id", "metadata", "parent", "place", "refs", "sequence", "time", "writer")

    def __init__(self, sequence: int, fields: CheckpointRecord, place: Position) -> None:
        self.sequence = sequence
        self.place = place
        self.id = fields.id
        self.parent = fields.parent
        # Negative references count back from the checkpoint, whose number was not known when it was encoded.
        self.refs = {channel: ref if ref >= 0 else sequence + ref for channel, ref in fields.refs.items()}
        self.metadata: Typed = (fields.metadata_type, fields.metadata)
        self.time = fields.time
        self.writer = fields.writer


class Write(NamedTuple):
    """A stored write: where, in which place of its record, and of which task."""

    sequence: int
    place: Position
    at: int
    task_path: str
    task_id: str
    idx: int
    channel: str


class Namespace:
    """The checkpoints of one namespace.

    Attributes:
        checkpoints: by id.
        ids: sorted; the last is the latest.
        writes: the fields of each `Write` by checkpoint id, whether or not it is there yet, then by (task id, index).
        awaited: ids with writes and without a checkpoint.
        versions: sequence numbers of values by (channel, version).
    """

    __slots__ = ("awaited", "checkpoints", "ids", "versions", "writes")

    def __init__(self) -> None:
        self.checkpoints: dict[str, Stored] = {}
        self.ids: list[str] = []
        # Plain tuples: the garbage collector looks through them once, and through named ones again and again.
        self.writes: dict[str, dict[tuple[str, int], tuple[int, Position, int, str, str, int, str]]] = {}
        self.awaited: set[str] = set()
        self.versions: dict[tuple[str, Any], int] = {}

    @property
    def latest(self) -> Stored | None:
        return self.checkpoints[self.ids[-1]] if self.ids else None


class Raw(NamedTuple):
    """One checkpoint with everything that belongs to it, still serialized."""

    id: str
    parent: str | None
    checkpoint: Typed
    metadata: Typed
    values: dict[str, Typed]
    writes: list[tuple[str, str, Typed]]


class History:
    """The index of one thread.

    Args:
        journal: the thread's.
        cache: of bodies, shared by all threads.
        company: who waits already.

    Attributes:
        guard: held by whoever reads or changes the index; never while a flush is waited for.
        writing: held by whoever puts, so that the puts of one process do not make each other stale.
        company: writes that go along with a put.
        seen: the last sequence number that was applied.
        complete: whether all of the journal was; else only what the latest checkpoint of the root namespace needs.
        marker: the last one at which something was dropped.
        touched: when the last checkpoint was put, in seconds since the epoch.
    """

    def __init__(self, journal: Journal, cache: Cache, company: Company | None = None) -> None:
        self.journal = journal
        self.guard = threading.RLock()
        self.writing = threading.Lock()
        self.company = company or Company()
        self._cache = cache
        self._key = next(_keys)
        self._reset()

    def _reset(self) -> None:
        self._cache.forget(self._key)
        self.seen = 0
        self.complete = False
        self.namespaces: dict[str, Namespace] = {}
        self.values: dict[int, Value] = {}
        self.marker = 0
        self.touched = 0.0

    # Keeping in step.

    def catch_up(self, *, complete: bool = True) -> None:
        """Apply what was appended since, by whomever.

        Args:
            complete: False when the latest checkpoint of the root namespace is all that is looked for. Of a thread that
                was not read yet, only the journal's end is read then.

        Raises:
            Moved: what was dropped meanwhile is gone for good.
            Corrupt: the journal is damaged.
        """
        if complete and not self.complete:
            self._reset()
        tail = self.journal.tail
        if tail == self.seen:
            self.complete = self.complete or tail == 0
            return
        anew, reading = self.seen == 0, Reading(self.journal, self.seen, tail)
        try:
            if anew and not complete and self._read_end(tail):
                self.seen = max(self.seen, tail)
                return
            self.complete = self.complete or anew
            for entry in reading:
                fields = self._decode(entry.kind, entry.data)
                self._apply(entry.sequence, entry.position, fields, anew=anew)
                if not anew:  # of a whole journal that is read through, little would stay in the cache
                    self._cache.keep(self._key, entry.sequence, fields)
                self.seen = entry.sequence
        except BaseException as error:
            self._reset()  # half a batch may have been applied
            if isinstance(error, Corrupt) and reading.compacted():
                raise Moved from error
            if isinstance(error, MISMADE):
                raise Corrupt(f"a record is not as it is made here: {error!r}", path=self.journal.path) from error
            raise
        self.seen = max(self.seen, tail)

    def _read_end(self, tail: int) -> bool:
        """Apply the latest checkpoint of the root namespace and what came after; False when all has to be read."""
        end = read_end(self.journal, self._decode, tail)
        if end is None:
            return False
        for entry, fields in end:
            self._apply(entry.sequence, entry.position, fields)
            self._cache.keep(self._key, entry.sequence, fields)
            self.seen = entry.sequence
        return True

    def forget(self) -> None:
        """Read the whole journal again at the next look."""
        with self.guard:
            self._reset()

    def append(self, records: Sequence[Fields], expect: int | None) -> None:
        """Append a batch, and apply it if nothing came in between.

        Raises:
            StaleWrite: somebody appended since `expect`. Nothing was written.
            LandedError: as `Journal.append`.
        """
        encoded = [Record(encode(each), kind=CODES[type(each)]) for each in records]
        receipt = self.journal.append(encoded, expect=expect)
        with self.guard:
            if receipt.first == self.seen + 1:
                for distance, fields in enumerate(records):
                    self._apply(receipt.first + distance, receipt.position, fields)
                    if isinstance(fields, ValueRecord) and isinstance(fields.body, bytes):
                        self._cache.keep_value(self._key, receipt.first + distance, (fields.type, fields.body))
                    else:
                        record = encoded[distance]
                        self._cache.keep_encoded(self._key, receipt.first + distance, record.kind, record.data)
                self.seen = receipt.tail

    def _decode(self, kind: int, data: bytes) -> Fields:
        try:
            return decode(kind, data)
        except ValueError as error:
            raise Corrupt(str(error), path=self.journal.path, step="read") from error

    def _apply(self, sequence: int, place: Position, fields: Fields, *, anew: bool = True) -> None:
        if isinstance(fields, WritesRecord):
            self._add_writes(sequence, place, fields)
        elif isinstance(fields, CheckpointRecord):
            self._add_checkpoint(sequence, place, fields)
        elif isinstance(fields, ValueRecord):
            self._add_value(sequence, place, fields)
        else:
            if isinstance(fields, DroppedRecord) and self.complete:
                self._drop(fields)
            elif not anew:
                raise Moved  # what was dropped before is cleared away, so that nothing here tells of it
            if isinstance(fields, CompactedRecord):
                self.touched = max(self.touched, fields.time)
            self.marker = sequence

    def _add_value(self, sequence: int, place: Position, fields: ValueRecord) -> None:
        if fields.base:
            base = self.values.get(fields.base)
            if base is not None:
                base.needed += 1
            elif self.complete:
                raise Corrupt(f"the value that value {sequence} differs from is missing", path=self.journal.path)
            else:
                return
        self.values[sequence] = Value(fields, place)

    def _add_checkpoint(self, sequence: int, place: Position, fields: CheckpointRecord) -> None:
        self.touched = max(self.touched, fields.time)
        if not self.complete and (fields.ns or not (fields.head or self.find("", fields.id))):
            return  # of one that is put below the latest, writes may stand before the end
        stored = Stored(sequence, fields, place)
        namespace = self.namespaces.get(fields.ns)
        if namespace is None:
            namespace = self.namespaces[fields.ns] = Namespace()
        replaced = namespace.checkpoints.get(fields.id)
        namespace.checkpoints[fields.id] = stored
        namespace.awaited.discard(fields.id)
        for ref in stored.refs.values():
            if ref != INLINE:
                value = self.values.get(ref)
                if value is None and not self.complete:
                    raise Moved  # it was stored before what was read
                if value is None:
                    raise Corrupt(f"checkpoint {fields.id} refers to a value that is not there", path=self.journal.path)
                value.needed += 1
                namespace.versions[value.channel, value.version] = ref
        if replaced is not None:
            self._release(namespace, replaced)
        elif not namespace.ids or namespace.ids[-1] < fields.id:
            namespace.ids.append(fields.id)
        else:
            insort(namespace.ids, fields.id)

    def _add_writes(self, sequence: int, place: Position, fields: WritesRecord) -> None:
        namespace = self.namespaces.get(fields.ns)
        if namespace is None:
            namespace = self.namespaces[fields.ns] = Namespace()
        if fields.id not in namespace.checkpoints:
            namespace.awaited.add(fields.id)
        writes = namespace.writes.setdefault(fields.id, {})
        for at, (index, channel, _, _) in enumerate(fields.writes):
            key = (fields.task_id, index)
            # A task that is tried again repeats its writes: the first counts. Of what tells its state, the last does.
            if index < SPECIAL or key not in writes:
                writes[key] = (sequence, place, at, fields.task_path, fields.task_id, index, channel)

    def _drop(self, fields: DroppedRecord) -> None:
        for ns, ids in fields.dropped.items():
            namespace = self.namespaces.get(ns)
            if namespace is None:
                continue
            gone = set(ids)
            for each in ids:
                stored = namespace.checkpoints.pop(each, None)
                if stored is not None:
                    self._release(namespace, stored)
                namespace.writes.pop(each, None)
                namespace.awaited.discard(each)
            namespace.ids = [each for each in namespace.ids if each not in gone]
            if not namespace.ids and not namespace.writes:
                del self.namespaces[ns]
        for ns, ids in fields.orphaned.items():
            for each in ids:
                orphan = self.namespaces[ns].checkpoints.get(each) if ns in self.namespaces else None
                if orphan is not None:
                    orphan.parent = None

    def _release(self, namespace: Namespace, stored: Stored) -> None:
        """Let go of the values of a checkpoint that is gone."""
        for ref in stored.refs.values():
            while ref != INLINE and (value := self.values.get(ref)) is not None:
                value.needed -= 1
                if value.needed:
                    break
                del self.values[ref]
                key = (value.channel, value.version)
                if namespace.versions.get(key) == ref:
                    del namespace.versions[key]
                ref = value.base  # noqa: PLW2901 - the chain of differences ends with it

    # Looking things up. Needs the guard.

    def find(self, ns: str, id: str | None) -> Stored | None:
        """The checkpoint of that id; the latest when it is None or empty."""
        namespace = self.namespaces.get(ns)
        if namespace is None:
            return None
        return namespace.checkpoints.get(id) if id else namespace.latest

    def writes_of(self, ns: str, id: str) -> list[Write]:
        """A checkpoint's writes, in the order in which a live run applies them: by path, task, index."""
        namespace = self.namespaces.get(ns)
        found = namespace.writes.get(id) if namespace is not None else None
        return sorted(map(Write._make, found.values()), key=_order) if found else []

    def writes_from(self, ns: str, id: str) -> list[Write]:
        """The writes of a checkpoint that is about to be put, and of later ones that are not put yet."""
        namespace = self.namespaces.get(ns)
        awaited = namespace.awaited if namespace is not None else ()
        return [write for each in {id, *awaited} if each >= id for write in self.writes_of(ns, each)]

    def before(self, ns: str, id: str | None) -> list[str]:
        """The ids of a namespace, oldest first, that sort before `id`; all when it is None."""
        namespace = self.namespaces.get(ns)
        ids = namespace.ids if namespace is not None else []
        return ids[: len(ids) if not id else bisect_left(ids, id)]

    def raw(self, ns: str, stored: Stored) -> Raw:
        """Everything of a checkpoint, serialized.

        Raises:
            Moved: a compaction moved it.
            Corrupt: it cannot be read.
        """
        fields = self._checkpoint(stored)
        return Raw(
            stored.id,
            stored.parent,
            (fields.type, fields.body),
            stored.metadata,
            {channel: self.value(ref) for channel, ref in stored.refs.items() if ref != INLINE},
            [(write.task_id, write.channel, self.write(write)) for write in self.writes_of(ns, stored.id)],
        )

    def body(self, stored: Stored) -> Typed:
        fields = self._checkpoint(stored)
        return fields.type, fields.body

    def seed(self, seed: Typed | Stored | None) -> tuple[Typed | None, bool]:
        """The serialized value to start from, or the checkpoint that has it inline, and which of the two."""
        return (self.body(seed), True) if isinstance(seed, Stored) else (seed, False)

    def write(self, write: Write) -> Typed:
        fields = self.record(write.sequence, write.place)
        if not isinstance(fields, WritesRecord):
            raise self._misled(write.sequence)
        _, _, kind, data = fields.writes[write.at]
        return kind, data

    def value(self, ref: int) -> Typed:
        """A channel value, put together from its differences."""
        whole = self._cache.value(self._key, ref)
        if whole is not None:
            return whole
        chain: list[ValueRecord] = []
        at, data = ref, None
        while data is None:
            cached = self._cache.value(self._key, at)
            if cached is not None:
                data = cached[1]
                break
            fields = self._value(at)
            if isinstance(fields.body, bytes):
                data = fields.body
                chain.append(fields)
                break
            chain.append(fields)
            at = fields.base
        for fields in reversed(chain):
            if not isinstance(fields.body, bytes):
                try:
                    data = difference.apply(data, fields.body)
                except MISMADE as error:
                    raise Corrupt(f"value {ref}: {error}", path=self.journal.path, step="read") from error
        typed = (chain[0].type, data)
        self._cache.keep_value(self._key, ref, typed)
        return typed

    def _value(self, sequence: int) -> ValueRecord:
        value = self.values.get(sequence)
        if value is None:
            raise Corrupt(f"value {sequence} is missing", path=self.journal.path, step="read")
        fields = self.record(sequence, value.place)
        if not isinstance(fields, ValueRecord):
            raise self._misled(sequence)
        return fields

    def _checkpoint(self, stored: Stored) -> CheckpointRecord:
        fields = self.record(stored.sequence, stored.place)
        if not isinstance(fields, CheckpointRecord):
            raise self._misled(stored.sequence)
        return fields

    def live(self) -> dict[int, Position]:
        """The records that anything refers to: where they stand, by sequence number."""
        found: dict[int, Position] = {sequence: value.place for sequence, value in self.values.items()}
        for namespace in self.namespaces.values():
            found.update((stored.sequence, stored.place) for stored in namespace.checkpoints.values())
            for writes in namespace.writes.values():
                found.update((sequence, place) for sequence, place, *_ in writes.values())
        return found

    def orphans(self) -> set[int]:
        """The numbers of the checkpoints without a parent, whether or not they were put on one."""
        return {
            stored.sequence
            for namespace in self.namespaces.values()
            for stored in namespace.checkpoints.values()
            if not stored.parent
        }

    def record(self, sequence: int, place: Position) -> Fields:
        """One record.

        Raises:
            Moved: a compaction moved it.
            Corrupt: it cannot be read.
        """
        kept = self._cache.get(self._key, sequence)
        if type(kept) is tuple:
            fields = self._decode(*kept)
            self._cache.keep(self._key, sequence, fields)
            return fields
        if kept is not None:
            return cast("Fields", kept)
        entries = self.journal.fetch(tuple(place))
        if entries is None:
            raise Moved
        found = None
        for entry in entries:
            fields = self._decode(entry.kind, entry.data)
            self._cache.keep(self._key, entry.sequence, fields)
            if entry.sequence == sequence:
                found = fields
        if found is None:
            raise Moved
        return found

    def _misled(self, sequence: int) -> Corrupt:
        return Corrupt(f"record {sequence} is of another kind", path=self.journal.path, step="read")


def _order(write: Write) -> tuple[str, str, int]:
    return (write.task_path, write.task_id, write.idx)
