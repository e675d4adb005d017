"""Other programs for a test: Python processes that run beside it and talk to it in lines."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

PATIENCE = 60
"""Seconds before a program that should have ended counts as hung."""


class Program:
    """One running program. It reads lines from us and prints lines to us."""

    def __init__(self, source: str, *arguments: object) -> None:
        command = [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid

    def hear(self) -> str:
        """The next line that it prints; "" when it has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def say(self, line: str = "") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def finish(self) -> list[str]:
        """Let it end; the lines that it still had to say. Raises when it failed."""
        output, _ = self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0, f"the program ended with {self._process.returncode}: {output}"
        return output.splitlines()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.communicate(timeout=PATIENCE)


class Programs:
    """Starts programs, and ends those that are left."""

    def __init__(self) -> None:
        self._started: list[Program] = []

    def start(self, source: str, *arguments: object) -> Program:
        program = Program(source, *arguments)
        self._started.append(program)
        return program

    def run(self, source: str, *arguments: object) -> list[str]:
        """Run a program to its end; the lines that it printed."""
        return self.start(source, *arguments).finish()

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *_: object) -> None:
        for program in self._started:
            program.kill()
