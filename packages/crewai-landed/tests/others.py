"""Other processes with a storage on the directory of this one's, for all tests of a run: starting one takes seconds."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from model import another_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from crewai_landed import LandedStorage

SERVER = """
import sys, warnings
warnings.simplefilter("ignore")
from crewai.memory.types import MemoryRecord
from crewai_landed import LandedStorage
shared = LandedStorage(sys.argv[1])
record = lambda name: MemoryRecord(id=name, content=name, scope="/" + name, embedding=[1.0, 0.0])
print("ready", flush=True)
for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""


class Other:
    """Another process with a storage, which evaluates what it is told."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.answer() == "ready"

    def tell(self, expression: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(expression + "\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def ask(self, expression: str) -> Any:
        self.tell(expression)
        return eval(self.answer())

    def settle(self) -> None:
        """Let it end what it was told, also where a test failed before it heard the answer."""
        self.tell("'settled'")
        while self.answer() not in {"'settled'", ""}:
            pass

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="session")
def others(directory: Path) -> Iterator[list[Other]]:
    """Two of them."""
    made = [Other(directory) for _ in range(2)]
    yield made
    for other in made:
        other.close()


@pytest.fixture
def shared(directory: Path, others: list[Other]) -> Iterator[LandedStorage]:
    """This process's storage on their directory, which is empty."""
    yield another_process(directory)
    for other in others:
        other.settle()
    another_process(directory).reset()
