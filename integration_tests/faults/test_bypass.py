"""A program that neither uses landed nor takes its lock, at every moment of a write: never overwritten in silence.

One window remains, and this file shows that there is no other. Such a program can put its own bytes in place between
landed's last look and the rename that follows it, some ten microseconds later; those bytes are replaced unseen, because
no system call that Python reaches compares and replaces in one step. At any other moment the writer hears `Bypassed`
or `VerifyFailed`, or the foreign bytes stand. A create has no window at all: link refuses a name that is taken. And on
kernels before 6.13, bytes that are written in place, of the same size, within the clock tick (4 ms) in which the last
change was seen, have the times of that change and cannot be told from it.
"""

from __future__ import annotations

import os
import time
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

import landed
from landed._fs import FileOps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OLD = b"as it was seen\n"
NEW = b"by the writer \n"
FOREIGN = b"by the other's\n"  # as long as the old bytes: the size tells nothing
METHODS = [name for name in vars(FileOps) if not name.startswith("_")]


class Neighbour(FileOps):
    """The operating system, with another program that acts once, just before the n-th call of this one."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.at = -1
        self.act: Callable[[], bool] = lambda: False
        self.acted = False


def _before(name: str) -> Callable[..., Any]:
    def call(self: Neighbour, *arguments: Any, **options: Any) -> Any:
        if len(self.calls) == self.at:
            self.acted = self.act()
        self.calls.append(name)
        return getattr(FileOps, name)(self, *arguments, **options)

    return call


for _name in METHODS:
    setattr(Neighbour, _name, _before(_name))


def in_place(path: Path) -> bool:
    """Whether there was a file to overwrite."""
    if path.exists():
        with path.open("r+b") as file:
            file.write(FOREIGN)
        return True
    return False


def by_rename(path: Path) -> bool:
    other = path.with_name("other")
    other.write_bytes(FOREIGN)
    other.replace(path)
    return True


def by_create(path: Path) -> bool:
    if path.exists():
        return False
    path.write_bytes(FOREIGN)
    return True


def write(files: landed.Files, path: Path) -> None:
    files.write(path, NEW)


def edit(files: landed.Files, path: Path) -> None:
    with files.edit(path) as draft:
        if draft.data == FOREIGN:
            raise landed.Bypassed("the editor saw it")
        draft.data = NEW


def delete(files: landed.Files, path: Path) -> None:
    files.delete(path)


def silent(path: Path, operation: Callable[..., None], act: Callable[[Path], bool], *, old: bytes | None) -> list[str]:
    """The calls before which the neighbour's bytes can be put in place and be gone without a word."""
    found = []
    for n in count():
        path.unlink(missing_ok=True)
        neighbour = Neighbour()
        files = landed.Files(neighbour)
        if old is not None:
            files.write(path, old, expect=landed.ANY)
            time.sleep(0.01)  # the neighbour's change falls into another tick of the clock
        else:
            with pytest.raises(FileNotFoundError):
                files.read(path)
        neighbour.calls.clear()
        neighbour.at, neighbour.act = n, lambda: act(path)
        try:
            operation(files, path)
        except landed.LandedError:
            heard = True
        else:
            heard = False
        if n >= len(neighbour.calls):
            assert n > 20, "there were hardly any calls to play the neighbour at"
            return found
        if neighbour.acted and not heard and (not path.exists() or path.read_bytes() != FOREIGN):
            found.append(neighbour.calls[n])
    raise AssertionError


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LANDED_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "work").mkdir()
    return tmp_path / "work" / "file.txt"


@pytest.mark.parametrize("act", [in_place, by_rename])
@pytest.mark.parametrize("operation", [write, edit])
def test_replace(path: Path, operation: Callable[..., None], act: Callable[[Path], bool]) -> None:
    assert silent(path, operation, act, old=OLD) == ["rename"]


@pytest.mark.parametrize("operation", [write, edit])
def test_create(path: Path, operation: Callable[..., None]) -> None:
    assert silent(path, operation, by_create, old=None) == []


@pytest.mark.parametrize("act", [in_place, by_rename])
def test_delete(path: Path, act: Callable[[Path], bool]) -> None:
    assert silent(path, delete, act, old=OLD) == ["unlink"]


def test_neighbour_after_the_acknowledgement(path: Path) -> None:
    files = landed.Files()
    for act, left in ((in_place, FOREIGN), (by_rename, FOREIGN), (os.unlink, None)):
        files.write(path, OLD, expect=landed.ANY)
        act(path)
        with pytest.raises(landed.Bypassed):
            files.write(path, NEW)
        with pytest.raises(landed.Bypassed):
            files.delete(path)
        assert (path.read_bytes() if path.exists() else None) == left
