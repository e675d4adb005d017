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
    CASES,
    problems_of,
)

__all__ = ["model_machine"]

pytestmark = pytest.mark.exhaustive

LOG_OFF = 60

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
    judge(problems_of(name, "one failure"))


@pytest.mark.parametrize("name", PAIRS)
def test_two_failures(name: str, model_machine: Boot) -> None:
    judge(problems_of(name, "two failures"))


@pytest.mark.parametrize("name", INTERRUPTED)
def test_interrupt(name: str, model_machine: Boot) -> None:
    judge(problems_of(name, "interrupt"))
