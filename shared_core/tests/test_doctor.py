"""The doctor: finds what is broken, when it is broken, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import shutil
import stat

import pytest

import landed
from landed import _fs, doctor
from landed.audit import audit, stores
from landed.doctor import FAIL, NOTE, OK, STATUSES, WARN, examine
from landed.sharing import share
from landed.state import user_store
from landed.trials import Bench


def statuses(directory, fs=_fs.LOCAL) -> dict[str, str]:
    return {check.name: check.status for check in examine(str(directory), fs)}


def tree(path) -> list[str]:
    return sorted(os.path.join(above, name) for above, _, names in os.walk(path) for name in names)


def test_all_is_well_here_and_nothing_is_left(work, state_dir):
    found = list(examine(str(work)))
    assert [check for check in found if check.status == FAIL] == []
    assert {check.status for check in found} <= set(STATUSES)
    assert tree(work) == []
    assert tree(state_dir) == []
    assert os.listdir(state_dir) == ["artifacts"]


def test_a_shared_directory_is_tried_where_its_locks_are(work):
    share(str(work))
    before = tree(work)
    assert FAIL not in statuses(work).values()
    assert tree(work) == before


def lock_that_never_excludes(self, fd, *, blocking):
    return None


def link_that_replaces(self, source, target, *, dir_fd=None):
    os.replace(source, target, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)


def rename_by_copy(self, source, target, *, dir_fd=None):
    fd = os.open(target, os.O_WRONLY | os.O_TRUNC, dir_fd=dir_fd)
    with open(source, "rb") as file:
        for byte in file.read():
            os.write(fd, bytes([byte]))
    os.close(fd)
    os.unlink(source, dir_fd=dir_fd)


def open_that_truncates(self, path, flags, mode=0o600, *, dir_fd=None):
    return os.open(path, flags & ~os.O_EXCL, mode, dir_fd=dir_fd)


def open_that_follows(self, path, flags, mode=0o600, *, dir_fd=None):
    return os.open(path, flags & ~_fs.NOFOLLOW, mode, dir_fd=dir_fd)


def no_directory_sync(self, fd):
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    os.fsync(fd)


def no_xattr(self, fd, name, value):
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


@pytest.mark.parametrize(
    ("call", "broken", "name", "status"),
    [
        ("flock", lock_that_never_excludes, "lock between descriptors", FAIL),
        ("flock", lock_that_never_excludes, "lock between processes", FAIL),
        ("link", link_that_replaces, "put if absent", FAIL),
        ("rename", rename_by_copy, "atomic replace", FAIL),
        ("open", open_that_truncates, "exclusive create", FAIL),
        ("open", open_that_follows, "links refused", FAIL),
        ("fsync", no_directory_sync, "directory flush", FAIL),
        ("setxattr", no_xattr, "extended attributes", NOTE),
    ],
)
def test_what_is_broken_is_found(work, call, broken, name, status):
    user_store().make(_fs.LOCAL)  # so that what is broken is met in the directory first
    # The writes that are broken on purpose use these operations too, and may fail before they begin.
    fs = type("Broken", (_fs.FileOps,), {call: broken})()
    found = []
    try:
        for check in examine(str(work), fs):
            found.append((check.name, check.status))
            if check.name == name:
                break
    finally:
        assert (name, status) in found


@pytest.mark.parametrize(
    ("name", "harmless"),
    [
        ("half of the bytes dropped", "_DropsBytes"),
        ("rename lost", "_LosesRename"),
        ("flush failed", "_FailsSync"),
    ],
)
def test_a_break_that_does_not_break_is_reported(work, monkeypatch, name, harmless):
    """The demonstration itself must be able to fail."""
    monkeypatch.setattr(doctor, harmless, _fs.FileOps)
    assert statuses(work)[f"noticed: {name}"] == FAIL


def test_a_library_that_does_not_verify_is_reported(work, monkeypatch):
    monkeypatch.setattr("landed.publish.verify_bytes", lambda *_: None)
    found = statuses(work)
    assert found["noticed: half of the bytes dropped"] == FAIL
    assert found["noticed: rename lost"] == FAIL


def test_a_library_that_overwrites_unseen_bytes_is_reported(work, monkeypatch):
    monkeypatch.setattr("landed.landing.check", lambda *_: None)
    assert statuses(work)["noticed: changed by another program"] == FAIL


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("1 0 8:1 / / rw - ext4 /dev/x rw", OK, "ext4 at /"),
        ("1 0 8:1 / / rw - tmpfs none rw", WARN, "memory"),
        ("1 0 8:1 / / rw - nfs4 server:/x rw", WARN, "server"),
        ("1 0 8:1 / / rw - fuse.sshfs x rw", WARN, "program that serves it"),
        ("1 0 8:1 / / rw - 9p x rw", WARN, "other side"),
        ("1 0 8:1 / / rw - overlay o rw,lowerdir=a,volatile", WARN, "volatile"),
        ("1 0 8:1 / / rw - overlay o rw,lowerdir=a", OK, "overlay"),
    ],
)
def test_file_systems_that_promise_less(tmp_path, monkeypatch, line, status, words):
    table = tmp_path / "mountinfo"
    table.write_text(line + "\n")
    monkeypatch.setattr(doctor, "MOUNTS", str(table))
    check = doctor._file_system("file system", "/some/where")
    assert check.status == status
    assert words in check.detail


def test_the_mount_that_counts_is_the_deepest_and_the_last(tmp_path, monkeypatch):
    table = tmp_path / "mountinfo"
    lines = [
        "1 0 8:1 / / rw - ext4 /dev/x rw",
        "2 1 8:2 / /data rw - xfs /dev/y rw",
        r"3 1 8:3 / /data/a\040b rw shared:1 - btrfs /dev/z rw",
        "4 1 8:4 / /data rw,noatime - tmpfs none rw",
    ]
    table.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(doctor, "MOUNTS", str(table))
    assert doctor.mount_of("/database") == ("ext4", "rw,rw", "/")
    assert doctor.mount_of("/data/x") == ("tmpfs", "rw,noatime,rw", "/data")
    assert doctor.mount_of("/data/a b/c") == ("btrfs", "rw,rw", "/data/a b")


def test_a_state_directory_that_others_can_write(work, state_dir):
    state_dir.mkdir()
    state_dir.chmod(0o777)
    assert statuses(work)["state directory"] == WARN


def test_a_state_directory_that_cannot_be_made_ends_it(work, monkeypatch):
    (work / "file").write_bytes(b"")
    monkeypatch.setenv("LANDED_STATE_DIR", str(work / "file" / "state"))
    found = list(examine(str(work)))
    assert (found[-1].name, found[-1].status) == ("state directory", FAIL)
    assert "LANDED_STATE_DIR" in found[-1].hint


def test_an_interrupted_clean_up_leaves_nothing(work, monkeypatch):
    remove, interrupts = shutil.rmtree, [KeyboardInterrupt]

    def interrupted(path, **options):
        if interrupts:
            raise interrupts.pop()
        remove(path, **options)

    monkeypatch.setattr("landed.trials.shutil.rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt), Bench(str(work), _fs.LOCAL):
        pass
    assert list(work.iterdir()) == []


def test_what_a_killed_doctor_left_is_no_finding(work):
    bench = Bench(str(work), _fs.LOCAL).__enter__()
    with open(bench.write_to("broken"), "ab") as other:
        other.write(b"a line")
    assert list(audit(*stores(str(work)))) == []


def test_a_directory_that_is_not_there(work):
    with pytest.raises(landed.NotLanded, match="nothing can be tried"):
        next(examine(str(work / "missing")))  # before anything is said of the disk that would be under it
