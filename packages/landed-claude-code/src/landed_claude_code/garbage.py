"""Ledgers of sessions that are long over go; those of sessions that live, and of recent ones, stay."""

from __future__ import annotations

import os
from time import time

from landed_claude_code import ledger as ledgers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

KEPT: Final = 14 * 86_400
"""Seconds for which the ledgers of a session that is over can be reported on."""
AT_ONCE: Final = 200
"""Sessions that one start of a session removes."""


def sweep(directory: str) -> None:
    """Remove the ledgers below `directory` that nobody has added to for `KEPT`, and whose process has ended."""
    before = time() - KEPT
    removed = 0
    for session in os.scandir(directory):
        if removed >= AT_ONCE:
            return
        try:
            removed += session.is_dir(follow_symlinks=False) and _removed(session, before)
        except OSError:
            continue  # another session that starts removes it as well, or it is not to be removed


def _removed(session: os.DirEntry[str], before: float) -> bool:
    if session.stat(follow_symlinks=False).st_mtime > before:
        return False  # there may be thousands
    entries = list(os.scandir(session.path))
    if any(entry.stat(follow_symlinks=False).st_mtime > before for entry in entries):
        return False
    if any(entry.name.endswith(ledgers.SUFFIX) and _runs(entry.path) for entry in entries):
        return False  # it waited for somebody for that long, or the clock was set
    for entry in entries:
        os.unlink(entry.path)
    os.rmdir(session.path)
    return True


def _runs(ledger: str) -> bool:
    return any(owner.alive() is True for owner in ledgers.read(ledger).processes[-1:])
