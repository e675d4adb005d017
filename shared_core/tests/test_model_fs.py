"""The model file system is honest: it behaves as the real one, and it loses what was not synced."""

from __future__ import annotations

import errno
import os
import stat
import threading
from random import Random

import pytest
from model_calls import Fault
from model_crash import crash_states, survivor
from model_disk import Disk
from model_fs import ModelFS, oserror
from model_world import WORK, content, new_disk

from landed._fs import DIRECTORY, NOFOLLOW, FileOps

RNG = Random(1)


def states(disk: Disk, path: str, *, ordered: bool = False) -> set[bytes | None]:
    return {content(state, path) for state in crash_states(disk, 500, RNG, ordered=ordered)}


def sync(fs: ModelFS, path: str) -> None:
    fd = fs.open(path, os.O_RDONLY)
    fs.fsync(fd)
    fs.close(fd)


def write(fs: ModelFS, path: str, data: bytes, *, flush: bool, flags: int = os.O_CREAT) -> None:
    fd = fs.open(path, os.O_RDWR | flags)
    fs.write(fd, data)
    if flush:
        fs.fsync(fd)
    fs.close(fd)


@pytest.fixture
def fs() -> ModelFS:
    fs = ModelFS(new_disk(work="/d"))
    write(fs, "/d/old", b"old", flush=True)
    sync(fs, "/d")
    return fs


class TestPowerCut:
    def test_unsynced_data_is_lost_torn_zeroed_or_kept(self, fs: ModelFS) -> None:
        new = os.urandom(3 * 512)
        write(fs, "/d/old", new, flush=False)
        assert states(fs.disk, "/d/old") >= {b"old", new, new[:512], b"old" + bytes(len(new) - 3)}

    def test_unordered_writes_reach_the_device_in_any_order(self, fs: ModelFS) -> None:
        fd = fs.open("/d/old", os.O_RDWR)
        fs.pwrite(fd, b"AAA", 0)
        fs.pwrite(fd, b"B", 3)
        assert states(fs.disk, "/d/old") == {b"old", b"AAA", b"oldB", b"old\0", b"AAA\0", b"AAAB"}

    def test_synced_data_is_there(self, fs: ModelFS) -> None:
        write(fs, "/d/old", b"new", flush=True)
        assert states(fs.disk, "/d/old") == {b"new"}

    def test_synced_file_without_synced_name_may_have_none(self, fs: ModelFS) -> None:
        write(fs, "/d/new", b"new", flush=True)
        assert states(fs.disk, "/d/new") == {None, b"new"}
        sync(fs, "/d")
        assert states(fs.disk, "/d/new") == {b"new"}

    def test_synced_name_without_synced_data_is_empty_torn_or_zeros(self, fs: ModelFS) -> None:
        write(fs, "/d/new", b"new", flush=False)
        sync(fs, "/d")
        assert states(fs.disk, "/d/new") == {b"", b"new", b"\0\0\0"}

    def test_rename_happens_whole_or_not_at_all_until_its_directory_is_synced(self, fs: ModelFS) -> None:
        write(fs, "/d/temp", b"new", flush=True)
        sync(fs, "/d")
        fs.rename("/d/temp", "/d/old")
        found = {(content(s, "/d/temp"), content(s, "/d/old")) for s in crash_states(fs.disk, 99, RNG)}
        assert found == {(b"new", b"old"), (None, b"new")}
        sync(fs, "/d")
        assert states(fs.disk, "/d/old") == {b"new"}

    def test_directory_changes_keep_their_order_only_when_asked(self, fs: ModelFS) -> None:
        write(fs, "/d/a", b"", flush=False)
        write(fs, "/d/b", b"", flush=False)
        for ordered in (True, False):
            found = {
                tuple(sorted(s.root.entries["d"].entries)) for s in crash_states(fs.disk, 99, RNG, ordered=ordered)
            }
            assert (("b", "old") in found) is not ordered
            assert found >= {("old",), ("a", "old"), ("a", "b", "old")}

    def test_a_directory_is_lost_with_its_unsynced_name(self, fs: ModelFS) -> None:
        fs.mkdir("/d/e")
        write(fs, "/d/e/f", b"x", flush=True)
        sync(fs, "/d/e")
        assert states(fs.disk, "/d/e/f") == {None, b"x"}
        sync(fs, "/d")
        assert states(fs.disk, "/d/e/f") == {b"x"}

    def test_unlinked_file_may_come_back_until_its_directory_is_synced(self, fs: ModelFS) -> None:
        fs.unlink("/d/old")
        assert states(fs.disk, "/d/old") == {None, b"old"}
        sync(fs, "/d")
        assert states(fs.disk, "/d/old") == {None}

    def test_fdatasync_keeps_data_but_not_attributes(self, fs: ModelFS) -> None:
        fd = fs.open("/d/old", os.O_RDWR)
        fs.write(fd, b"new")
        fs.setxattr(fd, "user.a", b"1")
        fs.fdatasync(fd)
        found = {
            (node.now.data, dict(node.now.xattrs).get("user.a"))
            for node in (s.root.entries["d"].entries["old"] for s in crash_states(fs.disk, 99, RNG))
        }
        assert found == {(b"new", None), (b"new", b"1")}

    def test_what_a_failed_flush_dropped_is_never_flushed_and_shows_only_past_the_cache(self, fs: ModelFS) -> None:
        fs.fault = lambda call: Fault(OSError(errno.EIO, "EIO")) if call.name == "fsync" else None
        fd = fs.open("/d/old", os.O_RDWR)
        fs.write(fd, b"new")
        with pytest.raises(OSError, match="EIO"):
            fs.fsync(fd)
        fs.fault = None
        fs.fsync(fd)
        assert fs.pread(fd, 9, 0) == b"new"
        assert states(fs.disk, "/d/old") == {b"old", b"new"}
        fs.drop_cache(fd)
        assert fs.pread(fd, 9, 0) == b"old"

    def test_a_state_is_another_disk(self, fs: ModelFS) -> None:
        state = crash_states(fs.disk, 9, RNG)[0]
        write(ModelFS(state), "/d/old", b"other", flush=True)
        assert content(fs.disk, "/d/old") == b"old"


