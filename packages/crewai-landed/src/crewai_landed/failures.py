"""Which checkpoints failed, so that ``landed audit`` tells of them although CrewAI only logged it.

One journal per user, beside landed's own records. A failure counts until a later checkpoint lands in the same branch.
"""

from __future__ import annotations

import json
import os
from time import time
from typing import TYPE_CHECKING, Final

from landed import Journal, Record, Refused
from landed.audit import INTACT, UNFINISHED, Finding, clock, stores
from landed.inspection import records
from landed.inventory import within
from landed.publish import READ

if TYPE_CHECKING:
    from collections.abc import Iterator

JOURNAL: Final = "crewai-checkpoints"
"""The directory of the journal, in the user's store."""
SUFFIX: Final = ".json"
"""Ends the names of CrewAI's checkpoints."""
AGAIN: Final = "Run it again from the last one: crewai checkpoint list."
KEPT: Final = 1000
"""Failures that are kept at least; twice as many at most."""


def record(where: str, error: Exception) -> None:
    """Append a failure.

    Args:
        where: the directory that the checkpoint was for, absolute.

    Raises:
        LandedError: it is not recorded.
    """
    content = {"error": str(error), "at": time(), "pid": os.getpid()}
    with Journal(_path()) as journal:
        tail = journal.append([Record(json.dumps(content).encode(), key=os.fsencode(where))]).tail
        if tail % KEPT == 0:
            journal.compact(lambda entry: entry.sequence > tail - KEPT)


def audit(under: str, *, level: str = READ) -> Iterator[Finding]:  # noqa: ARG001 - a failure has no bytes to look at
    """For ``landed audit``: each branch in or below `under` whose last checkpoint failed.

    Args:
        under: a directory, resolved; "" for all.
        level: for checkpoints that landed, which landed's own records cover.

    Raises:
        Corrupt: the journal of failures is damaged.
    """
    if not os.path.isdir(_path()):
        return
    try:
        last = {os.path.realpath(os.fsdecode(entry.key)): entry for entry, _ in records(_path())}
    except Refused:  # whoever made the directory died, or met a bad disk, before a journal was in it
        return
    for where, entry in last.items():
        if not within(where, under):
            continue
        failed = json.loads(entry.data)
        if _newest(where) > failed["at"]:
            yield Finding(INTACT, where, "checkpoints landed after one had failed")
            continue
        at = clock(failed["at"])
        yield Finding(
            UNFINISHED,
            where,
            f"a checkpoint of pid {failed['pid']} was not stored at {at}: {failed['error']}",
            hint=f"{AGAIN} The next one that lands settles this.",
        )


def _path() -> str:
    return os.path.join(stores()[0].root, JOURNAL)


def _newest(directory: str) -> float:
    """When the newest checkpoint in a directory was written; 0 when there is none."""
    try:
        with os.scandir(directory) as found:
            return max((entry.stat().st_mtime for entry in found if entry.name.endswith(SUFFIX)), default=0.0)
    except (FileNotFoundError, NotADirectoryError):
        return 0.0
