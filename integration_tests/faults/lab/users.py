"""Other users, in truth: processes that have given up root for a uid of their own."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from typing import TYPE_CHECKING

import landed

if TYPE_CHECKING:
    from collections.abc import Callable

VICTIM, NEIGHBOUR = 54_101, 54_102
GROUP = 54_100
"""Both may be members."""
GUARD = 30
"""Seconds after which what a user does hangs."""
HANGS = "hangs"
DONE = "done"


def why_not() -> str:
    """Why there are no other users here; "" when there are."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return "needs root on a POSIX system, to become another user"
    return ""


class As:
    """A process of another user that does one thing.

    Args:
        uid: whose.
        act: what it does. An error of landed's is an answer; any other is one too, which starts with "!".
        group: the only group of the process.
    """

    def __init__(self, uid: int, act: Callable[[], object], group: int | None = None) -> None:
        self._reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what frameworks think of forks: nothing of theirs runs here before
            self._pid = os.fork()
        if self._pid == 0:
            os._exit(_become(uid, act, writing, uid if group is None else group))
        os.close(writing)

    def said(self) -> str:
        """`DONE`, what `act` returned if that is a text, an error, or `HANGS`."""
        with os.fdopen(self._reading) as pipe:
            answer = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return HANGS if status == -signal.SIGALRM else answer or f"!ended with {status}"


def _become(uid: int, act: Callable[[], object], writing: int, group: int) -> int:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(GUARD)
    try:
        os.setgroups([])
        os.setgid(group)
        os.setuid(uid)
        answer = act()
        said = answer if isinstance(answer, str) else DONE
    except landed.LandedError as error:
        said = f"{type(error).__name__}: {error}"
    except BaseException as error:  # noqa: BLE001 - it is an answer
        said = f"!{type(error).__name__}: {error}"
    os.write(writing, said.encode())
    return 0
