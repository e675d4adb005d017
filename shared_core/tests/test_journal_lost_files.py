"""What a writer is told when a flush failed, and when its path no longer leads to the segment that it has open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from handmade import ID, Handmade, boots, path, read, sealed
from programs import Programs
from recording import Call, Recording

from landed.errors import Corrupt, LandedError, NotLanded, OutcomeUnknown
from landed.journal import Journal
from landed.local import directory
from landed.local.frames import HEADER, PAGE, Header
from landed.local.log import LocalLog
from landed.local.segments import name_of

__all__ = ["boots", "path"]
pytestmark = pytest.mark.usefixtures("boots")


# A recovery by another process.


def test_frames_that_another_process_recovered_the_journal_without_are_not_followed(path: Path) -> None:
    """The page cache showed this one a record that the device did not keep."""
    first = Handmade()
    first.frame(b"one")
    end = first.end
    first.frame(b"two")
    first.save(path)
    journal = Journal(path)
    first.next(end=end).save(path)
    with pytest.raises(OutcomeUnknown, match="without frames that this one had seen"):
        journal.append([b"three"])


# A failed flush.


def test_mark_of_a_failed_flush_makes_the_next_opener_read_from_the_device(path: Path, fs: Recording) -> None:
    sealed(path)
    (path / "suspect").touch()
    fs.forget()
    log = LocalLog(str(path), fs=fs)
    names = [call.name for call in fs.calls if call.path.endswith("0000000002-0000000002.seg")]
    dropped = names.index("drop_cache")
    assert names[dropped + 1 : dropped + 3] == ["fdatasync", "pread"]
    assert not (path / "suspect").exists()
    assert names.count("fdatasync") == 1, "of what was written since, once what a flush has lost is gone"
    with Journal(path, log=log) as journal:
        assert journal.append([b"three"]).first == 3
        assert [entry.data for entry in journal.read()] == [b"one", b"two", b"three"]
    successor = Header.decode((path / name_of((3, 3))).read_bytes())
    assert successor is not None
    assert successor.previous_id == ID[:-1] + b"2"


def test_numbers_that_may_have_been_seen_are_not_given_out_again(path: Path, fs: Recording) -> None:
    """The page cache showed a record that the device did not keep."""
    segment = Handmade()
    segment.frame(b"one")
    end = segment.end
    segment.frame(b"two")
    file = segment.save(path)
    (path / "suspect").touch()

    def lose(_: object) -> None:
        with file.open("r+b") as opened:
            opened.seek(end)
            opened.write(bytes(2 * PAGE - end))

    fs.after("drop_cache", lose)
    with Journal(path, log=LocalLog(str(path), fs=fs)) as journal:
        assert journal.tail == 2
        assert [entry.data for entry in journal.read()] == [b"one"]
        assert journal.append([b"three"]).first == 3
    assert read(path) == [b"one", b"three"]


def test_damage_on_the_device_below_what_was_flushed(path: Path, fs: Recording) -> None:
    segment = Handmade()
    segment.frame(b"one")
    segment.frame(b"two")
    file = segment.save(path)
    (path / "suspect").touch()

    def lose(_: object) -> None:
        with file.open("r+b") as opened:
            opened.seek(HEADER.size)
            opened.write(bytes(30))

    fs.after("drop_cache", lose)
    with pytest.raises(Corrupt):
        LocalLog(str(path), fs=fs)
    assert (path / "suspect").exists()


OTHER = """
import sys
from landed.errors import LandedError
from landed.journal import Journal
journal = Journal(sys.argv[1])
journal.append([b"theirs"])
print("open", flush=True)
for line in sys.stdin:
    try:
        print(journal.append([line.strip().encode()]).first, flush=True)
    except LandedError as error:
        print(type(error).__name__, flush=True)
        journal.close()
        journal = Journal(sys.argv[1])
