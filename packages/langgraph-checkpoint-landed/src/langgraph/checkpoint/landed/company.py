"""Writes of tasks and the put that follows them, in one batch: one flush for both.

When a super-step ends, LangGraph stores what its tasks wrote and the next checkpoint at once, from several threads, and
waits for the checkpoint alone. Committed one by one, the checkpoint would wait for a flush that nobody asked for. So
where a put has been seen to come while writes were on their way, the next writes wait for it, for a moment.
"""

from __future__ import annotations

import _thread
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from langgraph.checkpoint.landed.records import WritesRecord

MOMENT: Final = 0.005
"""Seconds that writes wait for a put: what the interpreter lets another thread run for before it switches."""
LIMIT: Final = 30.0
"""Seconds after which writes that a put took along go by themselves: its thread was interrupted before it had them."""
DISAPPOINTED: Final = 16
"""Times that a put has to meet writes on their way before writes wait again, after some that waited in vain."""


class Rider:
    """Writes that wait for a put to take them along.

    Attributes:
        record: the writes.
        landed: whether it did, once the gate is open.
    """

    __slots__ = ("gate", "landed", "record")

    def __init__(self, record: WritesRecord) -> None:
        self.record = record
        self.landed = False
        self.gate = _thread.allocate_lock()
        self.gate.acquire()


class Company:
    """Who waits for a put of one thread. Safe for threads."""

    def __init__(self) -> None:
        self._guard = _thread.allocate_lock()
        self._waiting: list[Rider] = []
        self._alone = 0
        self._hope = 0

    def ride(self, record: WritesRecord) -> bool:
        """Wait for a put, if one is expected; whether it has stored the writes. Else they go by themselves."""
        if self._hope <= 0:
            return False
        rider = Rider(record)
        with self._guard:
            self._waiting.append(rider)
        if not rider.gate.acquire(timeout=MOMENT):
            with self._guard:
                if rider in self._waiting:
                    self._hope = -DISAPPOINTED
                    # Those behind go now as well, or this one's writes would come after theirs.
                    _let_go(self._waiting)
                    self._waiting = []
                    return False
            rider.gate.acquire(timeout=LIMIT)  # a put has just taken it along
        return rider.landed

    def set_out(self) -> None:
        """Writes go by themselves, until `arrive`."""
        with self._guard:
            self._alone += 1

    def arrive(self) -> None:
        with self._guard:
            self._alone -= 1

    def board(self) -> list[Rider]:
        """Those that wait go with this put, which lets each of them go when it has ended."""
        with self._guard:
            if self._alone and self._hope <= 0:
                self._hope += 1
            riders, self._waiting = self._waiting, []
        return riders

    @staticmethod
    def leave(riders: list[Rider]) -> None:
        """The put has stored the writes."""
        for rider in riders:
            rider.landed = True
        _let_go(riders)

    @staticmethod
    def turn_away(riders: list[Rider]) -> None:
        """It has not, or nobody knows: each goes by itself. Writes that are stored twice count once."""
        _let_go(riders)


def _let_go(riders: list[Rider]) -> None:
    for rider in riders:
        rider.gate.release()
