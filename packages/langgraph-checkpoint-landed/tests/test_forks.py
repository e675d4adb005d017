"""A process that forks while its threads put: its children go on with the saver."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from drafts import Thread

from langgraph.checkpoint.landed import LandedSaver

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def test_a_child_goes_on_whatever_another_thread_of_its_parent_had_locked(thread: Thread, root: Path) -> None:
    thread.put({"a": 0})
    saver = thread.saver
    assert isinstance(saver, LandedSaver)
    history = saver._threads.find("1")
    assert history is not None
    locked, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with history.writing, history.guard, saver._threads._guard, saver._threads._cache._guard, saver._memory._guard:
            locked.set()
            forked.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    locked.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        status = 1
        try:
            mine = Thread(saver)
            mine.load()
            mine.put({"a": 1})
            mine.write(("x", 1))
            status = 0
        finally:
            os._exit(status)
    forked.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert Thread(LandedSaver(root)).values == thread.values == {"a": 1}
