"""Where the times of a directory are said to be exact, they are: no change is missed, however soon it comes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from landed import _fs


def test_no_two_changes_leave_one_time_when_it_was_looked_at_in_between(tmp_path: Path) -> None:
    if not _fs.exact_times(os.stat(tmp_path).st_dev):
        pytest.skip("this file system or this kernel has a clock of ticks")
    one, other = tmp_path / "one", tmp_path / "other"
    for _ in range(500):
        times = [os.stat(tmp_path).st_mtime_ns]
        for change in (one.touch, lambda: one.rename(other), lambda: os.link(other, one), one.unlink, other.unlink):
            change()
            times.append(os.stat(tmp_path).st_mtime_ns)
        assert len(set(times)) == len(times)


def test_where_nothing_is_known_they_are_not() -> None:
    assert not _fs.exact_times(os.stat("/proc" if os.path.isdir("/proc") else os.devnull).st_dev)
    assert not _fs.exact_times(0)


@pytest.mark.skipif(not hasattr(os, "uname"), reason="Linux tells by its release")
@pytest.mark.parametrize("release", ["6.12.9", "5.15.0-generic", "rolling", "6"])
def test_an_older_kernel_has_a_clock_of_ticks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    from landed import _linux

    uname = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*uname[:2], release, *uname[3:])))
    assert not _linux._find_exact(os.stat(tmp_path).st_dev)
