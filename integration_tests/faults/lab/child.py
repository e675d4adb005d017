"""Checks and modules of the lab in processes of their own: nothing that landed keeps for a process outlives one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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


def run_module(
    module: str, *words: object, guard: float, before: Iterable[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """What ``python -m MODULE WORDS`` says, to its end, for at most `guard` seconds.

    Args:
        before: words in front of the interpreter: strace, say.
        environment: variables that are its own.
    """
    return subprocess.run(
        [*before, sys.executable, "-m", module, *map(str, words)],
        cwd=Path(__file__).parents[1],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=guard,
        check=False,
    )
