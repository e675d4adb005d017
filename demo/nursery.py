"""A process that has imported a framework once, and forks programs off in milliseconds.

CrewAI takes some eight seconds of a processor to import and LangGraph three, and a replay needs several processes. What
is forked off is a program like any other: a process of its own, which ends as the interpreter ends, and which a kill
ends at once.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT = 1 << 16
"""Bytes of one request."""


class Nursery:
    """Imports the modules in the background; `fork` waits for that. Safe for threads."""

    def __init__(self, *modules: str, environ: dict[str, str] | None = None) -> None:
        self._control, theirs = socket.socketpair()
        self._guard = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "demo.program", "--nursery", str(theirs.fileno()), *modules],
                env={**os.environ, **(environ or {})},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def fork(self, command: Sequence[str], environ: dict[str, str]) -> Forked:
        """Start ``python -m demo.program COMMAND`` there.

        Raises:
            EOFError: the nursery is no more.
        """
        (stdin, to_it), (from_it, stdout), (status, told) = os.pipe(), os.pipe(), os.pipe()
        request = json.dumps([list(command), environ]).encode()
        try:
            with self._guard:
                socket.send_fds(self._control, [request], [stdin, stdout, told])
                if not self._control.recv(1):
                    raise EOFError(f"the nursery ended with status {self._process.wait()}")
        finally:
            for descriptor in (stdin, stdout, told):
                os.close(descriptor)
        return Forked(to_it, from_it, status)

    def close(self) -> None:
        """End it; what it forked goes on."""
        self._control.close()
        self._process.kill()
        self._process.wait()


class Forked:
    """A program that a nursery forked: what `subprocess.Popen` offers of it."""

    def __init__(self, stdin: int, stdout: int, status: int) -> None:
        self.stdin = open(stdin, "w", encoding="utf-8")  # noqa: SIM115 - closed by whoever started it
        self.stdout = open(stdout, encoding="utf-8")  # noqa: SIM115
        self._status = status
        self._guard = threading.Lock()
        self._ended: int | None = None
        self.pid = self._number()

    def kill(self) -> None:
        """SIGKILL, unless it has ended: then its process id may be another's."""
        with self._guard, contextlib.suppress(ProcessLookupError):
            if self._ended is None and not select.select([self._status], [], [], 0)[0]:
                os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended; the watchdog of its owner bounds the wait."""
        del timeout
        if self._ended is None:
            select.select([self._status], [], [])  # without the guard, which the watchdog needs to kill it
            with self._guard:
                self._ended = self._number()
                os.close(self._status)
        return self._ended

    def _number(self) -> int:
        """The next line of what the process that waits for it tells."""
        digits = b""
        while not digits.endswith(b"\n"):
            more = os.read(self._status, 1)
            if not more:
                raise EOFError("a nursery ended before a program that it forked")
            digits += more
        return int(digits)


def serve(control: int, modules: Sequence[str]) -> list[str]:
    """Import and fork until the demo ends; in a forked program: its command.

    Between the nursery and a program stands a process that waits for it and tells its exit status.
    """
    for module in modules:
        with contextlib.suppress(ImportError):  # it is imported to be there already, and not everywhere there
            importlib.import_module(module)
    gc.freeze()  # else each program copies what was imported as soon as it collects, and again when it ends
    warnings.simplefilter("ignore")  # of forking a process with threads: those that the frameworks have start anew
    with socket.socket(fileno=control) as asked:
        while True:
            request, descriptors, _, _ = socket.recv_fds(asked, LIMIT, 3)
            if not request:
                sys.exit(0)
            if os.fork() == 0:
                break
            for descriptor in descriptors:
                os.close(descriptor)
            asked.send(b".")
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    stdin, stdout, told = descriptors
    program = os.fork()
    if program:
        for descriptor in (stdin, stdout):
            os.close(descriptor)
        os.write(told, f"{program}\n".encode())
        _, status = os.waitpid(program, 0)
        os.write(told, f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    for descriptor in descriptors:
        os.close(descriptor)
    command, environ = json.loads(request)
    os.environ.update(environ)
    return list(command)
