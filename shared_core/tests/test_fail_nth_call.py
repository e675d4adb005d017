"""The first call fails, then the second, then the third ... until an operation meets no failure any more.

Every call of every operation fails in every way in which the system may answer it; pairs of calls fail, so that the
second failure hits the clean-up after the first; and Control-C arrives before and after each call. What must hold is
said by `model_faults.Trial`.
"""

from __future__ import annotations

import pytest
from model_faults import CASES, KINDS, problems_of

pytestmark = [pytest.mark.exhaustive, pytest.mark.usefixtures("model_state")]

RUNS = [
    (name, kind, xattrs)
    for name in CASES
    for kind in KINDS
    for xattrs in ((True, False) if kind == "one failure" else (True,))
]


@pytest.mark.parametrize(("name", "kind", "xattrs"), RUNS)
def test_whatever_fails(name: str, kind: str, xattrs: bool) -> None:
    found = problems_of(name, KINDS[kind], xattrs=xattrs)
    assert {problem: places[:3] for problem, places in found.items()} == {}
