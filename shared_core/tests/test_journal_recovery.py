"""Every rule of docs/reference/on-disk-format.md, "Reading a segment", on files that the test makes itself.

The files are real ones. The boot that a writer lived in is what the test says it was.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from handmade import LAST, THIS, Handmade, assert_corrupt, boots, path, read, recovered
from recording import Call, Recording, failing

from landed.engine import Commit
from landed.entries import Record, encode_batch
from landed.errors import Corrupt, NotLanded
from landed.journal import Journal
from landed.local.frames import FRAME_HEADER, HEADER, PAGE, Header
from landed.local.log import LocalLog
from landed.local.segments import name_of

__all__ = ["boots", "path"]
pytestmark = pytest.mark.usefixtures("boots")


# The format itself.


def test_handmade_journal_is_read(path: Path) -> None:
    segment = Handmade()
    segment.frame(b"one", b"two")
    segment.frame(b"three")
    segment.save(path)
    assert read(path) == [b"one", b"two", b"three"]
    with Journal(path) as journal:
        assert journal.append([b"four"]).first == 4
    assert read(path) == [b"one", b"two", b"three", b"four"]


def test_bytes_of_a_journal_are_those_of_the_format(path: Path) -> None:
    """Field by field from the page, with none of the program's own packing."""
    with Journal(path) as journal:
        journal.append([Record(b"hello", key=b"k", kind=7)])
    data = (path / "0000000001-0000000001.seg").read_bytes()

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little")

    assert len(data) == number(8, 8) == 16 * PAGE
    assert data[:8] == b"LANDEDJ1"
    assert (number(16, 8), number(24, 8), number(40, 8)) == (1, 1, 0)
    assert number(124, 4) == zlib.crc32(data[:124])
    segment_id = data[32:40]
    assert data[128:132] == b"LFR1"
    assert data[132] == 1
    assert number(133, 3) == zlib.crc32(THIS.encode()) & 0xFFFFFF
    assert (number(136, 4), number(140, 4), number(144, 8), number(152, 8), number(160, 4)) == (18, 1, 1, 128, 0)
    check = zlib.crc32(data[128:164], zlib.crc32(segment_id + (128).to_bytes(8, "little")))
    assert number(164, 4) == check
    assert data[168:186] == bytes([7, 0, 1, 0, 0, 0, 0, 0, 5, 0, 0, 0]) + b"khello"
    assert data[186:192] == bytes(6)
    assert number(192, 4) == zlib.crc32(data[168:192], check)
    assert data[196:200] == b"1RFL"
    assert not any(data[200:])


# The newest segment: zeros, crash tail, torn tail, damage.


def test_crash_tail_after_a_reboot(path: Path) -> None:
    segment = Handmade(boot=LAST)
    segment.frame(b"acknowledged")
    start = segment.end
    torn = segment.frame(b"never flushed" * 100, put=False)
    segment.data[start : start + 512] = torn[:512]
    file = segment.save(path)
    before = file.read_bytes()
    assert read(path) == [b"acknowledged"]
    assert f"offset {start}" in recovered(path)
    assert "0000000001-0000000001.seg" in recovered(path)
    with Journal(path) as journal:
        journal.append([b"next"])
    assert file.read_bytes() == before, "the bytes are kept"
    successor = Header.decode((path / name_of((2, 2))).read_bytes())
    assert successor is not None
    assert (successor.previous_id, successor.previous_end) == (segment.header.id, start)
    assert read(path) == [b"acknowledged", b"next"]
    assert recovered(path) == ""


def test_later_frame_without_the_earlier_one_after_a_reboot(path: Path) -> None:
    """Two processes appended, neither had flushed, and the device had the later page first."""
    segment = Handmade(boot=LAST)
    segment.frame(b"acknowledged")
    flushed = segment.end
    segment.frame(b"lost", flushed=flushed, put=False)
    segment.frame(b"there", flushed=flushed)
    segment.save(path)
    assert read(path) == [b"acknowledged"]
    with Journal(path) as journal:
        journal.append([b"next"])
        assert [entry.data for entry in journal.read()] == [b"acknowledged", b"next"]
    assert read(path) == [b"acknowledged", b"next"]


