"""Taking checkpoints out of a thread, and giving their space back; copying a thread.

What goes is first recorded as dropped, on top of all that was seen: a run that puts meanwhile is never dropped unseen.
Then the journal is compacted, beside readers and writers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from landed import Corrupt, NotLanded, OutcomeUnknown, Record, StaleWrite
from langgraph.checkpoint.landed import ancestry
from langgraph.checkpoint.landed.putting import stamp
from langgraph.checkpoint.landed.records import (
    COMPACTED,
    DROPPED,
    CheckpointRecord,
    CompactedRecord,
    DroppedRecord,
    Fields,
    ValueRecord,
    decode,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from landed import Entry
    from langgraph.checkpoint.landed.history import History
    from langgraph.checkpoint.landed.records import Typed
    from langgraph.checkpoint.landed.threads import Threads

    Loads = Callable[[Typed], Any]


def take_out(threads: Threads, name: str, choose: Callable[[History], dict[str, set[str]]]) -> None:
    """Drop the checkpoints of a thread that `choose` names by namespace, with their writes, and give the space back.

    Raises:
        NotLanded: nothing was changed.
        OutcomeUnknown: whether they are dropped is unknown; or they are, and the space is not given back, as `state`
            says then.
        Corrupt: the thread is damaged; `state` says whether they are dropped.
    """
    if not threads.change(name, lambda history: drop(history, choose), create=False):
        return
    left = "What was dropped stays dropped; the next prune gives its space back."
    try:
        threads.change(name, compact, create=False)
    except Corrupt as error:
        error.state = left
        raise
    except NotLanded as error:  # which says of the compaction alone that nothing was changed
        what = f"thread {name!r}: dropped, but the space is not given back: {error.what}"
        failed = OutcomeUnknown(what, path=error.path, step=error.step, errno=error.errno, hint=error.hint)
        failed.state = left
        raise failed from error


def drop(history: History, choose: Callable[[History], dict[str, set[str]]]) -> bool:
    """Record as dropped the checkpoints that `choose` names by namespace.

    Returns:
        Whether there were any, or the space of earlier ones was not given back: that was interrupted, or the disk full.

    Raises:
        LandedError: as `Journal.append`.
    """
    with history.writing:
        while True:
            with history.guard:
                history.catch_up()
                record = _dropped(history, choose(history))
                if record is None:
                    return _left_behind(history)
                expect = history.seen
            try:
                history.append([record], expect)
            except StaleWrite:
                continue  # somebody put meanwhile: choose anew
            return True


def _left_behind(history: History) -> bool:
    """Whether what was dropped last is still there. Needs the guard."""
    marker = history.marker
    last = next(history.journal.read(marker), None) if marker else None
    return last is not None and last.sequence == marker and last.kind == DROPPED


def _dropped(history: History, chosen: dict[str, set[str]]) -> DroppedRecord | None:
    dropped = {ns: sorted(ids) for ns, ids in chosen.items() if ids}
    if not dropped:
        return None
    orphaned = {
        ns: [
            each.id
            for each in history.namespaces[ns].checkpoints.values()
            if each.parent in chosen[ns] and each.id not in chosen[ns]
        ]
        for ns in dropped
    }
    return DroppedRecord(dropped, {ns: ids for ns, ids in orphaned.items() if ids})


def compact(history: History) -> None:
    """Rewrite the journal without what nothing refers to."""
    with history.writing:
        with history.guard:
            history.catch_up()
            live, marker, horizon = history.live(), history.marker, history.seen
            orphans, cleared = history.orphans(), CompactedRecord(history.touched)

        def keep(entry: Entry) -> bool | Record:
            if entry.sequence in orphans:
                fields = decode(entry.kind, entry.data)
                if isinstance(fields, CheckpointRecord) and fields.parent:
                    return Record(encode(fields._replace(parent=None)), kind=entry.kind)
            if entry.sequence > horizon or entry.sequence in live:
                return True
            if entry.kind in {DROPPED, COMPACTED} and entry.sequence == marker:
                return Record(encode(cleared), kind=COMPACTED)
            return False

        try:
            history.journal.compact(keep)
        finally:
            history.forget()


def superseded(history: History, loads: Loads) -> dict[str, set[str]]:
    """By namespace, all but the latest checkpoint and what that is rebuilt from.

    A subgraph call's namespace (with a task's id after a colon) goes with the root checkpoint that it started from, as
    soon as that is stored; one of a subgraph with a checkpointer of its own stays.
    """
    chosen: dict[str, set[str]] = {}
    started: dict[str, str | None] = {}
    for ns, namespace in history.namespaces.items():
        latest = namespace.latest
        if latest is not None:
            metadata = loads(latest.metadata)
            version = loads(history.body(latest)).get("v", 0)
            kept = {latest.id} | ancestry.needed(history, ns, latest, metadata, version)
            chosen[ns] = namespace.checkpoints.keys() - kept
            started[ns] = (metadata.get("parents") or {}).get("")
    root = history.namespaces.get("")
    for ns, start in started.items():
        if ":" in ns and root is not None and start in root.checkpoints and start in chosen[""]:
            chosen[ns] = set(history.namespaces[ns].checkpoints)
    return chosen


def of_runs(history: History, loads: Loads, runs: Collection[str]) -> dict[str, set[str]]:
    """By namespace, the checkpoints that these runs put."""
    return {
        ns: {stored.id for stored in namespace.checkpoints.values() if loads(stored.metadata).get("run_id") in runs}
        for ns, namespace in history.namespaces.items()
    }


def copy(threads: Threads, source: str, target: str) -> None:
    """Copy a thread, whole, into another.

    Raises:
        LandedError: as `paste`.
    """
    nothing: list[tuple[int, Fields]] = []
    records = threads.look(source, copied, nothing)
    if records and source != target:
        threads.look(target, lambda _: None, None, complete=False)  # what has expired there must not come back
        threads.change(target, lambda history: paste(history, records), create=True)


def copied(history: History) -> list[tuple[int, Fields]]:
    """All live records of a thread with their numbers, oldest first. Needs the guard."""
    history.catch_up()
    return [(sequence, history.record(sequence, place)) for sequence, place in sorted(history.live().items())]


def paste(history: History, records: list[tuple[int, Fields]]) -> None:
    """Append what `copied` gave to another thread, as one batch.

    Raises:
        Refused: it is more than a batch can hold. Nothing was written.
        LandedError: as `Journal.append`.
    """
    with history.writing:
        while True:
            with history.guard:
                history.catch_up()
                expect = history.seen
            try:
                history.append(_renumbered(records, expect + 1, alone=not history.namespaces), expect)
            except StaleWrite:
                continue
            return


def _renumbered(records: list[tuple[int, Fields]], first: int, *, alone: bool) -> list[Fields]:
    """The records for their new places.

    Args:
        alone: whether there is nothing else in the thread. If there is, none of them says that it is the head: whoever
            reads the journal's end would take it for the latest, and for all that there is of it.
    """
    time, writer = stamp()  # a thread's ttl counts from here: nobody has put to it before
    moved = {sequence: first + index for index, (sequence, _) in enumerate(records)}
    renumbered: list[Fields] = []
    for sequence, fields in records:
        if isinstance(fields, ValueRecord) and fields.base:
            renumbered.append(fields._replace(base=moved[fields.base], at=[]))
        elif isinstance(fields, CheckpointRecord):
            refs = {channel: ref and moved[ref if ref > 0 else sequence + ref] for channel, ref in fields.refs.items()}
            head = fields.head and alone
            renumbered.append(fields._replace(refs=refs, places={}, early={}, head=head, time=time, writer=writer))
        else:
            renumbered.append(fields)
    return renumbered
