"""The first call fails, then the second, then the third ... until an operation meets no failure any more.

Every call of every operation fails in every way in which the system may answer it; pairs of calls fail, so that the
second failure hits the clean-up after the first; and Control-C arrives before and after each call. What must hold is
said by `model_faults.Trial`.
"""

from __future__ import annotations

import os
import re

import pytest
from model_faults import CASES, KINDS, RETRIED, Known, failed_flushes, problems_of
from model_world import STATE

from landed import process


@pytest.fixture(autouse=True)
def model_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANDED_STATE_DIR", STATE)
    monkeypatch.setattr(process, "_me", process.Owner(os.getpid(), "boot.1", "model", "model"))


STAYS = "it stays when both the flush of its name and its removal fail, and whoever finds it takes it for durable"
KNOWN = {
    "create": (RETRIED, r"fsync\(#3\).*directory for locks and records cannot be made"),
    "create in new directories": (RETRIED, r"fsync\(#(4|12)\).* \d+:rmdir\(/model/work/a.*directories above cannot be"),
}
"""What remains of new directories after two failures: the problem, and the places where it is met."""

RUNS = [
    (name, kind, xattrs)
    for name in CASES
    for kind in KINDS
    for xattrs in ((True, False) if kind == "one failure" else (True,))
]


@pytest.mark.parametrize(("name", "kind", "xattrs"), RUNS)
def test_whatever_fails(name: str, kind: str, xattrs: bool) -> None:
    found: dict[str, list[str]] = {}
    known, where = KNOWN.get(name, ("", "")) if kind == "two failures" else ("", "")
    for problem, places in problems_of(name, KINDS[kind], xattrs=xattrs).items():
        for place in places:
            if problem != known or not re.search(where, place):
                found.setdefault(problem, []).append(place)
    assert {problem: places[:3] for problem, places in found.items()} == {}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.xfail(strict=True, raises=Known, reason=STAYS)) for name in KNOWN]
)
def test_a_new_directory_that_can_neither_be_flushed_nor_removed(name: str) -> None:
    known, where = KNOWN[name]
    problems = problems_of(name, failed_flushes, xattrs=True)
    if any(re.search(where, place) for place in problems.get(known, [])):
        raise Known(STAYS)