"""


def test_failed_flush_poisons_other_processes_until_they_open_again(
    path: Path, fs: Recording, programs: Programs, boots: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the other process knows the real boot alone
    monkeypatch.setenv("LANDED_STATE_DIR", str(path.parent / "state"))
    journal = Journal(path, log=LocalLog(str(path), fs=fs))
    journal.append([b"ours"])
    other = programs.start(OTHER, path)
    assert other.hear() == "open"

    def fail(_: object) -> None:
        raise OSError(5, "Input/output error")

    fs.before("fdatasync", fail, on=".seg")
    with pytest.raises(OutcomeUnknown) as told:
        journal.append([b"unknown"])
    assert told.value.errno == 5
    flushed = len(fs.named("fdatasync"))
    for _ in range(2):
        with pytest.raises(OutcomeUnknown, match="earlier append"):
            journal.append([b"refused"])
    assert len(fs.named("fdatasync")) == flushed
    other.say("refused too")
    assert other.hear() == "OutcomeUnknown"
    other.say("again")
    assert other.hear().isdigit()
    with pytest.raises(OutcomeUnknown):
        journal.append([b"still refused"])
    journal.close()
    data = [entry.data for entry in Journal(path).read()]
    assert [each for each in data if each != b"unknown"] == [b"ours", b"theirs", b"again"]


# The path no longer leads to what is open.


@pytest.fixture
def opened(path: Path) -> Journal:
    journal = Journal(path)
    journal.append([b"one"])
    return journal


def move_away(path: Path) -> None:
    path.rename(path.with_name("moved"))


def replace_directory(path: Path) -> None:
    other = path.with_name("other")
    Journal(other).append([b"another's"])
    path.rename(path.with_name("moved"))
    other.rename(path)


def copy_in_place(path: Path) -> None:
    path.rename(path.with_name("moved"))
    shutil.copytree(path.with_name("moved"), path)


def unlink_segment(path: Path) -> None:
    (path / name_of((1, 1))).unlink()


def replace_segment(path: Path) -> None:
    file = path / name_of((1, 1))
    shutil.copy(file, path.with_name("copy"))
    path.with_name("copy").replace(file)


def link_elsewhere(path: Path) -> None:
    move_away(path)
    path.with_name("other").mkdir()
    path.symlink_to(path.with_name("other"))


CHANGES = [move_away, replace_directory, copy_in_place, unlink_segment, replace_segment, shutil.rmtree, link_elsewhere]


@pytest.mark.parametrize("change", CHANGES)
def test_path_that_no_longer_leads_to_the_segment_raises_in_the_writer(
    opened: Journal, path: Path, change: Callable[[Path], None]
) -> None:
    change(path)
    for _ in range(3):
        with pytest.raises(LandedError) as told:
            opened.append([b"lost"])
        assert isinstance(told.value, (NotLanded, OutcomeUnknown, Corrupt))
        os.utime(path.parent)


@pytest.mark.parametrize("change", CHANGES)
def test_path_that_changes_during_the_flush_raises_in_the_writer(
    path: Path, fs: Recording, change: Callable[[Path], None]
) -> None:
    journal = Journal(path, log=LocalLog(str(path), fs=fs))
    journal.append([b"one"])
    os.utime(path, (1, 1))
    journal.append([b"two"])
    fs.before("fdatasync", lambda _: change(path), on=".seg")
    with pytest.raises(OutcomeUnknown) as told:
        journal.append([b"lost"])
    assert told.value.step == "verify"
    with pytest.raises(LandedError):
        journal.append([b"more"])


def older_copy(path: Path, copy: Path) -> None:
    shutil.copyfile(copy / name_of((1, 1)), path / name_of((1, 1)))  # into the file, as cp does


def older_file(path: Path, copy: Path) -> None:
    (copy / name_of((1, 1))).replace(path / name_of((1, 1)))


def cut_off(path: Path, _: Path) -> None:
    os.truncate(path / name_of((1, 1)), HEADER.size + 8)


@pytest.mark.parametrize("change", [older_copy, cut_off])
@pytest.mark.parametrize("rested", [False, True])
def test_an_older_copy_in_place_of_the_newest_segment(
    opened: Journal, path: Path, change: Callable[[Path, Path], None], *, rested: bool
) -> None:
    """Nothing is appended behind records that are gone: who opens the journal next could not read it."""
    copy = path.with_name("copy")
    shutil.copytree(path, copy)
    opened.append([b"two"])
    change(path, copy)
    if rested:
        assert opened._log.follower.rest()  # type: ignore[attr-defined]
    before = (path / name_of((1, 1))).read_bytes()
    for _ in range(2):
        with pytest.raises(Corrupt):
            opened.append([b"lost"])
        with pytest.raises(Corrupt):
            list(opened.read())
    assert (path / name_of((1, 1))).read_bytes() == before


def test_an_older_file_in_place_of_one_that_rested(opened: Journal, path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copytree(path, copy)
    opened.append([b"two"])
    assert opened._log.follower.rest()  # type: ignore[attr-defined]
    older_file(path, copy)
    with pytest.raises(Corrupt):
        opened.append([b"lost"])
    assert read(path) == [b"one"]


def test_another_journal_in_the_same_directory(opened: Journal, path: Path) -> None:
    """Also where it has rolled since, so that another name is the newest."""
    for file in path.iterdir():
        file.unlink()
    with Journal(path) as other:
        other.append([b"another's"])
        other.append([bytes(100_000)])
    with pytest.raises(OutcomeUnknown, match="replaced by others"):
        opened.append([b"lost"])
    assert len(read(path)) == 2


def mark_suspect(path: Path) -> None:
    (path / "suspect").touch()


def replace_lock_file(path: Path) -> None:
    (path / "other").touch()
    (path / "other").replace(path / "lock")


def claim(path: Path) -> None:
    Journal(path).claim()


@pytest.mark.parametrize("change", [unlink_segment, replace_segment, mark_suspect, replace_lock_file, claim])
def test_change_within_a_tick_of_the_clock(
    opened: Journal, path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """It leaves the directory's time as it was: so as long as that is young, the entries themselves are compared."""
    monkeypatch.setattr(directory, "TICK", 3600)
    with Journal(path).claim():
        pass  # which leaves the file
    for _ in range(3):
        opened.append([b"more"])
    before = path.stat().st_mtime_ns
    change(path)
    os.utime(path, ns=(before, before))
    with pytest.raises(LandedError):
        opened.append([b"lost"])


