"""What a recording device (`lab.device`) notes: writes, flushes and marks, in the order in which they arrived."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

WRITE, FLUSH, MARK = b"W", b"F", b"M"
ENTRY = struct.Struct("<cQI")
"""Of LOG: kind, offset, number of bytes that follow."""


def entries(log: str | os.PathLike[str]) -> Iterator[tuple[bytes, int, bytes]]:
    """What a device noted: kind, offset, data."""
    with open(log, "rb") as file:
        while head := file.read(ENTRY.size):
            kind, offset, size = ENTRY.unpack(head)
            yield kind, offset, file.read(size)
