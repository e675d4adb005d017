"""A directory that keeps its own locks and records: who may use it, what comes along, and what happens meanwhile."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import threading
import traceback
from time import monotonic

import pytest

import landed
from landed import _fs
from landed.artifact import Artifact
from landed.audit import INTACT, audit, stores
from landed.lock import _slots
from landed.log import writes
from landed.records import counter_of
from landed.sharing import share
from landed.state import store_for

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="permission bits are POSIX's")


def mode_of(path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def everything(path) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(above, name), path) for above, _, names in os.walk(path) for name in names
    )


def test_every_program_finds_it(work):
    made = share(str(work))
    assert (made.existed, made.carried) == (False, [])
    assert store_for(str(work / "deep" / "er"), _fs.LOCAL).root == str(work / ".landed")
    landed.write(work / "deep" / "er" / "a", b"1")
    assert Artifact(work / "deep" / "er" / "a").shelf.record_path.startswith(str(work / ".landed"))
    assert (work / ".landed" / ".gitignore").read_text() == "*\n"


@POSIX
@pytest.mark.parametrize(
    ("mode", "directories", "files"),
    [
        (0o700, 0o700, 0o600),
        (0o755, 0o755, 0o644),
        (0o775, 0o2775, 0o664),
        (0o1777, 0o2777, 0o666),
        (0o770, 0o2770, 0o660),
    ],
)
def test_modes_are_those_of_the_directory(work, mode, directories, files):
    work.chmod(mode)
    share(str(work))
    assert [oct(mode_of(work / ".landed" / name)) for name in (".", "artifacts")] == [oct(directories)] * 2
    assert store_for(str(work), _fs.LOCAL).mode == files
    previous = os.umask(0o077)
    try:
        landed.write(work / "a", b"1")
    finally:
        os.umask(previous)
    assert {
        oct(mode_of(work / ".landed" / "artifacts" / name)) for name in os.listdir(work / ".landed" / "artifacts")
    } == {oct(files)}


def test_doing_it_again_changes_nothing(work):
    share(str(work))
    landed.write(work / "a", b"1")
    before = {name: os.stat(work / name).st_mtime_ns for name in everything(work)}
    again = share(str(work))
    assert (again.existed, again.store.base) == (True, str(work))
    assert {name: os.stat(work / name).st_mtime_ns for name in everything(work)} == before


def test_what_is_known_comes_along(work):
    landed.write(work / "a", b"1")
    last = landed.write(work / "a", b"2")
    landed.write(work / "d" / "b", b"3")
    landed.write(work.parent / "outside", b"4")
    made = share(str(work))
    assert sorted(made.carried) == [str(work / "a"), str(work / "d" / "b")]
    fresh = landed.Files()
    snapshot = fresh.read(work / "a")
    assert (snapshot.version, snapshot.origin) == (last.version, "landed")
    assert [landed_ for _, landed_ in writes(Artifact(work / "a").shelf)] == [True, True]
    third = fresh.write(work / "a", b"3", expect=last.version)
    assert counter_of(str(third.version)) == 3
    assert {finding.verdict for finding in audit(*stores(str(work)))} == {INTACT}
    landed.verify(work.parent / "outside")


def test_a_program_that_has_seen_a_file_before_writes_on(work):
    files = landed.Files()
    files.write(work / "a", b"1")
    share(str(work))
    assert files.write(work / "a", b"2").replaced != landed.ABSENT


def test_a_loss_stays_a_loss(work):
    landed.write(work / "a", b"1")
    landed.write(work / "d" / "b", b"1")
    (work / "a").unlink()
    (work / "d" / "b").unlink()
    (work / "d").rmdir()
    share(str(work))
    assert [finding.verdict for finding in audit(*stores(str(work)))] == ["lost", "lost"]


@pytest.mark.parametrize(("call", "data"), [("fsync", b"1"), ("rename", b"2")], ids=["aborted", "in place"])
def test_an_unfinished_write_is_settled(work, call, data):
    """Killed at its first flush, or right after its rename."""
    path = work / "a"
    landed.write(path, b"1")
    code = f"""
