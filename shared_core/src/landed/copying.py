"""Copy journals from one engine to another: every batch under its sequence number, resumable, and proved at the end.

A copy that was broken off is a beginning of its source. The next one sees how far it got and goes on from there. Each
batch goes in by compare-and-swap, so that a target to which somebody else appends meanwhile is found at once.
"""

from __future__ import annotations

from math import inf

from landed.engine import Commit
from landed.entries import encode_records, records
from landed.errors import Refused, StaleWrite, VerifyFailed
from landed.lock import DEFAULT_TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Final, TypeAlias

    from landed.engine import Collection, Log
    from landed.entries import Record

    Progress: TypeAlias = Callable[[int, int], None]
    """Told how many sequence numbers are done, of how many."""

GROUP: Final = 256
"""Batches that are handed to the target at once."""
GROUP_BYTES: Final = 8 << 20
"""Bytes of them, one larger batch excepted."""


def _quiet(*_: object) -> None:
    """Nobody wants to be told."""


class Copied:
    """What was copied.

    Attributes:
        batches: batches that this call copied.
        present: sequence numbers that were there from an earlier call.
        tail: of both journals.
    """

    __slots__ = ("batches", "present", "tail")

    def __init__(self, batches: int, present: int, tail: int) -> None:
        self.batches = batches
        self.present = present
        self.tail = tail


def copy_log(source: Log, target: Log, progress: Progress = _quiet, *, timeout: float = DEFAULT_TIMEOUT) -> Copied:
    """Copy what the source has now behind what the target has of it already, and compare the two.

    Numbers that nobody has any more, at the source's end, go over as a batch without records: the target goes on where
    the source would, and no number is given out twice.

    Args:
        progress: told after each step.
        timeout: seconds that one step may take.

    Raises:
        Refused: the target holds something that the source does not. Nothing was changed.
        StaleWrite: somebody else appended to the target. What was copied before stays.
        VerifyFailed: the target does not read back as the source does.
        LandedError: as the engines' own; what was copied before stays, and the next call goes on from there.
    """
    tail, present = source.tail(), target.tail()
    if present > tail or not _same(source, target, present, from_=present):
        raise Refused(
            "it holds records that the source does not",
            path=target.name,
            step="copy",
            hint="Copy to a place that is empty, or that a copy began of the same source, not compacted since.",
        )
    copied = 0
    group: list[Commit] = []
    reached = present
    for commit in _commits(source, present, tail):
        commit.expect = reached
        reached += commit.count
        copied += 1
        group.append(commit)
        if len(group) == GROUP or sum(len(each.payload) for each in group) > GROUP_BYTES:
            _land(target, group, timeout)
            group = []
            progress(reached, tail)
    _land(target, group, timeout)
    progress(tail, tail)
    if not _same(source, target, tail):
        raise VerifyFailed(
            f"it does not read back as {source.name} does",
            path=target.name,
            step="verify",
            hint="See what else writes there, and copy to another place.",
        )
    return Copied(copied, present, tail)


def copy_collection(
    source: Collection,
    target: Collection,
    progress: Callable[[str, Copied], None] = _quiet,
    *,
    timeout: float = DEFAULT_TIMEOUT,
) -> int:
    """Copy every journal of a collection; how many there are.

    Args:
        progress: told of each.
        timeout: seconds that one step may take.

    Raises:
        LandedError: as `copy_log`; the journals before are copied.
    """
    names = sorted(source.names())
    for name in names:
        log = source.open(name, create=False)
        if log is None:
            continue  # removed meanwhile
        other = target.open(name, create=True)
        assert other is not None  # noqa: S101 - it was made
        try:
            progress(name, copy_log(log, other, timeout=timeout))
        finally:
            log.close()
            other.close()
    return len(names)


def _commits(source: Log, after: int, tail: int) -> Iterator[Commit]:
    """The source's batches as appends that give each record its number.

    A batch takes with it the numbers before it that nobody has; those behind the last are one without records.
    """
    reached = after
    for batch in source.batches(after + 1, tail):
        if batch.sequence > tail:
            break
        shift = batch.sequence - reached - 1
        moved = [
            (distance + shift, record)
            for distance, record in records(batch, source.name)
            if distance + shift >= 0  # else it is there: of its batch the end was dropped
        ]
        if not moved:
            continue
        count = moved[-1][0] + 1
        yield Commit(encode_records(moved), count, None, inf)
        reached += count
    if reached < tail:
        yield Commit(b"", tail - reached, None, inf)


def _land(target: Log, group: list[Commit], timeout: float) -> None:
    while group:
        decided = target.commit(group, timeout)
        for commit in group[:decided]:
            if isinstance(commit.error, StaleWrite):
                commit.error.hint = "Somebody else appends to it. Copy to a place that nobody uses yet."
            if commit.error is not None:
                raise commit.error
        group = group[decided:]


def _same(source: Log, target: Log, tail: int, *, from_: int = 1) -> bool:
    """Whether both hold the same records under the same numbers, from one number to another."""
    ours, theirs = (_walk(log, from_, tail) for log in (source, target))
    return all(next(theirs, None) == one for one in ours) and next(theirs, None) is None


def _walk(log: Log, from_: int, tail: int) -> Iterator[tuple[int, Record]]:
    for batch in log.batches(from_, tail):
        if batch.sequence > tail:
            return
        for distance, record in records(batch, log.name):
            if from_ <= batch.sequence + distance <= tail:
                yield batch.sequence + distance, record
