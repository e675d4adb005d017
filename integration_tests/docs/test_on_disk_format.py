"""The page on the format is enough to read a journal: a reader written from it, with struct and zlib alone."""

from __future__ import annotations

import itertools
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import pytest

import landed

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "on-disk-format.md"
TOOL = ROOT / "tools" / "journal_example.py"


# The reader. Everything here is from the page; nothing is from landed.


class Damaged(Exception):
    pass


class Header(NamedTuple):
    magic: bytes
    size: int
    first: int
    last: int
    id: bytes
    base: int
    previous_id: bytes
    end: int
    boot: int
    compacted: int


class Frame(NamedTuple):
    offset: int
    type: int
    boot: int
    numbers: int
    sequence: int
    flushed: int
    back: int
    payload: bytes
    next: int


class Record(NamedTuple):
    sequence: int
    kind: int
    key: bytes
    data: bytes


def header_of(data: bytes) -> Header:
    if len(data) < 128 or crc32(data[:124]) != int.from_bytes(data[124:128], "little") or any(data[72:124]):
        raise Damaged("header")
    header = Header(*struct.unpack_from("<8sQQQ8sQ8sQII", data))
    if header.magic != b"LANDEDJ1" or header.size != len(data):
        raise Damaged("header")
    return header


def frame_at(data: bytes, offset: int, segment_id: bytes) -> Frame | None:
    """The good frame at `offset`."""
    if offset % 8 or offset + 40 > len(data):
        return None
    magic, kind = struct.unpack_from("<4sB", data, offset)
    boot = int.from_bytes(data[offset + 5 : offset + 8], "little")
    length, count, sequence, flushed, back, check = struct.unpack_from("<IIQQII", data, offset + 8)
    seed = crc32(segment_id + struct.pack("<Q", offset))
    if magic != b"LFR1" or crc32(data[offset : offset + 36], seed) != check:
        return None
    padded = -(-length // 8) * 8
    end = offset + 40 + padded
    if end + 8 > len(data) or data[end + 4 : end + 8] != b"1RFL":
        return None
    if crc32(data[offset + 40 : end], check) != int.from_bytes(data[end : end + 4], "little"):
        return None
    payload = data[offset + 40 : offset + 40 + length]
    return Frame(offset, kind, boot, count, sequence, flushed, back, payload, end + 8)


def records_of(frame: Frame) -> list[Record]:
    records, at = [], 0
    while at < len(frame.payload):
        kind, zero, key_length, distance, length = struct.unpack_from("<BBHII", frame.payload, at)
        assert zero == 0
        key_end = at + 12 + key_length
        records.append(
            Record(frame.sequence + distance, kind, frame.payload[at + 12 : key_end], frame.payload[key_end:][:length])
        )
        at = key_end + length
    return records


def live_segments(names: list[str]) -> list[tuple[int, int]]:
    found = [re.fullmatch(r"(\d{10})-(\d{10})\.seg", name) for name in names]
    ranges = [(int(match[1]), int(match[2])) for match in found if match]
    live = sorted(
        one for one in ranges if not any(other != one and other[0] <= one[0] and one[1] <= other[1] for other in ranges)
    )
    if [first for first, _ in live] != [1, *(last + 1 for _, last in live[:-1])]:
        raise Damaged("a gap")
    return live


def read_segment(data: bytes, successor: Header | None) -> list[Frame]:
    header = header_of(data)
    end = None
    if successor is None and header.compacted:
        raise Damaged("the segment after a compacted one is missing")
    if successor is not None:
        if successor.previous_id != header.id:
            raise Damaged("another segment follows")
        end = header.size if header.compacted else successor.end
    frames: list[Frame] = []
    at = 128
    while at != end and (frame := frame_at(data, at, header.id)) is not None:
        assert frame.back == (at - frames[-1].offset if frames else 0)
        assert frame.flushed <= at
        frames.append(frame)
        at = frame.next
    if end is None and (any(data[at:]) or (frames and frames[-1].type == 2)):
        raise Damaged("the newest segment does not end in zeros")
    if end is not None and at != end:
        raise Damaged("a sealed segment does not reach its end")
    return frames


def read_journal(directory: Path) -> list[Record]:
    live = live_segments(os.listdir(directory))
    datas = [(directory / f"{first:010d}-{last:010d}.seg").read_bytes() for first, last in live]
    headers = [header_of(data) for data in datas]
    assert [(header.first, header.last) for header in headers] == live
    records: list[Record] = []
    for index, data in enumerate(datas):
        assert headers[index].base >= (records[-1].sequence if records else 0)
        for frame in read_segment(data, headers[index + 1] if index + 1 < len(datas) else None):
            assert frame.type == 1
            found = records_of(frame)
            assert all(record.sequence < frame.sequence + frame.numbers for record in found)
            records += found
    assert all(one.sequence < other.sequence for one, other in itertools.pairwise(records))
    return records


# The page's example, by the page's rules.


def example() -> tuple[bytes, dict[int, tuple[str, str]]]:
    """The bytes that the page shows, with the zeros that it tells of, and its (field, value) by offset."""
    text = PAGE.read_text(encoding="utf-8").partition("<!-- example")[2].partition("<!-- /example -->")[0]
    segment, fields = b"", {}
    for offset, shown, field, value in re.findall(r"^\| (\d+) \| (.*?) \| (.*?) \| (.*?) \|$", text, re.MULTILINE):
        assert int(offset) == len(segment), "the rows follow each other without a gap"
        zeros = re.fullmatch(r"(\d+) times `00`", shown)
        segment += bytes(int(zeros[1])) if zeros else bytes.fromhex(shown.strip("`"))
        fields[int(offset)] = (field, value)
    told = re.search(r"From offset (\d+) to the end of the file, ([\d,]+), there are zeros", text)
    assert told
    assert int(told[1]) == len(segment)
    return segment.ljust(int(told[2]), b"\0"), fields


def test_the_example_reads() -> None:
    segment, _ = example()
    (frame,) = read_segment(segment, None)
    assert records_of(frame) == [Record(1, 7, b"k", b"hello")]


def test_the_example_says_what_its_bytes_are() -> None:
    segment, fields = example()
    header = header_of(segment)
    frame = frame_at(segment, 128, header.id)
    assert frame is not None
    seed = crc32(header.id + struct.pack("<Q", 128))
    said = {
        8: header.size,
        16: header.first,
        24: header.last,
        40: header.base,
        56: header.end,
        68: header.compacted,
        132: frame.type,
        136: len(frame.payload),
        140: frame.numbers,
        144: frame.sequence,
        152: frame.flushed,
        160: frame.back,
        168: 7,
    }
    for offset, number in said.items():
        assert fields[offset][1].partition(":")[0] == str(number), fields[offset]
    assert fields[133][1].startswith(f"{frame.boot:#x}: ")
    assert fields[64][1].startswith(f"{header.boot:#x}: ")
    boot_id = re.search(r"`(.+)`", fields[133][1])
    assert boot_id
    assert crc32(boot_id[1].encode()) & 0xFFFFFF == frame.boot
    assert f"{seed:#010x}" in fields[164][1]
    assert fields[124][1] == f"{crc32(segment[:124]):#x}"


def test_the_example_is_what_a_journal_has() -> None:
    ended = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr


# Larger journals.


def records_by_landed(directory: Path) -> list[Record]:
    with landed.Journal(directory) as journal:
        return [Record(entry.sequence, entry.kind, entry.key, entry.data) for entry in journal.read()]


def fill(directory: Path, batches: range) -> None:
    with landed.Journal(directory) as journal:
        for number in batches:
            journal.append(
                landed.Record(os.urandom(number * 35 % 4500), key=b"key %d" % number, kind=(number + one) % 256)
                for one in range(1 + number % 4)
            )


def test_a_journal_with_rolls_and_a_compaction(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    fill(directory, range(400))
    assert len(live_segments(os.listdir(directory))) > 2
    assert read_journal(directory) == records_by_landed(directory)
    with landed.Journal(directory) as journal:
        journal.compact(lambda entry: entry.sequence % 3 != 0)
    fill(directory, range(400, 460))
    live = live_segments(os.listdir(directory))
    assert live[0][0] < live[0][1]
    assert len(live) > 2
    records = read_journal(directory)
    assert records == records_by_landed(directory)
    assert any(other.sequence - one.sequence > 1 for one, other in itertools.pairwise(records))


def test_a_large_batch(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    with landed.Journal(directory) as journal:
        journal.append([b"small"])
        journal.append([os.urandom(5 << 20), b"", b"last"])
    assert read_journal(directory) == records_by_landed(directory)


# The reader can fail.


def test_the_reader_sees_a_changed_byte(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    fill(directory, range(1, 4))
    path = directory / "0000000001-0000000001.seg"
    data = path.read_bytes()
    end = len(data.rstrip(b"\0"))
    for at in range(0, end, 11):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(Damaged):
            read_journal(directory)


def test_the_reader_sees_a_missing_segment(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    fill(directory, range(400))
    names = sorted(name for name in os.listdir(directory) if name.endswith(".seg"))
    for name in (names[1], names[-1]):
        moved = (directory / name).rename(tmp_path / name)
        with pytest.raises(Damaged):
            read_journal(directory)
        moved.rename(directory / name)
    read_journal(directory)
