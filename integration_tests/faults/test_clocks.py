"""The wall clock jumps by days, back and forth, at every look at it: nothing is lost and nobody alive counts as dead.

Processes get their own wall clock before they import landed; the machine's own is left alone. Clocks that only go
forward (`time.monotonic`) are the kernel's and do not jump. Leases are in `shared_core/tests/test_lease.py`, a thread's
time to live is in the saver's `test_ttl.py`, a machine whose clock is behind in LangGraph's tests of conflicts.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from lab import workloads

import landed

HERE = Path(__file__).parent
GUARD = 120
"""Seconds after which a process hangs."""
JUMPING = """
import sys, time
real, looks = time.time, []
def jumping():
    looks.append(1)
    return real() + (0, 3, -3, 7200, -7200, 86400 * 400, -86400 * 400)[len(looks) % 7]
time.time = jumping
time.time_ns = lambda: int(jumping() * 1e9)
"""
WORKLOAD = (
    JUMPING
    + """
from pathlib import Path
from random import Random
from lab import workloads
work, marks = workloads.load(sys.argv[1]), []
work.run(Path(sys.argv[2]), marks.append, Random(1), work.steps)
assert sum("acked" in mark for mark in marks) == work.steps, marks
problems = work.examine(Path(sys.argv[2]), marks)
assert problems == [], problems
assert len(looks) > 20, "nobody looked at the clock"
"""
)
FRAMEWORKS = (
    JUMPING
    + """
import os
from pathlib import Path
from random import Random
from lab import workloads
for name in sys.argv[2:]:
    work, marks, place = workloads.load(name), [], Path(sys.argv[1], name.replace(" ", "-"))
    place.mkdir()
    work.endure(place, marks.append, Random(1), work.steps)
    acked = sum("acked" in mark for mark in marks)
    assert acked > 3, marks
    for mark in marks:
        assert "failed" not in mark or "clock is behind" in mark["error"], mark
    problems = work.examine(place, marks)
    assert problems == [], (name, problems)
assert len(looks) > 20, "nobody looked at the clock"
"""
)
"""Frameworks order by ids that they make of the time: a write that would not come last is refused, and none is lost."""
HOLDER = (
    JUMPING
    + """
import landed
with landed.edit(sys.argv[1]) as draft:
    draft.text = "by the holder"
    print(flush=True)
    sys.stdin.readline()
"""
)
TAKER = (
    JUMPING
    + """
import landed
for _ in range(8):  # at every jump of the clock
    try:
        landed.write(sys.argv[1], "by another", expect=landed.ANY, timeout=0.02)
    except landed.LockTimeout as error:
        assert f"pid {sys.argv[2]} " in error.holder, error.holder
    else:
        raise SystemExit("it took a lock that is held")
assert len(looks) > 7, "nobody looked at the clock"
"""
)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANDED_STATE_DIR", str(tmp_path / "state"))


def run(program: str, *arguments: str) -> None:
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=GUARD, check=False)
    assert done.returncode == 0, done.stderr[-1500:]


@pytest.mark.parametrize("name", workloads.CORE)
def test_nothing_is_lost(name: str, tmp_path: Path) -> None:
    """Writes, edits, deletes, appends, rolls, compactions; then the audit and every read, on jumping clocks too."""
    (tmp_path / "work").mkdir()
    run(WORKLOAD, name, str(tmp_path / "work"))


def test_frameworks_lose_nothing(tmp_path: Path) -> None:
    names = [name for name in workloads.PACKAGES if name != "hook"]  # which runs as processes with clocks of their own
    missing = [why for name in names if (why := workloads.missing(name))]
    if missing:
        pytest.skip(", ".join(missing))
    run(FRAMEWORKS, str(tmp_path), *names)


def test_lock_that_is_held_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "\n"
            run(TAKER, str(path), str(holder.pid))
            holder.communicate("\n", timeout=GUARD)
        finally:
            holder.kill()
    assert holder.returncode == 0
    assert landed.read(path).text == "by the holder"
