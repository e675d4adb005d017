"""Writes of tasks and the put that follows them, in one batch: one flush for both.

When a super-step ends, LangGraph stores what its tasks wrote and the next checkpoint at once, from several threads, and
waits for the checkpoint alone. Committed one by one, the checkpoint would wait for a flush that nobody asked for. So
where a put has been seen to come while writes were on their way, the next writes wait for it, for a moment. Those of a
task wait in its event loop and not in a thread, of which there are too few for all.
"""

from __future__ import annotations

import _thread
import asyncio
from typing import TYPE_CHECKING, Final

from landed.aio import finish_future

if TYPE_CHECKING:
    from collections.abc import Callable

    from langgraph.checkpoint.landed.records import WritesRecord

MOMENT: Final = 0.005
"""Seconds that writes wait for a put: what the interpreter lets another thread run for before it switches."""
LOOP_MOMENT: Final = 0.05
"""The same in an event loop, which may have dozens of other tasks to run before it comes to the put."""
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

    @property
    def expects_a_put(self) -> bool:
        """Whether writes that come now would wait."""
        return self._hope > 0

    def ride(self, record: WritesRecord) -> bool:
        """Wait for a put, if one is expected; whether it has stored the writes. Else they go by themselves."""
        if not self.expects_a_put:
            return False
        gate = _thread.allocate_lock()
        gate.acquire()
        rider = self._wait(record, gate.release)
        if not gate.acquire(timeout=MOMENT) and not self._give_up(rider):
            gate.acquire(timeout=LIMIT)  # a put has just taken it along
        return rider.landed

    async def ride_in_loop(self, record: WritesRecord) -> bool:
        """As `ride`, for a task; if it is cancelled meanwhile, that goes on when the put has ended."""
        if not self.expects_a_put:
            return False
        loop = asyncio.get_running_loop()
        gate: asyncio.Future[None] = loop.create_future()

        def open_gate() -> None:
            if not gate.done():
                gate.set_result(None)

        def let_go() -> None:
            try:
                loop.call_soon_threadsafe(open_gate)
            except RuntimeError:
                return  # the loop is closed, and nobody waits

        rider = self._wait(record, let_go)
        timers = (
            loop.call_later(LOOP_MOMENT, self._give_up, rider),
            loop.call_later(LOOP_MOMENT + LIMIT, open_gate),  # when a put took it along and was interrupted
        )
        try:
            await finish_future(gate)
        finally:
            for timer in timers:
                timer.cancel()
        return rider.landed

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
            self._hope = -DISAPPOINTED
            # Those behind go now as well, or this one's writes would come after theirs.
            waiting, self._waiting = self._waiting, []
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
        rider.let_go()
