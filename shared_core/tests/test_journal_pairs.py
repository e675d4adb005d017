"""Two processes on one journal: whatever the second does whole, between any two calls of the first, harms neither.

Both hear that their appends landed, all agree on one order, readers get what was there when they began, and a power
cut afterwards takes nothing of it away.
"""

from __future__ import annotations

import pytest
from model_journal import Boot, judge, model_machine
from model_journal_pairs import FIRSTS, SECONDS, problems_of

__all__ = ["model_machine"]

pytestmark = pytest.mark.exhaustive


@pytest.mark.parametrize("second", SECONDS)
@pytest.mark.parametrize("first", FIRSTS)
def test_second_process_between_any_two_calls(first: str, second: str, model_machine: Boot) -> None:
    judge(problems_of(first, second))
