"""When to try again, for engines that others use at the same time and whose answers get lost."""

from __future__ import annotations

import random
from time import monotonic, sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

PAUSE: Final = 0.05
"""Seconds before the first new try, about; each pause is drawn between none and twice the one before."""
LONGEST_PAUSE: Final = 2.0
"""Seconds that a pause is at most, about."""
SHOWN: Final = 1.0
"""Seconds from which a pause is told."""


def wait(pause: float, name: str, why: str) -> None:
    """Pause until the next try, and say so if that takes a while.

    It is a warning of the logger ``landed``; where a program has set up no logging, it comes to the terminal.

    Args:
        name: what is waited for.
        why: the engine's words, which hold no secrets.
    """
    if pause >= SHOWN:
        import logging  # most programs never wait for so long

        logging.getLogger("landed").warning("%s: trying again in %.1f s: %s", name, pause, why)
    sleep(pause)


def pauses(deadline: float, most: float = LONGEST_PAUSE) -> Iterator[float | None]:
    """Jittered pauses between tries until the deadline; then one None, for no more.

    Asked for the next one when a try has failed: some take longer than all the time that was given.
    """
    pause = min(PAUSE, most)
    while (left := deadline - monotonic()) > 0:
        yield min(left, 2 * pause * random.random())  # noqa: S311 - spreads tries, keeps no secret
        pause = min(most, 2 * pause)
    yield None
