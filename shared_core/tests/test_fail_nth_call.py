"""The first call fails, then the second, then the third ... until an operation meets no failure any more.

Every call of every operation fails in every way in which the system may answer it; pairs of calls fail, so that the
second failure hits the clean-up after the first; and Control-C arrives before and after each call. What must hold is
said by `model_faults.Trial`.
"""

from __future__ import annotations

import functools
import os

import pytest
from model_faults import (
    CASES,
    CHANGED,
    KINDS,
    LEAK,
    LEFT,
    LOCKED,
    LOST,
    NOT_POISONED,
    PROBLEMS,
    RAW,
    RETRIED,
    problems_of,
)
from model_world import STATE

from landed import process


@pytest.fixture(autouse=True)
def model_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANDED_STATE_DIR", STATE)
    monkeypatch.setattr(process, "_me", process.Owner(os.getpid(), "boot.1", "model", "model"))


@functools.cache
def problems(name: str, kind: str, *, xattrs: bool) -> dict[str, list[str]]:
    return problems_of(name, KINDS[kind], xattrs=xattrs)


CREATES = {name for name in CASES if name.startswith("create")}
SETTLES = {"write after a writer that died after its rename", "write after a writer that died between link and unlink"}
LEAKS = "the record stays open when closing the directory fails"
WRITES = set(CASES) - {"read", "verify", "delete"}
KNOWN: dict[tuple[str, str], tuple[str, set[str]]] = {
    ("one failure", RAW): ("closing a read descriptor, and looking for stores and locks", set(CASES)),
    ("two failures", RAW): ("closing a read descriptor, and looking for stores and locks", set(CASES)),
    ("two failures", LOCKED): ("the turn is not passed on when closing the lock file fails", set(CASES) - {"read"}),
    ("one failure", CHANGED): (
        "lost replies of link and unlink; directories left by a failed mkdir",
        CREATES | {"delete"},
    ),
    ("one failure", LOST): ("a lost reply of link", CREATES),
    ("one failure", NOT_POISONED): ("a failure to settle does not poison the path", SETTLES),
    ("two failures", NOT_POISONED): ("a failure to settle does not poison the path", SETTLES),
    ("one failure", RETRIED): ("settling flushes again what could not be flushed", set(CASES) - {"read", "verify"}),
    ("two failures", RETRIED): ("settling flushes again what could not be flushed", set(CASES) - {"read", "verify"}),
    ("two failures", LEFT): ("a temp file that could not be removed is never swept", WRITES),
    ("one failure", LEAK): (LEAKS, set(CASES) - {"read"}),
    ("two failures", LEAK): (LEAKS, set(CASES) - {"read"}),
}
"""What is known to fail: kind of fault and problem, and in which cases."""


RUNS = [(kind, xattrs) for kind in KINDS for xattrs in (True, False) if xattrs or kind == "one failure"]


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("kind", "xattrs"), RUNS, ids=lambda value: {True: "xattrs", False: "no xattrs"}.get(value, value)
)
def test_whatever_fails(name: str, kind: str, problem: str, xattrs: bool, request: pytest.FixtureRequest) -> None:
    reason, cases = KNOWN.get((kind, problem), ("", set()))
    if name in cases:
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))
    assert problems(name, kind, xattrs=xattrs).get(problem, [])[:3] == []
