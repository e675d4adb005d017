"""Two runs that built on one head: how a saver that is only told "put this" knows.

`get_tuple` without a checkpoint id hands out the latest id as a `Head`, a str that says so. LangGraph carries it in the
config to the run's first `put`, and so `put` knows whether its parent was believed to be the head or was addressed by
the caller. A run's later puts follow on what this saver itself has put. Whatever was addressed is a deliberate fork.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from landed import NotLanded, StaleWrite
from langgraph.checkpoint.landed import configs, forks

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from langgraph.checkpoint.landed.history import History, Stored

REMEMBERED: Final = 65_536
"""Ids and threads that a saver remembers; the oldest go. A run that pauses for longer than so many puts of its process
may then fork unnoticed, so it is far more than a process has under way."""
_AGAIN: Final = "Invoke the graph again: it starts from the latest checkpoint."


class Head(str):
    """A checkpoint id that was the latest of its thread when it was read."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        # Another str subclass has its say first: test helpers that equal any string are such.
        if isinstance(other, str) and type(other) not in {str, Head}:
            return NotImplemented
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    __hash__ = str.__hash__

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)  # what travels between processes is an id like any other


class Memory:
    """What one saver has read and put: the heads that its runs build on. Safe for threads."""

    def __init__(self) -> None:
        forks.begin(self)
        self._put: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._empty: OrderedDict[str, int] = OrderedDict()
        self._failed: OrderedDict[tuple[str, str, str], tuple[type[NotLanded], str]] = OrderedDict()

    def renew(self) -> None:
        """What was read and put by the parent stays so."""
        self._guard = threading.Lock()

    def read_head(self, thread: str, *, empty: bool) -> None:
        """A run asked for the latest checkpoint."""
        with self._guard:
            if empty:
                self._empty[thread] = self._empty.pop(thread, 0) + 1
                _bound(self._empty)
            else:
                self._empty.pop(thread, None)

    def addressed(self, thread: str, id: str) -> None:
        """Somebody asked for this very checkpoint: what is put on it is a deliberate fork."""
        with self._guard:
            self._put.pop((thread, id), None)

    def put(self, thread: str, id: str, parent: str | None) -> None:
        """A checkpoint was put."""
        with self._guard:
            self._put[thread, id] = None
            _bound(self._put)
            if not parent and self._empty.get(thread):
                self._empty[thread] -= 1

    def failed(self, thread: str, ns: str, id: str, error: BaseException) -> None:
        """A checkpoint was not put, or nobody can tell."""
        with self._guard:
            self._failed[thread, ns, id] = (StaleWrite if isinstance(error, StaleWrite) else NotLanded, str(error))
            _bound(self._failed)

    def found(self, thread: str, ns: str, id: str) -> None:
        """A checkpoint was read: then it is there, whatever its put had to say."""
        if (thread, ns, id) in self._failed:
            with self._guard:
                self._failed.pop((thread, ns, id), None)

    def check_parent(self, thread: str, ns: str, parent: str | None, path: str) -> None:
        """Refuse to put on a checkpoint whose own put failed: LangGraph does not always stop at the first error.

        Raises:
            StaleWrite: the parent was stale. Nothing was written.
            NotLanded: the parent failed otherwise. Nothing was written.
        """
        failed = self._failed.get((thread, ns, str(parent)))
        if failed is not None:
            kind, error = failed
            what = f"thread {thread!r}: the checkpoint before this one was not stored: {error}"
            raise kind(what, path=path, step="put", hint=_AGAIN)

    def has_put(self, thread: str, id: str) -> bool:
        return (thread, id) in self._put

    def own_root(self, thread: str, config: RunnableConfig) -> str | None:
        """The checkpoint that a subgraph's run started from in the graph itself, if this saver has put it."""
        root = (configs.given(config).get("checkpoint_map") or {}).get("")
        return root if root and self.has_put(thread, root) else None

    def follows_head(self, thread: str, parent: str | None) -> bool:
        """Whether a run that puts on `parent` believes that it is the head."""
        if not parent:
            return self._empty.get(thread, 0) > 0
        return isinstance(parent, Head) or self.has_put(thread, parent)


def check(history: History, thread: str, parent: str | None, id: str, *, fork: bool) -> None:
    """Refuse a put of a run that believes its parent to be the head. Needs the history's guard.

    Args:
        fork: let it fork all the same.

    Raises:
        StaleWrite: another writer has advanced the head, or removed it. Nothing was written.
        NotLanded: the id sorts before its parent's. Nothing was written.
    """
    head = history.find("", None)
    if parent and id < parent:
        raise _clock_behind(history, thread, parent, id)
    if fork or (head.id if head is not None else None) == (parent or None):
        return
    if head is not None and head.id == id:
        return  # put again
    raise stale(history, thread, parent, head)


def check_root(history: History, thread: str, root: str) -> None:
    """Refuse a put of a subgraph whose graph's checkpoint is gone: its thread was deleted. Needs the history's guard.

    Raises:
        StaleWrite: it is. Nothing was written.
    """
    if history.find("", root) is None:
        raise stale(history, thread, root, history.find("", None))


def stale(history: History, thread: str, parent: str | None, head: Stored | None) -> StaleWrite:
    """The error for a run that built on `parent` while the head is another."""
    expected = f"checkpoint {parent}" if parent else "no checkpoint"
    found = f"checkpoint {head.id}" if head is not None else "no checkpoint"
    error = StaleWrite(
        f"thread {thread!r}: this run built on {expected}, and {found} is the latest by now"
        + (f", put by {head.writer}" if head is not None else ""),
        path=history.journal.path,
        step="put",
        expected=str(parent) if parent else None,
        found=head.id if head is not None else None,
        hint=_AGAIN,
    )
    error.writer = head.writer if head is not None else None
    return error


def _clock_behind(history: History, thread: str, parent: str, id: str) -> NotLanded:
    return NotLanded(
        f"thread {thread!r}: the new checkpoint's id sorts before its parent's, so it would never be the latest",
        path=history.journal.path,
        step="put",
        expected=f"an id after {parent}",
        found=id,
        hint="This machine's clock is behind that of the one that put the parent; set it.",
    )


def _bound(table: OrderedDict[Any, Any]) -> None:
    while len(table) > REMEMBERED:
        table.popitem(last=False)
