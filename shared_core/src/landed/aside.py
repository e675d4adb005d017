"""Threads for jobs that block, kept for a moment: where one is needed, the next often is, and starting one is dear."""

from __future__ import annotations

import _thread
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

IDLE: Final = 0.05
"""Seconds that a thread waits for its next job: as long as contention lasts, and no longer, so that forks find none."""


class _Idle:
    """A thread that has done its job."""

    __slots__ = ("gate", "job")

    def __init__(self) -> None:
        self.gate = _thread.allocate_lock()
        self.gate.acquire()
        self.job: Callable[[], object] | None = None


_idle: list[_Idle] = []


def run(job: Callable[[], object]) -> None:
    """Run `job`, which must not raise, in another thread.

    Raises:
        RuntimeError: there can be no more threads.
    """
    try:
        thread = _idle.pop()
    except IndexError:
        _thread.start_new_thread(_work, (job,))
    else:
        thread.job = job
        thread.gate.release()


def _work(job: Callable[[], object] | None) -> None:
    me = _Idle()
    while job is not None:
        job()
        me.job = None
        _idle.append(me)
        if not me.gate.acquire(timeout=IDLE):
            try:
                _idle.remove(me)
            except ValueError:
                me.gate.acquire()  # somebody has just taken it
        job = me.job


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)
