"""A journal of the test's own, and programs that use the same one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from landed.journal import Journal

APPEND = """
import sys
from landed.journal import Journal
journal = Journal(sys.argv[1])
print("open", flush=True)
for line in sys.stdin:
    print(journal.append([line.strip().encode()]).first, flush=True)
"""
READ = """
import sys
from landed.journal import Journal
journal = Journal(sys.argv[1])
print(journal.tail, flush=True)
for _ in sys.stdin:
    newest = next(journal.read(newest_first=True))
    print(journal.tail, newest.sequence, newest.data.decode(), len(list(journal.read())), flush=True)
"""
CLAIM = """
import sys
from landed.journal import Journal
journal = Journal(sys.argv[1]).claim()
print("claimed", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(path: Path) -> Journal:
    return Journal(path)


def data(journal: Journal) -> list[bytes]:
    return [entry.data for entry in journal.read()]


def used(path: Path) -> int:
    """Bytes on the disk: of every file, and of the directory."""
    return sum(os.stat(each).st_blocks * 512 for each in [path, *path.iterdir()])
