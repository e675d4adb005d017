"""A journal whose directory was removed and made again: by this program, or under its hands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import landed


def test_a_new_journal_in_a_removed_ones_place(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    for data in (b"first life", b"second life"):
        with landed.Journal(directory) as journal:
            journal.append([data])
            assert [entry.data for entry in journal.read()] == [data]
        shutil.rmtree(directory)


def test_a_replaced_lock_file_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with landed.Journal(tmp_path / "journal") as journal:
        journal.append([b"one"])
        (tmp_path / "journal" / "lock").rename(tmp_path / "old")
        (tmp_path / "journal" / "lock").write_bytes(b"")
        with pytest.raises(landed.NotLanded, match="the lock file was replaced"):
            journal.append([b"two"])
        journal.append([b"three"])
        assert [entry.data for entry in journal.read()] == [b"one", b"three"]


def test_a_removed_directory_is_said_in_the_writer(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    with landed.Journal(directory) as journal:
        journal.append([b"one"])
        shutil.rmtree(directory)
        with pytest.raises(landed.NotLanded):
            journal.append([b"two"])
        assert not directory.exists()
