"""Every flush in the sources that write is left out once, and a test that is recorded for it must fail with that.

The mutants come from the sources as they are (`lab.mutation`): a flush that is new is one more. `make mutants` finds
out which layer sees which bug, of the other kinds as well, and records it; where the recorded test is gone or sees the
bug no longer, the layers are searched here, and a bug that none of them sees fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lab import matrix, mutation
from results import note

if TYPE_CHECKING:
    from pathlib import Path

MUTANTS = {name: mutant for name, mutant in mutation.mutants().items() if mutant.rule == mutation.DROPPED}
RECORDED = matrix.recorded()


def recorded_tests() -> list[str]:
    """The recorded tests, each once."""
    return sorted({matrix.test_for(RECORDED.get(name, {})) for name in MUTANTS} - {""})


def test_every_recorded_test_passes_without_a_bug(tmp_path: Path) -> None:
    with mutation.planted(None, tmp_path) as path:
        assert matrix.failing(recorded_tests(), path) == ""


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in matrix.UNSEEN])
def test_flush_that_is_left_out_is_seen(name: str, tmp_path: Path) -> None:
    with mutation.planted(MUTANTS[name], tmp_path) as path:
        known = matrix.test_for(RECORDED.get(name, {}))
        seen = matrix.failing([known], path) if known else ""
    if not seen:
        seen = "".join(matrix.seen_by(MUTANTS[name], {}, every=False).values())
    note("flushes left out", what=name, seen=seen)
    assert seen, f"no layer sees it: {name}"


def test_table_in_the_page_is_what_was_recorded() -> None:
    assert matrix.written() == matrix.table(RECORDED)


def test_what_is_excused_is_in_the_sources_and_says_why() -> None:
    assert [name for name in matrix.UNSEEN if name not in mutation.mutants()] == []
    assert all(matrix.UNSEEN.values())
