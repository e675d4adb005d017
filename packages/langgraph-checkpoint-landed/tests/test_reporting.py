"""`landed report` of a directory of threads: who put which checkpoint, and where two are on one parent."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from drafts import Thread

import landed
from landed.cli import main
from landed.inspection import journals
from langgraph.checkpoint.landed import LandedSaver
from langgraph.checkpoint.landed.reporting import events

OK, BAD_NEWS = 0, 1
OTHER = """
import sys
sys.path.insert(0, sys.argv[1])
from drafts import Thread
from langgraph.checkpoint.landed import LandedSaver
thread = Thread(LandedSaver(sys.argv[2], on_conflict="fork"))
thread.load()
print("loaded", flush=True)
sys.stdin.readline()
thread.put({"said": "secret"})
"""


@pytest.fixture
def forked(root: Path) -> Path:
    """A thread on which two processes have built on one checkpoint."""
    with LandedSaver(root, on_conflict="fork") as saver:
        mine = Thread(saver)
        mine.put({"said": "hello"})
        with subprocess.Popen(
            [sys.executable, "-c", OTHER, str(Path(__file__).parent), str(root)],
            env={**os.environ, "LANDED_PROGRAM": "the-other"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"loaded\n"
            saver.put_writes(mine.where, [("said", "more"), ("said", "still more")], "a-task")
            mine.put({"said": "secret"})
            other.communicate(b"go\n", timeout=60)
        assert other.returncode == 0
    return root


def test_who_put_what_and_where_it_forks(forked: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["report", str(forked), "--output", str(page)]) == OK
    text = page.read_text()
    assert "langgraph-checkpoint-landed" in text, "it says what reads the journal"
    lanes = re.findall(r'<span class="who">(.*?)</span>', text)
    assert any("the-other" in who for who in lanes), lanes
    assert any(str(os.getpid()) in who for who in lanes), lanes
    assert text.count("a fork: 2 checkpoints were put on that one") == 2
    assert "2 writes pending for checkpoint" in text
    assert "secret" not in text, "no state is shown"


def test_the_events_of_a_thread(forked: Path) -> None:
    (journal,) = journals(forked)
    told = events(journal)
    assert told is not None
    first, writes, mine, others = told
    assert first.what.endswith("step -1, the first")
    assert writes.at is None
    assert first.who == mine.who != others.who
    assert first.at is not None
    assert mine.at is not None
    assert others.at is not None
    assert first.at <= mine.at <= others.at


def test_what_was_dropped_shows(root: Path) -> None:
    with LandedSaver(root) as saver:
        thread = Thread(saver)
        for number in range(3):
            thread.put({"said": str(number)})
        (journal,) = journals(root)
        before = events(journal)
        saver.prune(["1"], strategy="keep_latest")
        after = events(journal)
    assert before is not None
    assert after is not None
    assert len(before) == 3
    assert any(event.who == "pruning" for event in after) or len(after) < 3


def test_a_damaged_thread_is_reported_as_one(forked: Path, tmp_path: Path) -> None:
    (journal,) = journals(forked)
    (segment,) = Path(journal).glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[data.index(b"a-task")] ^= 1
    segment.write_bytes(data)
    assert main(["report", str(forked), "--output", str(tmp_path / "page.html")]) == BAD_NEWS


@pytest.mark.parametrize("data", [b"", b"plain", b'{"json": 1}', b"\x91\x01", bytes(100)])
@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 9])
def test_another_journal_is_left_to_others(tmp_path: Path, kind: int, data: bytes) -> None:
    with landed.Journal(tmp_path / "plain") as journal:
        journal.append([landed.Record(data, kind=kind)])
    assert events(str(tmp_path / "plain")) is None
