"""A path held for an agent whose bytes another program writes, between two of our processes.

A hook that runs before and after a tool cannot keep a kernel lock while the tool writes: it ends before that. Here, and
only here, a lease stands in for the lock. It is written into the path's record under the kernel lock, it names the
agent, the tool call and the process that will write, and it ends when the agent gives it back, when that process is
dead, or when its time is up. `landed.write`, `edit`, `delete` and `verify` wait for it as they wait for the lock;
`landed.desk` grants it.
"""

from __future__ import annotations

from time import monotonic, sleep, time

from landed.errors import LockTimeout
from landed.process import Owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

FIRST_PAUSE: Final = 0.005
LONGEST_PAUSE: Final = 0.05
"""Seconds between looks at a lease: most last a few hundredths of a second, and there is nothing to block on."""
_FIELDS: Final = 5


class Lease:
    """Who may write a path, until when.

    Attributes:
        agent: who asked, as an opaque word; the same agent may ask again.
        call: for which tool call, as an opaque word.
        since: when it was granted, in seconds since the epoch.
        until: when it ends at the latest.
        owner: the process that writes; its program says in words who the agent is.
    """

    __slots__ = ("agent", "call", "owner", "since", "until")

    def __init__(self, agent: str, call: str, since: float, until: float, owner: Owner) -> None:
        self.agent = _word(agent)
        self.call = _word(call)
        self.since = since
        self.until = until
        self.owner = owner

    def encode(self) -> str:
        """As one line; `Lease.decode` reads it."""
        return f"{self.agent} {self.call} {self.since:.3f} {self.until:.3f} {self.owner.encode()}"

    @classmethod
    def decode(cls, line: str) -> Lease | None:
        """The lease that `line` tells of, or None when it is not such a line."""
        parts = line.split(" ", _FIELDS - 1)
        owner = Owner.decode(parts[-1]) if len(parts) == _FIELDS else None
        if owner is None:
            return None
        try:
            return cls(parts[0], parts[1], float(parts[2]), float(parts[3]), owner)
        except ValueError:
            return None

    @property
    def over(self) -> bool:
        """Whether it binds nobody any more: its time is up, or the process that was to write is dead."""
        now = time()
        # A clock that was set back must not make a lease endless.
        return not self.since - 1 <= now < self.until or self.owner.alive() is False

    def __str__(self) -> str:
        return f"{self.owner}, for {max(0.0, time() - self.since):.1f} s"


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
