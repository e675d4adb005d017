"""Whose the files of a journal are, and what another user may do with them."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from landed import Journal, Journals
from landed.errors import NotLanded

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has permissions of another kind")

GROUP = 54321


@pytest.fixture(autouse=True, params=[0o077, 0o022], ids=["umask 077", "umask 022"])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def bits(path: Path) -> set[tuple[str, int]]:
    """Kind and permission bits of all that is below a directory."""
    found = [each.stat() for each in path.rglob("*")]
    return {("directory" if stat.S_ISDIR(each.st_mode) else "file", stat.S_IMODE(each.st_mode)) for each in found}


def use(root: Path) -> None:
    """Make the files that journals have."""
    with Journals(root) as journals, journals.lock("a name"):
        journal = journals.open("one")
        journal.append([bytes(5000)] * 20)
        journal.append([b"more"])
        journal.compact(lambda entry: entry.sequence > 10)


PRIVATE = {("directory", 0o700), ("file", 0o600)}
OF_THE_GROUP = {("directory", 0o2770), ("file", 0o660)}
OF_ALL = {("directory", 0o2777), ("file", 0o666)}


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        (0o700, PRIVATE),
        (0o755, PRIVATE),
        (0o770, OF_THE_GROUP),
        (0o2775, OF_THE_GROUP),
        (0o777, OF_ALL),
        (0o1777, PRIVATE),
    ],
)
@pytest.mark.parametrize("below", [False, True], ids=["in it", "in a new one below"])
def test_whoever_may_write_the_directory_may_use_the_journals(
    tmp_path: Path, mode: int, wanted: set[tuple[str, int]], below: bool
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(mode)
    use(root / "deeper" / "still" if below else root)
    assert bits(root) == wanted
    assert stat.S_IMODE(root.stat().st_mode) == mode, "what the user made stays as it is"


def test_a_journal_alone_likewise(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    with Journal(tmp_path / "journal") as journal:
        journal.append([bytes(5000)] * 20)
        journal.compact(lambda entry: entry.sequence > 10)
    assert bits(tmp_path) == OF_THE_GROUP


def test_a_group_that_this_user_cannot_give_is_given_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o770)
    if os.geteuid() == 0:
        os.chown(root, -1, GROUP)
        monkeypatch.setattr(os, "geteuid", lambda: 1)
    else:
        monkeypatch.setattr(os, "getegid", lambda: -1)
        monkeypatch.setattr(os, "getgroups", list)
    use(root)
    assert bits(root) == PRIVATE


# Another user, in truth.


def as_another_user(group: int, act: Callable[[], object]) -> str:
    """What came of a call in a process of another user in that group: "done", or the name of the error."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(GROUP)
            act()
            os.write(write, b"done")
        except BaseException as error:  # noqa: BLE001 - the answer tells which
            os.write(write, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        heard = answer.read()
    os.waitpid(pid, 0)
    return heard


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to become another user")
def test_two_users_share_journals() -> None:
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        root = os.path.join(made, "root")
        os.mkdir(root)
        os.chown(root, -1, GROUP)
        os.chmod(root, 0o2770)

        def theirs() -> None:
            with Journals(root) as journals:
                assert [entry.data for entry in journals.open("mine").read()] == [b"mine"]
                journals.open("mine").append([bytes(9000)] * 20)  # into a segment of their own
                journals.open("mine").compact(lambda entry: entry.sequence < 5)
                journals.open("theirs").append([b"theirs"])
                with journals.lock("mine"):
                    assert journals.remove("doomed")

        mine = Journals(root)
        mine.open("mine").append([b"mine"])
        mine.open("doomed").append([b"x"])
        with mine.lock("mine"):
            pass
        assert as_another_user(GROUP, theirs) == "done"
        assert sorted(mine.names()) == ["mine", "theirs"]
        mine.open("mine").append([b"mine again"])
        mine.open("theirs").append([b"mine too"])
        assert [entry.data for entry in mine.open("theirs").read()] == [b"theirs", b"mine too"]
        assert mine.open("mine").tail == 22
        assert as_another_user(GROUP + 1, lambda: Journals(root).open("mine")) == NotLanded.__name__
