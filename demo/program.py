"""Run one function of the demo as a program: ``python -m demo.program MODULE:FUNCTION ARGUMENT...``."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    module, _, function = sys.argv[1].partition(":")
    getattr(importlib.import_module(module), function)(*sys.argv[2:])
