"""Writes and flushes of landed that fail with EIO now and then, while a file names them: the bad disk of a soak."""

from __future__ import annotations

import errno
import os
from random import Random
from typing import Any

from landed._fs import LOCAL

FAIL = 1 / 3
"""How often: the first call of an operation must not be the only one that ever fails."""
FAILING = {"flush": ("fsync", "fdatasync"), "write": ("write", "pwrite")}
"""Which file operations fail, by what a fault is called."""


def fail_when_told(fault: str) -> None:
    """Let this process's file operations fail while the file `fault` names them."""
    chance = Random()

    def failing(kind: str, name: str) -> None:
        real = getattr(LOCAL, name)

        def call(*arguments: Any) -> Any:
            try:
                with open(fault) as file:
                    told = file.read()
            except FileNotFoundError:
                told = ""
            if told == kind and chance.random() < FAIL:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(*arguments)

        setattr(LOCAL, name, call)

    for kind, names in FAILING.items():
        for name in names:
            failing(kind, name)
