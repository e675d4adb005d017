"""A TCP relay on loopback that can lose what a server answers, hold it back, or cut everything off."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Wire:
    """Relays connections to a port of loopback.

    Attributes:
        port: what clients connect to.
        lose_answers: after how many more answers of the server the connection is cut, the answer lost; None for never.
        meanwhile: called once, before the next request goes on whose answer is to be lost.
        delay: seconds by which each answer is held back.
        down: whether connections are refused and cut.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lose_answers: int | None = None
        self.meanwhile: Callable[[], object] | None = None
        self.lost = 0
        self.delay = 0.0
        self.down = False
        self._guard = threading.Lock()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Cut every connection, and refuse new ones until `mend`."""
        self.down = True
        with self._guard:
            open_, self._open = self._open, set()
        for each in open_:
            _close(each)

    def mend(self) -> None:
        self.down = False

    def close(self) -> None:
        self.cut()
        _close(self._listener)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.down:
                _close(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port), 5)
            except OSError:
                _close(client)
                continue
            with self._guard:
                self._open |= {client, server}
            for source, sink, answers in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._relay, args=(source, sink, answers), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if not answers:
                    self._interfere()
                elif self._loses():
                    break
                if answers and self.delay:
                    time.sleep(self.delay)
                sink.sendall(data)
        _close(source)
        _close(sink)

    def _interfere(self) -> None:
        with self._guard:
            meanwhile = self.meanwhile if self.lose_answers == 0 else None
            if meanwhile is not None:
                self.meanwhile = None
        if meanwhile is not None:
            meanwhile()

    def _loses(self) -> bool:
        with self._guard:
            if self.lose_answers is None:
                return False
            self.lose_answers -= 1
            if self.lose_answers >= 0:
                return False
            self.lose_answers = None
            self.lost += 1
            return True


def _close(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
