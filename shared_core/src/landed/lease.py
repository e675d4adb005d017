"""A path held for an agent whose bytes another program writes, between two of our processes.

A hook that runs before and after a tool cannot keep a kernel lock while the tool writes: it ends before that. Here, and
only here, a lease stands in for the lock. It is written into the path's record under the kernel lock, it names the
agent, the tool call and the process that will write, and it ends when the agent gives it back, when that process is
dead, or when its time is up. On Linux that is measured from the start of the machine, which no setting of its clock
changes; elsewhere, and between containers, by the time of day. `landed.write`, `edit`, `delete` and `verify` wait for
it as they wait for the lock; `landed.desk` grants it.
"""

from __future__ import annotations

import time as clocks
from time import monotonic, sleep, time

from landed.errors import LockTimeout
from landed.process import Owner, here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

FIRST_PAUSE: Final = 0.005
LONGEST_PAUSE: Final = 0.05
"""Seconds between looks at a lease: most last a few hundredths of a second, and there is nothing to block on."""
SET_BACK: Final = 1.0
"""Seconds by which the time of day may be set back while a lease lasts; more ends it, or it might be endless."""
_FIELDS: Final = 6


class Lease:
    """Who may write a path, until when.

    Attributes:
        agent: who asked, as an opaque word; the same agent may ask again.
        call: for which tool call, as an opaque word.
        since: when it was granted, in seconds since the epoch.
        until: when it ends at the latest.
        owner: the process that writes; its program says in words who the agent is.
        uptime: what `uptime` said when it was granted; "" where nobody knows.
    """

    __slots__ = ("agent", "call", "owner", "since", "until", "uptime")

    def __init__(self, agent: str, call: str, since: float, until: float, owner: Owner, uptime: str = "") -> None:
        self.agent = _word(agent)
        self.call = _word(call)
        self.since = since
        self.until = until
        self.owner = owner
        self.uptime = uptime

    def encode(self) -> str:
        """As one line; `Lease.decode` reads it."""
        return f"{self.agent} {self.call} {self.since:.3f} {self.until:.3f} {self.uptime or '-'} {self.owner.encode()}"

    @classmethod
    def decode(cls, line: str) -> Lease | None:
        """The lease that `line` tells of, or None when it is not such a line."""
        parts = line.split(" ", _FIELDS - 1)
        owner = Owner.decode(parts[-1]) if len(parts) == _FIELDS else None
        if owner is None:
            return None
        uptime = parts[4] if parts[4].rpartition(".")[2].isdecimal() else ""
        try:
            return cls(parts[0], parts[1], float(parts[2]), float(parts[3]), owner, uptime)
        except ValueError:
            return None

    @property
    def age(self) -> float:
        """Seconds since it was granted."""
        boot, _, then = self.uptime.rpartition(".")
        this_boot, _, now = uptime().rpartition(".") if boot else ("", "", "")
        return (int(now) - int(then)) / 1000 if boot and boot == this_boot else time() - self.since

    @property
    def over(self) -> bool:
        """Whether it binds nobody any more: its time is up, or the process that was to write is dead."""
        return not -SET_BACK <= self.age < self.until - self.since or self.owner.alive() is False

    def __str__(self) -> str:
        return f"{self.owner}, for {max(0.0, self.age):.1f} s"


def uptime() -> str:
    """The milliseconds for which this machine runs, sleep included, after what tells its boot and its container.

    "" where the system does not say.
    """
    clock = getattr(clocks, "CLOCK_BOOTTIME", None)
    boot = here() if clock is not None else ""
    return f"{boot}{clocks.clock_gettime_ns(clock) // 1_000_000}" if boot and clock is not None else ""


def _word(text: str) -> str:
    """`text` without what would end a field; such names come from outside."""
    return "_".join(text.split()) or "-"


def wait_for(lease: Lease, deadline: float, path: str, pause: float = LONGEST_PAUSE) -> None:
    """Let a while pass before the record is looked at again. Needs no lock: the holder needs it to give back.

    Raises:
        LockTimeout: `deadline` (of `time.monotonic`) is reached.
    """
    left = deadline - monotonic()
    if left <= 0:
        error = LockTimeout(
            f"an agent is about to write it: {lease}", path=path, step="lease", hint="Try again when it is done."
        )
        error.holder = str(lease)
        raise error
    sleep(min(left, pause))
