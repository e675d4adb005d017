"""What the log of a file says: each write that was begun, each that was refused; and how a refusal gets there.

Apart from `landed.shelf`, which appends the line of each write: a write that nobody disputes reads no log.
"""

from __future__ import annotations

import os

from landed import _fs
from landed.process import Owner
from landed.records import Write, base_of, unescape
from landed.shelf import LOG_CHECKS, LOG_LIMIT, NAME, OLDER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.shelf import Shelf

_REFUSED: Final = "refused "
"""How the line of a refusal begins; that of a write begins with its version, a number."""


class Refusal:
    """A write that was not begun, because what was there was not what its writer expected.

    Attributes:
        expected: the version that it was to replace; "" for no file, and where the writer had seen none.
        found: the version that was there; "" for no file.
        owner: the process that was refused.
        at: when, in seconds since the epoch.
    """

    __slots__ = ("at", "expected", "found", "owner")

    def __init__(self, expected: str, found: str, owner: Owner, at: float) -> None:
        self.expected = expected
        self.found = found
        self.owner = owner
        self.at = at

    def encode(self) -> str:
        """As one line; `Refusal.decode` reads it."""
        expected, found = (version.replace(" ", "_").replace("\n", "_") for version in (self.expected, self.found))
        return f"{_REFUSED}{expected or '-'} {found or '-'} {self.at:.3f} {self.owner.encode()}"

    @classmethod
    def decode(cls, line: str) -> Refusal | None:
        """The refusal that `line` tells of, or None when it is not such a line."""
        parts = line[len(_REFUSED) :].split(" ", 3) if line.startswith(_REFUSED) else []
        owner = Owner.decode(parts[3]) if len(parts) == 4 else None  # noqa: PLR2004 - the fields above
        if owner is None:
            return None
        expected, found, at = parts[:3]
        try:
            return cls("" if expected == "-" else expected, "" if found == "-" else found, owner, float(at))
        except ValueError:
            return None


def refuse(shelf: Shelf, refusal: Refusal, counter: int) -> None:
    """Append a line for a write that is refused on top of version `counter`. Needs the lock.

    A note for `landed log` and `landed report`, and no more: where it cannot be written, or a writer that does not
    give up has filled the log, the refusal stands without it.
    """
    try:
        if shelf._fs.stat(shelf.log_path).st_size < LOG_LIMIT:
            shelf.append(refusal.encode(), counter // LOG_CHECKS)
    except OSError:
        return


def writes(shelf: Shelf) -> list[tuple[Write, bool]]:
    """Every logged write, oldest first, and whether it landed."""
    begun = [Write.decode(line) for line in _lines(shelf)]
    record = shelf.load()
    current = record.landed.version if record.landed is not None else ""
    landed = []
    for write in reversed([write for write in begun if write is not None]):
        on_chain = write.version == current
        if on_chain:
            current = base_of(write.base)
        landed.append((write, on_chain))
    return landed[::-1]


def entries(shelf: Shelf) -> list[Write | Refusal]:
    """Every line of the log that can be read, in its order: the oldest first."""
    found = [Refusal.decode(line) or Write.decode(line) for line in _lines(shelf)]
    return [entry for entry in found if entry is not None]


def name_in(shelf: Shelf) -> str:
    """The artifact's true name, as the log tells it; "" where it does not."""
    lines = _text(shelf.log_path, shelf._fs).decode("utf-8", "surrogateescape").split("\n")
    return next((unescape(line[len(NAME) :]) for line in lines if line.startswith(NAME)), "")


def _lines(shelf: Shelf) -> list[str]:
    text = _text(shelf.log_path + OLDER, shelf._fs) + b"\n" + _text(shelf.log_path, shelf._fs)
    return text.decode("utf-8", "surrogateescape").split("\n")


def _text(path: str, fs: _fs.FileOps) -> bytes:
    try:
        fd = fs.open(path, os.O_RDONLY | _fs.KEPT)
    except FileNotFoundError:
        return b""
    try:
        return _fs.read_all(fs, fd, LOG_LIMIT)
    finally:
        _fs.close_read(fs, fd)
