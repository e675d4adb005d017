"""An append has its own time, whoever appends in its name."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from appenders import Appender, queued
from programs import PATIENCE

from landed import journal as journal_module
from landed.engine import Commit
from landed.errors import LockTimeout
from landed.journal import Journal
from landed.lock import Lock


def test_timeout_while_another_process_has_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, timeout=0.2)
    journal.append([b"one"])
    other = Lock(str(path / "lock"))
    other.acquire()
    threads = [Appender(journal, b"%d" % number) for number in range(3)]
    assert all(isinstance(each.done().error, LockTimeout) for each in threads)
    other.release()
    journal.append([b"two"])
    assert [entry.data for entry in journal.read()] == [b"one", b"two"]


def test_each_append_has_its_own_time(tmp_path: Path) -> None:
    """Whoever came later may wait longer; that the leader's time is over is no reason to give up."""
    path = tmp_path / "journal"
    journal = Journal(path, timeout=float(PATIENCE))
    journal.append([b"one"])
    log = journal._log
    deadlines: list[float] = []
    real = log.commit

    def commit(commits: object, timeout: float) -> int:
        deadlines.append(timeout)
        if len(deadlines) == 1:
            entered.set()
            assert go_on.wait(PATIENCE)
            return real(commits, timeout)  # type: ignore[arg-type]
        if len(deadlines) == 2:
            raise LockTimeout("the leader's time is over", path=log.name, step="lock")
        return real(commits, timeout)  # type: ignore[arg-type]

    entered, go_on = threading.Event(), threading.Event()
    log.commit = commit  # type: ignore[method-assign]
    first = Appender(journal, b"first")
    assert entered.wait(PATIENCE)
    second = Appender(journal, b"second")
    queued(journal, 1)
    journal._timeout = 2.0 * PATIENCE
    third = Appender(journal, b"third")
    queued(journal, 2)
    go_on.set()
    assert first.done().receipt
    assert isinstance(second.done().error, LockTimeout)
    assert third.done().receipt
    assert deadlines[2] > PATIENCE


def test_an_append_whose_time_was_taken_by_those_before_it_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal", timeout=float(PATIENCE))
    log, late, entered, go_on = journal._log, [0.0], threading.Event(), threading.Event()
    groups: list[int] = []
    real = log.commit

    def commit(commits: Sequence[Commit], timeout: float) -> int:
        groups.append(len(commits))
        entered.set()
        assert go_on.wait(PATIENCE)
        if len(commits) > 1:
            late[0] = PATIENCE + 1  # as by a store that does not answer
        return real(commits[:1], timeout)

    log.commit = commit  # type: ignore[method-assign]
    monkeypatch.setattr(journal_module, "monotonic", lambda: time.monotonic() + late[0])
    leader = Appender(journal, b"leader")
    assert entered.wait(PATIENCE)
    followers = []
    for number in range(3):
        followers.append(Appender(journal, b"follower"))
        queued(journal, number + 1)
    go_on.set()
    assert leader.done().receipt
    landed = [each for each in followers if each.done().receipt]
    assert len(landed) == 1
    assert all(isinstance(each.error, LockTimeout) for each in followers if each not in landed)
    assert groups == [1, 3]
