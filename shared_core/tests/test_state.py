"""Where locks and records are kept, and how a path becomes the one name under which they are found."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
from recording import Recording, disown, failing

import landed
from landed import NotLanded, Refused, _fs, state
from landed.state import (
    Store,
    case_key,
    directory_mode,
    flush_ancestors,
    make_directories,
    resolve,
    store_for,
    user_store,
)


@pytest.fixture(autouse=True)
def _no_known_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform that changes while a program runs is nothing that landed looks for."""
    monkeypatch.setattr(state, "_user_stores", {})


def on(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> str:
    """Somebody's home directory, with nothing set."""
    for name in ("LANDED_STATE_DIR", "XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    return "/home/somebody"


@pytest.mark.parametrize(
    ("platform", "where"),
    [
        ("linux", ".local/state/landed"),
        ("darwin", "Library/Application Support/landed"),
        ("win32", "landed/state"),
        ("freebsd14", ".local/state/landed"),
    ],
)
def test_the_store_of_a_user(monkeypatch: pytest.MonkeyPatch, home: str, platform: str, where: str) -> None:
    on(monkeypatch, platform)
    store = user_store()
    assert store.root == f"{home}/{where}"
    assert (store.base, store.mode) == ("", 0o600)
    assert store.artifacts == f"{home}/{where}/artifacts"


def test_the_environment_moves_the_store(monkeypatch: pytest.MonkeyPatch, home: str, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    assert user_store().root == "/xdg/landed"
    on(monkeypatch, "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/appdata")
    assert user_store().root == "/appdata/landed/state"
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setenv("LANDED_STATE_DIR", str(tmp_path / "link"))
    assert user_store().root == str(tmp_path / "real")  # every spelling of it meets
    monkeypatch.setenv("LANDED_STATE_DIR", "")
    assert user_store().root == "/appdata/landed/state"


@pytest.mark.parametrize(("mode", "wanted"), [(0o600, 0o700), (0o660, 0o770), (0o644, 0o755), (0o666, 0o777)])
def test_directories_may_be_searched_by_those_who_may_read(mode: int, wanted: int) -> None:
    assert directory_mode(mode) == wanted


def test_a_store_is_private(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "deep" / "store"))
    store.make(_fs.LOCAL)
    store.make(_fs.LOCAL)
    for made in (tmp_path / "deep", tmp_path / "deep" / "store", tmp_path / "deep" / "store" / "artifacts"):
        assert made.stat().st_mode & 0o777 == 0o700


def test_names_in_a_shared_store_are_relative(tmp_path: Path) -> None:
    shared = Store("/base/.landed", "/base", 0o660)
    assert shared.name_of("/base/x/a") == "x/a"
    assert shared.path_of("x/a") == "/base/x/a"
    own = Store("/state")
    assert own.name_of("/base/x/a") == own.path_of("/base/x/a") == "/base/x/a"


def test_made_directories_are_told_deepest_first(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c"
    for path, wanted in ((deep, [deep, deep.parent, deep.parent.parent]), (deep, []), (deep / "d", [deep / "d"])):
        created: list[str] = []
        make_directories(_fs.LOCAL, str(path), 0o755, created)
        assert created == list(map(str, wanted))
        assert path.is_dir()


def test_what_was_made_is_told_although_the_rest_failed(tmp_path: Path) -> None:
    created: list[str] = []
    with pytest.raises(OSError, match="too long"):
        make_directories(_fs.LOCAL, str(tmp_path / "a" / ("n" * 256) / "b"), 0o755, created)
    assert created in ([], [str(tmp_path / "a")])
    assert sorted(os.listdir(tmp_path)) == [os.path.basename(each) for each in created]


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        make_directories(_fs.LOCAL, str(tmp_path / "file" / "deeper"), 0o755, [])


def test_where_no_directory_can_be_made_that_is_said(tmp_path: Path, fs: Recording) -> None:
    """As procfs says it: by the error of a parent that is missing."""
    fs.before("mkdir", failing(errno.ENOENT), on="/odd/x", always=True)
    (tmp_path / "odd").mkdir()
    with pytest.raises(FileNotFoundError):
        make_directories(fs, str(tmp_path / "odd" / "x" / "y"), 0o755, [])


def test_nothing_is_made_below_a_link_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        make_directories(_fs.LOCAL, str(tmp_path / "link" / "a" / "b"), 0o755, [])
    assert os.listdir(tmp_path) == ["link"]


def test_a_directory_that_another_process_removes_meanwhile_is_made_again(tmp_path: Path, fs: Recording) -> None:
    for _ in range(3):
        fs.after("mkdir", lambda call: os.rmdir(call.path), on="/a")
    make_directories(fs, str(tmp_path / "a" / "b"), 0o755, [])
    assert (tmp_path / "a" / "b").is_dir()


def test_a_store_that_appears_is_found_at_once(tmp_path: Path, state_dir: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert store_for(str(inner), _fs.LOCAL).root == str(state_dir)
    (tmp_path / "a" / ".landed" / "artifacts").mkdir(parents=True)
    (tmp_path / "a" / ".landed" / "artifacts").chmod(0o2770)
    store = store_for(str(inner), _fs.LOCAL)
    assert (store.root, store.base, store.mode) == (str(tmp_path / "a" / ".landed"), str(tmp_path / "a"), 0o660)


def test_a_store_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".landed" / "artifacts").mkdir(parents=True)
    fs = Recording()
    disown(fs, monkeypatch, "/.landed/artifacts")
    with pytest.raises(Refused, match="user 4321"):
        store_for(str(tmp_path), fs)


def test_a_state_directory_of_another_user_is_refused(
    tmp_path: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_dir.mkdir()
    disown(_fs.LOCAL, monkeypatch, "/state")
    monkeypatch.setattr(_fs.posix, "geteuid", lambda: 1234)  # root may
    with pytest.raises(Refused, match="user 4321"):
        user_store()


def test_a_link_of_another_user_in_a_directory_for_all_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o1777)
    link = tmp_path / "link"
    link.symlink_to("target")
    if os.geteuid() == 0:
        os.lchown(link, 4321, -1)  # of root's links all are followed
    monkeypatch.setattr(_fs, "is_ours", lambda status: False)
    with pytest.raises(Refused, match="everybody keeps to their own"):
        resolve(link)


def test_a_store_whose_name_cannot_be_flushed_is_not_used(fs: Recording, work: Path) -> None:
    fs.before("fsync", failing(errno.EIO), on="/state")
    with pytest.raises(NotLanded) as caught:
        landed.Files(fs).write(work / "a", b"x")
    assert (caught.value.step, caught.value.errno) == ("state", errno.EIO)
    assert not os.listdir(work)


def test_a_store_that_cannot_be_looked_up_is_not_used(fs: Recording, work: Path) -> None:
    fs.before("stat", failing(errno.EIO), on="/state/artifacts")
    with pytest.raises(NotLanded) as caught:
        landed.Files(fs).write(work / "a", b"x")
    assert (caught.value.step, caught.value.errno) == ("state", errno.EIO)


def test_a_new_name_that_may_not_be_flushed_is_an_error(fs: Recording, work: Path) -> None:
    new = str(work / "new")
    fs.before("open", failing(errno.EACCES), on="work", always=True)
    with pytest.raises(PermissionError):
        flush_ancestors(fs, new, [new])
    flush_ancestors(fs, new)  # of somebody else's directories it is not asked


def test_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("missing/deep")
    (tmp_path / "root").symlink_to("/")
    here = os.path.realpath(tmp_path)
    assert resolve("a") == resolve(Path("a")) == resolve("./x/../a") == f"{here}/a"
    assert resolve("link") == f"{here}/missing/deep"
    assert resolve("link/a") == f"{here}/missing/deep/a"
    for bad in ("", "a/", "a/.", "a/..", ".", "/", "/..", "root", "a\0", b"a", "nowhere://a"):
        with pytest.raises(Refused):
            resolve(bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        resolve(5)  # type: ignore[arg-type]


def test_a_path_in_a_directory_that_is_gone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(Refused, match="cannot be resolved"):
        resolve("a")


def test_case_is_told_apart_on_linux() -> None:
    assert case_key("/x/Straße É", "Straße É") == "Straße É"


def test_case_and_forms_are_folded_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, "win32")
    assert case_key("/X/A", "X/A") == case_key("/x/a", "x/a") == "x/a"
    assert case_key("/x/e\u0301", "e\u0301") == case_key("/x/\u00c9", "\u00c9")


@pytest.mark.parametrize(("sensitive", "key"), [(1, "A"), (0, "a")])
def test_a_file_system_on_macos_says_whether_it_tells_case_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sensitive: int, key: str
) -> None:
    on(monkeypatch, "darwin")
    asked: list[object] = []

    def pathconf(path: str, name: int) -> int:
        asked.append((path, name))
        return sensitive

    monkeypatch.setattr(_fs.posix, "pathconf", pathconf)
    assert case_key(str(tmp_path / "A"), "A") == key
    assert case_key(str(tmp_path / "missing" / "deep" / "A"), "A") == key  # the nearest directory that is there answers
    assert asked == [(str(tmp_path), 11)] * 2


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root gives links away")
def test_a_link_is_judged_as_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour in a directory like /tmp takes our own link away between the two looks, and puts another there."""
    tmp_path.chmod(0o1777)
    name, planted = tmp_path / "plan.md", tmp_path / "planted"
    name.symlink_to(tmp_path / "ours")
    planted.symlink_to(tmp_path / "secret")
    os.lchown(planted, 4321, -1)
    readlink = os.readlink

    def swap(path: str) -> str:
        if path == str(name) and planted.is_symlink():  # directories are looked up in this way as well
            planted.replace(name)
        return readlink(path)

    assert resolve(name) == str(tmp_path / "ours")
    monkeypatch.setattr(_fs.posix, "readlink", swap)
    with pytest.raises(Refused, match="user 4321 has made"):
        resolve(name)


@pytest.mark.skipif(sys.platform == "win32", reason="has other links")
def test_a_link_that_is_gone_when_it_is_read_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = tmp_path / "plan.md"
    name.symlink_to(tmp_path / "elsewhere")
    readlink = os.readlink

    def gone(path: str) -> str:
        if path == str(name):
            name.unlink()
        return readlink(path)

    monkeypatch.setattr(_fs.posix, "readlink", gone)
    assert resolve(name) == str(name)


@pytest.mark.skipif(sys.platform == "win32", reason="has other links")
def test_links_are_followed_one_by_one(tmp_path: Path) -> None:
    real = Path(os.path.realpath(tmp_path))
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to(tmp_path / "deep" / ".." / "three")
    (tmp_path / "three").symlink_to("missing/four")
    for _ in range(2):
        assert resolve(tmp_path / "one") == str(real / "missing" / "four")
        (tmp_path / "deep").mkdir(exist_ok=True)
    (tmp_path / "loop").symlink_to("pool")
    (tmp_path / "pool").symlink_to("loop")
    with pytest.raises(Refused, match="loop"):
        resolve(tmp_path / "loop")


def test_a_name_with_a_slash_at_its_end_is_refused_where_realpath_drops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of Windows does; elsewhere the name that is resolved shows it still."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_fs, "WINDOWS", True)
    with pytest.raises(Refused, match="names a directory"):
        resolve("a/")
