"""Processes that have imported CrewAI already: that takes longer than what they are told to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import offline  # noqa: F401 - before anything else imports CrewAI
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER = str(Path(__file__).with_name("worker.py"))
PROCESSES = 4


def pytest_configure(config: pytest.Config) -> None:
    for module in (r"crewai(_core)?\b", r"lancedb\b", r"pydantic\b"):
        config.addinivalue_line("filterwarnings", f"ignore:::{module}")


@pytest.fixture(autouse=True)
def _own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREWAI_STORAGE_DIR", str(tmp_path / "crewai"))


class Worker:
    """A process of `worker.py`."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, WORKER],
            env={**os.environ, "CREWAI_STORAGE_DIR": str(directory)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout

    def ask(self, name: str, *arguments: Any) -> None:
        """Start a call there."""
        self._in.write(json.dumps([name, *arguments]) + "\n")
        self._in.flush()

    def answer(self) -> Any:
        """What came of it."""
        return json.loads(self._out.readline())

    def __call__(self, name: str, *arguments: Any) -> Any:
        self.ask(name, *arguments)
        return self.answer()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._in.close()
        self._out.close()


@pytest.fixture(scope="session")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Worker]]:
    """Processes of their own."""
    made = [Worker(tmp_path_factory.mktemp("crewai")) for _ in range(PROCESSES)]
    for worker in made:
        assert worker.answer() == "ready"
    yield made
    for worker in made:
        worker.end()


class Script:
    """One function of `worker.py` as a script of its own."""

    def __init__(self, directory: Path, name: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, WORKER, name, *arguments],
            env={**os.environ, "CREWAI_STORAGE_DIR": str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def end(self) -> int:
        """Wait for it; its exit status."""
        return self._process.wait(200)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Any]:
    """Start a script."""
    started: list[Script] = []

    def start(name: str, *arguments: str) -> Script:
        started.append(Script(tmp_path / "crewai-of-script", name, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.kill()
