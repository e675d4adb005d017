"""Every bug that the rules make of the sources is planted, and a test that is recorded for it must fail with that.

The mutants come from the sources as they are (`lab.mutation`): a flush that is new is one more. `make mutants` finds
out which test sees which bug, and records it; where the recorded test is gone or sees the bug no longer, the layers are
searched here, and a bug that none of them sees fails.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from lab import matrix, mutation
from lab.trial import Trials

if TYPE_CHECKING:
    from collections.abc import Iterator

MUTANTS = mutation.mutants()
RECORDED = matrix.recorded()


@pytest.fixture(scope="module")
def trials() -> Iterator[Trials]:
    with Trials(2) as started:
        yield started


@pytest.fixture(scope="module")
def seen(trials: Trials, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[matrix.Row]]]:
    """What sees the mutants, found out two at a time."""
    chosen = [item.callspec.params["name"] for item in request.session.items if item.name.startswith("test_bug[")]
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(matrix.seen_by, MUTANTS[name], RECORDED.get(name, {}), trials) for name in chosen}
        pool.shutdown(cancel_futures=True)


def test_every_recorded_test_passes_without_a_bug(trials: Trials) -> None:
    tests = {matrix.test_for(RECORDED.get(name, {})) for name in MUTANTS} - {""}
    with mutation.planted(None) as path:
        assert trials.failing(sorted(tests), path, matrix.SLOW) == ""


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", MUTANTS)
def test_bug(name: str, seen: dict[str, Future[matrix.Row]]) -> None:
    assert any(seen[name].result().values()), f"no layer sees it: {name}"


def test_table_in_the_page_is_what_was_recorded() -> None:
    assert matrix.PLACE.read() == matrix.table(RECORDED)
