"""A server that speaks S3, on loopback: moto's, in a process of its own, which may keep its objects in a file."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from environ import environ

READY = 60.0
"""Seconds in which the server must answer."""
BUCKET = "bucket"
THERE = 409
"""What it answers who makes the bucket again."""


class S3Server:
    """One server, with one bucket.

    Attributes:
        endpoint: its URL.

    Args:
        listens: the address that it listens on.
        keeps: the file that it keeps its objects in, so that it has them again when it was killed; None for none.
    """

    def __init__(self, listens: str = "127.0.0.1", keeps: Path | None = None) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, __file__, listens, str(self.port), *([str(keeps)] if keeps else [])]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + READY
        while True:
            try:
                request = urllib.request.Request(f"{self.endpoint}/{BUCKET}", method="PUT")
                with urllib.request.urlopen(request, timeout=5):
                    return
            except urllib.error.HTTPError as error:
                if error.code == THERE:
                    return
            except OSError:
                pass
            assert self.process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.1)

    def kill(self) -> None:
        """As a crash does, in the midst of whatever it does."""
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


class Kept:
    """What a server has done, line by line in a file: what it puts and deletes, before anybody can see it.

    A line says the bucket, the key, the size and when; then come the bytes. One that is not whole was cut off when the
    server was killed, before it answered.
    """

    def __init__(self, path: str) -> None:
        from moto.s3.models import S3Backend

        self._put, self._delete = S3Backend.put_object, S3Backend.delete_object
        kept = Path(path)
        self._replay(kept)
        self._file = kept.open("ab", buffering=0)

        def put_object(backend: S3Backend, bucket: str, key: str, value: bytes, *more: Any, **named: Any) -> object:
            self._record(bucket, key, bytes(value))
            return self._put(backend, bucket, key, value, *more, **named)

        def delete_object(backend: S3Backend, bucket: str, key: str, *more: Any, **named: Any) -> object:
            self._record(bucket, key, None)
            return self._delete(backend, bucket, key, *more, **named)

        S3Backend.put_object, S3Backend.delete_object = put_object, delete_object

    def _record(self, bucket: str, key: str, value: bytes | None) -> None:
        line = json.dumps([bucket, key, None if value is None else len(value), time.time()])
        self._file.write(f"{line}\n".encode() + (value or b""))

    def _replay(self, kept: Path) -> None:
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        backend.create_bucket(BUCKET, "us-east-1")
        whole = 0
        with kept.open("a+b") as file:
            file.seek(0)
            while (line := file.readline()).endswith(b"\n"):
                bucket, key, size, at = json.loads(line)
                value = file.read(size or 0)
                if len(value) < (size or 0):
                    break
                whole = file.tell()
                if size is None:
                    self._delete(backend, bucket, key)
                else:
                    made = self._put(backend, bucket, key, value)
                    made.last_modified = datetime.fromtimestamp(at, timezone.utc).replace(tzinfo=None)
            file.truncate(whole)


def serve(listens: str, port: str, keeps: str | None = None) -> None:
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
    if keeps is not None:
        Kept(keeps)
    main(["-H", listens, "-p", port])


if __name__ == "__main__":
    serve(*sys.argv[1:])
