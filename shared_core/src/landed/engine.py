"""The engine seam: the storage that a journal needs, as one small interface.

A journal knows records, batches, compare-and-swap and who waits for whom. A `Log` knows storage: it keeps batches in
order, decides under its lock, and acknowledges what is durable and verified. Local files are one (`landed.local.log`);
whatever can append at a given tail, or refuse, can be another. File descriptors and paths end here.
"""

from __future__ import annotations

import os

from landed.digest import sha256
from landed.errors import Claimed, Full, LockTimeout, Refused, StaleWrite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence
    from typing import Final, Protocol, TypeAlias

    from landed.errors import LandedError

    Position: TypeAlias = tuple[int, ...]
    """Where a batch stands, for `Log.fetch`: opaque, and good until a compaction."""

DIGITS: Final = 40
"""Hexadecimal digits that stand for a name: 160 bits of sha256, so that no two names meet."""


class Commit:
    """One append on its way through a log: what is asked, then what became of it.

    Attributes:
        payload: the batch's records, encoded.
        count: how many records it has.
        expect: the tail it relies on; None for any.
        deadline: when it gives up waiting, in seconds of time.monotonic().
        sequence: of its first record, once it landed.
        position: where it stands, once it landed.
        error: why it did not land, or None.
    """

    __slots__ = ("count", "deadline", "error", "expect", "payload", "position", "sequence")

    def __init__(self, payload: bytes, count: int, expect: int | None, deadline: float) -> None:
        self.payload = payload
        self.count = count
        self.expect = expect
        self.deadline = deadline
        self.sequence = 0
        self.position: Position = ()
        self.error: LandedError | None = None

    @property
    def decided(self) -> bool:
        return self.sequence > 0 or self.error is not None


# What every engine says in the same words.


def stale(name: str, expected: int, tail: int) -> StaleWrite:
    """The error for an expectation that the journal's tail does not meet."""
    return StaleWrite(
        f"expected the journal at {expected}, it is at {tail}",
        path=name,
        step="compare",
        expected=str(expected),
        found=str(tail),
        hint="Read what was appended since, then append to that.",
    )


def full(name: str, limit: int, needed: int) -> Full:
    """The error for an append after which the journal would have `needed` bytes."""
    return Full(
        f"the journal may have {limit} bytes, and would have {needed}",
        path=name,
        step="grow",
        expected=str(limit),
        found=str(needed),
        hint="Compact it, or raise max_bytes.",
    )


def contended(name: str) -> LockTimeout:
    """The error for an append that was overtaken until its time was over."""
    return LockTimeout(
        "other writers were faster for the whole timeout",
        path=name,
        step="append",
        hint="Try again, or allow a longer timeout.",
    )


def claimed(name: str, holder: str | None, *, away: bool = False) -> Claimed:
    """The error for everybody but the owner; `away` for one who was the owner, and slept through the end of that."""
    holder = holder or "one that does not say who it is"
    error = Claimed(
        f"another process owns it alone: {holder}",
        path=name,
        step="claim",
        hint="This process was away for so long that its claim was ended. Read the journal, then claim it."
        if away
        else "Use that process, or wait until it closes the journal.",
    )
    error.holder = holder
    return error


# The names of a collection's journals, which may be any, as every engine keeps them.


def encode_name(name: str) -> bytes:
    """The name as UTF-8; one from a file system may hold surrogates."""
    return name.encode("utf-8", "surrogatepass")


def decode_name(data: bytes) -> str:
    """Its inverse.

    Raises:
        UnicodeDecodeError: no name is encoded like that.
    """
    return data.decode("utf-8", "surrogatepass")


def digest_of_name(name: str) -> str:
    """What stands for the name in a path or a key: `DIGITS` digits."""
    return sha256(encode_name(name))[:DIGITS]


