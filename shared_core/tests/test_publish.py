"""What a publish hands on, sweeps and checks: mode, owner, attributes, dead writers' litter, what the name leads to."""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from recording import Call, Recording, failing

import landed
from landed import NotLanded, OutcomeUnknown, _fs
from landed.publish import COMPARED, publish

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from programs import Programs

TEMP = ".tmp"


@pytest.fixture
def files(recorded_files: landed.Files) -> landed.Files:
    return recorded_files


def only(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


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
        temp = None
        def open(self, path, *args, **kwargs):
            fd = super().open(path, *args, **kwargs)
            if path.endswith(".tmp"):
                self.temp = fd
            return fd
    def die(self, subject, *args, **kwargs):
        if operation != "fsync" or subject == self.temp:
            os.kill(os.getpid(), signal.SIGKILL)
        return getattr(FileOps, operation)(self, subject, *args, **kwargs)
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


def test_whoever_settles_what_a_dead_writer_left_sweeps_its_temp_file(
    files: landed.Files, fs: Recording, target: Path, programs: Programs
) -> None:
    assert programs.start(KILLED, "rename", target).hear() == ""
    fs.before("unlink", failing(errno.EIO), on=TEMP)
    with pytest.raises(NotLanded) as caught:
        files.verify(target)
    assert caught.value.step == "sweep"
    assert "aborted" in files.verify(target).settled
    assert only(target.parent) == ["a.txt"]


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


# The check.


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


@pytest.mark.parametrize("change", [-1, 0, 1])
@pytest.mark.parametrize("size", [1, COMPARED - 1, COMPARED, COMPARED + 1, 3 * COMPARED])
def test_the_last_byte_and_the_end_are_compared(
    files: landed.Files, fs: Recording, target: Path, size: int, change: int
) -> None:
    def meddle(_: Call) -> None:
        with open(target, "r+b") as file:
            file.truncate(size - 1)
            file.seek(0, os.SEEK_END)
            file.write(b"x" * (change + 1) if change else b"y")

    assert files.write(target, b"x" * size).size == size
    fs.after("rename", meddle)
    with pytest.raises(landed.VerifyFailed, match="bytes differ"):
        files.write(target, b"x" * size)


def test_the_size_of_a_file_with_a_hole_is_compared(fs: Recording, work: Path) -> None:
    def publish_hole(name: str) -> None:
        with _fs.Directory(str(work), fs) as directory:
            publish(directory, name, b"x", temp=".t.tmp", replaced=None, size=8192, fs=fs)

    publish_hole("a")
    assert os.stat(work / "a").st_size == 8192
    fs.after("link", lambda _: os.truncate(work / "b", 4096))
    with pytest.raises(landed.VerifyFailed, match="size differs"):
        publish_hole("b")


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
