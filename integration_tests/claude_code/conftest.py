"""What the tests of the hook start from: the real Claude Code, a scripted model, and a project with the hook in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from claude import FLOOR, LATEST, RECOMMENDED, Claude, Network, Unavailable, fetch
from model import Model, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVERY = (LATEST, RECOMMENDED, FLOOR)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_version: runs on each version of Claude Code that is supported")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `claude` runs on the latest version; one marked so, on each that is supported."""
    if "program" in metafunc.fixturenames:
        every = metafunc.definition.get_closest_marker("every_version") is not None
        metafunc.parametrize("version", EVERY if every else (LATEST,), scope="session")


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    made = Network()
    made.run(int)  # enters it
    print(f"\nin a network of its own: {'yes' if made.isolated else 'no, that is not allowed here'}", file=sys.stderr)
    yield made
    made.close()


@pytest.fixture(scope="session")
def program(version: str) -> Path:
    try:
        return fetch(version)
    except Unavailable as why:
        pytest.skip(f"Claude Code {version} cannot be had: {why}")


@pytest.fixture
def bare(program: Path, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Claude:
    """Claude Code without the hook."""
    made = Claude(program, network, Path(os.path.realpath(tmp_path)))
    monkeypatch.setenv("LANDED_STATE_DIR", str(made.state))
    return made


@pytest.fixture
def claude(bare: Claude) -> Claude:
    """Claude Code with the hook, installed as a user does it."""
    bare.hook("install", "--scope", "project")
    return bare


@pytest.fixture
def script(network: Network) -> Iterator[Callable[..., Model]]:
    """Makes models: ``script(main=[turn, turn], other=[turn])``."""
    made: list[Model] = []

    def make(**scripts: list[Turn]) -> Model:
        model = network.run(Model, scripts)
        made.append(model)
        return model

    yield make
    for model in made:
        model.close()
