"""The first call fails, then the second, then the third ... until an operation on a journal meets no failure any more.

Every call fails in every way in which the system may answer it; pairs of calls fail, so that the second failure hits
the clean-up after the first; and Control-C arrives before and after each call. So it does while a journal recovers from
a dead writer, a power cut or a failed flush, and while it is compacted. `model_journal_faults.Trial` says what must
hold.
"""

from __future__ import annotations

import pytest
from model_journal import Boot, judge, model_machine
from model_journal_faults import (
    BLAMED,
    CASES,
    LEAK,
    RAW,
    RETRIED,
    STUCK,
    WRONG,
    problems_of,
)

__all__ = ["model_machine"]

LOG_OFF = 60

BARE = "reading the newest segment, opening segments to read, and asking their size raise what the system raises"
SOONER = "the compacted segment is put in place before it is read back, and a short write of its header is not noticed"
UNMARKED = "where the mark of a failed flush cannot be made, another process flushes the file again"
UNCLOSED = "a newest segment that cannot be read is not closed"

FINDS = set(CASES) - {"append", "read", "read newest first", "claim"}
"""Cases that look for the end of a segment."""
ONCE = {name: {RAW: BARE} | ({LEAK: UNCLOSED} if name in FINDS else {}) for name in CASES if name != "claim"}
TWICE = {name: {**known, RETRIED: UNMARKED} for name, known in ONCE.items()}
COMPACT = {WRONG: SOONER, STUCK: SOONER}
KNOWN: dict[tuple[str, str], dict[str, str]] = {
    **{("one failure", name): known for name, known in ONCE.items()},
    **{("two failures", name): known for name, known in TWICE.items()},
    ("one failure", "compact"): {LEAK: UNCLOSED, **COMPACT, BLAMED: SOONER},
    ("two failures", "compact"): {LEAK: UNCLOSED, RETRIED: UNMARKED, **COMPACT},
}
"""What is known to fail: kind of fault and case; the problems and why."""
PAIRS = ("append", "append that rolls", "append after a failed flush", "compact")
INTERRUPTED = (
    "create and append",
    "append",
    "append that rolls",
    *(name for name in CASES if "after" in name),
    "compact",
)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(LOG_OFF)


@pytest.mark.parametrize("name", CASES)
def test_one_failure(name: str, model_machine: Boot) -> None:
    judge(problems_of(name, "one failure"), KNOWN.get(("one failure", name)))


@pytest.mark.parametrize("name", PAIRS)
def test_two_failures(name: str, model_machine: Boot) -> None:
    judge(problems_of(name, "two failures"), KNOWN.get(("two failures", name)))


@pytest.mark.parametrize("name", INTERRUPTED)
def test_interrupt(name: str, model_machine: Boot) -> None:
    judge(problems_of(name, "interrupt"), KNOWN.get(("interrupt", name)))