def test_nothing_is_written_over_a_crash_tail_behind_one_of_a_group_that_is_refused(path: Path) -> None:
    segment = Handmade(boot=LAST)
    segment.frame(b"acknowledged")
    segment.frame(b"lost", flushed=segment.end, put=False)
    segment.frame(b"there", flushed=HEADER.size)
    file = segment.save(path)
    before = file.read_bytes()
    log = LocalLog(str(path))
    payload, count = encode_batch([b"next"])
    group = [Commit(payload, count, expect, 0.0) for expect in (7, 1)]
    while group:
        decided = log.commit(group, 1.0)
        assert [bool(commit.error) for commit in group[:decided]] == [group[0].expect == 7]
        del group[:decided]
    assert file.read_bytes() == before, "the bytes are kept"
    assert read(path) == [b"acknowledged", b"next"]


def test_bad_frame_below_what_a_later_one_says_was_flushed(path: Path) -> None:
    for boot in (LAST, THIS):
        segment = Handmade(boot=boot)
        segment.frame(b"one")
        bad = segment.end
        segment.frame(b"two")
        segment.frame(b"three")  # says that everything before it was flushed
        segment.data[bad + FRAME_HEADER + 14] ^= 1
        segment.save(path)
        if boot == LAST:
            assert_corrupt(path, bad)
        else:  # a writer looks at the end alone, where all is well; whoever reads is told
            with pytest.raises(Corrupt, match=f"offset {bad}"):
                read(path)


@pytest.mark.parametrize("excess", [0, 1, 8])
def test_what_flushed_says_decides_to_the_byte(path: Path, excess: int) -> None:
    """A later frame that says `flushed` up to the bad one proves nothing of it; one byte more proves damage."""
    segment = Handmade(boot=LAST)
    segment.frame(b"one")
    bad = segment.end
    segment.frame(b"two", put=False)
    segment.frame(b"three", flushed=bad + excess)
    segment.save(path)
    if excess:
        assert_corrupt(path, bad)
    else:
        assert read(path) == [b"one"]


def torn_segment(length: int, *, boot: str = THIS, at: int = PAGE) -> tuple[Handmade, int]:
    """A segment whose last frame is whole up to `at` and zero from there on."""
    segment = Handmade(4 * PAGE, boot=boot)
    segment.frame(b"acknowledged")
    start = segment.end
    data = segment.frame(b"\xee" * length, put=False)
    segment.data[start:at] = data[: at - start]
    return segment, start


@pytest.mark.parametrize(("length", "at"), [(PAGE, PAGE), (3 * PAGE, PAGE), (3 * PAGE, 2 * PAGE), (3 * PAGE, 3 * PAGE)])
def test_torn_tail_of_a_killed_writer(path: Path, length: int, at: int) -> None:
    segment, _ = torn_segment(length, at=at)
    file = segment.save(path)
    assert read(path) == [b"acknowledged"]
    assert recovered(path) == ""
    with Journal(path) as journal:
        assert journal.append([b"next"], expect=1).first == 2
    assert read(path) == [b"acknowledged", b"next"]
    data = file.read_bytes()
    assert not any(data[data.rindex(b"1RFL") + 4 :]), "what was torn is zero again"
    assert list(path.glob("*.seg")) == [file]


def test_torn_tail_that_cannot_be_erased(path: Path, fs: Recording) -> None:
    torn_segment(PAGE)[0].save(path)
    journal = Journal(path, log=LocalLog(str(path), fs=fs))
    fs.before("pwrite", failing(errno.EIO), on=".seg")
    with pytest.raises(NotLanded, match="torn frame cannot be erased"):
        journal.append([b"next"])
    assert read(path) == [b"acknowledged"]


