"""Two minutes of the soak; `make soak MINUTES=60` is longer."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import soak, workloads
from results import note

import landed

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.timeout(900)
def test_nothing_is_lost_and_nothing_grows() -> None:
    counts = run("--minutes", "1.6", "--faults")
    assert counts["kills"] > 0
    assert counts["acknowledged"] > 100


@pytest.mark.timeout(300)
def test_nothing_is_lost_while_the_disk_fails() -> None:
    """Files, journals, LangGraph and the hook, on a disk that fails; `make soak` lets it fail under CrewAI as well."""
    writers = [name for name in (*workloads.CORE, "graph", "hook") if not workloads.missing(name)]
    counts = run("--minutes", "0.4", "--era", "6", "--workload", *writers)
    assert counts["refused"] > 0
    assert counts["acknowledged"] > 50


def run(*options: str) -> dict[str, int]:
    """The counts of a soak that finds nothing wrong."""
    command = [sys.executable, "-m", "lab.soak", "--json", *options]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True, timeout=840, check=False
    )
    result = json.loads(done.stdout)
    note("soak", **result["counts"])
    assert result["problems"] == []
    counts: dict[str, int] = result["counts"]
    return counts


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


def leave_nothing(era: Path) -> None:
    shutil.rmtree(era / "work")
    shutil.rmtree(era / "state")
    (era / "work").mkdir()


def break_the_audit(era: Path) -> None:
    shutil.rmtree(era / "work")


@pytest.mark.parametrize("bug", [damage_file, damage_journal, lose_file, leave_nothing, break_the_audit])
def test_its_audit_sees_what_is_wrong(era: Path, bug: Callable[[Path], None]) -> None:
    bug(era)
    assert soak.audit(era) != []
