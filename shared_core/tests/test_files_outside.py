"""Changes by something that does not use landed are noticed, named, and never overwritten in silence."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

import landed
from landed import ABSENT, ANY, Bypassed, Files, StaleWrite
from landed.artifact import LARGE, Artifact
from landed.digest import sha256
from landed.records import counter_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from recording import Recording


@pytest.fixture
def target(files: Files, work: Path) -> Path:
    path = work / "a.txt"
    files.write(path, b"ours")
    return path


def overwrite(path: Path) -> None:
    """In place: the inode and its attributes stay."""
    with open(path, "r+b") as file:
        file.write(b"THEM")


def append(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def replace(path: Path) -> None:
    """As editors save: a new inode without attributes."""
    aside = path.with_name("aside")
    aside.write_bytes(b"theirs")
    os.replace(aside, path)


def write_another(path: Path) -> None:
    """With a version that is higher than any of `path`."""
    files = Files()
    for number in range(5):
        files.write(path.with_name("other"), b"another's bytes %d" % number)


def move_another(path: Path) -> None:
    """With the attributes of another file that landed wrote."""
    write_another(path)
    os.rename(path.with_name("other"), path)


def copy_another(path: Path) -> None:
    write_another(path)
    subprocess.run(["cp", "-a", path.with_name("other"), path], check=True)


CHANGES = [overwrite, append, truncate, replace, move_another, copy_another]
changes = pytest.mark.parametrize("change", CHANGES, ids=[each.__name__ for each in CHANGES])


@changes
def test_a_write_by_a_program_that_has_not_seen_the_change_is_bypassed(
    files: Files, target: Path, change: Callable[[Path], None]
) -> None:
    version = files.read(target).version
    change(target)
    theirs = target.read_bytes()
    for expect in (landed.SEEN, version):
        with pytest.raises(Bypassed) as caught:
            files.write(target, b"ours again", expect=expect)
    assert target.read_bytes() == theirs
    assert caught.value.writer is None
    assert "something outside landed" in str(caught.value)
    with pytest.raises(Bypassed):
        files.delete(target)
    assert target.read_bytes() == theirs


@changes
def test_a_read_shows_the_change_and_adopts_it(files: Files, target: Path, change: Callable[[Path], None]) -> None:
    ours = files.read(target).version
    change(target)
    snapshot = files.read(target)
    assert (snapshot.origin, snapshot.writer) == ("outside", "")
    assert snapshot.data == target.read_bytes()
    assert snapshot.version.startswith(f"{ours}+")
    receipt = files.write(target, b"on top")
    assert receipt.replaced == snapshot.version
    assert files.read(target).origin == "landed"


@changes
def test_edit_shows_the_change(files: Files, target: Path, change: Callable[[Path], None]) -> None:
    change(target)
    with files.edit(target) as doc:
        assert doc.origin == "outside"
        assert doc.data == target.read_bytes()
        doc.data += b" and ours"
    assert target.read_bytes().endswith(b" and ours")


@changes
def test_any_overwrites_the_change_and_says_so(files: Files, target: Path, change: Callable[[Path], None]) -> None:
    change(target)
    seen = Files().read(target).version
    assert "+" in seen
    assert files.write(target, b"ours", expect=ANY).replaced == seen


def test_a_removed_file_is_bypassed_too(files: Files, target: Path) -> None:
    os.unlink(target)
    with pytest.raises(Bypassed) as caught:
        files.write(target, b"again")
    assert "no file" in str(caught.value)
    assert not target.exists()
    with pytest.raises(FileNotFoundError):
        files.read(target)
    files.write(target, b"again")  # it has seen now that the file is gone


def test_a_removed_file_can_be_created_on_purpose(files: Files, target: Path) -> None:
    os.unlink(target)
    files.write(target, b"again", expect=ABSENT)


def test_a_file_that_appeared_is_bypassed(files: Files, work: Path) -> None:
    (work / "b").write_bytes(b"theirs")
    with pytest.raises(Bypassed, match=r"found bytes .* put there, which this program has not seen"):
        files.write(work / "b", b"ours")
    with pytest.raises(Bypassed):
        files.write(work / "b", b"ours", expect=ABSENT)
    assert files.read(work / "b").version.startswith("0+")
    files.write(work / "b", b"ours")


@pytest.mark.parametrize(
    "harmless",
    [
        lambda path: os.utime(path, (1, 1)),
        lambda path: os.chmod(path, 0o600),
        lambda path: path.write_bytes(b"ours"),
        lambda path: shutil.copy(shutil.copy2(path, path.with_name("b")), path),
        lambda path: os.setxattr(path, "user.other", b"x"),
        lambda path: os.removexattr(path, "user.landed"),
    ],
    ids=["touch", "chmod", "same bytes", "copied back", "attribute", "attribute removed"],
)
def test_no_false_alarm(files: Files, target: Path, harmless: Callable[[Path], object]) -> None:
    version = files.read(target).version
    harmless(target)
    other = Files()
    snapshot = other.read(target)
    assert (snapshot.version, snapshot.origin) == (version, "landed")
    files.write(target, b"more")


def test_a_change_after_ours_by_landed_is_stale_and_not_bypassed(files: Files, target: Path) -> None:
    Files().write(target, b"theirs", expect=ANY)
    with pytest.raises(StaleWrite) as caught:
        files.write(target, b"ours")
    assert not isinstance(caught.value, Bypassed)
    assert caught.value.writer is not None


def test_versions_of_outside_changes_tell_bytes_apart(files: Files, target: Path) -> None:
    versions = set()
    for data in (b"one", b"two", b"three"):
        target.write_bytes(data)
        versions.add(files.read(target).version)
    assert len(versions) == 3
    target.write_bytes(b"four")
    with pytest.raises(Bypassed):
        files.write(target, b"x", expect=max(versions))


def test_an_old_copy_put_back_is_an_outside_change(files: Files, target: Path) -> None:
    """A restored backup carries a tag of this very path, and an old one."""
    backup = target.with_name("backup")
    subprocess.run(["cp", "-a", target, backup], check=True)
    files.write(target, b"newer")
    subprocess.run(["cp", "-a", backup, target], check=True)
    with pytest.raises(Bypassed):
        files.write(target, b"newest")
    assert files.read(target).origin == "outside"


def test_a_lost_state_directory_loses_no_guard(files: Files, target: Path, state_dir: Path) -> None:
    """The file itself says which version it is."""
    other = Files()
    version = other.read(target).version
    newer = files.write(target, b"newer")
    shutil.rmtree(state_dir)
    with pytest.raises(StaleWrite):
        other.write(target, b"lost update", expect=version)
    snapshot = Files().read(target)
    assert (snapshot.version, snapshot.origin) == (newer.version, "landed")
    after = files.write(target, b"newest")
    assert after.replaced == newer.version
    assert [counter_of(str(each.version)) for each in (newer, after)] == [2, 3]
    assert files.verify(target).version == after.version


def test_a_lost_state_directory_and_an_outside_change(files: Files, target: Path, state_dir: Path) -> None:
    shutil.rmtree(state_dir)
    overwrite(target)
    with pytest.raises(Bypassed):
        files.write(target, b"ours")


def test_a_lost_writer_is_not_made_up(files: Files, target: Path, state_dir: Path) -> None:
    shutil.rmtree(state_dir)
    with pytest.raises(StaleWrite) as caught:
        files.write(target, b"x", expect="9-stale")
    assert caught.value.writer is None


def test_a_state_directory_that_goes_between_lock_and_rename_is_noticed(
    fs: Recording, target: Path, state_dir: Path
) -> None:
    fs.before("fsync", lambda _: shutil.rmtree(state_dir), on=".tmp")
    with pytest.raises(landed.NotLanded, match="lock file was removed"):
        Files(fs).write(target, b"new", expect=ANY)
    assert target.read_bytes() == b"ours"
    assert os.listdir(target.parent) == ["a.txt"]
    Files().write(target, b"new", expect=ANY)


@pytest.mark.parametrize("change", [overwrite, replace, append], ids=["overwrite", "replace", "append"])
def test_a_change_just_before_the_rename_is_not_overwritten(
    fs: Recording, target: Path, change: Callable[[Path], None]
) -> None:
    fs.before("fsync", lambda _: change(target), on=".tmp")
    with pytest.raises(Bypassed, match="while it was being written"):
        Files(fs).write(target, b"new", expect=ANY)
    assert target.read_bytes() in {b"THEM", b"theirs", b"oursmore"}
    assert os.listdir(target.parent) == ["a.txt"]


@pytest.mark.parametrize("change", [overwrite, replace], ids=["overwrite", "replace"])
def test_a_change_just_before_a_delete_is_not_deleted(
    fs: Recording, target: Path, change: Callable[[Path], None]
) -> None:
    fs.before("fdatasync", lambda _: change(target), on=".record")
    with pytest.raises(Bypassed):
        Files(fs).delete(target, expect=ANY)
    assert target.read_bytes() in {b"THEM", b"theirs"}


def test_a_file_that_appears_just_before_the_link_is_not_overwritten(fs: Recording, work: Path) -> None:
    fs.before("link", lambda _: (work / "b").write_bytes(b"theirs"))
    with pytest.raises(StaleWrite, match="a file appeared"):
        Files(fs).write(work / "b", b"ours")
    assert (work / "b").read_bytes() == b"theirs"
    assert os.listdir(work) == ["b"]


def test_bytes_that_were_not_kept_are_given_as_they_were_or_not_at_all(work: Path) -> None:
    path = work / "large"
    path.write_bytes(b"a" * LARGE)
    same, other = (Artifact(path, keeps=False).look() for _ in range(2))
    assert same is not None
    assert other is not None
    assert same.data == b"a" * LARGE
    path.write_bytes(b"b" * LARGE)
    with pytest.raises(landed.NotLanded, match="changed while it was read") as caught:
        _ = other.data
    assert caught.value.path == str(path)


def test_a_read_during_many_writes_is_never_torn_and_never_outside(files: Files, target: Path) -> None:
    done = threading.Event()
    bad: list[object] = []

    def read() -> None:
        reader = Files()
        while not done.is_set():
            snapshot = reader.read(target)
            if snapshot.origin != "landed" or len(set(snapshot.data)) > 1:
                bad.append(snapshot)

    thread = threading.Thread(target=read)
    files.write(target, b"0" * 5000)
    thread.start()
    for number in range(150):
        files.write(target, b"%d" % (number % 10) * 5000)
    done.set()
    thread.join()
    assert bad == []


def test_what_is_known_to_stand_there_is_not_read_again(work: Path) -> None:
    path = work / "a"
    path.write_bytes(b"one")
    artifact = Artifact(path)
    artifact.known = (path.stat(), b"as known")
    sight, device = artifact.look(), artifact.look(device=True)
    assert sight is not None
    assert device is not None
    assert (sight.data, device.data) == (b"as known", b"one")
    os.utime(path)
    changed = artifact.look()
    assert changed is not None
    assert changed.data == b"one"


@pytest.mark.parametrize("keeps", [False, True])
def test_who_looks_can_hear_of_the_pieces_that_are_not_kept(work: Path, keeps: bool) -> None:
    path, data = work / "large", os.urandom(LARGE)
    path.write_bytes(data)
    heard: list[bytes] = []
    sight = Artifact(path, keeps=keeps).look(each=heard.append)
    assert sight is not None
    assert sight.digest == sha256(data)
    assert b"".join(heard) == (b"" if keeps else data)