import os, signal, landed
from landed import _fs
class Dies(_fs.FileOps):
    def {call}(self, *args, **kwargs):
        super().{call}(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
landed.Files(Dies()).write({str(path)!r}, b"2", expect=landed.ANY)
"""
    ended = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert ended.returncode == -9
    share(str(work))
    record = Artifact(path).shelf.load()
    assert record.begun is None
    assert landed.Files().read(path).data == data
    assert [finding.verdict for finding in audit(*stores(str(work)))] == [INTACT]
    assert sorted(os.listdir(work)) == [".landed", "a"]  # nor is its temp file left


def test_a_writer_that_waited_meanwhile_goes_to_the_new_store(work):
    path = work / "a"
    first = landed.write(path, b"1")
    queue = Artifact(path).shelf.lock.path
    waited: list[threading.Thread] = []

    class LetsAWriterQueue(_fs.FileOps):
        def rename(self, source, target, *, dir_fd=None):
            writer = threading.Thread(target=lambda: landed.write(path, b"2", expect=first))
            waited.append(writer)
            writer.start()
            limit = monotonic() + 60
            while not _slots[queue].waiters and monotonic() < limit:
                writer.join(0.01)
            super().rename(source, target, dir_fd=dir_fd)

    share(str(work), fs=LetsAWriterQueue())
    waited[0].join(60)
    assert [finding.verdict for finding in audit(*stores(str(work)))] == [INTACT]


def test_a_file_that_is_being_written_is_waited_for(work):
    landed.write(work / "a", b"1")
    done = threading.Event()
    with landed.edit(work / "a") as doc:
        with pytest.raises(landed.LockTimeout):
            share(str(work), timeout=0.05)
        assert store_for(str(work), _fs.LOCAL).base == ""
        thread = threading.Thread(target=lambda: (share(str(work)), done.set()))
        thread.start()
        assert not done.wait(0.2)
        doc.data = b"2"
    assert done.wait(60)
    thread.join()
    assert doc.receipt is not None
    assert landed.Files().read(work / "a").version == doc.receipt.version


def test_it_appears_only_when_it_is_complete(work):
    """Killed at the rename that makes it appear, it is not there, and the next attempt makes it."""
    code = f"""
import os, signal
from landed import _fs
from landed.lock import _slots
from landed.sharing import share
class Dies(_fs.FileOps):
    def rename(self, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)
share({str(work)!r}, fs=Dies())
"""
    landed.write(work / "a", b"1")
    landed.write(work / "b", b"1")
    ended = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert ended.returncode == -9
    assert store_for(str(work), _fs.LOCAL).base == ""
    landed.write(work / "a", b"2")
    (work / "b").rename(work.parent / "b")  # its record comes along all the same
    assert sorted(share(str(work)).carried) == [str(work / "a"), str(work / "b")]
    assert landed.Files().read(work / "a").data == b"2"
    assert len(writes(Artifact(work / "a").shelf)) == 2
    assert sorted(os.listdir(work / ".landed")) == [".gitignore", "artifacts", "init.lock"]


def test_entries_are_flushed_in_order(work):
    """Each new directory, then its parent; the records before the rename; the store's directory after it."""
    landed.write(work / "a", b"1")
    calls: list[str] = []

    class Tells(_fs.FileOps):
        def fsync(self, fd):
            calls.append("sync " + os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), work))
            super().fsync(fd)

        def fdatasync(self, fd):
            calls.append("sync " + os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), work))
            super().fdatasync(fd)

        def rename(self, source, target, *, dir_fd=None):
            calls.append("rename")
            super().rename(source, target, dir_fd=dir_fd)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("tells what was flushed through /proc, which is not here")
    share(str(work), fs=Tells())
    rename = calls.index("rename")
    assert "sync ." in calls[:rename]
    assert any(call.endswith(".record") for call in calls[:rename])
    assert "sync .landed/init/artifacts" in calls[:rename]
    assert "sync .landed" in calls[rename:]


def test_inside_another_store_it_is_refused(work):
    share(str(work))
    (work / "d").mkdir()
    with pytest.raises(landed.Refused, match="which keeps its locks and records for it"):
        share(str(work / "d"))
    with pytest.raises(landed.Refused, match="part of a store"):
        share(str(work / ".landed"))
    assert not (work / "d" / ".landed").exists()


def test_the_users_own_store_is_refused(work, state_dir):
    landed.write(work / "a", b"1")
    with pytest.raises(landed.Refused, match="part of a store"):
        share(str(state_dir))


def test_no_directory_is_refused(work):
    with pytest.raises(landed.Refused):
        share(str(work / "missing"))
    (work / "file").write_bytes(b"")
    with pytest.raises(landed.Refused, match="not a directory"):
        share(str(work / "file"))


def test_a_directory_that_cannot_be_written(work):
    class ReadOnly(_fs.FileOps):
        def mkdir(self, path, mode=0o777):
            raise PermissionError(13, "Permission denied")

    with pytest.raises(landed.NotLanded, match="can write the directory"):
        share(str(work), fs=ReadOnly())
    assert os.listdir(work) == []


def test_two_at_once_make_one(work):
    landed.write(work / "a", b"1")
    made = []
    threads = [threading.Thread(target=lambda: made.append(share(str(work)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(one.existed for one in made) == [False, True, True, True]


@POSIX
@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_several_users_meet_at_its_locks(mode):
    if sys.platform == "win32" or os.geteuid() != 0:
        pytest.skip("becoming other users needs root")
    with tempfile.TemporaryDirectory() as place:  # pytest's own directories are closed to other users
        os.chmod(place, 0o755)
        shared = os.path.join(place, "shared")
        os.mkdir(shared)
        os.chmod(shared, mode)
        landed.write(os.path.join(place, "warm"), b"")  # imports what the others may not be able to read
        landed.verify(os.path.join(place, "warm"))
        share(shared)
        path = os.path.join(shared, "a")
        assert as_user(4001, lambda: landed.write(path, b"one")) == 0
        assert as_user(4002, lambda: landed.verify(path)) == 0
        with landed.edit(path):
            assert as_user(4001, lambda: landed.verify(path, timeout=0.05)) == 1
        assert landed.read(path).origin == "landed"


def as_user(uid: int, call) -> int:
    """Do it in a child that is user `uid`: 0 when it succeeds, 1 when the lock is taken, 2 when anything else fails."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 2
    try:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        call()
        code = 0
    except landed.LockTimeout:
        code = 1
    except (landed.LandedError, OSError):
        traceback.print_exc()
    finally:
        os._exit(code)
