"""CrewAI as the tests need it: offline, silent, and with its own warnings left to it."""

from __future__ import annotations

import importlib
import os
import tempfile
import warnings

import pytest

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


def pytest_configure(config: pytest.Config) -> None:
    for module in (r"crewai(_core|_memory_core)?\b", r"lancedb\b", r"pydantic\b"):
        config.addinivalue_line("filterwarnings", f"ignore:::{module}")
