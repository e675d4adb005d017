"""What begins anew in a forked child: a lock that another thread of the parent had there is never given back."""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol


class Renewed(Protocol):
    """What has locks of its own."""

    def renew(self) -> None:
        """Begin with locks that nobody has."""
        ...


_renewed: Final[weakref.WeakSet[Renewed]] = weakref.WeakSet()


def begin(one: Renewed) -> None:
    """Give it its locks, now and in every forked child."""
    one.renew()
    _renewed.add(one)


def _after_fork_in_child() -> None:
    for one in list(_renewed):
        one.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
