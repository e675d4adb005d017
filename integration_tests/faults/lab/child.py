"""A check in a process of its own, so that nothing that landed keeps for a process survives from one to the next."""

from __future__ import annotations

import json
import os
import signal
import traceback
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

GUARD = 60
"""Seconds after which a check hangs."""


def in_a_child(check: Callable[[], list[Any]]) -> list[Any]:
    """What `check` returns in a forked process; what it raises counts as a problem, and so does its death."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what frameworks think of forks: nothing of theirs runs here before
        pid = os.fork()
    if pid == 0:
        signal.alarm(GUARD)
        try:
            found = check()
        except BaseException as error:  # noqa: BLE001 - it is reported
            found = [f"{type(error).__name__}: {error} {traceback.format_exc()[-900:]}"]
        with os.fdopen(writing, "w") as pipe:
            json.dump(found, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    found = json.loads(said) if said else []
    return found if status == 0 else [*found, f"the process ended with {os.waitstatus_to_exitcode(status)}"]
