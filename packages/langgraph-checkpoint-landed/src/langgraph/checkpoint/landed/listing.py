"""What a list goes through, and what it leaves out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from langgraph.checkpoint.landed.history import History, Raw
    from langgraph.checkpoint.landed.records import Typed
    from langgraph.checkpoint.landed.threads import Threads


def matching(
    threads: Threads,
    loads: Callable[[Typed], Any],
    scope: tuple[str | None, str | None, str | None],
    before: str | None,
    wanted: Mapping[str, Any],
) -> Iterator[tuple[str, str, Raw]]:
    """The checkpoints that are there when it begins, newest first, each with its thread and namespace.

    Nothing is held while the caller has one in hand. What is dropped meanwhile is left out.

    Args:
        scope: thread, namespace and id that they must have; None for any.
        before: only those that sort before this id.
        wanted: what their metadata must have.
    """
    thread, ns, only = scope
    names = [thread] if thread is not None else sorted(threads.journals.names())
    nothing: dict[str, list[str]] = {}
    found = [
        (name, each, ids if not only else [id for id in ids if id == only])
        for name in names
        for each, ids in threads.look(name, partial(_ids, ns, before), nothing).items()
    ]
    for id, name, each in _newest_first(found):
        raw = threads.look(name, partial(_raw, loads, each, id, wanted), None)
        if raw is not None:
            yield name, each, raw


def _ids(ns: str | None, before: str | None, history: History) -> dict[str, list[str]]:
    return {each: history.before(each, before) for each in ([ns] if ns is not None else history.namespaces)}


def _newest_first(found: list[tuple[str, str, list[str]]]) -> Iterator[tuple[str, str, str]]:
    """(id, thread, namespace) from lists that are in order each."""
    if len(found) == 1:
        name, ns, ids = found[0]
        return ((id, name, ns) for id in reversed(ids))
    return iter(sorted(((id, name, ns) for name, ns, ids in found for id in ids), reverse=True))


def _raw(loads: Callable[[Typed], Any], ns: str, id: str, wanted: Mapping[str, Any], history: History) -> Raw | None:
    stored = history.find(ns, id)
    if stored is None or (wanted and not matches(loads(stored.metadata), wanted)):
        return None
    return history.raw(ns, stored)


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
