"""What a thread's journal says of its checkpoints, for ``landed report``: who put which, and where it forks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from landed.inspection import records
from landed.report.model import LANDED, Event
from langgraph.checkpoint.landed.cli.looking import plain
from langgraph.checkpoint.landed.records import CheckpointRecord, DroppedRecord, WritesRecord, decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langgraph.checkpoint.landed.records import Fields


def events(journal: str) -> list[Event] | None:
    """The puts of a thread, oldest first; None for a journal that holds something else.

    No state is shown, and none is deserialized.

    Args:
        journal: its directory.

    Raises:
        LandedError: it cannot be read.
    """
    try:
        fields = [decode(entry.kind, entry.data) for entry, _ in records(journal)]
    except ValueError:
        return None
    return list(_events(fields)) if fields else None


def _events(records: list[Fields]) -> Iterator[Event]:
    children: Counter[tuple[str, str | None]] = Counter(
        (each.ns, each.parent) for each in records if isinstance(each, CheckpointRecord) and each.parent
    )
    for each in records:
        if isinstance(each, CheckpointRecord):
            yield Event(LANDED, each.writer, _put(each, children[each.ns, each.parent]), each.time)
        elif isinstance(each, WritesRecord):
            count = len(each.writes)
            what = f"{count} {'write' if count == 1 else 'writes'} pending for checkpoint {each.id}"
            yield Event(LANDED, "tasks (process not recorded)", what)
        elif isinstance(each, DroppedRecord):
            count = sum(map(len, each.dropped.values()))
            yield Event(LANDED, "pruning", f"{count} {'checkpoint' if count == 1 else 'checkpoints'} dropped")


def _put(each: CheckpointRecord, siblings: int) -> str:
    metadata = plain((each.metadata_type, each.metadata))
    words = [f"checkpoint {each.id}"]
    if "step" in metadata:
        words.append(f"step {metadata['step']}")
    words.append(f"on {each.parent}" if each.parent else "the first")
    if each.ns:
        words.append(f"in namespace {each.ns}")
    if siblings > 1:
        words.append(f"a fork: {siblings} checkpoints were put on that one")
    return ", ".join(words)
