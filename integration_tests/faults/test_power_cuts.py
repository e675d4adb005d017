"""Power cuts on real file systems: in every state that the explorer builds, all that was acknowledged is there.

`make crash` explores far more. The seed is fixed here, so that a state that fails is found again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab import crash, disk, mutants, workloads
from results import note

if TYPE_CHECKING:
    from pathlib import Path

SEED = 20261125
STATES = {"ext4": 1000, "btrfs": 300, "xfs": 100}
STATES_OF_A_PACKAGE = {"ext4": 40, "btrfs": 20, "xfs": 20}
ENOUGH = 60
"""States in which a planted bug must show."""


def needs(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(bool(disk.why_not(kind)), reason=disk.why_not(kind))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=needs(kind)) for kind in STATES])
def test_power_cut(kind: str) -> None:
    result = crash.explore([kind], workloads.CORE, STATES[kind], SEED)
    for name, row in result["table"].items():
        note("power cuts", what=name, **{"bad": 0, **row})
    assert result["problems"] == []
    assert sum(row["states"] for row in result["table"].values()) >= STATES[kind]
    assert all(row["second cuts"] for row in result["table"].values())


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=needs(kind)) for kind in STATES])
@pytest.mark.parametrize("name", workloads.PACKAGES)
def test_power_cut_under_a_package(name: str, kind: str) -> None:
    if workloads.missing(name):
        pytest.skip(workloads.missing(name))
    result = crash.explore([kind], [name], STATES_OF_A_PACKAGE[kind], SEED)
    (row,) = result["table"].values()
    note("power cuts", what=f"{kind} {name}", **{"bad": 0, **row})
    assert result["problems"] == []
    assert row["states"] >= STATES_OF_A_PACKAGE[kind]
    assert row["second cuts"]


@needs("ext4")
@pytest.mark.parametrize("name", [name for name, mutant in mutants.MUTANTS.items() if mutant.cut])
def test_planted_bug_is_caught(name: str, tmp_path: Path) -> None:
    with mutants.planted(name, tmp_path) as path:
        result = crash.explore(["ext4"], [mutants.MUTANTS[name].cut], ENOUGH, SEED, path=path)
    (row,) = result["table"].values()
    note("planted bugs under power cuts", what=name, states=row["states"], bad=row["bad"])
    assert row["bad"] > 0


def test_every_planted_bug_has_a_layer_that_sees_it() -> None:
    assert [name for name, mutant in mutants.MUTANTS.items() if not mutant.cut and not mutant.disk] == []
