"""Writes of tasks and the put that follows them, in one batch: one flush for both.

When a super-step ends, LangGraph stores what its tasks wrote and the next checkpoint at once, from several threads, and
waits for the checkpoint alone. Committed one by one, the checkpoint would wait for a flush that nobody asked for. So
where a put has been seen to come while writes were on their way, the next writes wait for it, for a moment. In an event
loop both are begun in the same turn, one right after the other: writes wait there, and not in a thread, until the loop
has come round, and a put takes them before it goes to a thread itself.
"""

from __future__ import annotations

import _thread
import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from langgraph.checkpoint.landed.records import WritesRecord

MOMENT: Final = 0.005
"""Seconds that writes wait for a put: what the interpreter lets another thread run for before it switches."""
TURNS: Final = 2
"""Turns of an event loop that writes wait: time in it says nothing, as dozens of other tasks may have theirs first."""
LIMIT: Final = 30.0
"""Seconds after which writes that a put took along go by themselves: its thread was interrupted before it had them."""
DISAPPOINTED: Final = 16
"""Times that a put has to meet writes on their way before writes wait again, after some that waited in vain."""


class Rider:
    """Writes that wait for a put to take them along.

    Args:
        let_go: called once they need not wait any longer, from any thread.

    Attributes:
        record: the writes.
        landed: whether a put has stored them, once they are let go.
    """

    __slots__ = ("landed", "let_go", "record")

    def __init__(self, record: WritesRecord, let_go: Callable[[], None]) -> None:
        self.record = record
        self.landed = False
        self.let_go = let_go


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
        gate = _thread.allocate_lock()
        gate.acquire()
        rider = self._wait(record, gate.release)
        if not gate.acquire(timeout=MOMENT):
            if self._give_up(rider):
                self._hope = -DISAPPOINTED
            else:
                gate.acquire(timeout=LIMIT)  # a put has just taken it along
        return rider.landed

    def ride_in_loop(self, record: WritesRecord) -> asyncio.Future[bool]:
        """As `ride`, in an event loop, where one is always expected: from now on it may take the writes along."""
        loop = asyncio.get_running_loop()
        gate: asyncio.Future[bool] = loop.create_future()

        def open_gate() -> None:
            if not gate.done():
                gate.set_result(rider.landed)

        def let_go() -> None:
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                loop.call_soon_threadsafe(open_gate)

        def come_round(turns: int) -> None:
            if turns:
                loop.call_soon(come_round, turns - 1)
            elif self._give_up(rider):
                open_gate()
            elif not gate.done():  # a put has it, and may be interrupted
                timer = loop.call_later(LIMIT, open_gate)
                gate.add_done_callback(lambda _: timer.cancel())

        rider = self._wait(record, let_go)
        loop.call_soon(come_round, TURNS - 1)
        return gate

    def _wait(self, record: WritesRecord, let_go: Callable[[], None]) -> Rider:
        rider = Rider(record, let_go)
        with self._guard:
            self._waiting.append(rider)
        return rider

    def _give_up(self, rider: Rider) -> bool:
        """Wait no longer; whether no put has taken it along."""
        with self._guard:
            if rider not in self._waiting:
                return False
            # Those behind go now as well, or this one's writes would come after theirs.
            waiting, self._waiting = self._waiting, []
        waiting.remove(rider)
        _let_go(waiting)
        return True

    def set_out(self) -> None:
        """Writes go by themselves, until `arrive`."""
        with self._guard:
            self._alone += 1

    def arrive(self) -> None:
        with self._guard:
            self._alone -= 1

    def board(self) -> list[Rider]:
        """Those that wait go with this put, which lets each of them go when it has ended."""
        if self._alone and self._hope <= 0:
            self._hope += 1
        if not self._waiting:
            return []
        with self._guard:
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
        rider.let_go()
