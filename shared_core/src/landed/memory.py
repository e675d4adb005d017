"""What a program has seen at each path: what an expectation is held against, and what must be read before a write."""

from __future__ import annotations

import _thread

from landed._fs import posix
from landed.errors import Bypassed, LandedError, OutcomeUnknown, Refused, StaleWrite
from landed.publish import LEVELS
from landed.records import OUTSIDE, Absent, Any_, Seen
from landed.values import Receipt, Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Final

    from landed.artifact import Verdict
    from landed.values import Expect

SEEN_LIMIT: Final = 65_536
"""Paths whose last seen version a program remembers; a forgotten one is refused, never overwritten."""
READ_AGAIN: Final = "Read it again, redo the change on what it holds now, then write."


class Memory:
    """The last version that each actor saw at each path; one that has seen nothing itself inherits the program's.

    And the paths of which nobody knows what they hold: the outcome of a write there is unknown. Safe for threads.
    """

    def __init__(self) -> None:
        self._seen: dict[str, dict[Hashable, str | Absent]] = {}
        self._unknown: dict[str, str] = {}

    def remember(self, path: str, version: str | Absent, actor: Hashable) -> None:
        """`actor` has seen this version, by reading or writing it."""
        with _guard:
            seen = self._seen.pop(path, {})  # to the end: the front is the longest unused
            if len(seen) > SEEN_LIMIT:
                seen.clear()
            seen[actor] = seen[None] = version
            self._seen[path] = seen
            if len(self._seen) > SEEN_LIMIT:
                del self._seen[next(iter(self._seen))]

    def compare(
        self, path: str, current: str | Absent, expect: Expect, actor: Hashable
    ) -> tuple[bool, str | Absent | None]:
        """Whether an expectation is met, and which version it wants; None for one that this program has seen."""
        if isinstance(expect, Any_):
            return True, None
        if isinstance(expect, Seen):
            wanted: str | Absent | None = self._last_seen(path, actor)
            if wanted is None and isinstance(current, Absent):
                return True, None
        else:
            wanted = expect.version if isinstance(expect, (Snapshot, Receipt)) else expect
        return wanted == current, wanted

    def _last_seen(self, path: str, actor: Hashable) -> str | Absent | None:
        with _guard:
            seen = self._seen.get(path, {})
            return seen.get(actor, seen.get(None))

    # Unknown outcomes.

    def doubt(self, path: str, error: BaseException) -> None:
        """Published or interrupted: nothing more is built on this path before it has been read again."""
        self._unknown[path] = error.what if isinstance(error, LandedError) else str(error) or type(error).__name__

    def is_doubted(self, path: str) -> bool:
        return path in self._unknown

    def settle(self, path: str) -> None:
        """It has been read again, from the device."""
        self._unknown.pop(path, None)

    def refuse_doubted(self, path: str) -> None:
        """Raise where an earlier outcome is unknown.

        Raises:
            OutcomeUnknown: nothing was changed by this call.
        """
        why = self._unknown.get(path)
        if why is not None:
            raise OutcomeUnknown(
                f"an earlier write's outcome is unknown ({why})",
                path=path,
                step="poisoned",
                hint="Read it again: that looks at the device and settles it.",
            )


def unmet(path: str, wanted: str | Absent | None, verdict: Verdict, there: str, writer: str) -> StaleWrite:
    """The error for an expectation that is not met by what is `there`, in words."""
    outside = verdict.origin == OUTSIDE
    what = (
        f"found {there}, which this program has not seen"
        if wanted is None
        else f"expected {'no file' if isinstance(wanted, Absent) else f'version {wanted}'}, found {there}"
    )
    kind = Bypassed if outside else StaleWrite
    error = kind(
        what,
        path=path,
        step="compare",
        expected=None if wanted is None else str(wanted),
        found=str(verdict.version),
        hint=READ_AGAIN,
    )
    if not outside and writer:
        error.writer = writer
    return error


def check_arguments(path: str, expect: object, verify: str) -> None:
    """Refuse what is no verify level or no expectation.

    Raises:
        Refused: it is neither. Nothing was looked at.
    """
    if verify not in LEVELS:
        raise Refused(f"verify is one of {', '.join(map(repr, LEVELS))}, not {verify!r}", path=path, step="argument")
    if not isinstance(expect, (str, Absent, Any_, Seen, Snapshot, Receipt)):
        raise Refused(
            f"expect is a version, a Snapshot, a Receipt, ABSENT or ANY, not {expect!r}", path=path, step="argument"
        )


_guard = _thread.allocate_lock()
"""For what the programs of this process have seen."""


def _after_fork_in_child() -> None:
    global _guard  # noqa: PLW0603 - another thread of the parent may have held it
    _guard = _thread.allocate_lock()


if hasattr(posix, "register_at_fork"):
    posix.register_at_fork(after_in_child=_after_fork_in_child)
