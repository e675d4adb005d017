"""A stand-in for Google Cloud Storage, on loopback: what the client asks of it, as Google's documentation says it.

It is no emulator that others have tried: it was written for these tests, since none that can be had compares
generations. So it shows that landed asks for the right conditions and understands the answers, and nothing of Google.

Objects are put, got, deleted and listed as in the XML API. Each put has a new generation; the header
``x-goog-if-generation-match`` names the one that must be there, 0 for none, and 412 says that it is not.
"""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import AbstractContextManager
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from environ import environ

BUCKET = "bucket"
CONDITION = "x-goog-if-generation-match"
BUSY = b"The bucket is asked for too much; please reduce your request rate."


class Stored:
    """An object."""

    def __init__(self, data: bytes, generation: int) -> None:
        self.data = data
        self.generation = generation
        self.headers = {
            "ETag": f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"',
            "Last-Modified": formatdate(usegmt=True),
            "x-goog-generation": str(generation),
        }


class GoogleServer:
    """One server, with any number of buckets.

    Attributes:
        honest: whether it compares generations.
        busy: how many of the next requests it answers with 503.
    """

    def __init__(self) -> None:
        self.honest = True
        self.busy = 0
        self._objects: dict[str, Stored] = {}
        self._generation = 0
        self._guard = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": self}))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def get(self, path: str) -> Stored | None:
        return self._objects.get(path)

    def put(self, path: str, data: bytes, condition: str | None) -> Stored | None:
        """None when the condition is not met."""
        with self._guard:
            there = self._objects.get(path)
            if self.honest and condition is not None and int(condition) != (there.generation if there else 0):
                return None
            self._generation += 1
            self._objects[path] = Stored(data, self._generation)
            return self._objects[path]

    def refuses(self) -> bool:
        """Whether it is too busy for a request."""
        with self._guard:
            refused = self.busy > 0
            self.busy -= refused
            return refused

    def delete(self, path: str) -> bool:
        with self._guard:
            return self._objects.pop(path, None) is not None

    def list(self, bucket: str, prefix: str) -> list[tuple[str, Stored]]:
        with self._guard:
            every = sorted(self._objects.items())
        return [(path[len(bucket) + 1 :], each) for path, each in every if path.startswith(f"{bucket}/{prefix}")]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self) -> AbstractContextManager[None]:
        """The environment in which the store is found."""
        key = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
        settings = {"GOOGLE_BASE_URL": self.endpoint, "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(key)}
        return environ(settings)


class _Handler(BaseHTTPRequestHandler):
    store: GoogleServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.store.refuses():
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, data=BUSY)
            return
        stored = self.store.put(self._path, data, self.headers.get(CONDITION))
        if stored is None:
            self._answer(HTTPStatus.PRECONDITION_FAILED)
        else:
            self._answer(HTTPStatus.OK, stored.headers)

    def do_GET(self) -> None:
        if self.store.refuses():
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, data=BUSY)
            return
        if "/" not in self._path:
            self._list()
            return
        stored = self.store.get(self._path)
        if stored is None:
            self._answer(HTTPStatus.NOT_FOUND)
        elif self.headers.get("If-None-Match") == stored.headers["ETag"]:
            self._answer(HTTPStatus.NOT_MODIFIED, stored.headers)
        else:
            self._answer(HTTPStatus.OK, stored.headers, stored.data)

    def do_DELETE(self) -> None:
        self._answer(HTTPStatus.NO_CONTENT if self.store.delete(self._path) else HTTPStatus.NOT_FOUND)

    @property
    def _path(self) -> str:
        return unquote(urlsplit(self.path).path.strip("/"))

    def _list(self) -> None:
        """All in one page."""
        prefix = parse_qs(urlsplit(self.path).query).get("prefix", [""])[0]
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(each.data)}</Size><ETag>{escape(each.headers['ETag'])}</ETag>"
            f"<LastModified>{_iso(each.headers['Last-Modified'])}</LastModified></Contents>"
            for key, each in self.store.list(self._path, prefix)
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>"
        self._answer(HTTPStatus.OK, {"Content-Type": "application/xml"}, text.encode())

    def _answer(self, status: HTTPStatus, headers: dict[str, str] | None = None, data: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status not in {HTTPStatus.NOT_MODIFIED, HTTPStatus.NO_CONTENT}:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing: the tests' output is theirs."""


def _iso(date: str) -> str:
    from email.utils import parsedate_to_datetime

    return parsedate_to_datetime(date).strftime("%Y-%m-%dT%H:%M:%SZ")
