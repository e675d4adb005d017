"""The rules of durable writing, one test each: what is called, in which order, and what a failure leaves.

The calls are the real ones, recorded on their way to the real file system.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING

import pytest
from recording import Call, Recording, failing

import landed
from landed import NotLanded, OutcomeUnknown, _fs
from landed.publish import put_in_place
from landed.state import UNFLUSHED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


TEMP = ".tmp"


@pytest.fixture
def files(recorded_files: landed.Files) -> landed.Files:
    return recorded_files


def only(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def flags_of(call: Call) -> int:
    return int(call.args[1])


# The temp file.


def test_temp_file_is_made_in_the_target_directory(files: landed.Files, fs: Recording, target: Path) -> None:
    files.write(target, b"new")
    (temp,) = fs.named("open", on=TEMP)
    assert os.path.dirname(temp.path) == str(target.parent)
    assert re.fullmatch(r"\.landed-[0-9a-f]{16}-[0-9a-f]+\.[0-9a-f]+\.tmp", os.path.basename(temp.path))


def test_temp_file_is_new_private_and_never_a_link(files: landed.Files, fs: Recording, target: Path) -> None:
    seen: list[tuple[int, bool]] = []

    def look(call: Call) -> None:
        fd = os.open(call.path, os.O_RDONLY)
        seen.append((stat.S_IMODE(os.fstat(fd).st_mode), True))
        os.close(fd)

    fs.after("open", look, on=TEMP)
    files.write(target, b"new")
    (temp,) = fs.named("open", on=TEMP)
    wanted = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    assert flags_of(temp) & wanted == wanted
    assert seen == [(0o600, True)]


def test_every_descriptor_closes_on_exec(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flags: list[int] = []
    real = os.open

    def note(path: str, how: int, *args: object, **kwargs: object) -> int:
        flags.append(how)
        return real(path, how, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(_fs.posix, "open", note)
    landed.Files().write(tmp_path / "a", b"x")
    assert len(flags) > 5
    assert all(how & os.O_CLOEXEC for how in flags)


@pytest.mark.parametrize("plant", [os.symlink, os.link])
def test_what_has_the_temp_files_name_is_removed_and_never_written(
    files: landed.Files, fs: Recording, target: Path, tmp_path: Path, plant: Callable[[Path, str], None]
) -> None:
    (tmp_path / "precious").write_bytes(b"somebody else's")
    fs.before("open", lambda call: plant(tmp_path / "precious", call.path), on=TEMP)
    files.write(target, b"new")
    assert (tmp_path / "precious").read_bytes() == b"somebody else's"
    assert target.read_bytes() == b"new"
    assert not target.is_symlink()
    assert only(target.parent) == ["a.txt"]


# Short writes.


def test_short_writes_are_continued(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fs = Recording()
    data = bytes(range(256)) * 40
    monkeypatch.setattr(fs, "write", lambda fd, view: os.write(fd, bytes(view[:1000])))
    landed.Files(fs).write(work / "a", data)
    assert (work / "a").read_bytes() == data


def test_a_write_without_progress_ends(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fs = Recording()
    write, answers = fs.write, [0]
    monkeypatch.setattr(fs, "write", lambda fd, view: answers.pop() if answers else write(fd, view))
    with pytest.raises(NotLanded) as caught:
        landed.Files(fs).write(work / "a", b"data")
    assert caught.value.errno == errno.EIO
    assert only(work) == []


def test_a_positioned_write_without_progress_ends(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fs = Recording()
    pwrite, answers = fs.pwrite, [0, 2]
    monkeypatch.setattr(fs, "pwrite", lambda fd, view, at: answers.pop() if answers else pwrite(fd, view, at))
    fd = fs.open(str(work / "a"), os.O_RDWR | os.O_CREAT)
    try:
        with pytest.raises(OSError, match="no progress"):
            _fs.pwrite_all(fs, fd, b"data", 0)
    finally:
        os.close(fd)


# Flushes and their order.


def test_replace_order(files: landed.Files, fs: Recording, target: Path) -> None:
    """The bytes are flushed before the rename, the rename before the check, the check before the acknowledgement."""
    files.write(target, b"new")
    directory = str(target.parent)
    order = [
        fs.position("open", on=TEMP),
        fs.position("write", on=TEMP),
        fs.position("fsync", on=TEMP),
        fs.position("close", on=TEMP),
        fs.position("rename", on=TEMP),
        fs.position("fsync", on=directory),
    ]
    assert order == sorted(order)
    after_flush = [(call.name, call.path) for call in fs.calls[order[-1] :]]
    assert after_flush[1:4] == [("open", str(target)), ("fstat", str(target)), ("read", str(target))]


def test_create_order(files: landed.Files, fs: Recording, work: Path) -> None:
    files.write(work / "a", b"new")
    order = [
        fs.position("write", on=TEMP),
        fs.position("fsync", on=TEMP),
        fs.position("close", on=TEMP),
        fs.position("link", on=TEMP),
        fs.position("unlink", on=TEMP),
        fs.position("fsync", on=str(work)),
    ]
    assert order == sorted(order)
    assert not fs.named("rename")


def test_a_failed_flush_is_never_repeated(files: landed.Files, fs: Recording, target: Path, tmp_path: Path) -> None:
    fs.before("fsync", lambda call: os.link(call.path, tmp_path / "kept"), on=TEMP)  # so that its inode stays taken
    fs.before("fsync", failing(errno.EIO), on=TEMP)
    with pytest.raises(NotLanded) as caught:
        files.write(target, b"new")
    assert caught.value.errno == errno.EIO
    assert caught.value.step == "sync"
    assert len(fs.named("fsync")) == 1
    assert not fs.named("rename")
    assert target.read_bytes() == b"old"
    assert only(target.parent) == ["a.txt"]
    files.write(target, b"new")
    assert os.stat(target).st_ino != os.stat(tmp_path / "kept").st_ino  # a retry is a new file, written from memory


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_may_show_at_the_flush(files: landed.Files, fs: Recording, target: Path, number: int) -> None:
    fs.before("fsync", failing(number), on=TEMP)
    with pytest.raises(NotLanded) as caught:
        files.write(target, b"new")
    assert caught.value.errno == number
    assert target.read_bytes() == b"old"
    assert only(target.parent) == ["a.txt"]


def test_a_failed_directory_flush_is_unknown_and_poisons(files: landed.Files, fs: Recording, target: Path) -> None:
    fs.before("fsync", failing(errno.EIO), on=str(target.parent))
    with pytest.raises(OutcomeUnknown) as caught:
        files.write(target, b"new")
    assert caught.value.outcome == "unknown"
    assert caught.value.step == "sync directory"
    assert len(fs.named("fsync", on=str(target.parent))) == 1
    fs.forget()
    for attempt in (
        lambda: files.write(target, b"more"),
        lambda: files.write(target, b"more", expect=landed.ANY),
        lambda: files.delete(target),
        lambda: files.edit(target).__enter__(),
    ):
        with pytest.raises(OutcomeUnknown, match="earlier write"):
            attempt()
    assert not fs.named("open", on=TEMP)


def test_the_read_that_settles_looks_at_the_device_and_flushes(
    files: landed.Files, fs: Recording, target: Path
) -> None:
    fs.before("fsync", failing(errno.EIO), on=str(target.parent))
    with pytest.raises(OutcomeUnknown):
        files.write(target, b"new")
    fs.forget()
    assert files.read(target).data == b"new"
    assert fs.named("drop_cache", on=str(target))
    assert fs.named("fsync", on=str(target.parent))
    assert files.write(target, b"more").settled == ""
    assert files.verify(target).size == 4


def test_another_program_settles_what_was_left_unknown(fs: Recording, files: landed.Files, target: Path) -> None:
    fs.before("fsync", failing(errno.EIO), on=str(target.parent))
    with pytest.raises(OutcomeUnknown):
        files.write(target, b"new")
    other_fs = Recording()
    other = landed.Files(other_fs)
    receipt = other.write(target, b"theirs", expect=landed.ANY)
    assert "in place, though its writer never learned so" in receipt.settled
    assert other_fs.named("drop_cache", on=str(target))
    assert len(other_fs.named("fsync", on=str(target.parent))) == 2  # what it builds on, and its own


def test_new_directories_are_flushed_up_to_the_first_that_existed(
    files: landed.Files, fs: Recording, work: Path
) -> None:
    files.write(work / "x" / "y" / "z" / "a", b"deep")
    flushed = [call.path for call in fs.named("fsync")]
    for directory in (work, work / "x", work / "x" / "y", work / "x" / "y" / "z"):
        assert str(directory) in flushed


def test_a_new_directory_that_can_neither_be_flushed_nor_removed_is_marked(
    files: landed.Files, fs: Recording, work: Path
) -> None:
    fs.before("fsync", failing(errno.EIO), on=str(work))
    fs.before("rmdir", failing(errno.EIO), always=True)
    with pytest.raises(NotLanded, match="directories above cannot be flushed"):
        files.write(work / "x" / "a", b"mine")
    assert only(work) == [UNFLUSHED, "x"]
    fs.forget()
    other_fs = Recording()
    landed.Files(other_fs).write(work / "x" / "a", b"theirs")
    files.write(work / "x" / "b", b"mine")
    for each in (other_fs, fs):  # neither asks for the same flush again
        flush = each.calls.index(each.named("fsync", on=str(work))[0])
        assert [call.name for call in each.calls[:flush] if f"{UNFLUSHED}-" in call.path] == ["open", "close", "unlink"]
    assert only(work) == ["x"]


@pytest.mark.parametrize("planted", ["a FIFO", "a link", "a directory"])
def test_what_a_neighbour_puts_in_place_of_the_mark_stops_nobody_and_is_left_alone(
    files: landed.Files, fs: Recording, work: Path, planted: str
) -> None:
    mark, outside = work / UNFLUSHED, work.parent / "outside"
    {"a FIFO": lambda: os.mkfifo(mark), "a link": lambda: mark.symlink_to(outside), "a directory": mark.mkdir}[
        planted
    ]()
    fs.before("fsync", failing(errno.EIO), on=str(work))
    with pytest.raises(NotLanded):
        files.write(work / "x" / "a", b"mine")
    assert not outside.exists()
    landed.Files().write(work / "x" / "a", b"mine")
    assert (work / "x" / "a").read_bytes() == b"mine"


def test_a_new_directory_that_cannot_be_flushed_leaves_no_mark(files: landed.Files, fs: Recording, work: Path) -> None:
    fs.before("fsync", failing(errno.EIO), on=str(work))
    with pytest.raises(NotLanded):
        files.write(work / "x" / "y" / "a", b"mine")
    assert fs.named("open", on=UNFLUSHED)
    assert only(work) == []


def test_an_error_at_close_counts_and_close_is_not_repeated(files: landed.Files, fs: Recording, target: Path) -> None:
    fs.after("close", failing(errno.EDQUOT), on=TEMP)
    with pytest.raises(NotLanded) as caught:
        files.write(target, b"new")
    assert (caught.value.errno, caught.value.step) == (errno.EDQUOT, "close")
    assert len(fs.named("close", on=TEMP)) == 1
    assert not fs.named("rename")
    assert target.read_bytes() == b"old"
    assert only(target.parent) == ["a.txt"]


@pytest.mark.parametrize(
    ("operation", "on"), [("write", TEMP), ("fsync", TEMP), ("fstat", TEMP), ("fchmod", TEMP), ("rename", TEMP)]
)
def test_an_interrupt_before_the_rename_leaves_the_old_file(
    files: landed.Files, fs: Recording, target: Path, operation: str, on: str
) -> None:
    fs.before(operation, _interrupt, on=on)
    with pytest.raises(KeyboardInterrupt):
        files.write(target, b"new")
    assert target.read_bytes() == b"old"
    assert only(target.parent) == ["a.txt"]
    assert files.read(target).data == b"old"
    files.write(target, b"after")


def test_an_interrupt_after_the_rename_is_unknown_until_read(files: landed.Files, fs: Recording, target: Path) -> None:
    fs.before("fsync", _interrupt, on=str(target.parent))
    with pytest.raises(KeyboardInterrupt):
        files.write(target, b"new")
    with pytest.raises(OutcomeUnknown, match="KeyboardInterrupt"):
        files.write(target, b"more")
    assert files.read(target).data == b"new"
    files.write(target, b"more")


def _interrupt(_: Call) -> None:
    raise KeyboardInterrupt


# What a remote file system may do.


def test_a_rename_whose_answer_was_lost_is_unknown(files: landed.Files, fs: Recording, target: Path) -> None:
    fs.after("rename", failing(errno.EIO))
    with pytest.raises(OutcomeUnknown):
        files.write(target, b"new")
    assert target.read_bytes() == b"new"
    assert files.read(target).data == b"new"


def test_a_rename_that_failed_is_not_landed(files: landed.Files, fs: Recording, target: Path) -> None:
    fs.before("rename", failing(errno.EROFS))
    with pytest.raises(NotLanded) as caught:
        files.write(target, b"new")
    assert caught.value.step == "rename"
    assert only(target.parent) == ["a.txt"]


def test_a_link_that_was_made_although_the_answer_says_it_exists_is_not_reported_as_unwritten(
    files: landed.Files, fs: Recording, work: Path
) -> None:
    """A remote file system sends a link again when the answer was lost, and answers EEXIST to the second."""
    fs.after("link", failing(errno.EEXIST))
    try:
        receipt = files.write(work / "a", b"new")
    except landed.LandedError as error:
        assert error.outcome == "unknown"  # noqa: PT017 - either answer is true; "not written" is not
    else:
        assert receipt.size == 3
    assert (work / "a").read_bytes() == b"new"
    assert files.read(work / "a").origin == "landed"


def test_no_extended_attributes_flush_the_record_instead(files: landed.Files, fs: Recording, work: Path) -> None:
    for operation in ("setxattr", "listxattr"):
        fs.before(operation, failing(errno.ENOTSUP), always=True)
    files.write(work / "a", b"one")
    assert len(fs.named("fdatasync", on=".record")) == 1
    files.write(work / "a", b"two")
    assert len(fs.named("fdatasync", on=".record")) == 2
    assert fs.position("link") < fs.calls.index(fs.named("fdatasync", on=".record")[0])
    assert files.read(work / "a").origin == "landed"


def test_attributes_that_leave_no_room_for_the_version_flush_the_record_instead(
    files: landed.Files, fs: Recording, work: Path
) -> None:
    fs.before("setxattr", failing(errno.ENOSPC), on=TEMP, always=True)
    files.write(work / "a", b"one")
    assert len(fs.named("fdatasync", on=".record")) == 1
    assert files.read(work / "a").origin == "landed"


def test_with_extended_attributes_the_record_costs_no_flush(files: landed.Files, fs: Recording, target: Path) -> None:
    files.write(target, b"new")
    assert [os.path.basename(call.path) for call in fs.named("fsync")] == [
        os.path.basename(fs.named("open", on=TEMP)[0].path),
        target.parent.name,
    ]
    assert not fs.named("fdatasync")


# Every error says where, why and in which state.


@pytest.mark.parametrize(
    ("operation", "on", "step", "outcome"),
    [
        ("open", TEMP, "temp", "not_written"),
        ("write", TEMP, "write", "not_written"),
        ("setxattr", TEMP, "attributes", "not_written"),
        ("listxattr", TEMP, "attributes", "not_written"),
        ("fsync", TEMP, "sync", "not_written"),
        ("close", TEMP, "close", "not_written"),
        ("read", "a.txt", "read", "not_written"),
        ("stat", "a.txt", "fence", "not_written"),
        ("rename", TEMP, "rename", "not_written"),
        ("write", ".log", "log", "not_written"),
        ("pwrite", ".record", "record", "not_written"),
        ("fsync", "work", "sync directory", "unknown"),
    ],
)
def test_every_error_says_where_why_and_in_which_state(
    files: landed.Files, fs: Recording, target: Path, operation: str, on: str, step: str, outcome: str
) -> None:
    fs.before(operation, failing(errno.EIO), on=on)
    with pytest.raises(landed.LandedError) as caught:
        files.write(target, b"new")
    error = caught.value
    assert (error.step, error.outcome, error.errno) == (step, outcome, errno.EIO)
    assert error.path is not None
    assert error.path in str(error)
    assert os.strerror(errno.EIO) in str(error)
    assert error.hint.endswith(".")
    assert isinstance(error.__cause__, OSError)
    if outcome == "not_written":
        assert target.read_bytes() == b"old"
        assert only(target.parent) == ["a.txt"]
        assert files.write(target, b"again").size == 5  # and the library is usable


@pytest.mark.parametrize(
    ("operation", "on", "step"),
    [("fsync", "work", "sync directory"), ("read", "a.txt", "verify"), ("pwrite", ".record", "record")],
)
def test_every_error_after_the_rename_leaves_the_outcome_unknown(
    files: landed.Files, fs: Recording, target: Path, operation: str, on: str, step: str
) -> None:
    fs.after("rename", lambda _: fs.before(operation, failing(errno.EIO), on=on))
    with pytest.raises(OutcomeUnknown) as caught:
        files.write(target, b"new")
    assert (caught.value.step, caught.value.errno) == (step, errno.EIO)
    assert "Read it again" in caught.value.hint
    assert files.read(target).data == b"new"


def test_a_temp_file_that_stays_beside_a_new_file_leaves_the_outcome_unknown(fs: Recording, work: Path) -> None:
    fs.before("unlink", failing(errno.EIO), on=TEMP)
    with pytest.raises(OutcomeUnknown) as caught:
        landed.Files(fs).write(work / "a", b"new")
    assert caught.value.step == "unlink temp"
    assert landed.Files().read(work / "a").data == b"new"


@pytest.mark.parametrize(
    ("since", "operation", "on", "step", "outcome"),
    [
        ("", "unlink", "a.txt", "unlink", "not_written"),
        ("unlink", "fsync", "work", "sync directory", "unknown"),
        ("unlink", "stat", "a.txt", "verify", "unknown"),
    ],
)
def test_every_error_of_a_delete_says_what_it_left(
    files: landed.Files, fs: Recording, target: Path, since: str, operation: str, on: str, step: str, outcome: str
) -> None:
    if since:
        fs.after(since, lambda _: fs.before(operation, failing(errno.EIO), on=on), on="a.txt")
    else:
        fs.before(operation, failing(errno.EIO), on=on)
    with pytest.raises(landed.LandedError) as caught:
        files.delete(target)
    assert (caught.value.step, caught.value.outcome, caught.value.errno) == (step, outcome, errno.EIO)
    assert target.exists() == (outcome == "not_written")


def test_an_unlink_whose_answer_was_lost_is_unknown(files: landed.Files, fs: Recording, target: Path) -> None:
    fs.after("unlink", failing(errno.EIO), on="a.txt")
    with pytest.raises(OutcomeUnknown) as caught:
        files.delete(target)
    assert caught.value.step == "unlink"


def test_a_delete_that_was_left_unknown_is_settled_by_a_flush_of_its_own(
    files: landed.Files, fs: Recording, target: Path
) -> None:
    fs.after("unlink", lambda _: fs.before("fsync", failing(errno.EIO), on="work"), on="a.txt")
    with pytest.raises(OutcomeUnknown):
        files.delete(target)
    fs.forget()
    fs.before("fsync", failing(errno.EIO), on="work")
    with pytest.raises(OutcomeUnknown) as caught:
        landed.Files(fs).verify(target)
    assert caught.value.step == "settle"
    assert len(fs.named("fsync", on="work")) == 1
    assert "in place" in landed.Files(fs).verify(target).settled
    assert len(fs.named("fsync", on="work")) == 2


def test_a_temp_file_that_is_gone_is_put_nowhere(work: Path, fs: Recording) -> None:
    with _fs.Directory(str(work), fs) as directory, pytest.raises(NotLanded):
        put_in_place(directory, "gone.tmp", "a", replace=False)


def test_constants_name_what_the_system_answers() -> None:
    assert {errno.ENOTSUP, errno.EOPNOTSUPP} <= _fs.NO_XATTR
    assert {errno.EAGAIN, errno.EWOULDBLOCK} <= _fs.CONTENDED
