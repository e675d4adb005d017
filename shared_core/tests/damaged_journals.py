"""Journals to damage, and how: bytes, by the page on the format."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import landed
from landed.local import frames
from landed.local.salvage import salvage

FIRST = "0000000001-0000000001.seg"
SECOND = "0000000002-0000000002.seg"


def contents(directory: Path) -> list[tuple[str, bytes, int]]:
    return [(path.name, path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(directory.iterdir())]


def make(directory: Path, batches: int, size: int = 600) -> list[tuple[int, bytes]]:
    """A journal of `batches` appends of two records each; its records."""
    with landed.Journal(directory) as journal:
        for number in range(batches):
            journal.append([b"%d" % number * (size // 4), landed.Record(b"", key=b"key %d" % number, kind=3)])
    return records_of(directory)


def records_of(directory: Path) -> list[tuple[int, bytes]]:
    with landed.Journal(directory) as journal:
        return [(entry.sequence, entry.data) for entry in journal.read()]


def salvaged(directory: Path, output: Path) -> list[tuple[int, bytes]]:
    shutil.rmtree(output, ignore_errors=True)
    salvage(directory, output)
    return records_of(output)


def frame_offsets(path: Path) -> list[int]:
    """Where the frames of a segment begin, by the page's table alone."""
    data, at, offsets = path.read_bytes(), 128, []
    while data[at : at + 4] == b"LFR1":
        offsets.append(at)
        (length,) = struct.unpack_from("<I", data, at + 8)
        at += 40 + -(-length // 8) * 8 + 8
    return [*offsets, at]


def change(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path: Path, offset: int) -> None:
    change(path, offset, bytes([path.read_bytes()[offset] ^ 0x10]))


def unflushed(path: Path, offset: int) -> None:
    """Write a frame again, as by a process that did not know that anything before it was flushed."""
    data = path.read_bytes()
    segment_id = data[32:40]
    frame = frames.decode_frame(segment_id, offset, data, offset)
    assert frame is not None
    frame.head.flushed = 128
    change(path, offset, frame.head.encode(segment_id, frame.payload))


def crashed(directory: Path) -> tuple[Path, int]:
    """A journal whose last frame did not reach the device whole; its newest segment, and where that frame begins."""
    make(directory, 4, size=40)
    path = directory / FIRST
    at = frame_offsets(path)[-2]
    flip(path, at + 50)
    return path, at


def torn(directory: Path) -> tuple[Path, int]:
    """A journal whose last frame was cut short; its newest segment, and where that frame begins."""
    with landed.Journal(directory) as journal:
        journal.append([b"x" * 3000])
        journal.append([b"y" * 3000])
        journal.append([b"z" * 6000])
    path = max(directory.glob("*.seg"))
    size = path.stat().st_size
    at = frame_offsets(path)[-2]
    boundary = -(-(at + 40) // 4096) * 4096
    change(path, boundary, bytes(size - boundary))
    return path, at
