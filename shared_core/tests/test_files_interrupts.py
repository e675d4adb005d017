"""A signal handler that raises (Ctrl-C) may strike anywhere in a whole-file operation: its lock is free afterwards."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

import landed
from landed import _fs, editing, lock
from landed.artifact import Artifact
from landed.files import Files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = {"acquire", "release", "_release", "_give_back", "__enter__", "__exit__"}
"""Where a lock may be had already, or still: at the beginning and the end of each of these."""

OF_THE_BLOCK = {("return", editing.Edit.__enter__.__code__), ("call", editing.Edit.__exit__.__code__)}
"""Between these nothing of landed runs that could catch it; if the block itself is struck, Python calls `__exit__`."""


class Unflushed(_fs.FileOps):
    """Flushes nothing: what is tested here are the locks."""

    def fsync(self, fd: int) -> None:
        pass


class Strike:
    """Raises at the nth beginning or end of a function of landed that handles locks."""

    def __init__(self, nth: int) -> None:
        self._left = nth

    def __call__(self, frame: Any, event: str, _: object) -> Strike | None:
        code = frame.f_code
        if code.co_name not in NAMES or "landed" not in code.co_filename or __file__ == code.co_filename:
            return None
        if event in {"call", "return"} and (event, code) not in OF_THE_BLOCK:
            self._left -= 1
            if self._left == 0:
                raise KeyboardInterrupt
        return self


def write(files: Files, path: str) -> None:
    files.write(path, b"new", expect=landed.ANY)


def edit(files: Files, path: str) -> None:
    with files.edit(path) as draft:
        draft.data += b"more"


def delete(files: Files, path: str) -> None:
    files.delete(path, expect=landed.ANY)


def verify(files: Files, path: str) -> None:
    files.verify(path)


def struck(operation: Callable[[Files, str], None], path: str, strike: Strike) -> bool:
    """Whether the operation was interrupted."""
    files = Files(Unflushed())
    files.write(path, b"old", expect=landed.ANY)
    before = sys.gettrace()
    sys.settrace(strike)
    try:
        operation(files, path)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("operation", [write, edit, delete, verify])
def test_an_interrupt_where_the_lock_is_taken_or_given_back_leaves_it_free(
    operation: Callable[[Files, str], None], tmp_path: Path
) -> None:
    path = str(tmp_path / "a")
    nth = 1
    while struck(operation, path, Strike(nth)):
        slot = lock._slots.get(Artifact(path).shelf.lock.path)
        assert slot is None or slot.turn is None, nth
        nth += 1
    assert nth > 10
