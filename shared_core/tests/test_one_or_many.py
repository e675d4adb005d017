"""A directory keeps one journal or many: what is opened as the other is refused, and nothing is made in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from landed import Journal, Journals, Refused, inspection
from landed.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in directory.rglob("*")}


def used(path: Path) -> None:
    Journal(path).append([b"one"])


def compacted(path: Path) -> None:
    with Journal(path) as journal:
        for _ in range(2):
            journal.append([b"one"])
            journal.compact(lambda entry: True)


@pytest.mark.parametrize("make", [Journal, used, compacted], ids=["fresh", "used", "compacted"])
def test_many_journals_do_not_go_into_the_directory_of_one(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "one")
    before = contents(tmp_path)
    with pytest.raises(Refused, match="one journal is kept here, and not many"):
        Journals(tmp_path / "one")
    assert contents(tmp_path) == before


def test_one_journal_does_not_go_into_the_directory_of_many(tmp_path: Path) -> None:
    Journals(tmp_path / "many").open("a").append([b"one"])
    before = contents(tmp_path)
    with pytest.raises(Refused, match="many journals are kept here"):
        Journal(tmp_path / "many")
    assert contents(tmp_path) == before


def test_an_inspection_of_many_says_so(tmp_path: Path) -> None:
    Journals(tmp_path / "many").open("a").append([b"one"])
    with pytest.raises(Refused, match=r"many journals are kept here.*Name one of those directories"):
        inspection.examine(tmp_path / "many")


def test_a_directory_with_files_of_others_is_no_root(tmp_path: Path) -> None:
    (tmp_path / ("a" * 40)).write_bytes(b"a file that is named by its hash")
    (tmp_path / "lock").write_bytes(b"another program's")
    Journals(tmp_path).open("a").append([b"one"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ("a" * 40)).mkdir()
    Journal(tmp_path / "other").append([b"one"])


def test_where_both_are_already_both_go_on(tmp_path: Path) -> None:
    journals = Journals(tmp_path / "many")
    journals.open("a").append([b"one"])
    Journal(tmp_path / "aside").append([b"one"])
    for path in (tmp_path / "aside").iterdir():
        path.rename(tmp_path / "many" / path.name)
    assert Journal(tmp_path / "many").append([b"two"]).tail == 2
    assert Journals(tmp_path / "many").open("a").append([b"two"]).tail == 2


def test_a_copy_does_not_mix_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    used(tmp_path / "one")
    Journals(tmp_path / "many").open("a").append([b"one"])
    before = contents(tmp_path)
    assert main(["copy", str(tmp_path / "one"), str(tmp_path / "many")]) == 1
    assert "many journals are kept here" in capsys.readouterr().err
    assert main(["copy", str(tmp_path / "many"), str(tmp_path / "one")]) == 1
    assert "one journal is kept here" in capsys.readouterr().err
    assert contents(tmp_path) == before
