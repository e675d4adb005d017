"""Several segments: how they join, what is missing, what is rubbish, and files that are not what they say."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from handmade import LAST, Handmade, boots, path, read, sealed

from landed import inspection
from landed.errors import Corrupt
from landed.journal import Journal
from landed.local.frames import HEADER, PAGE
from landed.local.segments import name_of

__all__ = ["boots", "path"]
pytestmark = pytest.mark.usefixtures("boots")


@pytest.mark.parametrize("seal", [True, False])
def test_segments_join(path: Path, seal: bool) -> None:
    sealed(path, seal=seal)
    assert read(path) == [b"one", b"two"]


@pytest.mark.parametrize("name", ["1-9.seg", "\u0663-\u0663.seg", "\u00b2-\u00b3.seg", "0000000001-0000000009"])
def test_a_name_that_no_segment_has_is_none(path: Path, name: str) -> None:
    sealed(path)
    (path / name).write_bytes(b"somebody's")
    assert read(path) == [b"one", b"two"]
    assert (path / name).exists()


def test_end_of_a_sealed_segment_is_what_its_successor_says(path: Path) -> None:
    first = Handmade(PAGE, boot=LAST)
    first.frame(b"one")
    end = first.end
    first.frame(b"lost", flushed=128, put=False)
    first.frame(b"dropped", flushed=128)
    second = Handmade(number=2, base=1, previous_id=first.header.id, previous_end=end)
    second.frame(b"two")
    first.save(path)
    second.save(path)
    assert read(path) == [b"one", b"two"]


def test_frames_missing_before_the_end_that_the_successor_says(path: Path) -> None:
    first, _ = sealed(path, seal=False)
    first.data[HEADER.size + 50] ^= 1
    first.save(path)
    with pytest.raises(Corrupt) as told:
        read(path)
    assert "0000000001-0000000001.seg" in str(told.value.path)
    assert f"offset {HEADER.size}" in str(told.value)


def test_missing_newest_after_a_seal(path: Path) -> None:
    sealed(path)
    (path / name_of((2, 2))).unlink()
    with pytest.raises(Corrupt, match="after a sealed one is missing"):
        Journal(path)


@pytest.mark.parametrize("suspect", [False, True])
def test_missing_newest_after_a_compaction(path: Path, *, suspect: bool) -> None:
    """A compacted segment has no seal, but it is put in place behind the one after it."""
    sealed(path)
    with Journal(path) as journal:
        journal.compact(lambda _: True)
        journal.append([b"three"])
    (path / name_of((3, 3))).unlink()
    if suspect:
        (path / "suspect").touch()
    before = (path / name_of((1, 2))).read_bytes()
    for _ in range(2):
        with pytest.raises(Corrupt, match="segment 3 is missing"):
            Journal(path)
    (damage,) = inspection.examine(path).damage
    assert (damage.segment, damage.size) == (name_of((3, 3)), 0)
    assert [entry.data for entry, _ in inspection.records(path)] == [b"one", b"two"]
    assert (path / name_of((1, 2))).read_bytes() == before


def test_missing_segment(path: Path) -> None:
    _, second = sealed(path)
    third = second.next()
    third.frame(b"three")
    second.seal().save(path)
    third.save(path)
    assert read(path) == [b"one", b"two", b"three"]
    for number in (1, 2):
        name = name_of((number, number))
        (path / name).rename(path / "away")
        with pytest.raises(Corrupt, match="missing") as told:
            Journal(path)
        assert told.value.expected == name
        (path / "away").rename(path / name)


def test_lock_without_segments(path: Path) -> None:
    path.mkdir()
    (path / "lock").touch()
    with pytest.raises(Corrupt, match="without a segment"):
        Journal(path)
    assert os.listdir(path) == ["lock"]


def test_narrower_segments_are_rubbish_from_before_a_compaction(path: Path) -> None:
    sealed(path)
    with Journal(path) as journal:
        journal.append([b"three" * 2000])
    for name in (name_of((1, 1)), name_of((2, 2))):
        shutil.copy(path / name, path.parent / name)
    with Journal(path) as journal:
        journal.compact(lambda entry: entry.data != b"one")
    for name in (name_of((1, 1)), name_of((2, 2))):
        shutil.copy(path.parent / name, path / name)
    assert [data[:5] for data in read(path)] == [b"two", b"three"]
    with Journal(path) as journal:
        journal.append([bytes(100_000)])
    assert not (path / name_of((1, 1))).exists()


def test_other_files_are_let_alone(path: Path) -> None:
    sealed(path)
    for name in ("README", "0000000009.seg", "x-y.seg", "0000000001-0000000001.seg.bak", ".hidden"):
        (path / name).write_text("mine")
    with Journal(path) as journal:
        journal.append([bytes(100_000)])
        journal.compact(lambda _: True)
    assert sum((path / name).read_text() == "mine" for name in ("README", "x-y.seg", ".hidden")) == 3


def test_leftover_temp_files_are_swept_under_the_lock(path: Path) -> None:
    sealed(path)
    left = path / ".landed-0123456789ab.tmp"
    left.write_bytes(bytes(100))
    with Journal(path) as journal:
        journal.append([bytes(100_000)])
    assert not left.exists()


@pytest.mark.parametrize("change", ["shorter", "longer", "empty", "another number", "another version", "no header"])
def test_file_that_is_not_what_its_header_says(path: Path, change: str) -> None:
    first, second = sealed(path)
    file = path / name_of((2, 2))
    data = bytes(second.data)
    file.write_bytes(
        {
            "shorter": data[:-8],
            "longer": data + bytes(8),
            "empty": b"",
            "another number": bytes(first.data),
            "another version": b"LANDEDJ2" + data[8:],
            "no header": bytes(HEADER.size) + data[HEADER.size :],
        }[change]
    )
    with pytest.raises(Corrupt, match="offset 0"):
        Journal(path)