def test_death_of_the_process_loses_no_data_and_frees_the_locks(fs: ModelFS) -> None:
    fd = fs.open("/d/old", os.O_RDWR)
    fs.flock(fd, blocking=False)
    fs.write(fd, b"new")
    left = survivor(fs.disk)
    assert content(left, "/d/old") == b"new"
    assert states(left, "/d/old") == {b"old", b"new"}
    other = ModelFS(left)
    other.flock(other.open("/d/old", os.O_RDWR), blocking=False)


def test_locks_exclude_by_open_file_description_and_wait_for_each_other(fs: ModelFS) -> None:
    first, second = (fs.open("/d/old", os.O_RDWR) for _ in range(2))
    fs.flock(first, blocking=False)
    with pytest.raises(BlockingIOError):
        fs.flock(second, blocking=False)
    waiter = threading.Thread(target=fs.flock, args=(second,), kwargs={"blocking": True})
    waiter.start()
    fs.close(first)
    waiter.join(10)
    assert not waiter.is_alive()
    with pytest.raises(BlockingIOError):
        fs.flock(fs.open("/d/old", os.O_RDWR), blocking=False)


def test_short_write_and_lost_reply(fs: ModelFS) -> None:
    fd = fs.open("/d/old", os.O_RDWR)
    fs.fault = lambda _: Fault(short=2)
    assert fs.write(fd, b"new") == 2
    fs.fault = lambda _: Fault(OSError(errno.EIO, "EIO"), after=True)
    with pytest.raises(OSError, match="EIO"):
        fs.rename("/d/old", "/d/new")
    fs.fault = None
    assert content(fs.disk, "/d/new") == b"ned"


# The same calls, on the real system and on the model.


def outcome(function: object, *args: object, **kwargs: object) -> object:
    """What a call answers, in a form that does not depend on the machine."""
    try:
        found = function(*args, **kwargs)  # type: ignore[operator]
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    if isinstance(found, os.stat_result):
        size = found.st_size if stat.S_ISREG(found.st_mode) else None
        links = found.st_nlink if stat.S_ISREG(found.st_mode) else None
        return (stat.S_IFMT(found.st_mode), stat.S_IMODE(found.st_mode), size, links)
    return sorted(found) if isinstance(found, list) else found


def files_script(fs: FileOps, root: str) -> list[object]:
    """Files, descriptors and offsets."""
    path = os.path.join(root, "f")
    seen: list[object] = [outcome(fs.open, path, os.O_RDONLY)]
    fd = fs.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
    seen += [outcome(fs.open, path, os.O_RDWR | os.O_CREAT | os.O_EXCL), outcome(fs.write, fd, b"hello")]
    seen += [outcome(fs.pwrite, fd, b"J", 0), outcome(fs.pwrite, fd, b"!", 7), outcome(fs.read, fd, 9)]
    seen += [outcome(fs.pread, fd, 99, 0), outcome(fs.ftruncate, fd, 3), outcome(fs.fstat, fd)]
    more = fs.open(path, os.O_WRONLY | os.O_APPEND)
    seen += [outcome(fs.write, more, b"xy"), outcome(fs.write, more, b"z"), outcome(fs.read, more, 1)]
    seen += [outcome(fs.pread, fd, 99, 0), outcome(fs.fchmod, fd, 0o600), outcome(fs.fstat, fd)]
    seen += [outcome(fs.fsync, fd), outcome(fs.fdatasync, fd), outcome(fs.drop_cache, fd)]
    seen += [outcome(fs.flock, fd, blocking=False), outcome(fs.flock, more, blocking=False)]
    seen += [outcome(fs.funlock, fd), outcome(fs.flock, more, blocking=False), outcome(fs.flock, fd, blocking=False)]
    seen += [outcome(fs.setxattr, fd, "user.a", b"1"), outcome(fs.getxattr, fd, "user.a")]
    seen += [outcome(fs.getxattr, fd, "user.b"), outcome(fs.close, more), outcome(fs.close, more)]
    read_only = fs.open(path, os.O_RDONLY)
    seen += [outcome(fs.write, read_only, b"x"), outcome(fs.unlink, path), outcome(fs.fstat, fd)]
    seen += [outcome(fs.pread, fd, 99, 0), outcome(fs.close, fd), outcome(fs.close, read_only)]
    return seen