@pytest.mark.parametrize("pages", range(1, 4))
def test_torn_tail_whose_eraser_is_killed(path: Path, fs: Recording, pages: int) -> None:
    """It stops at a page, as any killed writer does, and what it leaves is a torn tail still."""
    torn_segment(3 * PAGE, at=3 * PAGE)[0].save(path)
    journal = Journal(path, log=LocalLog(str(path), fs=fs))
    left = pages * PAGE

    def killed(call: Call) -> None:
        nonlocal left
        fd, data, offset = call.args
        taken = min(len(data), left - offset % PAGE)
        os.pwrite(fd, data[:taken], offset)
        left -= PAGE * -(-taken // PAGE)
        if left <= 0:
            raise KeyboardInterrupt

    fs.before("pwrite", killed, on=".seg", always=True)
    with pytest.raises(KeyboardInterrupt):
        journal.append([b"next"])
    assert read(path) == [b"acknowledged"]
    with Journal(path) as after:
        after.append([b"next"])
    assert read(path) == [b"acknowledged", b"next"]


def test_torn_header_of_a_killed_writer(path: Path) -> None:
    """The frame's own header lies across the page boundary."""
    segment = Handmade(2 * PAGE)
    segment.frame(bytes(PAGE - HEADER.size - 48 - 12 - 24))
    start = segment.end
    assert PAGE - FRAME_HEADER < start < PAGE
    data = segment.frame(b"never acknowledged", put=False)
    segment.data[start:PAGE] = data[: PAGE - start]
    segment.save(path)
    assert len(read(path)) == 1
    with Journal(path) as journal:
        journal.append([b"next"])
    assert read(path)[1:] == [b"next"]


@pytest.mark.parametrize("missing", [4, 8, 20])
def test_end_of_a_frame_lost_within_a_page_is_damage(path: Path, missing: int) -> None:
    """A killed writer stops where a page does; what lacks its end in the middle of one was lost otherwise."""
    segment = Handmade()
    segment.frame(b"acknowledged")
    start = segment.end
    segment.frame(b"\xee" * 100)
    segment.data[segment.end - missing : segment.end] = bytes(missing)
    segment.save(path)
    assert_corrupt(path, start)


def test_bytes_after_a_torn_frame_are_damage(path: Path) -> None:
    segment, start = torn_segment(PAGE, at=PAGE)
    segment.data[3 * PAGE] = 1
    segment.save(path)
    assert_corrupt(path, start)


def test_torn_tail_after_a_reboot_is_a_crash_tail(path: Path) -> None:
    segment, start = torn_segment(PAGE, boot=LAST)
    segment.save(path)
    assert read(path) == [b"acknowledged"]
    assert f"offset {start}" in recovered(path)


def test_bad_last_frame_in_the_same_boot_is_damage(path: Path) -> None:
    segment = Handmade()
    segment.frame(b"one")
    start = segment.end
    segment.frame(b"two")
    segment.data[start + FRAME_HEADER + 13] ^= 1
    segment.save(path)
    assert_corrupt(path, start)


def test_bad_only_frame_in_the_same_boot_is_damage(path: Path) -> None:
    segment = Handmade()
    segment.frame(b"one")
    segment.data[HEADER.size + 20] ^= 1
    segment.save(path)
    assert_corrupt(path, HEADER.size)


def test_boot_in_force_is_that_of_the_frame_itself(path: Path) -> None:
    """The last good frame is from before the reboot; the bad one says that it was written after it."""
    segment = Handmade(boot=LAST)
    segment.frame(b"one")
    start = segment.end
    segment.frame(b"two", boot=THIS)
    segment.data[start + FRAME_HEADER + 13] ^= 1
    segment.save(path)
    assert_corrupt(path, start)


def test_frame_of_this_boot_in_a_segment_of_the_last(path: Path) -> None:
    segment = Handmade(boot=LAST)
    segment.frame(b"one")
    segment.frame(b"two", boot=THIS)
    segment.save(path)
    assert read(path) == [b"one", b"two"]
    assert recovered(path) == ""


def test_machine_that_does_not_tell_its_boots(path: Path, boots: Callable[[str], None]) -> None:
    """Then whatever is bad at the end may be a crash's doing, unless a later frame says otherwise."""
    boots("")
    segment, start = torn_segment(PAGE, boot="")
    segment.save(path)
    assert read(path) == [b"acknowledged"]
    assert f"offset {start}" in recovered(path)
    with Journal(path) as journal:
        journal.append([b"next"])
    assert read(path) == [b"acknowledged", b"next"]
