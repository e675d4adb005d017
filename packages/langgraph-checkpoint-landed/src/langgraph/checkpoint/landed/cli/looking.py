"""What the commands see of a directory of threads. They make nothing, and read no value of any state."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import ormsgpack

from landed import Journals, Refused
from langgraph.checkpoint.landed.threads import Threads

if TYPE_CHECKING:
    from langgraph.checkpoint.landed.history import History, Namespace, Stored
    from langgraph.checkpoint.landed.records import Typed

DIRECTORY: Final = "the directory or address that the saver was given"


class Checkpoint(NamedTuple):
    """One checkpoint, as a person asks for it.

    Attributes:
        id, parent: parent is None for the first.
        source, step: from its metadata; None where that is encrypted.
        writes: how many are pending for it.
        time: seconds since the epoch.
        writer: the process that put it.
    """

    id: str
    parent: str | None
    source: str | None
    step: int | None
    writes: int
    time: float
    writer: str


def threads_in(directory: str) -> Threads:
    """The threads of a directory that is there.

    Raises:
        Refused: it is not, or it is the directory of one journal.
        OSError: it cannot be looked up.
    """
    if directory and "://" not in directory:
        what = "it is no directory"
        try:
            there = stat.S_ISDIR(os.stat(directory).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            there, what = False, "there is no such directory"
        if not there:
            raise Refused(what, path=os.path.abspath(directory), step="open", hint=f"Name {DIRECTORY}.")
    return Threads(Journals(directory))


def no_such_thread(threads: Threads, name: str) -> Refused:
    """The error for a thread id that is not there."""
    hint = "`landed threads` lists those that are there."
    return Refused(f"there is no thread {name!r}", path=threads.journals.path, step="open", hint=hint)


def no_thread(threads: Threads, name: str) -> Refused:
    """The error for what another program keeps by that name."""
    hint = "`landed journal inspect` shows what it holds."
    journal = threads.journals.find(name)
    path = threads.journals.path if journal is None else journal.path
    return Refused(f"{name!r} is no LangGraph thread: another program keeps its data here", path=path, hint=hint)


def checkpoints(history: History, ns: str, namespace: Namespace) -> list[Checkpoint]:
    """The checkpoints of a namespace, the oldest first. Needs the history's guard."""
    return [_checkpoint(history, ns, namespace.checkpoints[id]) for id in namespace.ids]


def latest(history: History) -> Stored | None:
    """The checkpoint that was put last, in whichever namespace."""
    stored = [each for namespace in history.namespaces.values() for each in namespace.checkpoints.values()]
    return max(stored, key=lambda each: each.sequence, default=None)


def _checkpoint(history: History, ns: str, stored: Stored) -> Checkpoint:
    metadata = plain(stored.metadata)
    writes = len(history.writes_of(ns, stored.id))
    return Checkpoint(
        stored.id, stored.parent, metadata.get("source"), metadata.get("step"), writes, stored.time, stored.writer
    )


def plain(typed: Typed) -> dict[str, Any]:
    """Metadata without the saver's serializer, which may call whatever the store names; {} when it is encrypted."""
    kind, data = typed
    if kind == "json":
        found = json.loads(data)
    elif kind == "msgpack":
        found = ormsgpack.unpackb(data, ext_hook=lambda _code, _data: None, option=ormsgpack.OPT_NON_STR_KEYS)
    else:
        found = None
    return found if isinstance(found, dict) else {}
