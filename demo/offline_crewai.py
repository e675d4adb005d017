"""CrewAI without a network, quiet, and with what it keeps for itself in a directory of the demo."""

from __future__ import annotations

import os
import sys
import warnings
from functools import lru_cache
from importlib.util import find_spec

from demo.nursery import Nursery

INSTALLED = find_spec("crewai") is not None and find_spec("crewai_landed") is not None


SETTINGS = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "CREWAI_TESTING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "OPENAI_API_KEY": "unused",
    "OTEL_SDK_DISABLED": "true",
    "PYTHONWARNINGS": "ignore",
}
MODULES = ("crewai.flow.flow", "crewai.memory.unified_memory", "crewai_landed", "crewai_landed.flows",
           "crewai_landed.memory", "pyarrow.dataset", "lance_namespace")  # fmt: skip
"""What the programs need, but LanceDB itself, which starts threads: each program that uses it imports that."""


@lru_cache(maxsize=1)
def nursery() -> Nursery:
    """It has imported CrewAI."""
    return Nursery(*MODULES, environ=SETTINGS)


def prepare(directory: str) -> None:
    """Call it in a program before it uses CrewAI."""
    os.environ |= {**SETTINGS, "CREWAI_STORAGE_DIR": os.path.join(directory, "crewai")}
    warnings.simplefilter("ignore")
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - what it prints is no word of ours
