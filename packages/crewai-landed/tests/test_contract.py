"""The contract suite of crewai-memory-core, whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from crewai_memory_core import contract
from crewai_memory_core.contract import *  # noqa: F403 - the suite is made for this

from crewai_landed import LandedStorage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def backend(tmp_path: Path) -> LandedStorage:
    return LandedStorage(tmp_path)


def test_async_surface(backend: LandedStorage) -> None:  # the suite leaves the loop to a plugin
    asyncio.run(contract.test_async_surface(backend))
