"""What a fork does to an open journal: both go on with it, and the child keeps nothing of its parent's open."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest
from journal_programs import data, journal, path
from recording import Recording

from landed.errors import Claimed
from landed.journal import Journal
from landed.journals import Journals
from landed.local.log import LocalLog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["journal", "path"]

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # threads of tests before may idle still
]


def in_child(action: object) -> int:
    """Run it in a forked child; its exit status."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            action()  # type: ignore[operator]
        except BaseException:  # noqa: BLE001 - reported by the status
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_fork_with_an_open_journal(journal: Journal) -> None:
    journal.append([b"parent"])
    assert in_child(lambda: journal.append([b"child"], expect=1)) == 0
    assert journal.append([b"parent again"], expect=2).first == 3
    assert data(journal) == [b"parent", b"child", b"parent again"]


def test_fork_of_an_owner(journal: Journal) -> None:
    """The claim is the parent's: the child, another process, is told."""
    journal.claim()
    journal.append([b"parent"])

    def child() -> None:
        with pytest.raises(Claimed):
            Journal(journal.path)

    assert in_child(child) == 0
    journal.append([b"parent again"])
    with pytest.raises(Claimed):
        Journal(journal.path)


def test_fork_while_a_thread_appends(path: Path, fs: Recording) -> None:
    """The lock is the parent's, who waits for the child here: the child is told so in time, and does not hang."""
    journal = Journal(path, timeout=0.5, log=LocalLog(str(path), fs=fs))
    journal.append([b"one"])
    statuses: list[int] = []
    fs.before(
        "pwrite", lambda _: statuses.append(in_child(lambda: (signal.alarm(20), journal.append([b"child"])))), on=".seg"
    )
    journal.append([b"two"])
    assert statuses == [1]
    assert data(journal) == [b"one", b"two"]


def open_segments(directory: Path) -> list[str]:
    """The segments below a directory that this process has open, by the kernel's word."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            continue  # of the listing itself
    return [link for link in links if ".seg" in link and link.startswith(f"{directory}/")]


def test_a_child_keeps_no_segment_open(journal: Journal, tmp_path: Path) -> None:
    """What the parent compacts away gives its space back, also while a child lives that never uses the journal."""
    journals = Journals(tmp_path / "many")
    for each in (journal, journals.open("a"), journals.open("b")):
        each.append([b"one"])
    assert len(open_segments(tmp_path)) == 3

    def child() -> None:
        assert open_segments(tmp_path) == []
        assert journal.append([b"child"]).first == 2
        assert journals.open("a").append([b"child"]).first == 2
        assert len(open_segments(tmp_path)) == 2

    assert in_child(child) == 0
    assert len(open_segments(tmp_path)) == 3
    assert journal.append([b"parent"]).first == 3


def test_a_child_keeps_no_segment_of_a_flush_that_its_parent_is_at(path: Path, tmp_path: Path, fs: Recording) -> None:
    journal = Journal(path, log=LocalLog(str(path), fs=fs))
    flushing, go_on = threading.Event(), threading.Event()
    fs.before("fdatasync", lambda _: (flushing.set(), go_on.wait(20)), on=".seg")
    thread = threading.Thread(target=journal.append, args=[[b"one"]])
    thread.start()
    assert flushing.wait(20)

    def child() -> None:
        assert open_segments(tmp_path) == []
        assert journal.append([b"child"]).first == 2  # it was written, and not acknowledged yet

    try:
        assert len(open_segments(tmp_path)) == 1
        assert in_child(child) == 0
    finally:
        go_on.set()
        thread.join()
    assert data(journal) == [b"one", b"child"]


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.usefixtures("small_segments")
def test_a_child_goes_on_with_its_parents_reader(journal: Journal, *, newest_first: bool) -> None:
    """Parent and child read on from where the parent was, at their own pace, while both append."""
    for number in range(40):
        journal.append([b"%d" % number + bytes(500)])
    expected = [entry.data for entry in journal.read(newest_first=newest_first)]
    reader: Iterator[bytes] = (entry.data for entry in journal.read(newest_first=newest_first))
    begun = [next(reader) for _ in range(15)]

    def child() -> None:
        journal.append([b"child"])
        assert begun + list(reader) == expected

    assert in_child(child) == 0
    journal.append([b"parent"])
    assert begun + list(reader) == expected