@pytest.mark.parametrize("change", [unlink_segment, mark_suspect])
def test_change_within_a_second_where_times_are_whole_seconds(
    opened: Journal, path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """As on ext4 with inodes of 128 bytes."""
    second = path.stat().st_mtime_ns // directory.SECOND
    monkeypatch.setattr(directory, "time", lambda: second + 0.9)
    os.utime(path, (second, second))
    for _ in range(3):
        opened.append([b"more"])
    change(path)
    os.utime(path, (second, second))
    with pytest.raises(LandedError):
        opened.append([b"lost"])


def test_directory_that_changes_while_it_is_looked_at(
    path: Path, fs: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is put to sleep after reading the entries, for longer than a tick, has not seen what changed then."""
    now = [0.0]
    monkeypatch.setattr(directory, "time", lambda: now[0])
    looked_at = LocalLog(str(path), fs=fs).directory
    os.utime(path, (100, 100))
    now[0] = 100 + directory.TICK / 2

    def change(_: Call) -> None:
        mark_suspect(path)
        os.utime(path, (100, 100))
        now[0] += 3600

    fs.after("scandir", change)
    assert "suspect" not in looked_at.names()
    assert not looked_at.unchanged()
    assert "suspect" in looked_at.names()
    assert looked_at.unchanged()


def test_replaced_lock_file(opened: Journal, path: Path) -> None:
    """Two writers that lock different files would both write: the one with the old file is told, and then goes on."""
    (path / "lock").unlink()
    with pytest.raises(NotLanded, match="replaced"):
        opened.append([b"two"])
    opened.append([b"three"])
    assert read(path) == [b"one", b"three"]


def test_newest_segment_removed_where_no_seal_tells_of_it(path: Path) -> None:
    """In the process that had it open: the one before it must not take its place."""
    sealed(path, seal=False)
    journal = Journal(path)
    assert journal.tail == 2
    (path / name_of((2, 2))).unlink()
    with pytest.raises(LandedError):
        journal.append([b"in its place"])
    assert not (path / name_of((2, 2))).exists()
