"""Threads that append once, and what came of it."""

from __future__ import annotations

import threading

from programs import PATIENCE

from landed.journal import Appended, Journal


class Appender(threading.Thread):
    """A thread that appends once and remembers what came of it."""

    def __init__(self, journal: Journal, data: bytes, *, expect: int | None = None) -> None:
        super().__init__(daemon=True)
        self.journal, self.data, self.expect = journal, data, expect
        self.receipt: Appended | None = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.receipt = self.journal.append([self.data], expect=self.expect)
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    def done(self) -> Appender:
        self.join(PATIENCE)
        assert not self.is_alive(), "the append hangs"
        return self


def queued(journal: Journal, count: int) -> None:
    """Wait until so many appends wait for the one under way."""
    waiting = threading.Event()
    for _ in range(PATIENCE * 100):
        if len(journal._queue) == count:
            return
        waiting.wait(0.01)
    raise AssertionError(f"{len(journal._queue)} wait, not {count}")
