"""SIGKILL at the system calls of longer workloads, the journal's rolls and compactions among them.

`test_kill_at_every_call` has the whole-file operations one by one, each with what exactly must be found.
"""

from __future__ import annotations

import pytest
from injection import why_not
from lab import kill, workloads
from results import note

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

STRIDES = {"files": 12, "journal": 4}
"""Every so many calls; `python -m lab.kill` takes each."""
KILLS = 5
"""Of a package: its framework takes seconds to import."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*workloads.CORE, *workloads.PACKAGES])
def test_kill(name: str) -> None:
    if workloads.missing(name):
        pytest.skip(workloads.missing(name))
    result = kill.explore(name, STRIDES[name]) if name in STRIDES else kill.explore(name, limit=KILLS)
    problems = result.pop("problems")
    note("kills", what=name, **result)
    assert problems == []
    # The threads of a framework do not make the same calls in each run, so some of its kills come too late.
    assert result["killed"] > (5 if name in STRIDES else 1) * result["missed"]
