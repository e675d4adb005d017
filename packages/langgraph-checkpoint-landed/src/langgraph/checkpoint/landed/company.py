"""Writes of tasks and the put that follows them, in one batch: one flush for both.

When a super-step ends, LangGraph stores what its tasks wrote and the next checkpoint at once, from several threads, and
waits for the checkpoint alone. Committed one by one, the checkpoint would wait for a flush that nobody asked for. So
where a put has been seen to come while writes were on their way, the next writes wait for it, for a moment. In an event
loop both are begun in the same turn, one right after the other: writes wait there, and not in a thread, until the loop
has come round, and a put takes them before it goes to a thread itself. Writes that come while a put is under way, as
with ``durability="async"``, could not be flushed before it is done: they wait for it, and the next put takes them.
"""

from __future__ import annotations

import _thread
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from landed.aio import Errand
    from langgraph.checkpoint.landed.records import WritesRecord

AnyRider = TypeVar("AnyRider", bound="Rider")

MOMENT: Final = 0.005
"""Seconds that writes wait for a put: what the interpreter lets another thread run for before it switches."""
TURNS: Final = 2
"""Turns of an event loop that writes wait: time in it says nothing, as dozens of other tasks may have theirs first."""
TURNS_AFTER: Final = 5
"""Turns that they wait after a put: one that waited for it takes some until it is told."""
LIMIT: Final = 30.0
"""Seconds after which writes that a put took along go by themselves: its thread was interrupted before it had them."""
DISAPPOINTED: Final = 16
"""Times that a put has to meet writes on their way before writes wait again, after some that waited in vain."""


class Rider:
    """Writes that wait for a put to take them along.

    Attributes:
        record: the writes.
        landed: whether a put has stored them, once they are let go.
    """

    __slots__ = ("_gate", "landed", "record")

    def __init__(self, record: WritesRecord) -> None:
        self.record = record
        self.landed = False
        self._gate = _thread.allocate_lock()
        self._gate.acquire()

    def wait(self, seconds: float) -> bool:
        """Until they are let go; whether they were."""
        return self._gate.acquire(timeout=seconds)

    def let_go(self) -> None:
        """They need not wait any longer. Called from any thread."""
        self._gate.release()


class LoopRider(Rider):
    """The same in an event loop.

    Args:
        errand: stores the writes; begun if no put does, and called off if one has.
    """

    __slots__ = ("_company", "_errand")

    def __init__(self, record: WritesRecord, company: Company, errand: Errand) -> None:
        self.record = record
        self.landed = False
        self._company = company
        self._errand = errand

    def let_go(self) -> None:
        if self.landed:
            self._errand.call_off()
        else:
            self._errand.begin()

    def come_round(self, turns: int) -> None:
        """Wait for so many turns of the loop, and for the put that is under way."""
        company, errand = self._company, self._errand
        put = company.under_way
        if put is not None and put.loop is errand.loop and not put.ended and self in company.waiting:
            put.when_ended(partial(self.come_round, TURNS_AFTER))  # no sooner could they be written
        elif turns:
            errand.loop.call_soon(self.come_round, turns - 1)
        elif company.give_up(self):
            errand.begin()
        elif not errand.ended:  # a put has them, and may be interrupted
            errand.begin_after(LIMIT)


class Company:
    """Who waits for a put of one thread. Safe for threads.

    Attributes:
        under_way: the last put that a task has begun, until it has ended.
        waiting: those that no put has taken yet.
    """

    def __init__(self) -> None:
        self._guard = _thread.allocate_lock()
        self.waiting: list[Rider] = []
        self._alone = 0
        self._hope = 0
        self.under_way: Errand | None = None

    def ride(self, record: WritesRecord) -> bool:
        """Wait for a put, if one is expected; whether it has stored the writes. Else they go by themselves."""
        if self._hope <= 0:
            return False
        rider = self._wait(Rider(record))
        if not rider.wait(MOMENT):
            if self.give_up(rider):
                self._hope = -DISAPPOINTED
            else:
                rider.wait(LIMIT)  # a put has just taken it along
        return rider.landed

    def ride_in_loop(self, record: WritesRecord, errand: Errand) -> None:
        """As `ride`, in an event loop, where a put is always expected: from now on it may take the writes along.

        Args:
            errand: as for `LoopRider`.
        """
        self._wait(LoopRider(record, self, errand)).come_round(TURNS)

    async def put(self, errand: Errand) -> Any:  # noqa: ANN401 - what the put returns
        """Begin a put of a task, and wait for its end."""
        self.under_way = errand
        errand.begin()
        try:
            return await errand.end()
        finally:
            if self.under_way is errand:
                self.under_way = None

    def _wait(self, rider: AnyRider) -> AnyRider:
        with self._guard:
            self.waiting.append(rider)
        return rider

    def give_up(self, rider: Rider) -> bool:
        """Wait no longer; whether no put has taken it along."""
        with self._guard:
            if rider not in self.waiting:
                return False
            # Those behind go now as well, or this one's writes would come after theirs.
            waiting, self.waiting = self.waiting, []
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
        if not self.waiting:
            return []
        with self._guard:
            riders, self.waiting = self.waiting, []
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
