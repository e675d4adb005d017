"""What a journal says when a call of the system fails as it is made, opened, looked at, appended to or compacted."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from recording import Call, Recording, failing

from landed.entries import Record
from landed.errors import Corrupt, LockTimeout, NotLanded, OutcomeUnknown, VerifyFailed
from landed.journal import Journal
from landed.local import compaction, directory, doubt, frames, segments
from landed.local import log as log_module
from landed.local.claim import CLAIM
from landed.local.log import LocalLog
from landed.lock import Lock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from landed.entries import Entry

SUSPECT = directory.SUSPECT
COMPACTING = compaction.TEMP


@pytest.fixture
def path(work: Path) -> Path:
    return work / "j"


@pytest.fixture
def journal(path: Path, fs: Recording) -> Journal:
    """With two records, and a segment for each: others have it open as well."""
    with Journal(path) as other:
        other.append([b"one"])
        other.compact(lambda _: True)
        other.append([b"two"])
    return Journal(path, log=LocalLog(str(path), fs=fs))


def data(path: Path) -> list[bytes]:
    with Journal(path) as journal:
        return [entry.data for entry in journal.read()]


def is_locked(path: Path) -> bool:
    lock = Lock(str(path))
    try:
        lock.acquire(0, owner="another")
    except LockTimeout:
        return True
    lock.release()
    return False


def when(part: str, action: Callable[[Call], object]) -> Callable[[Call], None]:
    """The action, for calls on paths that have `part` in their last name."""

    def act(call: Call) -> None:
        if part in os.path.basename(call.path):
            action(call)

    return act


# Made.


@pytest.mark.parametrize(
    ("operation", "on", "what"),
    [
        ("mkdir", "/j", "directory cannot be opened"),
        ("fsync", "/work", "directory cannot be opened"),
        ("listdir", "/j", "directory cannot be opened"),
        ("fsync", ".tmp", "sync"),
        ("open", "/j", "directory is gone"),
    ],
)
def test_a_journal_that_cannot_be_made(path: Path, fs: Recording, operation: str, on: str, what: str) -> None:
    fs.before(operation, failing(errno.EIO), on=on)
    with pytest.raises(NotLanded, match=what) as caught:
        LocalLog(str(path), fs=fs)
    assert caught.value.errno == errno.EIO
    assert len(fs.named(operation, on=on)) == 1


@pytest.mark.parametrize("on", ["/j", "/work"])
def test_names_of_a_journal_that_somebody_else_made_are_flushed_before_its_first_record(
    path: Path, fs: Recording, on: str
) -> None:
    LocalLog(str(path)).close()
    journal = Journal(path, log=LocalLog(str(path), fs=fs))
    fs.before("fsync", failing(errno.EIO), on=on)
    with pytest.raises(NotLanded, match="name cannot be flushed") as caught:
        journal.append([b"one"])
    assert caught.value.errno == errno.EIO
    assert len(fs.named("fsync", on=on)) == 1
    assert data(path) == []


# Opened and looked at.


def test_a_segment_that_is_gone_as_it_is_opened_is_looked_for_again(journal: Journal, path: Path) -> None:
    fs = Recording()
    fs.before("open", failing(errno.ENOENT), on=".seg")
    with Journal(path, log=LocalLog(str(path), fs=fs)) as opened:
        assert [entry.data for entry in opened.read()] == [b"one", b"two"]


@pytest.mark.parametrize(
    ("operation", "on", "what"),
    [("open", ".seg", "segment cannot be opened"), ("scandir", "/j", "directory cannot be read")],
)
def test_a_journal_that_cannot_be_read(journal: Journal, path: Path, operation: str, on: str, what: str) -> None:
    fs = Recording()
    fs.before(operation, failing(errno.EIO), on=on)
    with pytest.raises(NotLanded, match=what) as caught:
        LocalLog(str(path), fs=fs)
    assert caught.value.errno == errno.EIO


def test_a_segment_that_cannot_be_opened_for_reading(journal: Journal, fs: Recording) -> None:
    fs.before("open", failing(errno.EIO), on=".seg")
    with pytest.raises(NotLanded, match="segment cannot be opened"):
        list(journal.read())


def test_a_size_that_cannot_be_told(journal: Journal, fs: Recording) -> None:
    fs.before("stat", failing(errno.EIO), on=".seg")
    with pytest.raises(NotLanded, match="size cannot be read"):
        journal._log.size()


def test_another_file_in_place_of_the_newest_segment(journal: Journal, path: Path) -> None:
    newest = max(path.glob("*.seg"))
    shutil.copy(newest, path / "copy")
    os.replace(path / "copy", newest)
    with pytest.raises(OutcomeUnknown, match="another file has taken"):
        journal.append([b"three"])


def test_a_leftover_that_cannot_be_removed(journal: Journal, path: Path, fs: Recording) -> None:
    (path / ".landed-left.tmp").touch()
    fs.before("unlink", failing(errno.EIO), on=".tmp")
    with pytest.raises(NotLanded, match="cannot be removed"):
        journal.append([b"three"])
    assert data(path) == [b"one", b"two"]


def test_what_a_compaction_replaced_goes_after_a_flush(path: Path, fs: Recording, tmp_path: Path) -> None:
    """The process that gave the compacted segment its name may have died before it flushed that."""
    with Journal(path) as journal:
        for _ in range(100):
            journal.append([bytes(1000)])
        shutil.copytree(path, tmp_path / "before")
        journal.compact(lambda _: True)
    old = {each.name for each in (tmp_path / "before").glob("*.seg")} - {each.name for each in path.glob("*.seg")}
    for name in old:
        shutil.copy(tmp_path / "before" / name, path / name)
    log = LocalLog(str(path), fs=fs)
    fs.before("fsync", failing(errno.EIO), on="/j")
    with pytest.raises(NotLanded, match="names cannot be flushed"):
        Journal(path, log=log).append([b"next"])
    assert len(fs.named("fsync", on="/j")) == 1
    assert old
    assert old <= {each.name for each in path.glob("*.seg")}


# A flush that failed.


def test_a_mark_that_cannot_be_made_is_said(journal: Journal, path: Path, fs: Recording) -> None:
    fs.before("fdatasync", failing(errno.EIO), on=".seg")
    fs.before("open", failing(errno.ENOSPC), on=SUSPECT)
    fs.before("link", failing(errno.ENOSPC))
    with pytest.raises(OutcomeUnknown):
        journal.append([b"three"])
    with pytest.raises(OutcomeUnknown, match="cannot be marked"):
        journal.append([b"four"])


def test_the_mark_of_another_process_ends_the_use_of_a_journal(journal: Journal, path: Path) -> None:
    (path / SUSPECT).touch()
    with pytest.raises(OutcomeUnknown, match="another process"):
        list(journal.read())


def test_recovery_has_the_lock(journal: Journal, path: Path) -> None:
    (path / SUSPECT).touch()
    fs, locked = Recording(), []
    fs.before("unlink", lambda _: locked.append(is_locked(path / "lock")), on=SUSPECT)
    LocalLog(str(path), fs=fs).close()
    assert locked == [True]


def test_recovery_waits_for_the_lock(journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubt, "DEFAULT_TIMEOUT", 0)
    (path / SUSPECT).touch()
    other = Lock(str(path / "lock"))
    other.acquire(owner="another")
    try:
        with pytest.raises(LockTimeout):
            LocalLog(str(path))
    finally:
        other.release()
    assert (path / SUSPECT).exists()


def test_a_recovery_that_fails(journal: Journal, path: Path) -> None:
    (path / SUSPECT).touch()
    fs = Recording()
    fs.before("open", failing(errno.EIO), on=".seg")
    with pytest.raises(NotLanded, match="cannot be recovered"):
        LocalLog(str(path), fs=fs)
    assert (path / SUSPECT).exists()


# Owned by somebody.


def test_a_claim_that_cannot_be_looked_at(journal: Journal, path: Path) -> None:
    (path / CLAIM).touch()
    fs = Recording()
    fs.before("open", failing(errno.EIO), on=CLAIM)
    with pytest.raises(NotLanded, match="claim cannot be looked at"):
        LocalLog(str(path), fs=fs)


def test_a_claim_waits_for_the_append_that_is_under_way(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "DEFAULT_TIMEOUT", 0)
    other = Lock(str(path / "lock"))
    other.acquire(owner="another")
    try:
        with pytest.raises(LockTimeout):
            journal.claim()
    finally:
        other.release()
        journal.close()


# Read.


def harm(path: Path, entry: Entry, at: int = frames.FRAME_HEADER) -> None:
    """Change a byte of the frame that holds the record: of its payload, unless told otherwise."""
    assert entry.position is not None
    first, last, *_, offset = entry.position
    with open(path / segments.name_of((first, last)), "r+b") as file:
        file.seek(offset + at)
        byte = file.read(1)[0]
        file.seek(offset + at)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("at", [0, frames.FRAME_HEADER], ids=["head", "payload"])
@pytest.mark.parametrize(("segment", "record"), [("oldest", -1), ("newest", -1), ("newest", -2)])
def test_harm_is_found_from_the_newest_back(
    path: Path, small_segments: None, segment: str, record: int, at: int
) -> None:
    with Journal(path) as writer:
        for number in range(30):
            writer.append([b"%d" % number * 300])
    journal = Journal(path)
    entries = list(journal.read())
    of = entries[-1 if segment == "newest" else 0].position[:2]
    harm(path, [entry for entry in entries if entry.position[:2] == of][record], at)
    with pytest.raises(Corrupt, match="does not check"):
        list(journal.read(newest_first=True))


def test_a_segment_of_another_journal_is_not_read(path: Path, tmp_path: Path, small_segments: None) -> None:
    for each in (path, tmp_path / "other"):
        with Journal(each) as journal:
            for _ in range(30):
                journal.append([bytes(300)])
    name = segments.name_of((1, 1))
    shutil.copy(tmp_path / "other" / name, path / name)
    with pytest.raises(Corrupt, match="not the segment that the next one follows"):
        list(Journal(path).read())


def test_nothing_is_appended_behind_harm(journal: Journal, path: Path) -> None:
    with Journal(path) as other:
        other.append([b"three"])
        harm(path, list(other.read())[-1])
    with pytest.raises(Corrupt, match="have changed"):
        journal.append([b"four"])


def test_a_record_that_was_harmed_is_not_fetched(journal: Journal, path: Path) -> None:
    entry = list(journal.read())[-1]
    assert entry.position is not None
    harm(path, entry)
    with pytest.raises(Corrupt, match="does not check"):
        journal.fetch(entry.position)


def test_a_compaction_while_a_reader_begins_costs_it_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(path) as other:
        other.append([b"one"])
        log = LocalLog(str(path))
        seen = [log.follower.view()]
        other.append([b"two" * 10])
        other.compact(lambda entry: Record(b"one, rewritten") if entry.sequence == 1 else True)
        other.append([b"three"])
    view = log.follower.view
    monkeypatch.setattr(log.follower, "view", lambda: seen.pop() if seen else view())
    assert [entry.data for entry in Journal(path, log=log).read()] == [b"one, rewritten"]


@pytest.mark.parametrize("operation", ["pread", "lseek"])
def test_a_segment_that_cannot_be_read(journal: Journal, path: Path, operation: str) -> None:
    fs = Recording()
    fs.before(operation, failing(errno.EIO), on=".seg", always=True)
    with pytest.raises(NotLanded, match="cannot be read"):
        list(Journal(path, log=LocalLog(str(path), fs=fs)).read())


def test_a_segment_that_another_replaced_while_it_was_closed(path: Path, tmp_path: Path) -> None:
    for each in (path, tmp_path / "other"):
        with Journal(each) as journal:
            journal.append([b"one"])
    log = LocalLog(str(path))
    assert log.follower.rest()
    name = segments.name_of((1, 1))
    shutil.copy(tmp_path / "other" / name, path / name)
    with pytest.raises(Corrupt, match="another segment has taken the name"):
        Journal(path, log=log).append([b"two"])


# Proved.


def test_a_frame_that_reads_back_otherwise(journal: Journal, path: Path, fs: Recording) -> None:
    def flip(call: Call) -> None:
        data = bytearray((path / call.path).read_bytes())
        at = data.rindex(b"three")
        data[at] ^= 1
        (path / call.path).write_bytes(data)

    fs.after("fdatasync", flip, on=".seg")
    with pytest.raises(VerifyFailed, match="reads back otherwise"):
        journal.append([b"three"])


def test_a_segment_that_cannot_be_looked_up_after_the_flush(journal: Journal, path: Path, fs: Recording) -> None:
    def change(_: Call) -> None:
        (path / "changed").touch()
        fs.before("scandir", failing(errno.EIO))

    fs.after("fdatasync", change, on=".seg")
    with pytest.raises(OutcomeUnknown, match="cannot be looked up"):
        journal.append([b"three"])


# Compacted.


def test_a_compaction_has_its_lock(journal: Journal, path: Path) -> None:
    locked = []
    journal.compact(lambda _: locked.append(is_locked(path / compaction.LOCK)) or True)
    assert set(locked) == {True}


def test_leftovers_of_a_dead_compaction_go(journal: Journal, path: Path) -> None:
    (path / f"{COMPACTING}dead").touch()
    journal.compact(lambda _: True)
    assert not list(path.glob(f"{COMPACTING}*"))


@pytest.mark.parametrize("operation", ["write", "fsync"])
def test_a_compaction_that_fails_changes_nothing(journal: Journal, path: Path, fs: Recording, operation: str) -> None:
    failed: list[Call] = []

    def fail(call: Call) -> None:
        failed.append(call)
        if len(failed) == 1:
            failing(errno.EIO)(call)

    fs.before(operation, when(COMPACTING, fail), always=True)
    with pytest.raises(NotLanded, match="compaction failed") as caught:
        journal.compact(lambda _: True)
    assert caught.value.errno == errno.EIO
    assert len(failed) == 1
    assert not list(path.glob(f"{COMPACTING}*"))
    assert data(path) == [b"one", b"two"]


def test_a_compaction_whose_directory_cannot_be_opened(journal: Journal, path: Path, fs: Recording) -> None:
    fs.after("fsync", when(COMPACTING, lambda _: fs.before("open", failing(errno.EIO), on="/j")), always=True)
    with pytest.raises(NotLanded, match="directory cannot be opened"):
        journal.compact(lambda _: True)
    assert data(path) == [b"one", b"two"]


def test_a_compacted_segment_that_reads_back_otherwise_replaces_nothing(
    journal: Journal, path: Path, fs: Recording
) -> None:
    def flip(call: Call) -> None:
        with open(call.path, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)[0]
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last ^ 1]))

    fs.after("fsync", when(COMPACTING, flip), always=True)
    with pytest.raises(NotLanded, match="reads back otherwise"):
        journal.compact(lambda _: True)
    assert data(path) == [b"one", b"two"]


@pytest.mark.parametrize("how", ["the old segment", "none"])
def test_a_compacted_segment_whose_name_leads_elsewhere_is_not_acknowledged(
    path: Path, fs: Recording, tmp_path: Path, how: str
) -> None:
    journal = Journal(path, log=LocalLog(str(path), fs=fs))
    journal.append([b"one"])
    (old,) = path.glob("*.seg")
    shutil.copy(old, tmp_path / "old")

    def act(_: Call) -> None:
        old.unlink()
        if how == "the old segment":
            shutil.copy(tmp_path / "old", old)

    fs.after("rename", when(COMPACTING, act), always=True)
    with pytest.raises(VerifyFailed, match="does not lead"):
        journal.compact(lambda _: True)


# A full segment.


def test_a_full_segment_that_cannot_be_flushed_gets_no_successor(journal: Journal, path: Path, fs: Recording) -> None:
    assert isinstance(journal._log, LocalLog)
    segment = journal._log.follower.newest
    assert segment is not None
    segment.flushed = 0
    fs.before("fdatasync", failing(errno.EIO), on=".seg")
    with pytest.raises(NotLanded, match="full segment cannot be flushed"):
        journal.append([bytes(1 << 20)])
    assert len(fs.named("fdatasync", on=".seg")) == 1
    assert (path / SUSPECT).exists()
