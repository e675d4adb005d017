"""What every test of the core starts from: a store of its own and a memory of its own."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from model_world import STATE
from programs import Programs
from recording import Recording

import landed
from landed import process
from landed.local import ahead, sizes
from landed.local.frames import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def pytest_collection_finish() -> None:
    """What is loaded by now stays: looking through it for garbage again and again takes a tenth of the run."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A shell that starts a program in the background lets it ignore Control-C, which tests of interrupts send."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks and records of this test, away from those of the person who runs it."""
    path = tmp_path / "state"
    monkeypatch.setenv("LANDED_STATE_DIR", str(path))
    return path


@pytest.fixture
def model_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store on the model's disk, and a name of this process that always has one length."""
    monkeypatch.setenv("LANDED_STATE_DIR", STATE)
    monkeypatch.setattr(process, "_me", process.Owner(os.getpid(), "boot.1", "model", "model"))


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals whose segments double from one page on, so that a few records fill several."""
    monkeypatch.setattr(sizes, "FIRST_SIZE", PAGE)
    monkeypatch.setattr(sizes, "REST_SIZE", PAGE)
    monkeypatch.setattr(sizes, "GROWTH", 1)
    monkeypatch.setattr(ahead, "AHEAD", PAGE)


@pytest.fixture
def fs() -> Recording:
    """The real file operations, recorded."""
    return Recording()


@pytest.fixture
def files() -> landed.Files:
    """A program that has seen nothing yet."""
    return landed.Files()


@pytest.fixture
def recorded_files(fs: Recording) -> landed.Files:
    """A program whose file operations are recorded."""
    return landed.Files(fs)


@pytest.fixture
def target(work: Path, recorded_files: landed.Files, fs: Recording) -> Path:
    """A file that such a program wrote, with the record of its writing forgotten."""
    path = work / "a.txt"
    recorded_files.write(path, b"old")
    fs.forget()
    return path


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory to write in."""
    path = tmp_path / "work"
    path.mkdir()
    return path


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users can reach; those of pytest are closed to them."""
    path = Path(tempfile.mkdtemp(prefix="landed-tests-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def programs() -> Iterator[Programs]:
    """Starts other processes; those that still run when the test ends are killed."""
    with Programs() as started:
        yield started


@pytest.fixture
def rebooted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the machine boot."""
    return lambda: monkeypatch.setattr(process, "_boot_id", os.urandom(8).hex())
