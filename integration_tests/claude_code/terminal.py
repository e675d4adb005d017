"""A person at a terminal: the real Claude Code on a pseudo-terminal, its screen and keys."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from time import monotonic, sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude import Claude

SOON = 30
"""Seconds in which the screen must show something."""
ENTER, ESCAPE = b"\r", b"\x1b"
_CONTROLS = re.compile(r"\x1b(\[[0-9;?<>=]*[A-Za-z]|\][^\x07]*\x07|[()][A-B0])")


class Terminal:
    """An interactive session, from its start to the end of the block."""

    def __init__(self, claude: Claude, url: str) -> None:
        project = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
        seen = {  # what Claude Code asks a person once
            "hasCompletedOnboarding": True,
            "theme": "dark",
            "customApiKeyResponses": {"approved": [claude.env["ANTHROPIC_API_KEY"][-20:]], "rejected": []},
            "projects": {str(claude.work): project},
        }
        (claude.config / ".claude.json").write_text(json.dumps(seen))
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.process: subprocess.Popen[bytes] = claude.network.run(
            subprocess.Popen,
            [str(claude.program), "SCRIPT:main", "--permission-mode", "default"],
            cwd=claude.work,
            env={**claude.env, "ANTHROPIC_BASE_URL": url, "TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._shown = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._master, 65536)
            except OSError:  # the last program that had it open has ended
                return
            self._shown += piece

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(SOON)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(SOON)
        os.close(self._master)

    def shown(self) -> str:
        """All that was ever on the screen, without the spaces: they are moves of the cursor."""
        return "".join(_CONTROLS.sub("", self._shown.decode(errors="replace")).split())

    def wait_for(self, words: str) -> None:
        """Until the screen shows `words`."""
        wanted = "".join(words.split())
        deadline = monotonic() + SOON
        while wanted not in self.shown():
            assert monotonic() < deadline, f"the screen does not show {words!r}: {self.shown()[-3000:]}"
            assert self.process.poll() is None, f"it has ended: {self.shown()[-3000:]}"
            sleep(0.05)

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)
