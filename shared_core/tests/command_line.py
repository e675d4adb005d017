"""The command run as a process, for the tests of what it says."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

OK, BAD_NEWS, USAGE, CANNOT_TELL = 0, 1, 2, 3


class Result:
    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.raw = out
        self.out = out.decode(errors="replace")
        self.err = err.decode()

    @property
    def document(self) -> dict:
        return json.loads(self.out)


def run(*words: object, stdin: bytes = b"", cwd: Path | None = None, **environ: str) -> Result:
    ended = subprocess.run(
        [sys.executable, "-m", "landed", *map(str, words)],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env={**os.environ, **environ},
        timeout=60,
        check=False,
    )
    return Result(ended.returncode, ended.stdout, ended.stderr)


def on_a_terminal(*words: object, **environ: str) -> str:
    """What a run writes to a terminal."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "landed", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            env={**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, "TERM": "xterm", **environ},
        )
        os.close(theirs)
        text = b""
        while True:
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # the terminal's other end is closed
                chunk = b""
            if not chunk:
                break
            text += chunk
        process.wait(60)
    finally:
        os.close(ours)
    return text.decode()
