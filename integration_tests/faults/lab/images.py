"""What a power cut can leave on a device: everything before the last flush, and any part of what came after.

A drive may write what it was not told to flush in any order, and may be torn out of a write between two sectors. Which
of the many states are built is drawn from a seeded generator.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.log import FLUSH, MARK, WRITE, entries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

BLOCK = 4096
KEPT = (0.5, 0.9, 0.15)
"""Of the writes since the last flush, the share that reached the medium; beside all of them and none."""
TRIES = 5
"""For each state that is wanted: many are drawn twice."""
SECTOR = 512
"""Bytes that a drive writes whole."""
SUPERBLOCKS = {"ext4": (1024, 2048), "xfs": (0, 512), "btrfs": (64 << 10, 68 << 10)}
"""Where each file system relies on a write of more than a sector being whole. Torn, it needs a repair before it can be
mounted, whatever stands on it; so a write to this range is there or not."""

Blocks = dict[int, bytes]
Mark = dict[str, Any]


class Cut(NamedTuple):
    """A power cut and what of the unflushed writes survives it.

    Attributes:
        flushed: the last flush before the cut, an index into the log.
        at: where the cut is, likewise.
        kept: the writes since that flush that reached the medium.
        torn: the one of them that did so in part, or None.
        sectors: those of its sectors that did.
    """

    flushed: int
    at: int
    kept: tuple[int, ...]
    torn: int | None
    sectors: tuple[int, ...]

    def __str__(self) -> str:
        torn = "" if self.torn is None else f", sectors {list(self.sectors)} of write {self.torn}"
        return f"cut at {self.at}, kept since the flush at {self.flushed}: {list(self.kept)}{torn}"


class State(NamedTuple):
    """One image after a power cut.

    Attributes:
        blocks: all that is not zero.
        marks: what the workload had said before the cut.
        cut: which state it is.
    """

    blocks: Blocks
    marks: list[Mark]
    cut: str


def read_blocks(image: Path) -> Blocks:
    """The blocks of a file that are not zero."""
    blocks: Blocks = {}
    zero = bytes(BLOCK)
    with image.open("rb") as file:
        size, offset = os.fstat(file.fileno()).st_size, 0
        while offset < size:
            try:
                start = os.lseek(file.fileno(), offset, os.SEEK_DATA)
            except OSError:  # only holes are left
                break
            offset = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            for at in range(start - start % BLOCK, offset, BLOCK):
                data = os.pread(file.fileno(), BLOCK, at)
                if data != zero:
                    blocks[at] = data
    return blocks


def write_blocks(image: Path, size: int, blocks: Blocks) -> None:
    """Make `image` a file of these blocks, and zeros."""
    with image.open("wb") as file:
        file.truncate(size)
        for at, data in blocks.items():
            os.pwrite(file.fileno(), data, at)


def _apply(blocks: Blocks, offset: int, data: bytes) -> None:
    while data:
        at = offset - offset % BLOCK
        skip = offset - at
        part = data[: BLOCK - skip]
        if len(part) == BLOCK:
            blocks[at] = part
        else:
            old = blocks.get(at, bytes(BLOCK))
            blocks[at] = old[:skip] + part + old[skip + len(part) :]
        offset, data = offset + len(part), data[len(part) :]


class Recording:
    """What a device was given: the blocks it began with, then writes, flushes and marks.

    Args:
        base: the blocks at the beginning.
        log: of the recording device.
        kind: name of the file system.
    """

    def __init__(self, base: Blocks, log: Path, kind: str) -> None:
        self.base = base
        self.entries = list(entries(log))
        self.flushes = [at for at, (kind, _, _) in enumerate(self.entries) if kind == FLUSH]
        self._marks = [at for at, (kind, _, _) in enumerate(self.entries) if kind == MARK]
        self._superblock = SUPERBLOCKS[kind]

    def states(self, count: int, chance: Random) -> Iterator[State]:
        """Up to `count` states, each once: half cut just after something was said, half anywhere after the first."""
        cuts: set[Cut] = set()
        for attempt in range(TRIES * count if self._marks else 0):
            if len(cuts) == count:
                break
            said = attempt % 2 == 0
            at = chance.choice(self._marks) + 1 if said else chance.randrange(self._marks[0], len(self.entries)) + 1
            cuts.add(self._cut(at, chance))
        durable, done = dict(self.base), 0
        for cut in sorted(cuts, key=lambda cut: cut.flushed):
            for kind, offset, data in self.entries[done : cut.flushed]:
                if kind == WRITE:
                    _apply(durable, offset, data)
            done = max(done, cut.flushed)
            marks = [json.loads(self.entries[at][2]) for at in self._marks if at < cut.at]
            yield State(self._blocks(durable, cut), marks, str(cut))

    def _cut(self, at: int, chance: Random) -> Cut:
        flushed = max((flush for flush in self.flushes if flush < at), default=0)
        since = [n for n in range(flushed, at) if self.entries[n][0] == WRITE]
        if not since:  # the cuts from here to the next write are one, but for what was said before them
            return Cut(flushed, at if self.entries[at - 1][0] == MARK else flushed + 1, (), None, ())
        share = chance.choice((0.0, 1.0, *KEPT, *KEPT))
        kept = tuple(n for n in since if chance.random() < share)
        frail = [n for n in kept if self._can_be_torn(n)]
        torn = chance.choice(frail) if frail and chance.random() < 1 / 2 else None
        return Cut(flushed, at, kept, torn, () if torn is None else self._sectors(torn, chance))

    def _can_be_torn(self, n: int) -> bool:
        _, offset, data = self.entries[n]
        start, end = self._superblock
        return len(data) > SECTOR and not (offset < end and start < offset + len(data))

    def _sectors(self, n: int, chance: Random) -> tuple[int, ...]:
        count = -(-len(self.entries[n][2]) // SECTOR)
        if chance.random() < 1 / 2:
            return tuple(range(chance.randrange(count)))
        return tuple(sector for sector in range(count) if chance.random() < 1 / 2)

    def _blocks(self, durable: Blocks, cut: Cut) -> Blocks:
        blocks = dict(durable)
        for n in cut.kept:
            _, offset, data = self.entries[n]
            if n != cut.torn:
                _apply(blocks, offset, data)
                continue
            for sector in cut.sectors:
                start = sector * SECTOR
                _apply(blocks, offset + start, data[start : start + SECTOR])
        return blocks