def names_script(fs: FileOps, root: str) -> list[object]:
    """Directories, links, renames."""

    def at(name: str) -> str:
        return os.path.join(root, name)

    for name in "ab":
        fd = fs.open(at(name), os.O_WRONLY | os.O_CREAT, 0o600)
        fs.write(fd, name.encode())
        fs.close(fd)
    top = fs.open(root, os.O_RDONLY | DIRECTORY)
    seen = [outcome(fs.link, at("a"), at("b")), outcome(fs.link, "a", "c", dir_fd=top), outcome(fs.stat, at("c"))]
    seen += [outcome(fs.rename, "c", "a", dir_fd=top), outcome(fs.listdir, root), outcome(fs.unlink, at("c"))]
    seen += [outcome(fs.rename, at("a"), at("b")), outcome(fs.listdir, root), outcome(fs.rename, at("a"), at("b"))]
    seen += [outcome(fs.mkdir, at("d"), 0o700), outcome(fs.mkdir, at("d")), outcome(fs.mkdir, at("x/y"))]
    seen += [outcome(fs.stat, at("d")), outcome(fs.rmdir, at("b")), outcome(fs.rmdir, at("d"))]
    seen += [outcome(fs.stat, at("d")), outcome(fs.stat, at("b/c")), outcome(fs.listdir, at("b"))]
    seen += [outcome(fs.open, at("b"), os.O_RDONLY | DIRECTORY), outcome(fs.unlink, root), outcome(fs.rmdir, root)]
    seen += [outcome(fs.open, root, os.O_RDWR), outcome(fs.stat, at("n" * 256)), outcome(fs.stat, at("n" * 255))]
    seen += [outcome(fs.rename, at("b"), at("n" * 256)), outcome(fs.close, top)]
    return seen


def links_script(fs: FileOps, root: str) -> list[object]:
    """Symbolic links."""
    symlink = fs.symlink if isinstance(fs, ModelFS) else os.symlink
    fs.mkdir(os.path.join(root, "d"))
    fd = fs.open(os.path.join(root, "d", "f"), os.O_WRONLY | os.O_CREAT, 0o600)
    fs.close(fd)
    for target, name in (("d/f", "to_file"), ("d", "to_dir"), ("loop", "loop"), ("nothing", "dangling")):
        symlink(target, os.path.join(root, name))
    seen = []
    for name in ("to_file", "to_dir", "to_dir/f", "loop", "dangling"):
        path = os.path.join(root, name)
        seen.append(outcome(fs.stat, path))
        seen += [outcome(fs.open, path, os.O_RDONLY | NOFOLLOW) in {"ELOOP", "ENOENT", "ENOTDIR"}]
    return seen


@pytest.mark.parametrize("script", [files_script, names_script, links_script])
def test_the_model_answers_as_the_real_system(script: object, work: object, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o022)
    try:
        real = script(FileOps(), os.fspath(work))  # type: ignore[operator, call-overload]
    finally:
        os.umask(before)
    modelled = script(ModelFS(new_disk(work="/model")), "/model")  # type: ignore[operator]
    if script is files_script and "ENOTSUP" in real:
        pytest.skip("the file system of the temporary directory has no extended attributes")
    assert modelled == real


def test_no_call_reaches_the_operating_system() -> None:
    calls = {name for name in vars(FileOps) if not name.startswith("_")}
    assert calls <= set(vars(ModelFS)), "not modelled"


def test_a_later_flush_settles_what_became_of_a_name_that_a_failed_flush_dropped() -> None:
    disk = new_disk()
    fs = ModelFS(disk)
    directory = fs.open(WORK, os.O_RDONLY)
    fs.mkdir(f"{WORK}/settled")
    fs.mkdir(f"{WORK}/lost")
    fs.fault = lambda call: Fault(oserror(errno.EIO)) if call.name == "fsync" else None
    with pytest.raises(OSError, match="Input/output"):
        fs.fsync(directory)
    fs.fault = None
    fs.rmdir(f"{WORK}/settled")
    fs.mkdir(f"{WORK}/settled")
    fs.close(fs.open(f"{WORK}/settled/file", os.O_CREAT))
    fs.fsync(fs.open(f"{WORK}/settled", os.O_RDONLY))
    fs.fsync(directory)
    names = [ModelFS(state).listdir(WORK) for state in crash_states(disk, 100, Random(1))]
    assert sorted(map(sorted, names)) == [["lost", "settled"], ["settled"]]
    assert all(content(state, f"{WORK}/settled/file") == b"" for state in crash_states(disk, 100, Random(1)))