class Holders:
    """Who of this process holds which lock of an engine, so that nobody waits for itself. Safe for threads."""

    def __init__(self) -> None:
        self._owners: dict[tuple[int, str], Hashable] = {}

    def check(self, lock: str, owner: Hashable) -> None:
        """Refuse an owner that holds the lock already, by whatever object.

        Raises:
            Refused: it does, and would wait for itself.
        """
        if (os.getpid(), lock) in self._owners and self._owners[os.getpid(), lock] == owner:
            raise Refused(
                "this thread or task already holds the lock and would wait for itself", path=lock, step="lock"
            )

    def took(self, lock: str, owner: Hashable) -> None:
        self._owners[os.getpid(), lock] = owner

    def gave_back(self, lock: str, owner: Hashable) -> None:
        """`owner` has given the lock back, or lost it: then another may have it by now, and keeps it."""
        if self._owners.get((os.getpid(), lock)) == owner:
            del self._owners[os.getpid(), lock]


class Batch:
    """One batch as it is stored.

    Attributes:
        sequence: what its records' distances count from.
        payload: its records, encoded.
        position: for `Log.fetch`.
    """

    __slots__ = ("payload", "position", "sequence")

    def __init__(self, sequence: int, payload: bytes, position: Position) -> None:
        self.sequence = sequence
        self.payload = payload
        self.position = position


if TYPE_CHECKING:
    Rewrite: TypeAlias = Callable[[Batch], bytes | None]
    """What compaction keeps of a batch: its new payload, or None for nothing."""

    class Log(Protocol):
        """Batches in order. Safe for threads and processes; one per journal handle."""

        @property
        def name(self) -> str:
            """What messages call this log."""
            ...

        def commit(self, commits: Sequence[Commit], timeout: float) -> int:
            """Append some of `commits`, at least the first, in order, and decide each.

            Returns how many were decided: each has a sequence number, then it is durable and verified, or an error.

            Raises:
                NotLanded: none was decided and none was written.
            """
            ...

        def tail(self) -> int:
            """The highest sequence number given out; 0 in an empty log. Sees what other processes acknowledged."""
            ...

        def batches(self, start: int, upto: int | None = None) -> Iterator[Batch]:
            """All batches that end at or after sequence number `start`, oldest first, up to the tail.

            Args:
                upto: the tail as the caller has seen it, which need not be looked for again; later ones may be given.
            """
            ...

        def newest_first(self, upto: int | None = None) -> Iterator[Batch]:
            """All batches from the tail back; `upto` as for `batches`."""
            ...

        def fetch(self, position: Position) -> Batch | None:
            """The batch at a position; None when a compaction has moved it."""
            ...

        def rewrite(self, rewrite: Rewrite, timeout: float) -> tuple[int, int]:
            """Compact everything that is there now while others append and read.

            Returns the bytes in use before and after.
            """
            ...

        def size(self) -> int:
            """Bytes in use."""
            ...

        def claim(self) -> None:
            """Own the log alone until `close`: everybody else's appends raise `Claimed`."""
            ...

        def forked(self) -> None:
            """In a forked child: forget what threads of the parent were doing."""
            ...

        def close(self) -> None:
            """Give back descriptors and the claim."""
            ...

    class Collection(Protocol):
        """Logs by name. Safe for threads and processes."""

        @property
        def name(self) -> str:
            """What messages call this collection."""
            ...

        def open(self, name: str, *, create: bool) -> Log | None:
            """The log of that name, a new handle each time; None when there is none and none is to be made."""
            ...

        def current(self, log: Log) -> bool:
            """Whether its name still leads to this log: it was not removed, nor removed and made again.

            Where telling costs a request, this goes by what is known; the log's next operation raises and knows.
            """
            ...

        def names(self) -> Iterator[str]:
            """The names of all logs, in no order."""
            ...

        def remove(self, name: str, timeout: float, expect: int | None = None) -> bool:
            """Remove a log, under its lock; whether there was one. An append to it raises from then on.

            Raises:
                StaleWrite: its tail is not `expect`; None for any.
            """
            ...

        def lock(self, name: str) -> Mutex:
            """A lock that goes by that name and has nothing to do with the log's own."""
            ...

    class Mutex(Protocol):
        """A lock for work longer than one append; `landed.Lock` is the one of local files."""

        @property
        def held(self) -> bool:
            """Whether this object holds it."""
            ...

        def acquire(self, timeout: float = ..., *, owner: Hashable = None) -> None:
            """Take it; raises `LockTimeout` when it is not free within `timeout` seconds."""
            ...

        def release(self) -> None:
            """Give it back."""
            ...

        def __enter__(self) -> object: ...

        def __exit__(self, *_: object) -> None: ...
