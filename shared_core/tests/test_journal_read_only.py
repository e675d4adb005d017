"""Who may only read a journal reads it, and appends as soon as that is granted."""

from __future__ import annotations

import errno

import pytest
from damaged_journals import make, records_of, torn
from read_only import ReadOnly

import landed
from landed.local.log import LocalLog

pytestmark = pytest.mark.usefixtures("small_segments")


def test_who_may_only_read_reads_a_journal_and_appends_as_soon_as_that_is_granted(work):
    records = make(work / "j", 40)
    fs = ReadOnly(work / "j")
    journal = landed.Journal(work / "j", log=LocalLog(str(work / "j"), create=False, fs=fs))
    assert [(entry.sequence, entry.data) for entry in journal.read()] == records
    with pytest.raises(landed.NotLanded, match="the newest segment cannot be opened") as caught:
        journal.append([b"refused"])
    assert caught.value.errno == errno.EROFS
    fs._below = str(work / "elsewhere")
    journal.append([b"granted"])
    assert records_of(work / "j")[len(records) :] == [(journal.tail, b"granted")]


def test_who_may_only_read_takes_the_lock_before_a_torn_end_is_believed(work):
    torn(work / "j")

    class Locked(ReadOnly):
        taken = 0

        def flock(self, fd: int, *, blocking: bool, shared: bool = False) -> None:
            super().flock(fd, blocking=blocking, shared=shared)
            self.taken += 1

    fs = Locked(work / "j")
    assert LocalLog(str(work / "j"), create=False, fs=fs).tail() == 2
    assert fs.taken
    (work / "j" / "lock").unlink()
    with pytest.raises(landed.NotLanded, match="the lock file cannot be locked") as caught:
        LocalLog(str(work / "j"), create=False, fs=fs)
    assert caught.value.errno == errno.EROFS, "and not that there is none"
