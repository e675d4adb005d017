"""The command where it cannot look: neither is anything known to be lost, nor that all is well."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from command_line import BAD_NEWS, CANNOT_TELL, OK
from other_user import as_nobody

import landed
from landed.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def place(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory in which this user has written ``a``."""
    monkeypatch.setenv("LANDED_STATE_DIR", str(open_directory / "state"))
    monkeypatch.chdir(open_directory)
    for name in ("state", "place"):
        (open_directory / name).mkdir()
        (open_directory / name).chmod(0o777)
    with as_nobody():
        landed.write(open_directory / "place" / "a", b"one")
    yield open_directory / "place"
    for path in (open_directory / "place", open_directory / "place" / "closed"):
        if path.exists():
            path.chmod(0o700)


@pytest.mark.parametrize("command", ["audit", "report", "status", "log"])
@pytest.mark.parametrize("name", ["", "a"])
def test_a_directory_that_may_not_be_entered(
    place: Path, command: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place.chmod(0o000)
    with as_nobody():
        assert main([command, str(place / name), "--json"]) == CANNOT_TELL
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["path"] == str(place)
    assert "Do it as a user who may enter the directory." in err


@pytest.mark.parametrize("command", ["verify", "cat", "status"])
def test_a_file_that_may_not_be_read(place: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "a").chmod(0o000)
    with as_nobody():
        assert main([command, str(place / "a")]) == CANNOT_TELL
    told = f"{place / 'a'}: the file cannot be read: Permission denied (step: read). Nothing was changed. Do it"
    assert told in capsys.readouterr().err


def test_verify_goes_on_behind_what_it_cannot_read(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with as_nobody():
        landed.write(place / "b", b"one")
        landed.write(place / "c", b"one")
        (place / "b").chmod(0o000)
        assert main(["verify", str(place / "b"), str(place / "a")]) == CANNOT_TELL
        assert f"{place / 'a'}: verified" in capsys.readouterr().out
        (place / "c").unlink()
        assert main(["verify", str(place / "b"), str(place / "c")]) == BAD_NEWS


@pytest.mark.parametrize("command", ["audit", "report"])
def test_a_directory_that_may_be_entered_and_not_be_listed(
    place: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "closed").mkdir()
    (place / "closed").chmod(0o000)
    page = ["--output", str(place.parent / "state" / "page.html")] if command == "report" else []
    with as_nobody():
        assert main([command, str(place), *page]) == OK  # what is closed further down is passed over
    place.chmod(0o311)
    with as_nobody():
        assert main([command, str(place), *page, "--json"]) == CANNOT_TELL
    assert "Permission denied" in capsys.readouterr().out


def test_a_report_that_cannot_be_put_there_is_not_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "closed").mkdir()
    (place / "closed").chmod(0o555)
    with as_nobody():
        assert main(["report", str(place), "--output", str(place / "closed" / "page.html")]) == BAD_NEWS
    assert "Nothing was changed." in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["audit"], ["status"], ["report"], ["init", "."], ["journal", "verify", "x"]], ids=" ".join
)
def test_a_working_directory_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(words) == CANNOT_TELL
    assert capsys.readouterr().err == "landed: the working directory is gone; go to one that is there\n"
