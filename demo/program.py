"""Run one function of the demo as a program: ``python -m demo.program MODULE:FUNCTION ARGUMENT...``."""

from __future__ import annotations

import importlib
import sys

from demo.nursery import serve

if __name__ == "__main__":
    command = sys.argv[1:]
    if command[0] == "--nursery":
        command = serve(int(command[1]), command[2:])
    module, _, function = command[0].partition(":")
    getattr(importlib.import_module(module), function)(*command[1:])
