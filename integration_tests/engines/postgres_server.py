"""A real PostgreSQL server for tests: a cluster of its own on loopback, which can be killed and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

READY = 30.0
"""Seconds in which a server must answer."""


def binaries() -> Path | None:
    """Where the server's programs are, or None when there is none on this machine."""
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    found = packaged[-1] if packaged else shutil.which("postgres")
    return Path(found).parent if found else None


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class PostgresServer:
    """One cluster in a directory of its own.

    Args:
        above: where its directory is made; the one for temporary files when None.
        settings: lines for postgresql.conf.
    """

    def __init__(self, programs: Path, *, above: str | None = None, **settings: str) -> None:
        self._programs = programs
        self._directory = Path(tempfile.mkdtemp(prefix="landed-postgres-", dir=above))
        self.data = self._directory / "data"
        self.port = free_port()
        # PostgreSQL refuses to run as root.
        self._user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(self._directory, self._user.pw_uid, self._user.pw_gid)
        self._run("initdb", "-D", str(self.data), "-U", "landed", "-A", "trust", "--no-sync", "-E", "UTF8")
        with (self.data / "postgresql.conf").open("a") as config:
            config.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n"
                "max_connections = 60\nshared_buffers = 32MB\nlog_min_messages = fatal\n"
            )
            config.writelines(f"{name} = {value}\n" for name, value in settings.items())
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self, name: str = "", **options: str) -> str:
        query = "&".join(f"{key}={value}" for key, value in options.items())
        return f"postgresql://landed@127.0.0.1:{self.port}/postgres/{name}" + (f"?{query}" if query else "")

    @property
    def conninfo(self) -> str:
        return f"postgresql://landed@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        self.process = self._begin("postgres", "-D", str(self.data))
        deadline = time.monotonic() + READY
        while self._call("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)).returncode:
            assert self.process.poll() is None, "the server ended; see its output above"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)

    def kill(self) -> None:
        """As a crash does: the server and its children, at once."""
        assert self.process is not None
        children = [int(pid) for pid in self._children(self.process.pid)]
        for pid in [self.process.pid, *children]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        deadline = time.monotonic() + READY
        while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < deadline:
            time.sleep(0.01)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # fast shutdown
            self.process.wait(READY)
        self.process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._directory)

    @staticmethod
    def _children(pid: int) -> list[str]:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()

    def _run(self, program: str, *arguments: str) -> None:
        done = self._call(program, *arguments)
        assert done.returncode == 0, done.stdout.decode()

    def _call(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        with self._begin(program, *arguments) as process:
            output = process.communicate(timeout=READY * 2)[0]
        return subprocess.CompletedProcess([program], process.returncode, output)

    def _begin(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        identity = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}
        return subprocess.Popen(
            [str(self._programs / program), *arguments],
            cwd=self._directory,
            stdout=subprocess.PIPE if program != "postgres" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            **identity,  # type: ignore[call-overload]
        )
