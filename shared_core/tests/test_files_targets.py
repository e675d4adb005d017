"""Which paths work, which are refused, and that every spelling of a path meets at one lock and record."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from other_user import as_nobody
from recording import Recording, failing

import landed
from landed import Files, NotLanded, Refused, StaleWrite

if TYPE_CHECKING:
    from collections.abc import Callable


def files_in(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def records_in(state_dir: Path) -> int:
    return len([name for name in os.listdir(state_dir / "artifacts") if name.endswith(".record")])


# Names.


@pytest.mark.parametrize(
    "name",
    [
        "with spaces ",
        "new\nline",
        "-leading-dash",
        ".hidden",
        "back\\slash",
        "quote'\"",
        "n" * 255,
        "é" * 127 + "x",
        "trailing.",
        "CON",
        "☃",
        "%2e%2e",
        "\x01\x7f",
        "name=value",
        "\\n",
        os.fsdecode(b"latin-\xe9"),
        os.fsdecode(b"\xff" * 255),
    ],
)
def test_any_name_works(files: Files, work: Path, name: str) -> None:
    files.write(work / name, b"one")
    files.write(work / name, b"two")
    assert files_in(work) == [name]
    assert files.read(work / name).data == b"two"
    with files.edit(work / name) as doc:
        doc.data = b"three"
    assert Files().verify(work / name).size == 5
    with pytest.raises(StaleWrite):
        Files().write(work / name, b"four")
    files.delete(work / name)
    assert files_in(work) == []


@pytest.mark.parametrize(
    "names", [("Case", "case"), (unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é"))]
)
def test_names_that_the_file_system_tells_apart_are_two_artifacts(
    files: Files, work: Path, state_dir: Path, names: tuple[str, str]
) -> None:
    for name in names:
        files.write(work / name, name, expect=landed.ABSENT)
    assert records_in(state_dir) == 2
    assert [files.read(work / name).text for name in names] == list(names)


@pytest.mark.parametrize("path", ["", "a\0b", "dir/", "/", b"bytes"])
def test_what_names_no_file_is_refused(files: Files, work: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(work)
    for attempt in (files.read, lambda path: files.write(path, b"x"), files.delete, files.verify):
        with pytest.raises(Refused):
            attempt(path)
    assert files_in(work) == []


def test_a_path_that_no_file_system_has_is_refused(files: Files, work: Path) -> None:
    with pytest.raises(Refused):
        files.write(f"{work}/\ud800", b"x")


def test_two_strings_for_the_same_bytes_are_one_artifact(files: Files, work: Path) -> None:
    files.write(work / "é", b"one")
    files.write(work / "é".encode().decode("ascii", "surrogateescape"), b"two")
    assert files.read(work / "é").data == b"two"


def test_a_name_of_256_bytes_is_not_landed(files: Files, work: Path) -> None:
    with pytest.raises(NotLanded) as caught:
        files.write(work / ("n" * 256), b"x")
    assert caught.value.errno == errno.ENAMETOOLONG
    assert files_in(work) == []


def test_a_directory_name_of_256_bytes_is_not_landed(files: Files, work: Path) -> None:
    with pytest.raises(NotLanded):
        files.write(work / ("n" * 256) / "a", b"x")


def test_a_path_object_and_a_string_are_the_same(files: Files, work: Path) -> None:
    files.write(work / "a", b"one")
    files.write(str(work / "a"), b"two")


# Kinds of target.


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def make_device(path: Path) -> None:
    path.symlink_to("/dev/null")


KINDS = {
    "a directory": os.mkdir,
    "a FIFO": os.mkfifo,
    "a socket": make_socket,
    "a character device": make_device,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_is_refused_at_once(kind: str, files: Files) -> None:
    with tempfile.TemporaryDirectory() as directory:  # the path of a socket has to be short
        path = Path(directory, "a")
        KINDS[kind](path)
        attempts: list[Callable[[], object]] = [
            lambda: files.read(path),
            lambda: files.write(path, b"x", expect=landed.ANY),
            lambda: files.write(path, b"x", expect=landed.ABSENT),
            lambda: files.edit(path).__enter__(),
            lambda: files.delete(path, expect=landed.ANY),
            lambda: files.verify(path),
        ]
        for attempt in attempts:
            with pytest.raises(Refused, match=kind):
                attempt()
        assert files_in(Path(directory)) == ["a"]


def test_hard_links_are_refused(files: Files, work: Path) -> None:
    files.write(work / "a", b"one")
    os.link(work / "a", work / "b")
    for attempt in (lambda: files.write(work / "a", b"two"), lambda: files.edit(work / "a").__enter__()):
        with pytest.raises(Refused, match="2 names"):
            attempt()
    assert (work / "b").read_bytes() == b"one"
    assert files.read(work / "a").data == b"one"
    os.unlink(work / "b")
    files.write(work / "a", b"two")


# Symbolic links.


def test_the_target_of_a_link_is_replaced_and_the_link_kept(files: Files, work: Path, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere" / "real"
    files.write(real, b"one")
    os.symlink(real, work / "first")
    os.symlink("first", work / "link")
    receipt = files.write(work / "link", b"two")
    assert receipt.path == str(real)
    assert real.read_bytes() == b"two"
    assert os.readlink(work / "link") == "first"
    assert os.readlink(work / "first") == str(real)
    assert files_in(work) == ["first", "link"]


def test_a_dangling_link_creates_its_target(files: Files, work: Path) -> None:
    os.symlink("not yet", work / "link")
    with pytest.raises(FileNotFoundError):
        files.read(work / "link")
    files.write(work / "link", b"x")
    assert (work / "not yet").read_bytes() == b"x"
    assert os.readlink(work / "link") == "not yet"


def test_deleting_a_link_deletes_its_target(files: Files, work: Path) -> None:
    files.write(work / "real", b"x")
    os.symlink("real", work / "link")
    assert files.delete(work / "link").path == str(work / "real")
    assert files_in(work) == ["link"]


def test_a_loop_of_links_is_refused(files: Files, work: Path) -> None:
    os.symlink("b", work / "a")
    os.symlink("a", work / "b")
    for attempt in (files.read, lambda path: files.write(path, b"x")):
        with pytest.raises(Refused, match="a loop of symbolic links"):
            attempt(work / "a")


def test_a_loop_of_links_above_the_file_is_refused(files: Files, work: Path) -> None:
    os.symlink("loop", work / "loop")
    with pytest.raises(NotLanded):
        files.write(work / "loop" / "a", b"x")


def test_every_spelling_meets_at_one_record(
    files: Files, work: Path, tmp_path: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.symlink(work, tmp_path / "linked")
    os.symlink("a", work / "alias")
    version = files.write(work / "a", b"0").version
    monkeypatch.chdir(work)
    spellings = ["a", "./a", "../work/a", f"{tmp_path}/linked/a", "alias", f"{work}//a", f"{work}/../work/./a"]
    for number, spelling in enumerate(spellings):
        assert files.read(spelling).version == version
        version = files.write(spelling, b"%d" % number).version
        with pytest.raises(Refused, match="would wait for itself"), files.edit(work / "a"):
            files.write(spelling, b"x")
    monkeypatch.chdir(tmp_path)
    assert files.write("work/a", b"from another directory").replaced == version
    assert records_in(state_dir) == 1


# Directories.


def test_missing_parents_are_made(files: Files, work: Path) -> None:
    files.write(work / "x" / "y" / "a", b"x")
    assert (work / "x" / "y" / "a").read_bytes() == b"x"


@pytest.mark.parametrize("operation", ["write", "fsync", "link"])
def test_new_parents_go_again_when_the_write_fails(work: Path, fs: Recording, operation: str) -> None:
    fs.before(operation, failing(errno.ENOSPC), on=".tmp")
    with pytest.raises(NotLanded):
        Files(fs).write(work / "x" / "y" / "a", b"x")
    assert files_in(work) == []


def test_new_parents_go_again_when_a_deeper_one_cannot_be_made(work: Path, fs: Recording) -> None:
    fs.before("mkdir", failing(errno.ENOENT), on="/x/y/z")  # tried before its parents are made
    fs.before("mkdir", failing(errno.ENOSPC), on="/x/y/z")
    with pytest.raises(NotLanded):
        Files(fs).write(work / "x" / "y" / "z" / "a", b"x")
    assert files_in(work) == []


def test_new_parents_stay_when_somebody_else_uses_them(work: Path, fs: Recording) -> None:
    fs.before("link", lambda _: (work / "x" / "theirs").write_bytes(b"1"))
    fs.before("link", failing(errno.ENOSPC))
    with pytest.raises(NotLanded):
        Files(fs).write(work / "x" / "y" / "a", b"x")
    assert files_in(work) == ["x"]
    assert files_in(work / "x") == ["theirs"]


def test_a_delete_makes_no_directories(work: Path, fs: Recording) -> None:
    with pytest.raises(FileNotFoundError):
        Files(fs).delete(work / "x" / "a")
    assert not fs.named("mkdir", on="/x")


def test_a_lock_that_fails_is_not_asked_for_again(work: Path, fs: Recording) -> None:
    Files(fs).write(work / "a", b"x")
    fs.before("flock", failing(errno.EIO))
    with pytest.raises(NotLanded) as caught:
        Files(fs).write(work / "a", b"y", expect=landed.ANY)
    assert caught.value.step == "lock"
    assert caught.value.path == str(work / "a")
    assert ".lock" in caught.value.hint
    assert (work / "a").read_bytes() == b"x"


def test_a_file_where_a_directory_should_be(files: Files, work: Path) -> None:
    (work / "file").write_bytes(b"x")
    with pytest.raises(NotLanded) as caught:
        files.write(work / "file" / "a", b"x")
    assert caught.value.errno == errno.ENOTDIR
    with pytest.raises(NotLanded):
        files.write(work / "file" / "b" / "a", b"x")


def test_a_directory_that_may_not_be_written(
    files: Files, open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, place = open_directory / "state", open_directory / "place"
    monkeypatch.setenv("LANDED_STATE_DIR", str(state))
    state.mkdir()
    state.chmod(0o777)
    place.mkdir()
    (place / "a").write_bytes(b"old")
    place.chmod(0o555)
    with as_nobody():
        assert files.read(place / "a").data == b"old"
        for name in ("a", "new", "deeper/new"):
            with pytest.raises(NotLanded) as caught:
                files.write(place / name, b"new", expect=landed.ANY)
            assert caught.value.errno == errno.EACCES
            assert ("no file can be made in its directory" in str(caught.value)) == (name != "deeper/new")
        with pytest.raises(NotLanded, match="the file cannot be removed: Permission denied"):
            files.delete(place / "a")
        assert files.read(place / "a").data == b"old"
    assert files_in(place) == ["a"]


def test_a_state_directory_that_may_not_be_written(
    files: Files, open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = open_directory / "place"
    monkeypatch.setenv("LANDED_STATE_DIR", str(open_directory / "closed" / "state"))
    (open_directory / "closed").mkdir(mode=0o555)
    place.mkdir()
    place.chmod(0o777)
    with as_nobody(), pytest.raises(NotLanded, match="LANDED_STATE_DIR") as caught:
        files.write(place / "a", b"x")
    assert caught.value.errno == errno.EACCES
    assert files_in(place) == []


def test_a_directory_that_may_not_be_searched(files: Files, open_directory: Path) -> None:
    closed = open_directory / "closed"
    closed.mkdir()
    closed.chmod(0)
    with as_nobody():
        for attempt in (files.read, lambda path: files.write(path, b"x")):
            with pytest.raises(NotLanded):
                attempt(closed / "a")


def test_a_file_that_may_not_be_read(files: Files, open_directory: Path) -> None:
    (open_directory / "a").write_bytes(b"secret")
    (open_directory / "a").chmod(0)
    with as_nobody(), pytest.raises(NotLanded, match="cannot be read"):
        files.read(open_directory / "a")
    assert (open_directory / "a").read_bytes() == b"secret"


def test_a_parent_that_goes_before_the_rename(files: Files, fs: Recording, work: Path) -> None:
    target = work / "x" / "a"
    files.write(target, b"old")
    fs.before("fsync", lambda _: os.rename(work / "x", work / "y"), on=".tmp")
    with pytest.raises(landed.LandedError) as caught:
        Files(fs).write(target, b"new", expect=landed.ANY)
    assert isinstance(caught.value, landed.VerifyFailed)  # the rename went with the directory; the name leads nowhere
    assert not target.exists()
    assert (work / "y" / "a").read_bytes() == b"new"


# A directory's own store.


@pytest.fixture
def shared(work: Path) -> Path:
    (work / ".landed" / "artifacts").mkdir(parents=True)
    (work / ".landed" / "artifacts").chmod(0o770)
    return work


def test_a_store_is_found_by_walking_up(files: Files, shared: Path, state_dir: Path) -> None:
    old = os.umask(0o077)
    try:
        files.write(shared / "x" / "y" / "a", b"x")
    finally:
        os.umask(old)
    assert not state_dir.exists()
    kept = list((shared / ".landed" / "artifacts").iterdir())
    assert sorted(each.suffix for each in kept) == [".lock", ".log", ".record"]
    assert {each.stat().st_mode & 0o777 for each in kept} == {0o660}


def test_a_shared_directory_that_moves_keeps_its_records(files: Files, shared: Path) -> None:
    """As one that containers mount under different names."""
    version = files.write(shared / "a", b"one").version
    moved = shared.rename(shared.with_name("mounted elsewhere"))
    snapshot = Files().read(moved / "a")
    assert (snapshot.version, snapshot.origin) == (version, "landed")
    with pytest.raises(StaleWrite):
        Files().write(moved / "a", b"two")


def test_the_nearest_store_counts(files: Files, shared: Path) -> None:
    inner = shared / "inner"
    (inner / ".landed" / "artifacts").mkdir(parents=True)
    files.write(inner / "a", b"x")
    assert files_in(shared / ".landed" / "artifacts") == []
    assert len(files_in(inner / ".landed" / "artifacts")) == 3


def test_a_directory_of_that_name_without_artifacts_is_no_store(files: Files, work: Path, state_dir: Path) -> None:
    (work / ".landed").mkdir()
    files.write(work / "a", b"x")
    assert records_in(state_dir) == 1
