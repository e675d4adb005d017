"""CrewAI without a network, quiet, and with what it keeps for itself in a directory of the demo."""

from __future__ import annotations

import os
import sys
import warnings
from importlib.util import find_spec

INSTALLED = find_spec("crewai") is not None and find_spec("crewai_landed") is not None


def prepare(directory: str) -> None:
    """Call it in a program before CrewAI is imported."""
    os.environ |= {
        "CREWAI_DISABLE_TELEMETRY": "true",
        "CREWAI_DISABLE_VERSION_CHECK": "true",
        "CREWAI_STORAGE_DIR": os.path.join(directory, "crewai"),
        "CREWAI_TESTING": "true",
        "CREWAI_TRACING_ENABLED": "false",
        "OPENAI_API_KEY": "unused",
        "OTEL_SDK_DISABLED": "true",
    }
    warnings.simplefilter("ignore")
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - what it prints is no word of ours
