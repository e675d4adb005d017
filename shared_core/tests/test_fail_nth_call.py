"""The first call fails, then the second, then the third ... until an operation meets no failure any more.

Every call of every operation fails in every way in which the system may answer it; pairs of calls fail, so that the
second failure hits the clean-up after the first; and Control-C arrives before and after each call. What must hold is
said by `model_faults.Trial`.
"""

from __future__ import annotations

import os
import re

import pytest
from model_faults import CASES, KINDS, RETRIED, Known, problems_of
from model_world import STATE

from landed import process


@pytest.fixture(autouse=True)
def model_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANDED_STATE_DIR", STATE)
    monkeypatch.setattr(process, "_me", process.Owner(os.getpid(), "boot.1", "model", "model"))


STORE = "a directory of the store stays when both the flush of its name and its removal fail, and is taken for durable"
NAMES = "without extended attributes, the record's name is flushed again after that has failed"
STAYS = "a new directory stays when both the flush of its name and its removal fail, and is taken for durable"
KNOWN = {
    STORE: (RETRIED, r"fsync\(#3\).*directory for locks and records cannot be made"),
    NAMES: (RETRIED, r"fsync\(#\d+\).*the record cannot be written"),
    STAYS: (RETRIED, r"fsync\(#(4|12)\).* \d+:rmdir\(/model/work/a.*directories above cannot be flushed"),
}
"""What remains: the problem, and the places where it is met."""
EXPECTED = {
    ("create", "one failure", False): {NAMES},
    ("create", "two failures", True): {STORE},
    ("create in new directories", "one failure", False): {NAMES},
    ("create in new directories", "two failures", True): {STAYS},
    ("write after a writer that died between link and unlink", "one failure", False): {NAMES},
}

RUNS = [
    pytest.param(
        *(name, kind, xattrs),
        marks=[
            pytest.mark.xfail(strict=True, raises=Known, reason=why) for why in EXPECTED.get((name, kind, xattrs), ())
        ],
    )
    for name in CASES
    for kind in KINDS
    for xattrs in ((True, False) if kind == "one failure" else (True,))
]


@pytest.mark.parametrize(("name", "kind", "xattrs"), RUNS)
def test_whatever_fails(name: str, kind: str, xattrs: bool) -> None:
    new: dict[str, list[str]] = {}
    reasons = set()
    for problem, places in problems_of(name, KINDS[kind], xattrs=xattrs).items():
        for place in places:
            known = [why for why, (what, where) in KNOWN.items() if what == problem and re.search(where, place)]
            reasons.update(known)
            if not known:
                new.setdefault(problem, []).append(place)
    assert {problem: places[:3] for problem, places in new.items()} == {}
    assert reasons == EXPECTED.get((name, kind, xattrs), set()), "no longer fails: take it out of `KNOWN`"
    if reasons:
        raise Known(reasons)
