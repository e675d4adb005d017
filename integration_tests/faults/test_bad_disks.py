"""Disks that fail at any request, are slow, or lie: whatever was acknowledged is there, whatever was refused is not.

On ext4 every fault of `bad_disk.FAULTS` is tried under every workload of landed and its packages (`EVERY`); on xfs and
btrfs, which have ways of their own with failed requests, the faults of requests under files and journals. A disk that
lies has tests of its own: it cannot be survived, only seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from lab import bad_disk, crash, disk, mutants, workloads
from results import note

if TYPE_CHECKING:
    from pathlib import Path

EVERY = [*workloads.CORE, *workloads.PACKAGES]
STRIDES = {"ext4": 3, "xfs": 12, "btrfs": 12}
"""Every so many requests of files and journals are made to fail; `python -m lab.bad_disk` fails each."""
STRIDE_OF_A_PACKAGE = 10
BORNE = {"read", "inodes", "slow flush"}
"""Faults that a workload may do its work in spite of."""
LYING = {"files": 40, "journal": 40}
"""States after power cuts on a disk that lies."""
LYING_TO_A_PACKAGE = 12


def needs(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(bool(disk.why_not(kind)), reason=disk.why_not(kind))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=needs(kind)) for kind in STRIDES])
def test_failing_requests(kind: str) -> None:
    result = bad_disk.explore(kind, [*workloads.CORE], STRIDES[kind])
    assert tried(result, kind, [*workloads.CORE]) == []


@pytest.mark.timeout(900)
@needs("ext4")
@pytest.mark.parametrize("name", workloads.PACKAGES)
def test_failing_requests_under_a_package(name: str) -> None:
    if workloads.missing(name):
        pytest.skip(workloads.missing(name))
    result = bad_disk.explore("ext4", [name], STRIDE_OF_A_PACKAGE)
    assert tried(result, "ext4", [name]) == []


def tried(result: dict[str, Any], kind: str, names: list[str]) -> list[str]:
    """What is wrong, and which cells of workloads and faults were not met at all."""
    table = result["table"]
    for what, row in table.items():
        note("bad disks", what=what, **{"bad": 0, **row})
    cells = {f"{kind} {name} {fault}": fault for name in names for fault in bad_disk.faults_of(kind)}
    assert table.keys() == cells.keys()
    quiet = [cell for cell, fault in cells.items() if not table[cell]["faults" if fault in BORNE else "refused"]]
    return [*result["problems"], *(f"{cell}: the fault was not met" for cell in quiet)]


@needs("ext4")
@pytest.mark.parametrize("name", [name for name, mutant in mutants.MUTANTS.items() if mutant.disk])
def test_planted_bug_is_caught(name: str, tmp_path: Path) -> None:
    workload, fault = mutants.MUTANTS[name].disk.split()
    with mutants.planted(name, tmp_path) as path:
        result = bad_disk.series("ext4", workload, fault, 1, path, until_bad=True)
    note("planted bugs on bad disks", what=name, **result["counts"])
    assert result["counts"].get("bad")


@needs("ext4")
@pytest.mark.parametrize("milliseconds", [1, 10])
def test_slow_flush(milliseconds: int) -> None:
    result = crash.explore(["ext4"], workloads.CORE, 40, 1, orders={"flush_ms": milliseconds})
    assert result["problems"] == []


@pytest.mark.timeout(600)
@needs("ext4")
@pytest.mark.parametrize("name", EVERY)
def test_flush_that_lies(name: str) -> None:
    """No program can be durable on such a disk; that the explorer sees it is what makes its silence elsewhere count."""
    if workloads.missing(name):
        pytest.skip(workloads.missing(name))
    result = crash.explore(["ext4"], [name], LYING.get(name, LYING_TO_A_PACKAGE), 1, orders={"lie": True})
    (row,) = result["table"].values()
    note("a flush that lies", what=name, **{"bad": 0, **row})
    assert row["bad"] > 0
