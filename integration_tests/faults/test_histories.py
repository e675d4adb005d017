"""The checker is itself checked: each kind of wrong history is found, and a right one passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from histories import ACKED, REJECTED, UNKNOWN, Attempt, Notes, check, read_notes

if TYPE_CHECKING:
    from pathlib import Path

ATTEMPTS = {
    "a1": Attempt("a1", "a", 10, 20, ACKED),
    "b1": Attempt("b1", "b", 15, 30, ACKED),
    "b2": Attempt("b2", "b", 40, 50, ACKED),
    "c1": Attempt("c1", "c", 12, 60, REJECTED),
    "d1": Attempt("d1", "d", 13, None, UNKNOWN),
}


@pytest.mark.parametrize("stored", [["a1", "b1", "b2"], ["b1", "a1", "b2"], ["d1", "a1", "b1", "b2"]])
def test_right(stored: list[str]) -> None:
    assert not check(ATTEMPTS, stored)


@pytest.mark.parametrize(
    ("wrong", "stored", "names"),
    [
        ("lost", ["a1", "b2"], ["b1"]),
        ("phantom", ["a1", "c1", "b1", "b2"], ["c1"]),
        ("partial", ["a1", "b1", "b", "b2"], ["b"]),
        ("doubled", ["a1", "b1", "a1", "b2"], ["a1"]),
        ("out_of_order", ["b2", "a1", "b1"], ["b2"]),
    ],
)
def test_wrong(wrong: str, stored: list[str], names: list[str]) -> None:
    report = vars(check(ATTEMPTS, stored))
    assert report.pop(wrong) == names
    if wrong != "doubled":
        assert not any(report.values()), report


def test_notes_of_a_worker_that_died(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "w")
    notes.begin("w1")
    notes.end("w1", ACKED, version="1-a")
    notes.begin("w2")
    with (tmp_path / "w").open("a") as file:
        file.write("123 ack")
    attempts = read_notes([tmp_path / "w"])
    assert [(name, attempt.how, attempt.more) for name, attempt in attempts.items()] == [
        ("w1", ACKED, {"version": "1-a"}),
        ("w2", UNKNOWN, {}),
    ]
