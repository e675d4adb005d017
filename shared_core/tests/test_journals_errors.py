"""What a root of journals says when a call of the system fails, or something else has taken its place."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from recording import Call, Recording, disown, failing

from landed.engine import DIGITS, digest_of_name
from landed.errors import Corrupt, LandedError, LockTimeout, NotLanded, Refused, VerifyFailed
from landed.journal import Journal
from landed.local import collection as module
from landed.local.collection import LocalCollection
from landed.lock import Lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from landed.local.log import LocalLog


@pytest.fixture
def root(work: Path) -> Path:
    return work / "root"


@pytest.fixture
def collection(root: Path, fs: Recording) -> LocalCollection:
    return LocalCollection(str(root), fs=fs)


def made(collection: LocalCollection, name: str = "a") -> LocalLog:
    log = collection.open(name, create=True)
    assert log is not None
    return log


def journal_of(collection: LocalCollection) -> Journal:
    log = made(collection)
    return Journal(log.directory.path, log=log)


def replace_by_a_copy(root: Path) -> None:
    shutil.copytree(root, root.with_name("copy"))
    root.rename(root.with_name("old"))
    root.with_name("copy").rename(root)


def remove(collection: LocalCollection) -> object:
    return collection.remove("a", 1)


def find(collection: LocalCollection) -> object:
    return collection.open("a", create=False)


def names(collection: LocalCollection) -> object:
    return list(collection.names())


def take_lock(collection: LocalCollection) -> object:
    return collection.lock("a")


@pytest.mark.parametrize("use", [made, find, names, remove, take_lock])
def test_a_copy_in_place_of_the_root_is_not_used(
    collection: LocalCollection, root: Path, use: Callable[[LocalCollection], object]
) -> None:
    made(collection).close()
    replace_by_a_copy(root)
    with pytest.raises(NotLanded, match="another directory"):
        use(collection)


def test_a_root_that_is_replaced_while_a_journal_is_looked_for_is_not_used(
    collection: LocalCollection, root: Path, fs: Recording
) -> None:
    fs.after("stat", lambda _: replace_by_a_copy(root), on="/root")
    with pytest.raises(NotLanded, match="another directory"):
        made(collection)
    assert os.listdir(root) == []


@pytest.mark.parametrize(
    ("operation", "on", "use", "what"),
    [
        ("stat", "/root", find, "the root is gone"),
        ("stat", digest_of_name("a"), find, "cannot be looked up"),
        ("listdir", "/root", remove, "root cannot be read"),
        ("flock", "/lock", remove, "lock file"),
        ("rename", digest_of_name("a"), remove, "cannot be removed"),
        ("mkdir", "/locks", take_lock, "directory of locks"),
        ("open", "/name", find, "name cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said(
    collection: LocalCollection,
    fs: Recording,
    operation: str,
    on: str,
    use: Callable[[LocalCollection], object],
    what: str,
) -> None:
    with journal_of(collection) as journal:
        journal.append([b"one"])
    fs.before(operation, failing(errno.EIO), on=on)
    with pytest.raises(NotLanded, match=what) as caught:
        use(collection)
    assert caught.value.errno == errno.EIO
    assert [entry.data for entry in journal_of(collection).read()] == [b"one"]


def test_a_journal_that_cannot_be_made_leaves_nothing(collection: LocalCollection, root: Path, fs: Recording) -> None:
    fs.before("rename", failing(errno.EIO), on="")
    with pytest.raises(NotLanded, match="cannot be made"):
        made(collection)
    assert os.listdir(root) == []


@pytest.mark.parametrize("flushed", ["", "/name", ".seg"])
def test_a_journal_that_cannot_be_flushed_leaves_nothing(
    collection: LocalCollection, root: Path, fs: Recording, flushed: str
) -> None:
    """Its name, its segment and its directory are flushed, one after the other, before anybody can find it."""
    fs.forget()
    if flushed:
        fs.after("fsync", lambda _: fs.before("fsync", failing(errno.EIO)), on=flushed)
    else:
        fs.before("fsync", failing(errno.EIO))
    with pytest.raises(NotLanded) as caught:
        made(collection)
    assert caught.value.errno == errno.EIO
    assert len(fs.named("fsync")) == ["", "/name", ".seg"].index(flushed) + 1
    assert os.listdir(root) == []
    assert made(collection) is not None


@pytest.mark.parametrize("file", ["/name", ".seg"])
def test_a_journal_whose_files_hold_other_bytes_is_not_made(
    collection: LocalCollection, root: Path, fs: Recording, file: str
) -> None:
    fs.after("close", lambda call: Path(call.path).write_bytes(b"other bytes"), on=file)
    with pytest.raises(VerifyFailed):
        made(collection)
    assert os.listdir(root) == []


def test_a_name_that_was_lost_and_cannot_be_restored_is_said(
    collection: LocalCollection, root: Path, fs: Recording
) -> None:
    made(collection).close()
    (root / digest_of_name("a") / "name").unlink()
    fs.before("open", lambda _: fs.before("open", failing(errno.EIO), on=digest_of_name("a")), on="/name")
    with pytest.raises(NotLanded, match="cannot be restored"):
        find(collection)


def test_two_names_of_one_hash_are_told_apart(collection: LocalCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "digest_of_name", lambda name: "0" * DIGITS)
    made(collection, "a").close()
    with pytest.raises(Corrupt, match="not its own"):
        made(collection, "b")


def test_a_journal_is_removed_under_its_lock(collection: LocalCollection, root: Path, fs: Recording) -> None:
    made(collection).close()
    path = root / digest_of_name("a") / "lock"

    def ask(_: Call) -> None:
        with pytest.raises(LockTimeout):
            Lock(str(path)).acquire(0, owner="another")

    fs.before("rename", ask)
    assert remove(collection)


def test_what_is_damaged_by_the_time_of_its_lock_is_not_removed_for_its_tail(
    collection: LocalCollection, root: Path, fs: Recording
) -> None:
    tail = journal_of(collection).append([b"one"]).tail
    segment = root / digest_of_name("a") / "0000000001-0000000001.seg"

    def damage(_: Call) -> None:
        data = segment.read_bytes()
        used = len(data.rstrip(b"\0"))
        segment.write_bytes(data[:used] + b"\1" * 100 + data[used + 100 :])

    fs.before("flock", damage, on="/lock")
    with pytest.raises(Corrupt):
        collection.remove("a", 1, tail)
    assert segment.exists()
    assert remove(collection)


@pytest.fixture
def sticky(collection: LocalCollection, root: Path, fs: Recording) -> LocalCollection:
    """A root in which everybody makes names, with a journal and a lock."""
    root.chmod(0o1777)
    collection = LocalCollection(str(root), fs=fs)
    made(collection).close()
    collection.lock("a")
    return collection


@pytest.mark.parametrize("use", [made, find, remove, take_lock])
def test_what_another_user_made_in_a_directory_for_all_is_not_used(
    sticky: LocalCollection, fs: Recording, monkeypatch: pytest.MonkeyPatch, use: Callable[[LocalCollection], object]
) -> None:
    disown(fs, monkeypatch, digest_of_name("a"), "/locks")
    with pytest.raises(Refused, match="user 4321"):
        use(sticky)


def test_what_cannot_be_looked_up_in_a_directory_for_all_is_not_used(sticky: LocalCollection, fs: Recording) -> None:
    on = digest_of_name("a")
    fs.before("stat", lambda _: fs.before("stat", failing(errno.EIO), on=on), on=on)  # whether it is there; whose it is
    with pytest.raises(NotLanded, match="cannot be looked up"):
        find(sticky)


# Flushes.


@pytest.mark.parametrize("there", [True, False])
def test_a_root_whose_name_cannot_be_flushed_is_not_used(root: Path, fs: Recording, there: bool) -> None:
    """A new one is flushed when it is made; one that was there, whose maker may have died, with the first append."""
    if there:
        root.mkdir()
    fs.before("fsync", failing(errno.EIO), on="/work")
    with pytest.raises(LandedError) as caught:
        journal_of(LocalCollection(str(root), fs=fs)).append([b"one"])
    assert caught.value.errno == errno.EIO
    assert len(fs.named("fsync", on="/work")) == 1


def test_a_journal_whose_name_cannot_be_flushed_takes_no_record(collection: LocalCollection, fs: Recording) -> None:
    journal = journal_of(collection)
    fs.before("fsync", failing(errno.EIO), on="/root")
    with pytest.raises(LandedError) as caught:
        journal.append([b"one"])
    assert caught.value.errno == errno.EIO
    assert len(fs.named("fsync", on="/root")) == 1
