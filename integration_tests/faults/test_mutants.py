"""Every flush in the sources that write is left out once, and a test that is recorded for it must fail with that.

The mutants come from the sources as they are (`lab.mutation`): a flush that is new is one more. `make mutants` finds
out which layer sees which bug, of the other kinds as well, and records it; where the recorded test is gone or sees the
bug no longer, the layers are searched here, and a bug that none of them sees fails.
"""

from __future__ import annotations

import pytest
from lab import matrix, mutation
from results import note

MUTANTS = {name: mutant for name, mutant in mutation.mutants().items() if mutant.rule == mutation.DROPPED}
RECORDED = matrix.recorded()


def recorded_tests() -> list[str]:
    """The recorded tests, each once."""
    return sorted({matrix.test_for(RECORDED.get(name, {})) for name in MUTANTS} - {""})


def test_every_recorded_test_passes_without_a_bug() -> None:
    with mutation.planted(None) as path:
        assert matrix.failing(recorded_tests(), path) == ""


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", MUTANTS)
def test_flush_that_is_left_out_is_seen(name: str) -> None:
    with mutation.planted(MUTANTS[name]) as path:
        known = matrix.test_for(RECORDED.get(name, {}))
        seen = matrix.failing([known], path) if known else ""
    if not seen:
        seen = "".join(matrix.seen_by(MUTANTS[name], {}, every=False).values())
    note("flushes left out", what=name, seen=seen)
    assert seen, f"no layer sees it: {name}"


def test_table_in_the_page_is_what_was_recorded() -> None:
    assert matrix.written() == matrix.table(RECORDED)
