"""A second user, with a uid of its own, beside the first: what it plants harms nobody, and who is permitted can work.

The neighbour owns a directory like ``/tmp`` (1777), or shares one. Whatever it puts there, under the names that landed
uses, the victim's own files stay as they are, nothing hangs, and the victim hears that it landed or an error of landed.
Hard links to the victim's files are made by root: where `fs.protected_hardlinks` is off, the neighbour makes them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import users, workloads
from lab.ground import Ground, ground, refused
from lab.users import DONE, GROUP, NEIGHBOUR, VICTIM, As

import landed
import landed.audit
from landed.artifact import Artifact
from landed.sharing import share

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITES = 300
"""While a neighbour plays with the name."""
MEETING = 20
"""Seconds in which the two surely meet."""

pytestmark = pytest.mark.skipif(bool(users.why_not()), reason=users.why_not())


@pytest.fixture(name="ground")
def _ground(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ground]:
    monkeypatch.setenv("LANDED_STATE_DIR", str(tmp_path / "warm"))
    use(str(tmp_path / "file"))  # imports what other users may not be able to read
    use_journals(tmp_path / "journals")
    share(str(tmp_path))
    with ground() as made:
        yield made


def use(path: str) -> str:
    """Every operation on a file, each whatever became of those before; the errors."""
    heard: list[str] = []
    for operation in (
        lambda: landed.write(path, b"one", expect=landed.ANY, timeout=1),
        lambda: landed.read(path),
        lambda: edit(path),
        lambda: landed.verify(path, timeout=1),
        lambda: landed.delete(path, expect=landed.ANY, timeout=1),
        lambda: landed.write(path, b"two", expect=landed.ANY, timeout=1),
    ):
        try:
            operation()
        except (landed.LandedError, FileNotFoundError) as error:
            heard.append(f"{type(error).__name__}: {error}")
    return "; ".join(heard) or DONE


def edit(path: str) -> None:
    with landed.edit(path, timeout=1) as draft:
        draft.data = b"edited"


def use_journals(root: Path) -> str:
    """The same of journals."""
    heard: list[str] = []
    for operation in (add_to_a_journal, take_a_lock, remove_a_journal, add_to_a_journal):
        try:
            operation(root)
        except landed.LandedError as error:
            heard.append(f"{type(error).__name__}: {error}")
    return "; ".join(heard) or DONE


def add_to_a_journal(root: Path) -> None:
    with landed.Journals(root) as journals:
        journals.open("thread").append([b"x" * 30_000] * 3)
        list(journals.open("thread").read())


def take_a_lock(root: Path) -> None:
    with landed.Journals(root) as journals, journals.lock("thread"):
        pass


def remove_a_journal(root: Path) -> None:
    with landed.Journals(root) as journals:
        journals.remove("thread")


# What is planted.


@pytest.mark.parametrize("what", ["link", "hard link", "FIFO", "directory", "file", "closed file"])
@pytest.mark.parametrize("where", ["target", "temp file"])
def test_something_stands_where_a_file_is_written(ground: Ground, where: str, what: str) -> None:
    path = ground.open / "plan.md"
    assert ground.victim(lambda: use(str(path))) == DONE
    path.unlink()
    planted = path if where == "target" else path.with_name(Artifact(path).temp)
    ground.plant(what, planted)
    before = planted.lstat()
    said = ground.victim(lambda: use(str(path)))
    assert refused(said) or (what == "hard link" and said == DONE), said
    assert ground.harm() == []
    now = planted.lstat() if what != "hard link" else before  # that is the victim's, who may remove its names
    assert (now.st_ino, now.st_mode, now.st_size, now.st_uid) == (
        before.st_ino,
        before.st_mode,
        before.st_size,
        before.st_uid,
    )


def test_links_that_come_and_go_during_writes(ground: Ground) -> None:
    """The neighbour's directory: it may take any name away and give it to a link, at any moment of a write."""
    path, over = ground.open / "plan.md", ground.open / "over"
    temp = path.with_name(Artifact(path).temp)

    def swap() -> None:
        beside = ground.open / "beside"
        for number in range(1_000_000):
            if over.exists():
                return
            beside.symlink_to(ground.secret if number % 2 else ground.home)
            beside.replace((path, temp)[number // 2 % 2])
            for name in (path, temp):
                name.unlink(missing_ok=True)

    def write() -> str:
        told: Counter[str] = Counter()
        end = time.monotonic() + MEETING
        # The neighbour may wait for its turn just when a link of its stands there: hundreds are refused meanwhile.
        while told.total() < WRITES or (len(told) == 1 and time.monotonic() < end):
            try:
                landed.write(path, f"{told.total()}", expect=landed.ANY, timeout=5)
                told["landed"] += 1
            except landed.LandedError as error:
                told[type(error).__name__] += 1
        return " ".join(told)

    neighbour = As(NEIGHBOUR, swap, GROUP)
    said = ground.victim(write)
    over.touch()
    assert neighbour.said() == DONE
    assert ground.harm() == []
    assert len(said.split()) > 1, f"the neighbour was never met: {said}"
    assert "!" not in said


@pytest.mark.parametrize("what", ["link", "hard link", "FIFO", "directory", "file", "closed file"])
@pytest.mark.parametrize("suffix", [".lock", ".record", ".log", ".log.1"])
def test_something_stands_in_a_shared_store(ground: Ground, suffix: str, what: str) -> None:
    """The neighbour may write the store, and so may stand in the way; it may not reach what is the victim's alone."""
    ground.shared(0o777, 0)
    store = share(str(ground.open)).store
    path = ground.open / "plan.md"
    assert ground.victim(lambda: use(str(path))) == DONE
    (kept,) = Path(store.artifacts).glob("*.lock")
    ground.plant(what, kept.with_suffix(suffix))
    said = ground.victim(lambda: use(str(path)))
    assert said == DONE or refused(said), said
    assert ground.harm() == []
    told = ground.victim(lambda: list(landed.audit.audit(*landed.audit.stores(str(ground.open)))))
    assert told == DONE or refused(told), told
    assert ground.harm() == []


def begin_a_store(ground: Ground, what: str) -> Path:
    """What the neighbour has begun to build, so that the victim goes on with it."""
    kept = ground.open / ".landed"
    if what == "its own directory":
        ground.plant("directory", kept)
        ground.plant("directory", kept / "artifacts")
    elif what == "link to the home":
        ground.plant("link to a directory", kept)
    elif what == "link to a store of the victim":
        (ground.state / "artifacts").mkdir(mode=0o700)
        os.chown(ground.state / "artifacts", VICTIM, VICTIM)
        assert As(NEIGHBOUR, lambda: kept.symlink_to(ground.state)).said() == DONE
    else:
        ground.plant("directory", kept)
        name, _, planted = what.partition(": ")
        ground.plant(planted, kept / name)
    return kept


STORES = [
    "its own directory",
    "link to the home",
    "link to a store of the victim",
    "init: link to a directory",
    ".gitignore: hard link",
    "init.lock: hard link",
]
HARMLESS = {"link to a store of the victim", ".gitignore: hard link", "init.lock: hard link"}
"""Once it is the victim's own."""


@pytest.mark.parametrize("what", STORES)
@pytest.mark.parametrize("begun_by", ["the neighbour", "the victim"])
def test_store_that_a_neighbour_has_begun(ground: Ground, begun_by: str, what: str) -> None:
    """Also where it got into one that the victim had begun when its machine stopped."""
    ground.shared(0o1777, VICTIM)
    kept = begin_a_store(ground, what)
    if begun_by == "the victim":
        os.chown(kept, VICTIM, VICTIM, follow_symlinks=False)
    said = ground.victim(lambda: share(str(ground.open)), GROUP)
    assert ground.harm() == []
    assert said == DONE if begun_by == "the victim" and what in HARMLESS else refused(said), said
    said = ground.victim(lambda: use(str(ground.open / "plan.md")))
    assert ground.harm() == []
    assert said == DONE or refused(said), said


def test_state_directory_of_somebody_else(ground: Ground) -> None:
    ground.shared(0o1777, 0)
    ground.plant("directory", ground.open / "state")
    ground.plant("directory", ground.open / "state" / "artifacts")
    ground.state = ground.open / "state"
    said = ground.victim(lambda: use(str(ground.home / "plan.md")))
    assert f"belongs to user {NEIGHBOUR}" in said
    assert ground.harm() == []
    assert os.listdir(ground.state / "artifacts") == []


PLANTED = ["link to a directory", "directory", "FIFO", "file", "closed file", "hard link"]


@pytest.mark.parametrize("what", PLANTED)
def test_something_stands_where_a_journal_or_a_lock_goes(ground: Ground, what: str) -> None:
    """In a directory like ``/tmp`` whatever the neighbour has made under a journal's name is refused."""
    assert ground.victim(lambda: add_to_a_journal(ground.open)) == DONE
    (made,) = (path for path in ground.open.iterdir() if len(path.name) == 40)
    shutil.rmtree(made)
    ground.plant(what, made)
    ground.plant(what, ground.open / "locks")
    ground.plant("link to a directory", ground.open / ".removed-ff")
    for act in (add_to_a_journal, take_a_lock, remove_a_journal):
        said = ground.victim(lambda act=act: act(ground.open))  # type: ignore[misc]
        assert refused(said), (act, said)
        assert ground.harm() == []


@pytest.mark.parametrize("what", ["link", "hard link", "FIFO", "directory", "file", "closed file"])
@pytest.mark.parametrize("which", ["lock", "*.seg", "name", "claim", "suspect"])
def test_something_stands_in_a_shared_journal(ground: Ground, which: str, what: str) -> None:
    ground.shared(0o777, 0)
    root = ground.open / "root"
    assert ground.victim(lambda: add_to_a_journal(root)) == DONE
    (made,) = (path for path in root.iterdir() if len(path.name) == 40)
    for kept in [made / which] if "*" not in which else list(made.glob(which)):
        ground.plant(what, kept)
    ground.plant("link to a directory", root / ".removed-ff")
    said = ground.victim(lambda: use_journals(root))
    assert said == DONE or refused(said), said
    assert ground.harm() == []


# Frameworks.


@pytest.fixture(scope="module")
def heard() -> dict[str, dict[str, list[str]]]:
    """What is wrong with what two users hear, of each workload that can run here."""
    names = [name for name in (*workloads.CORE, *workloads.PACKAGES) if not workloads.missing(name)]
    command = [sys.executable, "-m", "lab.ground", *names]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    return json.loads(done.stdout)


def problems(heard: dict[str, dict[str, list[str]]], what: str, name: str) -> list[str]:
    if workloads.missing(name):
        pytest.skip(workloads.missing(name))
    return heard[what][name]


@pytest.mark.parametrize("name", workloads.PACKAGES)
def test_framework_in_the_directory_of_a_neighbour(heard: dict[str, dict[str, list[str]]], name: str) -> None:
    assert problems(heard, "neighbour", name) == []


@pytest.mark.parametrize("name", [name for name in (*workloads.CORE, *workloads.PACKAGES) if name != "hook"])
def test_two_users_who_are_permitted(heard: dict[str, dict[str, list[str]]], name: str) -> None:
    """What both have acknowledged is there, whether they come one after the other or at once; nobody else gets in."""
    assert problems(heard, "both", name) == []
