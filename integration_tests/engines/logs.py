"""Appending to a log and reading it, as the tests of both engines do."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from landed.engine import Commit

if TYPE_CHECKING:
    from landed.engine import Log

TIMEOUT = 20.0
"""Seconds in which a server must answer, on a busy machine too."""


def append(log: Log, *payloads: bytes, expect: int | None = None, timeout: float = TIMEOUT) -> list[Commit]:
    """Ask for appends, however many calls the log takes for that; each is decided then."""
    commits = [Commit(payload, 1, expect, inf) for payload in payloads]
    rest = commits
    while rest:
        rest = rest[log.commit(rest, timeout) :]
    return commits


def held(log: Log) -> list[bytes]:
    """What the log holds."""
    return [batch.payload for batch in log.batches(1)]
