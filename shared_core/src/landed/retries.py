"""When to try again, for engines that others use at the same time and whose answers get lost."""

from __future__ import annotations

import random
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

PAUSE: Final = 0.05
"""Seconds before the first new try, about; each pause is drawn between none and twice the one before."""
LONGEST_PAUSE: Final = 2.0
"""Seconds that a pause is at most, about."""


def pauses(deadline: float, most: float = LONGEST_PAUSE) -> Iterator[float | None]:
    """Jittered pauses between tries until the deadline; then one None, for the last try."""
    pause = min(PAUSE, most)
    while True:
        left = deadline - monotonic()
        if left <= 0:
            yield None
            return
        yield min(left, random.uniform(0, 2 * pause))  # noqa: S311 - spreads tries, keeps no secret
        pause = min(most, 2 * pause)
