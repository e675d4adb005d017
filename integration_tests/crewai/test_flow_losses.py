"""What flows lose with the stores that CrewAI brings, and not with ours: the same runs on both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sides
from sides import LANDED, STOCK
from worker import FLOW

if TYPE_CHECKING:
    from pathlib import Path

TIMES = 5


def four_processes(workers: list[Any], side: str, directory: Path) -> tuple[int, int, list[str]]:
    """Runs acknowledged, the count that is stored in the end, and what the refused ones heard."""
    for worker in workers:
        worker.ask("kick_off", side, str(directory), TIMES)
    answers = [worker.answer() for worker in workers]
    state = sides.flows(side, str(directory)).load_state(FLOW)
    assert state is not None
    refused = [name for answer in answers for name in answer["refused"]]
    return sum(answer["done"] for answer in answers), state["n"], refused


def test_four_processes_on_one_flow_id(workers: list[Any], tmp_path: Path) -> None:
    runs = TIMES * len(workers)
    for attempt in range(5):  # they may take turns by chance
        done, stored, refused = four_processes(workers, STOCK, tmp_path / f"stock{attempt}")
        assert (done, refused) == (runs, []), "every run was told that its state is saved"
        if stored < done:
            break
    assert stored < done, "increments are gone"

    for attempt in range(5):
        done, stored, refused = four_processes(workers, LANDED, tmp_path / f"landed{attempt}")
        assert stored == done, "each that was acknowledged counts"
        assert done + len(refused) == runs
        assert set(refused) <= {"StaleWrite"}, "each that was not has heard so"
        if refused:
            break
    assert refused, "the processes never met"


def two_resumes(workers: list[Any], side: str, directory: Path, *, persisted: bool) -> tuple[list[str], int]:
    """What two processes heard that resume one pending feedback, and how often it took effect."""
    directory.mkdir()
    store, effects = sides.flows(side, str(directory)), directory / "effects"
    effects.touch()
    sides.review(store if persisted else None, str(effects))(persistence=store).kickoff(inputs={"id": FLOW})
    first, second = workers[:2]
    for worker in (first, second):
        assert worker("load_pending", side, str(directory), persisted) == "loaded"
    for worker in (first, second):
        worker.ask("resume")
    heard = sorted(worker.answer() for worker in (first, second))
    return heard, len(effects.read_text().splitlines())


@pytest.mark.parametrize("persisted", [True, False], ids=["with persist", "feedback alone"])
def test_two_processes_resume_one_feedback(workers: list[Any], tmp_path: Path, persisted: bool) -> None:
    heard, effects = two_resumes(workers, STOCK, tmp_path / "stock", persisted=persisted)
    assert (heard, effects) == (["published", "published"], 2)
    heard, effects = two_resumes(workers, LANDED, tmp_path / "landed", persisted=persisted)
    assert (heard, effects) == (["StaleWrite", "published"], 1)
    with pytest.raises(ValueError, match="No pending feedback"):
        sides.review(None, "").from_pending(FLOW, sides.flows(LANDED, str(tmp_path / "landed")))
