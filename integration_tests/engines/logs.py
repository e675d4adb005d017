"""Appending to a log and reading it, as the tests of both engines do."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING

from landed.engine import Commit

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@contextmanager
def appended_to(log: Log, payload: bytes, pause: float = 0.0) -> Iterator[None]:
    """Another thread appends to the log all the time."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            append(log, payload)
            time.sleep(pause)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
