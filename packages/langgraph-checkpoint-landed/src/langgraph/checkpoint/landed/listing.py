"""What a list goes through, and what it leaves out."""

from __future__ import annotations

from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from langgraph.checkpoint.landed.history import History, Raw
    from langgraph.checkpoint.landed.records import Typed
    from langgraph.checkpoint.landed.threads import Threads

AT_ONCE: Final = 32
"""Checkpoints that one look at a thread reads at most."""


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
    nothing: dict[str, list[str]] = {}

    def look(name: str) -> tuple[str, dict[str, list[str]]]:
        return name, threads.look(name, partial(_ids, ns, before), nothing)

    found = [
        (name, namespace, ids if not only else [id for id in ids if id == only])
        for name, namespaces in ([look(thread)] if thread is not None else threads.each(look))
        for namespace, ids in namespaces.items()
    ]
    some: list[tuple[str, Raw]] = []
    for name, keys in _portions(_newest_first(found)):
        for ns, raw in threads.look(name, partial(_raws, loads, keys, wanted), some):
            yield name, ns, raw


def _ids(ns: str | None, before: str | None, history: History) -> dict[str, list[str]]:
    return {each: history.before(each, before) for each in ([ns] if ns is not None else history.namespaces)}


def _newest_first(found: list[tuple[str, str, list[str]]]) -> Iterator[tuple[str, str, str]]:
    """(id, thread, namespace) from lists that are in order each."""
    if len(found) == 1:
        name, ns, ids = found[0]
        return ((id, name, ns) for id in reversed(ids))
    return iter(sorted(((id, name, ns) for name, ns, ids in found for id in ids), reverse=True))


def _portions(keys: Iterator[tuple[str, str, str]]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A thread with (namespace, id) of some checkpoints at a time: one at first, as many callers take no more."""
    size = 1
    for name, group in groupby(keys, key=itemgetter(1)):
        while portion := [(ns, id) for id, _, ns in islice(group, size)]:
            yield name, portion
            size = min(2 * size, AT_ONCE)


def _raws(
    loads: Callable[[Typed], Any], keys: list[tuple[str, str]], wanted: Mapping[str, Any], history: History
) -> list[tuple[str, Raw]]:
    stored = [(ns, history.find(ns, id)) for ns, id in keys]
    return [
        (ns, history.raw(ns, each))
        for ns, each in stored
        if each is not None and (not wanted or matches(loads(each.metadata), wanted))
    ]


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
