"""How many descriptors the journals of a process keep open: ten thousand journals must not need ten thousand."""

from __future__ import annotations

import _thread
import os
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Protocol

    class Rests(Protocol):
        """What holds a descriptor that it can do without between uses."""

        def rest(self) -> bool:
            """Give the descriptor back until the next use; False while it is in use."""
            ...

        def forked(self) -> None:
            """In a forked child: give the descriptor back for good."""
            ...


OPEN_SEGMENTS: Final = 256
"""Descriptors that stay open, a quarter of the usual limit; the longest unused ones rest."""

_guard = _thread.allocate_lock()
_open: dict[int, weakref.ref[Rests]] = {}
"""The holders of an open descriptor by id, the longest unused first."""


def opened(holder: Rests) -> None:
    """Count a holder's descriptor, and put the longest unused ones to rest."""
    with _guard:
        _open.pop(id(holder), None)
        surplus = list(_open)[: max(0, len(_open) + 1 - OPEN_SEGMENTS)]
        _open[id(holder)] = weakref.ref(holder)
        for key in surplus:
            other = _open[key]()
            if other is None or other.rest():
                del _open[key]


def closed(holder: Rests) -> None:
    """Forget a holder."""
    with _guard:
        _open.pop(id(holder), None)


def _after_fork_in_child() -> None:
    global _guard  # noqa: PLW0603 - another thread of the parent may have held it
    _guard = _thread.allocate_lock()
    holders = [holder() for holder in _open.values()]
    _open.clear()
    for holder in holders:
        if holder is not None:
            holder.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
