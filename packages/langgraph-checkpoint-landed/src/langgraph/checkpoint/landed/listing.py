"""What a list goes through, and what it leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langgraph.checkpoint.landed.history import History
    from langgraph.checkpoint.landed.threads import Threads


def addresses(
    threads: Threads, thread: str | None, ns: str | None, before: str | None, only: str | None
) -> list[tuple[str, str, str]]:
    """The (id, thread, namespace) of all checkpoints there are now, newest first.

    Args:
        thread: of this thread; of all when None.
        ns: of this namespace; of all when None.
        before: only those that sort before this id.
        only: only this id.
    """

    def look(history: History) -> list[tuple[str, str]]:
        return [
            (id, each)
            for each in ([ns] if ns is not None else history.namespaces)
            for id in history.before(each, before)
            if not only or id == only
        ]

    names = [thread] if thread is not None else sorted(threads.journals.names())
    nothing: list[tuple[str, str]] = []
    found = [(id, name, each) for name in names for id, each in threads.look(name, look, nothing)]
    if thread is None or ns is None:
        found.sort(reverse=True)
    return found


def matches(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether each key of `wanted` has its value in `metadata`. None is also what a missing key has.

    A key that is not there is tried as a dotted path, as SqliteSaver has it: ``user.name``.
    """
    return all(_equal(_find(metadata, key), value) for key, value in wanted.items())


def _find(metadata: Mapping[str, Any], key: str) -> object:
    if key in metadata or "." not in key:
        return metadata.get(key)
    found: object = metadata
    for part in key.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(part)
    return found


def _equal(found: object, value: object) -> bool:
    if isinstance(found, tuple | list) and isinstance(value, tuple | list):
        return len(found) == len(value) and all(map(_equal, found, value))
    return found == value
