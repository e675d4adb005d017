"""CrewAI as the tests need it: offline, silent, and with its own warnings left to it."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import warnings
from typing import Any

import pytest
from pydantic import BaseModel

STORAGE = tempfile.TemporaryDirectory(prefix="crewai-")
os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "CREWAI_STORAGE_DIR": STORAGE.name,
    "CREWAI_TESTING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "OPENAI_API_KEY": "unused",
    "OTEL_SDK_DISABLED": "true",
}

with warnings.catch_warnings():  # importing it brings several
    warnings.simplefilter("ignore")
    importlib.import_module("crewai.memory.storage.lancedb_storage")
    from others import directory, others, shared

__all__ = ["directory", "others", "shared"]


def _dump_locked(record: Any, **options: Any) -> dict[str, Any]:
    """CrewAI leaves the lock out, and panics when another thread adds an event meanwhile."""
    with record._lock.r_locked():
        return BaseModel.model_dump(record, **options)


if importlib.util.find_spec("crewai.state"):  # before 1.14.1 there are no checkpoints
    importlib.import_module("crewai.state.event_record").EventRecord.model_dump = _dump_locked


def pytest_configure(config: pytest.Config) -> None:
    for module in (r"crewai(_core|_memory_core)?\b", r"lancedb\b", r"pydantic\b"):
        config.addinivalue_line("filterwarnings", f"ignore:::{module}")
