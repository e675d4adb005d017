"""A checker for histories of concurrent writers, some of which died: what was told to callers against what is stored.

Every attempt to write has a name that is never used again. Its worker notes, in a file of its own, when the attempt
began and how it ended; a worker that is killed leaves an attempt without an end, and such an attempt may have landed
or not. What is stored is a sequence of names, oldest first, as the medium under test gives it back: the lines of a
document that every writer extends, or the records of a journal.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ACKED = "acked"
"""The caller was told that it landed."""
REJECTED = "rejected"
"""The caller was told that it did not land and that nothing was changed."""
UNKNOWN = "unknown"
"""The caller was told that nobody knows, or was told nothing because it died."""


class Notes:
    """What one worker writes down about its attempts. Survives the worker's death, not the machine's."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def begin(self, name: str) -> None:
        self._note("begin", name)

    def end(self, name: str, how: str, **more: object) -> None:
        self._note(how, name, *(f"{key}={value}" for key, value in more.items()))

    def _note(self, *words: str) -> None:
        os.write(self._fd, f"{time.monotonic_ns()} {' '.join(words)}\n".encode())


@dataclass
class Attempt:
    """One attempt.

    Attributes:
        began: in nanoseconds of the machine's monotonic clock.
        ended: likewise; None when the worker died first.
        how: `ACKED`, `REJECTED` or `UNKNOWN`.
        more: what else the worker noted at the end.
    """

    name: str
    worker: str
    began: int
    ended: int | None = None
    how: str = UNKNOWN
    more: dict[str, str] = field(default_factory=dict)


def read_notes(files: Iterable[Path]) -> dict[str, Attempt]:
    """All attempts of all workers, by name. A last line that a kill cut short counts as not written."""
    attempts: dict[str, Attempt] = {}
    for path in files:
        for line in path.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                continue
            at, what, name, *more = line.split()
            if what == "begin":
                assert name not in attempts, f"two attempts are called {name}"
                attempts[name] = Attempt(name, path.name, int(at))
            else:
                attempt = attempts[name]
                attempt.ended, attempt.how = int(at), what
                attempt.more = dict(word.split("=", 1) for word in more)
    return attempts


@dataclass
class Report:
    """What is wrong with a history; every list is empty when nothing is.

    Attributes:
        lost: acknowledged, and not stored.
        phantom: stored, though its caller was told that it was not.
        partial: stored, but never begun under that name: a fragment, or bytes of something else.
        doubled: stored more than once.
        out_of_order: stored before an attempt that had been acknowledged before it began.
    """

    lost: list[str]
    phantom: list[str]
    partial: list[str]
    doubled: list[str]
    out_of_order: list[str]

    def __bool__(self) -> bool:
        return any(vars(self).values())


def check(attempts: dict[str, Attempt], stored: list[str]) -> Report:
    """Compare what callers were told with the names that are `stored`, oldest first."""
    times = Counter(stored)
    return Report(
        lost=[name for name, attempt in attempts.items() if attempt.how == ACKED and name not in times],
        phantom=[name for name in times if name in attempts and attempts[name].how == REJECTED],
        partial=[name for name in times if name not in attempts],
        doubled=[name for name, count in times.items() if count > 1],
        out_of_order=list(_out_of_order(attempts, stored)),
    )


def _out_of_order(attempts: dict[str, Attempt], stored: list[str]) -> Iterable[str]:
    # From the newest back: nothing stored earlier may have begun after something stored later was acknowledged.
    earliest_ack = None
    for name in reversed(stored):
        attempt = attempts.get(name)
        if attempt is None:
            continue
        if earliest_ack is not None and attempt.began > earliest_ack:
            yield name
        if attempt.how == ACKED and attempt.ended is not None:
            earliest_ack = attempt.ended if earliest_ack is None else min(earliest_ack, attempt.ended)
