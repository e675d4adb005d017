"""What the journals of flows and of a memory say, for ``landed report``. It imports nothing of CrewAI's."""

from __future__ import annotations

import json
import struct
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from crewai_landed import records, states
from landed import Corrupt
from landed.inspection import records as records_of
from landed.report.model import LANDED, Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from landed import Entry

_TICKS: Final = 1e6
_NOT_RECORDED: Final = "a process that is not recorded"
_SAVED: Final = {
    states.STATE: "a state, after {method}",
    states.PENDING: "a state, and the feedback that {method} waits for",
    states.RESUMED: "took the feedback that {method} waited for",
}


def flows(journal: str) -> list[Event] | None:
    """The saves of a flow, oldest first; None for a journal that holds something else.

    Args:
        journal: its directory.

    Raises:
        LandedError: it cannot be read.
    """
    return _told(journal, _save)


def memory(journal: str) -> list[Event] | None:
    """What was stored in a memory, changed and forgotten, oldest first; None for a journal that holds something else.

    Texts are not shown: a report may be sent around.

    Args:
        journal: its directory.

    Raises:
        LandedError: it cannot be read.
    """
    return _told(journal, _change)


def _told(journal: str, tell: Callable[[Entry], Event]) -> list[Event] | None:
    entries = [entry for entry, _ in records_of(journal)]
    try:
        return [tell(entry) for entry in entries] or None
    except (ValueError, KeyError, TypeError, AttributeError, Corrupt, struct.error):
        return None  # another kind of record


def _save(entry: Entry) -> Event:
    content: dict[str, Any] = states.decode(entry.data)
    what = f"record {entry.sequence}: {_SAVED[entry.kind].format(method=content['method'])}"
    return Event(LANDED, content["writer"], what, content["saved_at"].timestamp())


def _change(entry: Entry) -> Event:
    if entry.kind in {records.MEMORY, records.REVISED}:
        fields = records.from_text(records.parted(entry.data)[0])
        word = "stored" if entry.kind == records.MEMORY else "revised"
        created = records.ticks(datetime.fromisoformat(fields["created_at"])) / _TICKS
        moment = created if entry.kind == records.MEMORY else None
        what = f"{word} {entry.key.decode(errors='replace')} in scope {fields['scope']}"
        return Event(LANDED, fields.get("source") or _NOT_RECORDED, what, moment)
    if entry.kind == records.FORGOTTEN:
        condition = records.Condition.decode(entry.data)
        limits = [name for name in condition.__slots__ if getattr(condition, name) is not None]
        what = f"forgot what matches a condition on {', '.join(limits)}" if limits else "forgot all"
        return Event(LANDED, _NOT_RECORDED, what)
    if entry.kind == records.TOUCHED:
        touched = json.loads(entry.data)
        return Event(LANDED, _NOT_RECORDED, f"recalled {len(touched['ids'])} memories", touched["at"] / _TICKS)
    if entry.kind == records.COMPACTED and not entry.data:
        return Event(LANDED, _NOT_RECORDED, "compacted the journal")
    raise ValueError(entry.kind)
