"""Who has a journal: claims, closing, descriptors."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from journal_programs import CLAIM, data, journal, path
from programs import Programs
from recording import Recording

from landed.errors import Claimed, NotLanded, Refused
from landed.journal import Journal
from landed.local.log import LocalLog

__all__ = ["journal", "path"]


# Owning alone.


def test_claim(journal: Journal, path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landed.local.claim.TIMEOUT", 0.1)
    monkeypatch.setattr("landed.local.claim.GLANCE", 0.02)
    journal.append([b"one"])
    owner = programs.start(CLAIM, path)
    assert owner.hear() == "claimed"
    for _ in range(3):
        with pytest.raises(Claimed, match=f"pid {owner.pid}") as told:
            journal.append([b"refused"])
        assert f"pid {owner.pid}" in str(told.value.holder)
        with pytest.raises(Claimed):
            Journal(path)
        time.sleep(0.06)
    with pytest.raises(Claimed):
        journal.claim()
    owner.say()
    owner.finish()
    journal.append([b"two"], expect=1)
    assert data(journal) == [b"one", b"two"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_claim_ends_with_its_owner(journal: Journal, path: Path, programs: Programs, how: int) -> None:
    owner = programs.start(CLAIM, path)
    assert owner.hear() == "claimed"
    owner.signal(signal.SIGSTOP)
    with pytest.raises(Claimed):
        journal.append([b"refused"])
    owner.signal(signal.SIGCONT)
    owner.signal(how)
    owner.kill()
    journal.append([b"free"])
    assert journal.claim() is journal
    journal.append([b"mine"])
    with pytest.raises(Claimed):
        Journal(path)
    journal.close()
    assert data(Journal(path)) == [b"free", b"mine"]


def test_looking_for_a_claim_is_no_claim(path: Path, fs: Recording) -> None:
    """Two processes that open a journal at the same moment, which once was claimed."""
    Journal(path).close()
    (path / "claim").touch()
    errors: list[BaseException] = []

    def open_another(_: object) -> None:
        try:
            Journal(path).close()
        except NotLanded as error:
            errors.append(error)

    fs.after("flock", open_another, on="claim")
    LocalLog(str(path), fs=fs)
    assert fs.named("flock", on="claim")
    assert errors == []


# Closing.


def test_closed(journal: Journal, path: Path) -> None:
    with journal:
        journal.append([b"one"])
    for use in (
        lambda: journal.append([b"x"]),
        lambda: journal.tail,
        lambda: journal.size,
        lambda: list(journal.read()),
        lambda: journal.compact(lambda _: True),
        journal.claim,
        lambda: journal.fetch((1, 1, 1, 0, 128)),
    ):
        with pytest.raises(Refused, match="closed"):
            use()
    journal.close()
    assert data(Journal(path)) == [b"one"]


def test_nothing_stays_open(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Journal(path) as journal:
        for _ in range(20):
            journal.append([bytes(1000)])
        list(journal.read())
        list(journal.read(newest_first=True))
        journal.compact(lambda _: True)
    lock_files = 3  # lock, compact, and claim if there were one: kept for the next time, in a bounded pool
    assert len(os.listdir("/proc/self/fd")) <= before + lock_files
