"""The lock file: replaced, removed, linked, shared, and what it says about the holder."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import filelock
import pytest
from recording import Recording, failing
from test_lock import descriptors_of, held_elsewhere, is_free

from landed import Files, Lock, LockTimeout, NotLanded
from landed import lock as lock_module
from landed.lock import StoreLock

if TYPE_CHECKING:
    from pathlib import Path

    from programs import Programs


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "a.lock")


@pytest.mark.parametrize("change", ["unlink", "replace"])
def test_a_lock_file_that_changes_between_open_and_lock_is_opened_again(path: str, change: str) -> None:
    fs = Recording()

    def act(_: object) -> None:
        os.unlink(path)
        if change == "replace":
            with open(path, "w"):
                pass

    fs.before("flock", act)
    with Lock(path, fs=fs) as lock:
        assert lock.still_ours()
        assert not is_free(path)  # the file that others find is the one that is locked
    assert len(fs.named("flock")) == 2


def test_a_lock_file_that_changes_while_we_wait_is_opened_again(programs: Programs, path: str) -> None:
    holder = held_elsewhere(programs, path)

    def act() -> None:
        os.unlink(path)
        holder.say()

    threading.Timer(0.05, act).start()
    with Lock(path) as lock:
        assert lock.still_ours()
        assert not is_free(path)


def test_a_lock_file_that_changes_for_ever_is_an_error(path: str) -> None:
    fs = Recording()
    fs.before("flock", lambda _: os.unlink(path), always=True)
    with pytest.raises(NotLanded, match="replaced 100 times"):
        Lock(path, fs=fs).acquire()
    assert descriptors_of(path) == []


def test_a_kept_descriptor_of_a_removed_lock_file_is_not_trusted(path: str) -> None:
    with Lock(path):
        pass
    os.unlink(path)
    with Lock(path):
        assert not is_free(path)


def test_removal_of_a_held_lock_file_shows(path: str) -> None:
    with Lock(path) as lock:
        assert lock.still_ours()
        os.unlink(path)
        assert not lock.still_ours()


def test_a_symbolic_link_as_lock_file_is_refused(path: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    os.symlink(victim, path)
    with pytest.raises(NotLanded) as caught:
        Lock(path).acquire()
    assert caught.value.errno == errno.ELOOP
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_no_lock_file(path: str, make: object) -> None:
    make(path)  # type: ignore[operator]
    with pytest.raises(NotLanded):
        Lock(path).acquire(0)
    assert descriptors_of(path) == []


def test_a_missing_directory_is_not_landed(tmp_path: Path) -> None:
    with pytest.raises(NotLanded) as caught:
        Lock(str(tmp_path / "no" / "a.lock")).acquire()
    assert caught.value.errno == errno.ENOENT


def test_the_lock_file_stays_and_is_private(path: str) -> None:
    with Lock(path):
        pass
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_shared_lock_file_gets_its_mode_whatever_the_umask(path: str) -> None:
    old = os.umask(0o077)
    try:
        with Lock(path, mode=0o660):
            pass
    finally:
        os.umask(old)
    assert os.stat(path).st_mode & 0o777 == 0o660


def test_idle_descriptors_are_bounded(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.lock") for number in range(1000)]
    for path in paths:
        with Lock(path):
            pass
    lock_files = {os.path.join(tmp_path, f"{number}.lock") for number in range(1000)}
    fds = [os.path.join("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd")]
    kept = [fd for fd in fds if os.path.islink(fd) and os.readlink(fd) in lock_files]
    assert 0 < len(kept) <= lock_module.IDLE_DESCRIPTORS
    for path in paths[:10]:  # the oldest were closed; they lock as before
        with Lock(path):
            assert not is_free(path)


def test_what_stands_beside_idle_locks_counts_as_well(tmp_path: Path) -> None:
    files = Files()
    for number in range(lock_module.IDLE_DESCRIPTORS):
        files.write(tmp_path / str(number), b"x")
    store = os.path.join(tmp_path, "state")
    fds = [os.path.join("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd")]
    kept = [fd for fd in fds if os.path.islink(fd) and os.readlink(fd).startswith(store)]
    assert 0 < len(kept) <= lock_module.IDLE_DESCRIPTORS
    files.write(tmp_path / "0", b"y")


def test_held_locks_are_not_closed_by_the_bound(tmp_path: Path) -> None:
    held = [Lock(str(tmp_path / f"held {number}")) for number in range(140)]
    for lock in held:
        lock.acquire(0)
    for number in range(200):
        with Lock(str(tmp_path / f"{number}.lock")):
            pass
    assert not any(is_free(lock.path) for lock in held)
    for lock in held:
        lock.release()
    assert all(is_free(lock.path) for lock in held)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0" * 400,
        b"\xff" * 400,
        b"x" * 400,
        b" " * 64 + "1 ² - - me".encode(),
        b" " * 64 + b"x 1 - - me",
    ],
)
def test_the_holder_line_is_never_trusted(path: str, text: bytes) -> None:
    with open(path, "wb") as file:
        file.write(text)
    assert Lock(path).holder() is None
    with filelock.FileLock(path):
        with open(path, "wb") as file:
            file.write(text)
        with pytest.raises(LockTimeout):
            Lock(path).acquire(0)
    Lock(path).acquire(0)


def test_a_program_name_that_is_not_utf8_locks_all_the_same(programs: Programs, tmp_path: Path) -> None:
    script = os.path.join(os.fsencode(tmp_path), b"caf\xe9.py")
    with open(script, "wb") as file:
        file.write(b"import sys, landed\nwith landed.Lock(sys.argv[1]) as lock:\n    print(lock.held)\n")
    start = """
        import os, sys
        os.execv(sys.executable, [sys.executable, bytes.fromhex(sys.argv[1]), sys.argv[2]])
    """
    assert programs.run(start, script.hex(), tmp_path / "a.lock") == ["True"]


def test_a_lock_file_that_cannot_be_looked_up_is_not_called_ours(path: str) -> None:
    fs = Recording()
    with Lock(path, fs=fs) as lock:
        fs.before("stat", failing(errno.EIO))
        with pytest.raises(NotLanded, match="cannot be locked"):
            lock.still_ours()
        assert lock.still_ours()


def test_a_file_beside_the_lock_is_taken_for_one_under_one_name_only(path: str, tmp_path: Path) -> None:
    mine, theirs = str(tmp_path / "a.record"), tmp_path / "their file"
    theirs.touch()
    os.link(theirs, mine)
    lock = StoreLock(path)
    with lock:
        with pytest.raises(OSError, match="one name"):
            lock.beside(mine, os.O_RDWR | os.O_CREAT)
        theirs.unlink()
        lock.beside(mine, os.O_RDWR | os.O_CREAT)


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "with the lock file"])
def test_a_file_beside_the_lock_is_closed_when_it_is_let_go(path: str, tmp_path: Path, alone: bool) -> None:
    lock = StoreLock(path)
    with lock:
        fd = lock.beside(str(tmp_path / "a.record"), os.O_RDWR | os.O_CREAT)
        if alone:
            lock.close_beside(str(tmp_path / "a.record"))
        else:
            lock.forget_file()
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            os.fstat(fd)


def test_nothing_beside_a_lock_is_opened_without_it(path: str, tmp_path: Path) -> None:
    with pytest.raises(NotLanded, match="not held"):
        StoreLock(path).beside(str(tmp_path / "a.record"), os.O_RDWR | os.O_CREAT)
    assert os.listdir(tmp_path) == []
