"""The environment in which a server that the tests started is found."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def environ(settings: dict[str, str]) -> Iterator[None]:
    """Set these variables meanwhile, and leave all others alone: threads of the drivers may read them."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
