"""Several programs on one file: nobody's acknowledged bytes are lost, and each hears who was first."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

import landed
from landed import Files, StaleWrite, records, shelf
from landed.artifact import Artifact
from landed.log import writes

if TYPE_CHECKING:
    from pathlib import Path

    from programs import Programs

WRITE_ON_COMMAND = """
    import sys
    import landed
    path = sys.argv[1]
    seen = landed.read(path)
    print(seen.version, flush=True)
    sys.stdin.readline()
    try:
        receipt = landed.write(path, sys.argv[2])
        print("landed", receipt.version)
    except landed.StaleWrite as error:
        print("stale", error.found, error.writer)
"""


def test_of_two_programs_that_read_the_same_one_lands_and_the_other_hears_who(
    files: Files, work: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = files.write(work / "a", b"start")
    monkeypatch.setenv("LANDED_PROGRAM", "the first")
    first = programs.start(WRITE_ON_COMMAND, work / "a", "by the first")
    monkeypatch.setenv("LANDED_PROGRAM", "the second")
    second = programs.start(WRITE_ON_COMMAND, work / "a", "by the second")
    assert first.hear() == second.hear() == start.version
    first.say()
    (answer,) = first.finish()
    verdict, version = answer.split()
    assert verdict == "landed"
    second.say()
    (answer,) = second.finish()
    assert answer == f"stale {version} the first (pid {first.pid} on {os.uname().nodename})"
    assert (work / "a").read_text() == "by the first"
    snapshot = files.read(work / "a")
    assert snapshot.version == version
    assert f"the first (pid {first.pid}" in snapshot.writer


WRITE_IN_TURN = """
    import sys
    import landed
    from landed import shelf
    shelf.LOG_LIMIT = 4000
    for line in sys.stdin:
        print(landed.write(sys.argv[1], line, expect=landed.ANY).replaced, flush=True)
"""


def test_programs_in_turn_see_each_others_records_and_keep_one_log(
    work: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each keeps record and log open, and remembers what it saved last; the logs are set aside meanwhile."""
    monkeypatch.setattr(shelf, "LOG_LIMIT", 4000)
    other = programs.start(WRITE_IN_TURN, work / "a")
    theirs: object = landed.ABSENT
    turns = 3 * shelf.LOG_CHECKS // 2 + 5
    for turn in range(turns):
        ours = landed.write(work / "a", b"%d" % turn, expect=theirs)
        other.say(f"{turn} by the other")
        assert other.hear() == ours.version
        theirs = landed.read(work / "a").version
    told = writes(Artifact(work / "a").shelf)
    counters = [records.counter_of(write.version) for write, _ in told]
    assert counters == list(range(2 * shelf.LOG_CHECKS, 2 * turns + 1))
    assert all(on_chain for _, on_chain in told)


COUNT = """
    import sys
    import landed
    path, how = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    lost = 0
    for _ in range(25):
        if how == "edit":
            with landed.edit(path) as doc:
                doc.text = str(int(doc.text) + 1)
            continue
        while True:
            doc = landed.read(path)
            try:
                landed.write(path, str(int(doc.text) + 1), expect=doc)
                break
            except landed.StaleWrite:
                lost += 1
    print(lost)
"""


@pytest.mark.parametrize("how", ["edit", "compare and swap"])
def test_programs_count_exactly(files: Files, work: Path, programs: Programs, how: str) -> None:
    files.write(work / "counter", b"0")
    counters = [programs.start(COUNT, work / "counter", how) for _ in range(4)]
    assert [each.hear() for each in counters] == ["ready"] * 4
    for each in counters:
        each.say()
    for each in counters:
        each.finish()
    assert (work / "counter").read_text() == "100"
    assert files.read(work / "counter").version.startswith("101-")
    assert sorted(os.listdir(work)) == ["counter"]


HOLD_AN_EDIT = """
    import sys
    import landed
    with landed.edit(sys.argv[1]) as doc:
        doc.text = "half done"
        print("holding", flush=True)
        sys.stdin.readline()
"""


def test_a_program_that_dies_in_an_edit_leaves_the_old_bytes(files: Files, work: Path, programs: Programs) -> None:
    files.write(work / "a", b"old")
    editor = programs.start(HOLD_AN_EDIT, work / "a")
    assert editor.hear() == "holding"
    with pytest.raises(landed.LockTimeout) as caught:
        files.write(work / "a", b"new", timeout=0.05)
    assert f"pid {editor.pid}" in str(caught.value.holder)
    assert caught.value.path == str(work / "a")  # not the lock's, whose name tells nobody anything
    editor.signal(signal.SIGKILL)
    files.write(work / "a", b"new")
    assert (work / "a").read_bytes() == b"new"


DIE_AT = """
    import os, signal, sys
    import landed
    from landed._fs import FileOps
    class Dies(FileOps):
        renamed = False
        def rename(self, *args, **kwargs):
            super().rename(*args, **kwargs)
            self.renamed = True
        def fsync(self, fd):
            if self.renamed:
                os.kill(os.getpid(), signal.SIGKILL)
            super().fsync(fd)
    landed.Files(Dies()).write(sys.argv[1], b"published", expect=landed.ANY)
"""


def test_a_program_that_dies_after_the_rename_is_settled_by_the_next(
    files: Files, work: Path, programs: Programs
) -> None:
    old = files.write(work / "a", b"old")
    dead = programs.start(DIE_AT, work / "a")
    assert dead.hear() == ""
    with pytest.raises(StaleWrite) as caught:
        files.write(work / "a", b"lost update", expect=old)
    assert str(caught.value.writer).endswith(f"(pid {dead.pid} on {os.uname().nodename})")
    snapshot = files.read(work / "a")
    assert (snapshot.data, snapshot.origin) == (b"published", "landed")
    receipt = files.write(work / "a", b"new")
    assert receipt.replaced == snapshot.version


def test_a_program_starts_from_what_the_file_says(files: Files, work: Path, programs: Programs) -> None:
    version = files.write(work / "a", b"x").version
    source = "import landed, sys; doc = landed.read(sys.argv[1]); print(doc.version, doc.origin)"
    assert programs.run(source, work / "a") == [f"{version} landed"]
