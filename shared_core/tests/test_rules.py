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

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from programs import Programs

TEMP = ".tmp"


@pytest.fixture
def fs() -> Recording:
    return Recording()


@pytest.fixture
def files(fs: Recording) -> landed.Files:
    return landed.Files(fs)


@pytest.fixture
def target(work: Path, files: landed.Files, fs: Recording) -> Path:
    """A file that landed wrote, with the record of its writing forgotten."""
    path = work / "a.txt"
    files.write(path, b"old")
    fs.forget()
    return path


def only(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def flags_of(call: Call) -> int:
    return int(call.args[1])


# The temp file.


def test_temp_file_is_made_in_the_target_directory(files: landed.Files, fs: Recording, target: Path) -> None:
    files.write(target, b"new")
    (temp,) = fs.named("open", on=TEMP)
    assert os.path.dirname(temp.path) == str(target.parent)
    assert re.fullmatch(r"\.landed-[0-9a-f]{12}\.tmp", os.path.basename(temp.path))


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

    monkeypatch.setattr(os, "open", note)
    landed.Files().write(tmp_path / "a", b"x")
    assert len(flags) > 5
    assert all(how & os.O_CLOEXEC for how in flags)


def test_a_temp_file_that_exists_is_not_taken_over(
    files: landed.Files, fs: Recording, target: Path, tmp_path: Path
) -> None:
    def plant(call: Call) -> None:
        os.symlink(tmp_path / "elsewhere", call.path)

    fs.before("open", plant, on=TEMP)
    with pytest.raises(NotLanded) as caught:
        files.write(target, b"new")
    assert caught.value.errno == errno.EEXIST
    assert not (tmp_path / "elsewhere").exists()
    assert target.read_bytes() == b"old"


# Short writes.


def test_short_writes_are_continued(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fs = Recording()
    data = bytes(range(256)) * 40
    monkeypatch.setattr(fs, "write", lambda fd, view: os.write(fd, bytes(view[:1000])))
    landed.Files(fs).write(work / "a", data)
    assert (work / "a").read_bytes() == data


def test_a_write_without_progress_ends(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fs = Recording()
    monkeypatch.setattr(fs, "write", lambda fd, view: 0)
    with pytest.raises(NotLanded) as caught:
        landed.Files(fs).write(work / "a", b"data")
    assert caught.value.errno == errno.EIO
    assert only(work) == []


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


def test_a_failed_flush_is_never_repeated(files: landed.Files, fs: Recording, target: Path) -> None:
    fs.before("fsync", failing(errno.EIO), on=TEMP)
    with pytest.raises(NotLanded) as caught:
        files.write(target, b"new")
    assert caught.value.errno == errno.EIO
    assert caught.value.step == "sync"
    assert len(fs.named("fsync")) == 1
    assert not fs.named("rename")
    assert target.read_bytes() == b"old"
    assert only(target.parent) == ["a.txt"]
    first = fs.named("open", on=TEMP)[0].path
    files.write(target, b"new")  # a retry is a new file, written from memory
    assert fs.named("open", on=TEMP)[1].path != first


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


# Names, links, metadata.


def test_user_names_never_become_names_in_the_store(files: landed.Files, work: Path, state_dir: Path) -> None:
    files.write(work / "secret plan.md", b"x")
    names = only(state_dir / "artifacts")
    assert [re.fullmatch(r"[0-9a-f]{64}\.(lock|log|record)", name) is not None for name in names] == [True] * 3


def test_a_parent_that_is_renamed_cannot_redirect_the_write(files: landed.Files, fs: Recording, target: Path) -> None:
    """The temp file and the rename go where the lock was taken; the name no longer leads there, and that is heard."""
    moved = target.parent.with_name("moved")

    def swap(_: Call) -> None:
        os.rename(target.parent, moved)
        target.parent.mkdir()
        target.write_bytes(b"a stranger's")

    fs.before("rename", swap)
    with pytest.raises(landed.VerifyFailed):
        files.write(target, b"new")
    assert target.read_bytes() == b"a stranger's"
    assert (moved / "a.txt").read_bytes() == b"new"


def test_mode_is_kept(files: landed.Files, target: Path) -> None:
    for mode in (0o640, 0o755, 0o444, 0o4755):
        os.chmod(target, mode)
        files.read(target)
        files.write(target, b"%o" % mode)
        assert stat.S_IMODE(os.stat(target).st_mode) == mode


def test_a_new_file_gets_what_the_umask_leaves(files: landed.Files, work: Path) -> None:
    old = os.umask(0o027)
    try:
        files.write(work / "a", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(work / "a").st_mode) == 0o640


def test_metadata_is_set_before_the_flush(files: landed.Files, fs: Recording, target: Path) -> None:
    files.write(target, b"new")
    flushed = fs.position("fsync", on=TEMP)
    assert fs.position("fchmod", on=TEMP) < flushed
    assert fs.position("setxattr", on=TEMP) < flushed


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving a file to another user needs root")


@needs_root
def test_owner_is_kept(files: landed.Files, target: Path) -> None:
    os.chown(target, 1234, 2345)
    os.chmod(target, 0o4755)
    files.write(target, b"new")
    status = os.stat(target)
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 2345, 0o4755)


@needs_root
def test_what_may_not_be_given_away_becomes_the_writers_without_set_id_bits(
    files: landed.Files, fs: Recording, target: Path
) -> None:
    os.chown(target, 1234, 2345)
    os.chmod(target, 0o6775)
    fs.before("fchown", failing(errno.EPERM), always=True)
    files.write(target, b"new")
    status = os.stat(target)
    assert status.st_uid == os.geteuid()
    assert stat.S_IMODE(status.st_mode) == 0o705  # nor what another group was allowed


def test_extended_attributes_are_kept(files: landed.Files, target: Path) -> None:
    os.setxattr(target, "user.colour", b"blue")
    os.setxattr(target, "user.empty", b"")
    files.write(target, b"new")
    assert os.getxattr(target, "user.colour") == b"blue"
    assert os.getxattr(target, "user.empty") == b""


def acl(*entries: tuple[int, int, int]) -> bytes:
    """An access control list as Linux stores it: (tag, permissions, id)."""
    import struct

    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY_ID = 0xFFFFFFFF
OWNER, USER, GROUP, MASK, OTHER = 1, 2, 4, 0x10, 0x20


def user_1234_may(permissions: int) -> bytes:
    return acl(
        (OWNER, 6, NOBODY_ID),
        (USER, permissions, 1234),
        (GROUP, 4, NOBODY_ID),
        (MASK, 6, NOBODY_ID),
        (OTHER, 0, NOBODY_ID),
    )


def set_acl(path: Path, kind: str, value: bytes) -> None:
    try:
        os.setxattr(path, f"system.posix_acl_{kind}", value)
    except OSError as error:
        pytest.skip(f"no access control lists on this file system: {error}")


def test_access_control_list_is_kept(files: landed.Files, target: Path) -> None:
    set_acl(target, "access", user_1234_may(6))
    files.write(target, b"new")
    assert os.getxattr(target, "system.posix_acl_access") == user_1234_may(6)
    assert stat.S_IMODE(os.stat(target).st_mode) == 0o660


@pytest.mark.xfail(strict=True, reason="a default list of the directory is added to a file that is replaced")
def test_a_replaced_file_gets_no_access_control_list_that_it_did_not_have(files: landed.Files, target: Path) -> None:
    """A default list of the directory applies to new files; this one is not new to anybody."""
    set_acl(target.parent, "default", user_1234_may(6))
    files.write(target, b"new")
    assert "system.posix_acl_access" not in os.listxattr(target)


# Litter of dead writers, and full disks.


def test_a_temp_file_that_cannot_be_removed_is_named(files: landed.Files, fs: Recording, target: Path) -> None:
    fs.before("fsync", failing(errno.EIO), on=TEMP)
    fs.before("unlink", failing(errno.EIO), on=TEMP)
    with pytest.raises(NotLanded, match="could not be removed") as caught:
        files.write(target, b"new")
    (left,) = [name for name in only(target.parent) if name.endswith(TEMP)]
    assert left in str(caught.value)


KILLED = """
    import os, signal, sys
    import landed
    from landed._fs import FileOps
    operation, path = sys.argv[1:]
    class Killed(FileOps):
        pass
    def die(self, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(Killed, operation, die)
    landed.Files(Killed()).write(path, b"never seen", expect=landed.ANY)
"""


@pytest.mark.parametrize("operation", ["fsync", "rename"])
def test_the_temp_file_of_a_dead_writer_is_swept_under_the_lock(
    files: landed.Files, fs: Recording, target: Path, programs: Programs, operation: str
) -> None:
    dead = programs.start(KILLED, operation, target)
    assert dead.hear() == ""
    assert len(only(target.parent)) == 2
    receipt = files.write(target, b"new")
    assert "aborted" in receipt.settled
    assert f"pid {dead.pid}" in receipt.settled
    assert only(target.parent) == ["a.txt"]
    locked, swept = fs.position("flock"), fs.calls.index(fs.named("unlink", on=TEMP)[0])
    assert locked < swept < fs.position("funlock")


def test_both_names_of_a_dead_creator_become_one(files: landed.Files, work: Path, programs: Programs) -> None:
    """Killed between link and unlink: the file is there, and its temp name as well."""
    dead = programs.start(KILLED, "unlink", work / "a")
    assert dead.hear() == ""
    assert os.stat(work / "a").st_nlink == 2
    assert files.read(work / "a").data == b"never seen"
    receipt = files.write(work / "a", b"new")
    assert "in place" in receipt.settled
    assert only(work) == ["a"]
    assert os.stat(work / "a").st_nlink == 1


def test_strangers_temp_files_are_left_alone(files: landed.Files, target: Path) -> None:
    stranger = target.parent / ".landed-0123456789ab.tmp"
    stranger.write_bytes(b"another artifact's writer is at work")
    files.write(target, b"new")
    assert stranger.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_leaves_the_old_file(files: landed.Files, tmp_path: Path) -> None:
    import subprocess

    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", mount], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {made.stderr.decode().strip()}")
    try:
        files.write(mount / "a", b"old")
        os.chmod(mount / "a", 0o640)
        before = os.stat(mount / "a")
        with pytest.raises(NotLanded) as caught:
            files.write(mount / "a", b"x" * 1_000_000, expect=landed.ANY)
        assert caught.value.errno == errno.ENOSPC
        assert (mount / "a").read_bytes() == b"old"
        assert os.stat(mount / "a").st_ino == before.st_ino
        assert stat.S_IMODE(os.stat(mount / "a").st_mode) == 0o640
        assert only(mount) == ["a"]
        files.write(mount / "a", b"y" * 1000, expect=landed.ANY)
    finally:
        subprocess.run(["umount", mount], check=True)


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


@pytest.mark.xfail(strict=True, reason="EEXIST is believed without a look at whose inode has the name")
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
        ("fsync", TEMP, "sync", "not_written"),
        ("close", TEMP, "close", "not_written"),
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
    assert isinstance(error.__cause__, OSError)
    if outcome == "not_written":
        assert target.read_bytes() == b"old"
        assert only(target.parent) == ["a.txt"]
        assert files.write(target, b"again").size == 5  # and the library is usable


def test_verify_on_the_device_drops_the_cache(files: landed.Files, fs: Recording, target: Path) -> None:
    files.write(target, b"new")
    assert not fs.named("drop_cache")
    fs.forget()
    assert files.write(target, b"newer", verify="device").verified == "device"
    dropped = fs.position("drop_cache", on=str(target))
    assert fs.position("rename", on=TEMP) < dropped
    assert any(call.name == "read" and call.path == str(target) for call in fs.calls[dropped:])


def swap_bytes(path: Path) -> Callable[[Call], None]:
    def swap(_: Call) -> None:
        with open(path, "r+b") as file:
            file.write(b"bad")

    return swap


def test_bytes_that_changed_under_the_same_inode_fail_the_check(
    files: landed.Files, fs: Recording, target: Path
) -> None:
    fs.after("rename", swap_bytes(target))
    with pytest.raises(landed.VerifyFailed, match="bytes differ"):
        files.write(target, b"new")


@pytest.mark.parametrize("how", ["vanish", "replace", "link"])
def test_a_name_that_leads_elsewhere_after_the_rename_fails_the_check(
    files: landed.Files, fs: Recording, target: Path, how: str
) -> None:
    def act(_: Call) -> None:
        if how == "replace":
            (target.parent / "b").write_bytes(b"new")
            os.replace(target.parent / "b", target)
            return
        os.rename(target, target.parent / "aside")
        if how == "link":
            os.symlink("aside", target)

    fs.after("rename", act)
    with pytest.raises(landed.VerifyFailed) as caught:
        files.write(target, b"new")
    assert caught.value.outcome == "unknown"
    with pytest.raises(landed.Bypassed if how == "link" else OutcomeUnknown):  # the link's target is another artifact
        files.write(target, b"more")


def test_constants_name_what_the_system_answers() -> None:
    assert {errno.ENOTSUP, errno.EOPNOTSUPP} <= _fs.NO_XATTR
    assert {errno.EAGAIN, errno.EWOULDBLOCK} <= _fs.CONTENDED
