"""The real Claude Code, offline: fetched from npm once, run against a scripted model in a network of its own."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import platform
import shutil
import signal
import socket
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("LANDED_CLAUDE_CODE_CACHE") or ROOT / ".make" / "claude-code")
"""Where versions of Claude Code are kept. They are not ours to pass on, so none is in the repository."""
LATEST, RECOMMENDED, FLOOR = "latest", "2.1.295", "2.1.139"
FETCH_LIMIT = 240
"""Seconds for npm."""
LIMIT = 90
"""Seconds for one session; most take one."""
SOON = 20
"""Seconds in which something must have happened."""
TOOLS = "Bash,Write,Edit,Read,NotebookEdit,Task,Agent,Workflow"
OFFLINE = dict.fromkeys(
    (
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL",
        "DISABLE_AUTOUPDATER",
        "DISABLE_ERROR_REPORTING",
        "DISABLE_GROWTHBOOK",
        "DISABLE_TELEMETRY",
        "DISABLE_UPDATES",
    ),
    "1",
)


class Unavailable(Exception):
    """This machine cannot have the version; the message says why."""


def fetch(version: str, limit: float = FETCH_LIMIT) -> Path:
    """The program of one version of Claude Code.

    Args:
        version: of the package, or `LATEST`.
        limit: seconds for npm, in all.

    Raises:
        Unavailable: npm is missing, cannot reach a registry, or has no package for this platform.
    """
    npm, deadline = shutil.which("npm"), monotonic() + limit
    package = f"@anthropic-ai/claude-code-{_platform()}"
    if version == LATEST:
        version = _latest(npm, package, deadline)
    home = CACHE / version
    program = home / "node_modules" / package / "claude"
    if program.exists():
        return program
    if npm is None:
        raise Unavailable("npm is not installed")
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if program.exists():
            return program
        aside = CACHE / f".{version}"
        shutil.rmtree(aside, ignore_errors=True)
        _npm(deadline, npm, "install", "--ignore-scripts", "--prefix", str(aside), f"{package}@{version}")
        if not (aside / program.relative_to(home)).exists():
            raise Unavailable(f"{package}@{version} holds no program")
        shutil.rmtree(home, ignore_errors=True)
        aside.rename(home)  # whole, or not there
    return program


def _latest(npm: str | None, package: str, deadline: float) -> str:
    try:
        return _npm(deadline, npm or "npm", "view", package, "version").strip()
    except Unavailable:
        kept = sorted(CACHE.glob("*.*.*"), key=lambda path: tuple(int(part) for part in path.name.split(".")))
        if not kept:
            raise
        return kept[-1].name


def _npm(deadline: float, *arguments: str) -> str:
    command = [*arguments, "--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=1"]
    limit = max(1.0, deadline - monotonic())
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except OSError as error:
        raise Unavailable("npm cannot be started") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"npm was not done in {limit:.0f} s") from error
    if ended.returncode:
        raise Unavailable(f"npm failed: {' '.join((ended.stderr or ended.stdout).split())[:200]}")
    return ended.stdout


def _platform() -> str:
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine().lower())
    system = {"Linux": "linux", "Darwin": "darwin"}.get(platform.system())
    if machine is None or system is None:
        raise Unavailable(f"no package for {platform.system()} on {platform.machine()} is known to these tests")
    musl = system == "linux" and not platform.libc_ver()[0] and Path("/etc/alpine-release").exists()
    return f"{system}-{machine}{'-musl' if musl else ''}"


class Network:
    """A thread in a network namespace of its own, where loopback is all there is; in the usual one where that is
    not allowed. Sockets opened and processes started by that thread are in it."""

    def __init__(self) -> None:
        self.isolated = False
        self._thread = ThreadPoolExecutor(max_workers=1, initializer=self._enter)

    def run(self, function: Any, *arguments: Any, **options: Any) -> Any:
        return self._thread.submit(function, *arguments, **options).result()

    def _enter(self) -> None:
        if sys.platform != "linux":
            return
        if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):  # CLONE_NEWNET; needs root
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:  # ip link set lo up
            fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14s", b"lo", 0x1 | 0x40, b""))
        self.isolated = True

    def close(self) -> None:
        self._thread.shutdown()


class Claude:
    """One version of Claude Code with a home and a project of its own."""

    def __init__(self, program: Path, network: Network, directory: Path) -> None:
        self.program = program
        self.network = network
        self.home = directory / "home"
        self.work = directory / "work"
        self.config = self.home / ".claude"
        self.state = directory / "state"
        for made in (self.config, self.work):
            made.mkdir(parents=True)
        self.env = {
            **OFFLINE,
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "CLAUDE_CONFIG_DIR": str(self.config),
            "LANDED_STATE_DIR": str(self.state),
            "ANTHROPIC_API_KEY": "none",
            "CLAUDE_CODE_MAX_RETRIES": "0",
        }
        if "PYTHONPATH" in os.environ:
            self.env["PYTHONPATH"] = os.environ["PYTHONPATH"]

    @property
    def version(self) -> tuple[int, ...]:
        name = self.program.parents[3].name
        return tuple(map(int, name.split(".")))

    def hook(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `landed-hook`."""
        command = [sys.executable, "-m", "landed_claude_code", *words]
        return subprocess.run(command, cwd=self.work, env=self.env, capture_output=True, text=True, check=check)

    def settings(self, **hooks: list[dict[str, Any]]) -> None:
        """Put hooks of somebody else's into the project's settings."""
        path = self.work / ".claude" / "settings.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"hooks": hooks}))

    def start(
        self, url: str, prompt: str = "SCRIPT:main", *options: str, cwd: Path | None = None, tools: str = TOOLS
    ) -> subprocess.Popen[str]:
        """Start a session."""
        command = [
            str(self.program), "-p", prompt, "--output-format", "stream-json", "--verbose",
            "--permission-mode", "acceptEdits", "--allowedTools", tools, *options,
        ]  # fmt: skip
        return self.network.run(
            subprocess.Popen,
            command,
            cwd=cwd or self.work,
            env={**self.env, "ANTHROPIC_BASE_URL": url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, url: str, prompt: str = "SCRIPT:main", *options: str, **more: Any) -> list[dict[str, Any]]:
        """Run a session to its end; the events that it printed."""
        return finish(self.start(url, prompt, *options, **more))


def finish(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Wait for a session; the events that it printed."""
    try:
        out, err = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        kill(process)
        out, err = process.communicate()
        raise AssertionError(f"the session did not end in {LIMIT} s: {out[-2000:]} {err[-2000:]}") from None
    assert process.returncode == 0, (process.returncode, out[-2000:], err[-2000:])
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def until(happened: Callable[[], object]) -> None:
    deadline = monotonic() + SOON
    while not happened():
        assert monotonic() < deadline, "it did not happen"
        sleep(0.02)


def finish_all(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        finish(process)


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, for the CLI alone: its hooks are orphans then."""
    os.kill(process.pid, signal.SIGKILL)
