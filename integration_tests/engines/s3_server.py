"""A server that speaks S3, on loopback: moto's, in a process of its own."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import AbstractContextManager

from environ import environ

READY = 60.0
"""Seconds in which the server must answer."""
BUCKET = "bucket"


class S3Server:
    """One server, with one bucket.

    Attributes:
        endpoint: its URL.

    Args:
        listens: the address that it listens on.
    """

    def __init__(self, listens: str = "127.0.0.1") -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [sys.executable, __file__, listens, str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + READY
        while True:
            with contextlib.suppress(OSError):
                request = urllib.request.Request(f"{self.endpoint}/{BUCKET}", method="PUT")
                with urllib.request.urlopen(request, timeout=5):
                    return
            assert self.process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.1)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def environment(endpoint: str) -> AbstractContextManager[None]:
    """The environment in which a store at `endpoint` is found."""
    settings = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "s3cret-of-the-tests",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    return environ(settings)


def serve(listens: str, port: str) -> None:
    """Run moto's server; its puts one after the other.

    moto compares a put's condition and stores the object in two steps, in a thread for each request; between them
    another put can do the same, and both hear that they were the first. S3 does not do that.
    """
    import threading

    from moto.s3.responses import S3Response
    from moto.server import main

    turn = threading.Lock()
    put_object = S3Response.put_object

    def one_at_a_time(response: S3Response) -> object:
        with turn:
            return put_object(response)

    S3Response.put_object = one_at_a_time
    main(["-H", listens, "-p", port])


if __name__ == "__main__":
    serve(*sys.argv[1:])
