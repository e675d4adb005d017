"""Two minutes of the soak; `make soak MINUTES=60` is longer."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import soak, workloads
from results import note

import landed

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


FRAMEWORKS = {"LangGraph": ["graph"], "CrewAI": ["memory", "flow states", "checkpoints"], "Claude Code": ["hook"]}
"""The workloads of each."""


@pytest.mark.timeout(900)
def test_nothing_is_lost_and_nothing_grows() -> None:
    """Under kills, stops and a disk that fails, with all three frameworks beside files and journals."""
    writers = [name for name in (*workloads.CORE, *workloads.PACKAGES) if not workloads.missing(name)]
    counts = run("--minutes", "2", "--era", "12")
    assert counts["kills"] > 0
    assert all(counts[name] for name in writers), "somebody never wrote"
    for framework, names in FRAMEWORKS.items():
        refused = sum(counts.get(f"{name} refused", 0) for name in names if name in writers)
        assert refused or not {*names} & {*writers}, f"the disk never failed under {framework}"


def run(*options: str) -> dict[str, int]:
    """The counts of a soak that finds nothing wrong."""
    command = [sys.executable, "-m", "lab.soak", "--json", *options]
    ran = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True, timeout=840, check=False)
    result = json.loads(ran.stdout)
    counts: dict[str, int] = result["counts"]
    done = ("eras", "kills", "stops", *(f"{fault} fails" for fault in soak.FAULTS))
    note("the soak", what="two minutes", **{what: counts.get(what, 0) for what in done})
    for name in (*workloads.CORE, *workloads.PACKAGES):
        if name in counts:
            note("writers of the soak", what=name, acknowledged=counts[name], refused=counts.get(f"{name} refused", 0))
    assert result["problems"] == []
    return counts


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGKILL", -9)])
def test_ended_early(name: str, code: int, tmp_path: Path) -> None:
    """It says what it found until then, by its exit code too, and no writer goes on; not even if it is killed."""
    options = ["--json", "--minutes", "9", "--era", "2", "--workload", *workloads.CORE]
    command = [sys.executable, "-m", "lab.soak", *options]
    number = signal.Signals[name]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as soaking:
        assert soaking.stderr is not None
        assert any(line.startswith("era 1: ") for line in soaking.stderr)
        writers = children(soaking.pid)
        soaking.send_signal(number)
        said, told = soaking.communicate(timeout=120)
    assert len(writers) >= len(workloads.CORE)
    assert soaking.returncode == code, (said, told)
    if number != signal.SIGKILL:
        result = json.loads(said)
        assert (result["ended by"], result["problems"]) == (number, [])
        assert result["counts"]["eras"] > 1, "the era in which it ended was not audited"
        assert result["counts"]["acknowledged"] > 0
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in writers):
        assert time.monotonic() < until, "a writer goes on"
        time.sleep(0.05)


def children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@pytest.fixture
def era(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An era at rest, with one file and one journal in it."""
    monkeypatch.setenv("LANDED_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "work").mkdir()
    landed.write(tmp_path / "work" / "file", b"acknowledged")
    with landed.Journal(tmp_path / "work" / "journal") as journal:
        journal.append([b"acknowledged"])
    return tmp_path


def test_its_audit_finds_nothing_where_nothing_is_wrong(era: Path) -> None:
    assert soak.audit(era) == []


def damage_file(era: Path) -> None:
    (era / "work" / "file").write_bytes(bytes(12))


def damage_journal(era: Path) -> None:
    (segment,) = (era / "work" / "journal").glob("*.seg")
    segment.write_bytes(segment.read_bytes().replace(b"acknowledged", b"acknowledgeD"))


def lose_file(era: Path) -> None:
    (era / "work" / "file").unlink()


def bypass_file(era: Path) -> None:
    (era / "work" / "file").write_bytes(b"by something outside landed")


def leave_nothing(era: Path) -> None:
    shutil.rmtree(era / "work")
    shutil.rmtree(era / "state")
    (era / "work").mkdir()


def break_the_audit(era: Path) -> None:
    shutil.rmtree(era / "work")


@pytest.mark.parametrize("bug", [damage_file, damage_journal, lose_file, bypass_file, leave_nothing, break_the_audit])
def test_its_audit_sees_what_is_wrong(era: Path, bug: Callable[[Path], None]) -> None:
    bug(era)
    assert soak.audit(era) != []


def test_its_audit_excuses_what_no_hook_has_checked(era: Path) -> None:
    bypass_file(era)
    marks = [{"begin": 1, "path": "other"}, {"begin": 2, "path": "file"}, {"acked": 1}]
    unchecked = soak.unfinished(era / "work", marks)
    assert unchecked == {str(era / "work" / "file")}
    assert soak.audit(era, unchecked) == []
