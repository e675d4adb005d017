"""A server that speaks Azure's blob protocol, on loopback: Azurite, which npm fetches once into .make/azurite."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import AbstractContextManager
from email.utils import formatdate
from pathlib import Path

from environ import environ

from landed import Lock

VERSION = "3.37.0"
READY = 120.0
"""Seconds in which the server must answer; on a busy machine it takes its time."""
FETCHING = 120.0
"""Seconds that npm may take."""
CONFLICT = 409
CONTAINER = "container"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The key that every Azurite has; it is no secret."""


def installed() -> Path | None:
    """Azurite's program, fetched if need be; None where npm is missing or does not get it."""
    cache = Path(__file__).resolve().parents[2] / ".make" / "azurite"
    program = cache / "node_modules" / ".bin" / "azurite-blob"
    if not program.exists() and shutil.which("npm"):
        cache.mkdir(parents=True, exist_ok=True)
        lock = Lock(str(cache / "lock"))
        lock.acquire(2 * FETCHING)  # of the workers that the tests run in, one fetches
        try:
            if not program.exists():
                _fetch(cache)
        finally:
            lock.release()
    return program if program.exists() else None


def _fetch(cache: Path) -> None:
    command = ["npm", "install", "--prefix", str(cache), "--no-audit", "--no-fund", "--fetch-retries=1"]
    with contextlib.suppress(subprocess.TimeoutExpired):  # what is not there then is a skip, which says so
        subprocess.run([*command, f"azurite@{VERSION}"], stdin=subprocess.DEVNULL, timeout=FETCHING, check=False)


class AzureServer:
    """One server, with one container, on a directory of its own."""

    def __init__(self, program: Path, directory: Path) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = int(listener.getsockname()[1])
        self.endpoint = f"http://127.0.0.1:{self.port}/{ACCOUNT}"
        self._command = [
            str(program),
            *("--silent", "--skipApiVersionCheck", "--disableTelemetry"),
            *("--location", str(directory), "--blobHost", "127.0.0.1", "--blobPort", str(self.port)),
        ]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + READY
        while not self._make_container():
            assert self.process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.2)

    def _make_container(self) -> bool:
        date, version = formatdate(usegmt=True), "2021-08-06"
        resource = f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container"
        text = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n{resource}"
        signature = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
        request = urllib.request.Request(
            f"{self.endpoint}/{CONTAINER}?restype=container",
            method="PUT",
            headers={
                "x-ms-date": date,
                "x-ms-version": version,
                "Authorization": f"SharedKey {ACCOUNT}:{signature}",
                "Content-Length": "0",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=10):
                return True
        except urllib.error.HTTPError as error:
            return error.code == CONFLICT  # it is there since an earlier start
        except (ConnectionError, urllib.error.URLError):
            return False

    def end(self) -> None:
        """As an operator does. It writes its index down then; killed, it would forget what it acknowledged."""
        self.process.terminate()
        self.process.wait(READY)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def environment(self) -> AbstractContextManager[None]:
        """The environment in which the store is found."""
        settings = {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_STORAGE_ENDPOINT": self.endpoint,
            "AZURE_ALLOW_HTTP": "true",
        }
        return environ(settings)
