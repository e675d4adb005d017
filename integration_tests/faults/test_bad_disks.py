"""Disks that fail at any request, are slow, or lie: whatever was acknowledged is there, whatever was refused is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab import bad_disk, crash, disk, mutants, workloads
from results import note

if TYPE_CHECKING:
    from pathlib import Path

STRIDES = {"ext4": 3, "xfs": 12, "btrfs": 12}
"""Every so many requests are made to fail; `python -m lab.bad_disk` fails each."""
STRIDE_OF_A_PACKAGE = 24


def needs(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(bool(disk.why_not(kind)), reason=disk.why_not(kind))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=needs(kind)) for kind in STRIDES])
def test_failing_requests(kind: str) -> None:
    result = bad_disk.explore(kind, [*workloads.CORE], STRIDES[kind])
    for name, row in result["table"].items():
        note("bad disks", what=name, **row)
    assert result["problems"] == []
    assert all(row["faults"] for row in result["table"].values())
    assert sum(row["refused"] for row in result["table"].values()) > 0


@pytest.mark.timeout(900)
@needs("ext4")
@pytest.mark.parametrize("name", workloads.PACKAGES)
def test_failing_requests_under_a_package(name: str) -> None:
    if workloads.missing(name):
        pytest.skip(workloads.missing(name))
    result = bad_disk.explore("ext4", [name], STRIDE_OF_A_PACKAGE)
    for what, row in result["table"].items():
        note("bad disks", what=what, **row)
    assert result["problems"] == []


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


@needs("ext4")
@pytest.mark.parametrize("name", workloads.CORE)
def test_flush_that_lies(name: str) -> None:
    """No program can be durable on such a disk; that the explorer sees it is what makes its silence elsewhere count."""
    result = crash.explore(["ext4"], [name], 40, 1, orders={"lie": True})
    (row,) = result["table"].values()
    note("a flush that lies", what=name, **row)
    assert row["bad"] > 0


@pytest.mark.timeout(600)
@needs("ext4")
def test_flush_that_lies_to_a_package() -> None:
    if workloads.missing("graph"):
        pytest.skip(workloads.missing("graph"))
    result = crash.explore(["ext4"], ["graph"], 12, 1, orders={"lie": True})
    (row,) = result["table"].values()
    note("a flush that lies", what="graph", **row)
    assert row["bad"] > 0
