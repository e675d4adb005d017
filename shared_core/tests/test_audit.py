"""The audit: each verdict, met by doing to the disk what it speaks of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from time import monotonic

import pytest

import landed
from landed import _fs, process
from landed.artifact import Artifact
from landed.audit import (
    BYPASSED,
    DAMAGED,
    IN_PROGRESS,
    INTACT,
    LOST,
    UNFINISHED,
    UNREADABLE,
    audit,
    examine,
    stores,
)
from landed.cli.status import state_of
from landed.inventory import keys
from landed.records import SLOT_SIZE
from landed.sharing import share
from landed.standing import standing
from landed.state import user_store

DIES = """
import os, signal, sys, landed
from landed import _fs

class Dies(_fs.FileOps):
    def {call}(self, *args, **kwargs):
        {before}
        print("here", flush=True)
        {end}

landed.Files(Dies()).{operation}
"""


def die(operation: str, *, at: str, after: bool = False) -> None:
    """Run `operation` in a process that is killed in, or right after, its first call of `at`."""
    before = f"super().{at}(*args, **kwargs)" if after else "pass"
    code = DIES.format(call=at, before=before, end="os.kill(os.getpid(), signal.SIGKILL)", operation=operation)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


def verdicts(**options) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in audit(*stores(), **options):
        found.setdefault(os.path.basename(finding.path), []).append(finding.verdict)
    return found


def only(**options):
    (finding,) = audit(*stores(), **options)
    return finding


def test_nothing_written_is_nothing_found(work):
    assert verdicts() == {}


def test_acknowledged_writes_and_deletes_are_intact(work):
    landed.write(work / "a", b"1")
    landed.write(work / "a", b"2")
    landed.write(work / "b", b"1")
    landed.delete(work / "b")
    assert verdicts() == {"a": [INTACT], "b": [INTACT]}
    assert verdicts(level="device") == {"a": [INTACT], "b": [INTACT]}
    assert not any(finding.bad or not finding.told for finding in audit(*stores()))


def test_a_refused_write_leaves_nothing_to_find(work):
    (work / "a").write_bytes(b"before")
    with pytest.raises(landed.Bypassed):
        landed.write(work / "a", b"1")
    assert verdicts() == {}


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda path: path.unlink(), "the file is gone"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_bytes(bytes(3)), "zeros"),
        (lambda path: path.write_bytes(b"one"), "old bytes of version 1-"),
    ],
    ids=["gone", "empty", "zeros", "old"],
)
def test_lost(work, harm, words):
    path = work / "a"
    landed.write(path, b"one")
    last = landed.write(path, b"two")
    harm(path)
    finding = only()
    assert (finding.verdict, finding.bad, finding.told) == (LOST, True, True)
    assert words in finding.detail
    assert finding.write is not None
    assert finding.write.version == last.version
    assert "landed write" in finding.hint


def test_lost_with_its_directory(work):
    landed.write(work / "d" / "a", b"one")
    (work / "d" / "a").unlink()
    (work / "d").rmdir()
    assert only().verdict == LOST
    (work / "d").write_bytes(b"a file took the place of the directory")
    assert only().verdict == LOST


def test_the_bytes_that_a_write_replaced_are_back(work):
    path = work / "a"
    path.write_bytes(b"never landed's")
    landed.write(path, b"new", expect=landed.ANY)
    path.write_bytes(b"never landed's")
    finding = only()
    assert finding.verdict == LOST
    assert "the bytes that it replaced are back" in finding.detail


def test_a_lost_delete(work):
    path = work / "a"
    landed.write(path, b"one")
    landed.delete(path)
    path.write_bytes(b"one")
    finding = only()
    assert finding.verdict == LOST
    assert "(a delete)" in finding.detail


def test_bypassed(work):
    path = work / "a"
    landed.write(path, b"one")
    path.write_bytes(b"others")
    finding = only()
    assert (finding.verdict, finding.bad) == (BYPASSED, True)
    assert finding.found == Artifact(path).judge(Artifact(path).shelf.load(), Artifact(path).look()).version
    assert finding.found is not None
    landed.write(path, path.read_bytes(), expect=finding.found)  # the hint's way out
    assert verdicts() == {"a": [INTACT]}


def test_a_directory_in_its_place(work):
    landed.write(work / "a", b"one")
    (work / "a").unlink()
    (work / "a").mkdir()
    finding = only()
    assert finding.verdict == BYPASSED
    assert "a directory" in finding.detail


def test_a_writer_killed_before_its_rename(work):
    path = work / "a"
    landed.write(path, b"one")
    die(f"write({str(path)!r}, b'two', expect=landed.ANY)", at="rename")
    finding = only()
    assert (finding.verdict, finding.owner_alive, finding.bad) == (UNFINISHED, False, True)
    assert "did not reach the file" in finding.detail
    assert "landed verify" in finding.hint
    assert landed.verify(path).settled  # the hint's way out
    assert verdicts() == {"a": [INTACT]}


def test_a_writer_killed_after_its_rename(work):
    path = work / "a"
    landed.write(path, b"one")
    die(f"write({str(path)!r}, b'two', expect=landed.ANY)", at="rename", after=True)
    finding = only()
    assert finding.verdict == UNFINISHED
    assert "in place" in finding.detail
    landed.verify(path)
    assert verdicts() == {"a": [INTACT]}


def test_a_first_writer_killed_before_its_link(work):
    die(f"write({str(work / 'a')!r}, b'one')", at="link")
    assert verdicts() == {"a": [UNFINISHED]}


def test_a_first_writer_killed_before_its_record(work):
    code = DIES.format(
        call="pwrite",
        before="offset = args[2] if len(args) > 2 else kwargs['offset']",
        end="return super().pwrite(*args, **kwargs) if offset == 64 else os.kill(os.getpid(), signal.SIGKILL)",
        operation=f"write({str(work / 'a')!r}, b'one')",
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert verdicts() == {}
    landed.write(work / "a", b"one")
    assert verdicts() == {"a": [INTACT]}


def test_an_unfinished_write_on_top_of_a_loss(work):
    path = work / "a"
    landed.write(path, b"one")
    die(f"write({str(path)!r}, b'two', expect=landed.ANY)", at="rename")
    path.unlink()
    assert verdicts() == {"a": [UNFINISHED, LOST]}


@pytest.mark.parametrize("alive", [True, None], ids=["living", "unreachable"])
def test_an_unknown_outcome_is_neither_bad_nor_told_unless_its_owner_is_dead(work, monkeypatch, alive):
    if alive is None:
        monkeypatch.setattr(process, "_me", process.Owner(os.getpid(), "-", process.me().host, "in a container"))

    class FailsAfterRename(_fs.FileOps):
        renamed = False

        def rename(self, *args, **kwargs):
            super().rename(*args, **kwargs)
            self.renamed = True

        def fsync(self, fd):
            if self.renamed:
                raise OSError(5, "Input/output error")
            super().fsync(fd)

    landed.write(work / "a", b"one")
    with pytest.raises(landed.OutcomeUnknown, match="sync directory"):
        landed.Files(FailsAfterRename()).write(work / "a", b"two", expect=landed.ANY)
    finding = only()
    assert (finding.verdict, finding.owner_alive, finding.bad, finding.told) == (UNFINISHED, alive, False, False)
    seen = [standing(store, key) for store in stores() for key in keys(store)]
    assert [state_of(one) for one in seen if one is not None] == ["unknown"]


def test_a_held_lock_is_in_progress_and_not_a_loss(work, programs):
    path = work / "a"
    landed.write(path, b"one")
    code = DIES.format(
        call="rename",
        before="pass",
        end="sys.stdin.read()",
        operation=f"write({str(path)!r}, b'two', expect=landed.ANY)",
    )
    writer = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert writer.stdout.readline() == b"here\n"
        finding = only()
        assert finding.verdict == IN_PROGRESS
        assert f"pid {writer.pid}" in finding.detail
        seen = standing(user_store(), Artifact(path).key)
        assert seen is not None
        assert (seen.held, seen.begun.size, seen.holder.owner.pid) == (True, 3, writer.pid)
        started = monotonic()
        assert only(patience=60).verdict == IN_PROGRESS
        assert (
            monotonic() - started < 30
        )  # something is begun and somebody holds the lock: there is nothing to wait for
        path.unlink()  # even now: the writer may be about to put its bytes there
        assert only().verdict == IN_PROGRESS
    finally:
        writer.kill()
        writer.communicate()
    assert verdicts() == {"a": [UNFINISHED, LOST]}


def test_an_edit_of_an_intact_file_is_not_waited_for(work):
    with landed.edit(work / "a") as doc:
        doc.data = b"one"
    with landed.edit(work / "a"):
        assert verdicts() == {"a": [INTACT]}


def test_a_mismatch_under_anothers_lock_is_in_progress(work):
    landed.write(work / "a", b"one")
    with landed.edit(work / "a"):
        (work / "a").write_bytes(b"others")
        assert verdicts(patience=0) == {"a": [IN_PROGRESS]}
    assert verdicts(patience=0) == {"a": [BYPASSED]}


def test_an_audit_beside_writers_never_cries_wolf(work):
    """Without the second look under the lock, this finds losses that never were."""
    code = textwrap.dedent(f"""
        import landed
        for turn in range(150):
            with landed.edit({str(work / "a")!r}) as doc:
                doc.text = str(turn)
    """)
    landed.write(work / "a", b"start")
    writers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    seen = set()
    try:
        while any(writer.poll() is None for writer in writers):
            seen |= {finding.verdict for finding in audit(*stores())}
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen <= {INTACT, IN_PROGRESS}
    assert INTACT in seen


def test_a_stale_first_look_is_corrected_under_the_lock(work):
    """A write that lands between the audit's reading of the record and of the file."""
    path = work / "a"
    landed.write(path, b"one")

    class WritesMeanwhile(_fs.FileOps):
        done = False

        def open(self, name, flags, mode=0o600, *, dir_fd=None):
            if name == str(path) and not self.done:
                type(self).done = True
                landed.write(path, b"two")
            return super().open(name, flags, mode, dir_fd=dir_fd)

    (finding,) = examine(user_store(), Artifact(path).key, fs=WritesMeanwhile())
    assert WritesMeanwhile.done
    assert finding.verdict == INTACT


def test_a_stale_match_is_corrected_under_the_lock(work):
    """Another write lands after the audit has read the record, and is undone before it reads the file."""
    path = work / "a"
    landed.write(path, b"one")

    class Meanwhile(_fs.FileOps):
        done = False

        def open(self, name, flags, mode=0o600, *, dir_fd=None):
            if name == str(path) and not self.done:
                type(self).done = True
                landed.write(path, b"two")
                path.write_bytes(b"one")
            return super().open(name, flags, mode, dir_fd=dir_fd)

    (finding,) = examine(user_store(), Artifact(path).key, fs=Meanwhile())
    assert Meanwhile.done
    assert finding.verdict == LOST


@pytest.mark.parametrize("block", [b"", b"landed-record 1 nonsense", bytes(40_000)], ids=["empty", "torn", "zeros"])
def test_a_damaged_record(work, block):
    landed.write(work / "a", b"one")
    landed.write(work / "a", b"two")  # after one write an empty record is one whose writer died before it was written
    record = Artifact(work / "a").shelf.record_path
    with open(record, "wb") as file:
        file.write(block)
    (work / "a").write_bytes(b"others")
    assert [(found.verdict, found.bad, found.told) for found in audit(*stores())] == [(DAMAGED, False, False)]


@pytest.mark.parametrize("block", [b"", bytes(40_000)], ids=["empty", "zeros"])
def test_a_file_says_itself_which_version_it_is_when_a_power_cut_took_its_record(work, block):
    landed.write(work / "a", b"one")
    last = landed.write(work / "a", b"two")
    with open(Artifact(work / "a").shelf.record_path, "wb") as file:
        file.write(block)
    finding = only()
    assert (finding.verdict, finding.path, finding.found) == (INTACT, str(work / "a"), last.version)


@pytest.mark.parametrize(("newest", "verdict"), [(False, INTACT), (True, UNFINISHED)])
def test_one_torn_slot_is_no_damage(work, newest, verdict):
    """The slot before it counts: it says that the write was begun, and the disk that it is in place."""
    path = work / "a"
    landed.write(path, b"one")
    sequence = Artifact(path).shelf.load().sequence
    with open(Artifact(path).shelf.record_path, "r+b") as file:
        file.seek((sequence + (not newest)) % 2 * SLOT_SIZE)
        file.write(b"torn")
    assert verdicts() == {"a": [verdict]}
    landed.verify(path)
    assert verdicts() == {"a": [INTACT]}


def test_what_is_in_place_after_a_reboot_landed(work, monkeypatch):
    """The end of a write need not have been flushed; what is in the file then has been."""
    path = work / "a"
    last = landed.write(path, b"one")
    with open(Artifact(path).shelf.record_path, "r+b") as file:
        file.seek(Artifact(path).shelf.load().sequence % 2 * SLOT_SIZE)
        file.write(b"torn")
    monkeypatch.setattr(process, "_boot_id", "the next boot")
    finding = only()
    assert (finding.verdict, finding.found) == (INTACT, last.version)


def test_a_write_of_an_earlier_boot_that_is_not_in_place_is_unfinished(work, monkeypatch):
    path = work / "a"
    landed.write(path, b"one")
    die(f"write({str(path)!r}, b'two', expect=landed.ANY)", at="rename")
    monkeypatch.setattr(process, "_boot_id", "the next boot")
    assert verdicts() == {"a": [UNFINISHED]}


def test_a_record_under_anothers_key(work):
    landed.write(work / "a", b"one")
    landed.write(work / "b", b"one")
    a, b = (Artifact(work / name).shelf.record_path for name in "ab")
    os.replace(a, b)
    assert sorted(finding.verdict for finding in audit(*stores())) == [DAMAGED, INTACT]


def test_a_removed_record_is_missed(work):
    path = work / "a"
    landed.write(path, b"one")
    landed.write(path, b"two")
    os.unlink(Artifact(path).shelf.record_path)
    finding = only()
    assert (finding.verdict, finding.path) == (INTACT, str(path))
    assert "its record is gone" in finding.detail
    path.write_bytes(b"other bytes")
    finding = only()
    assert (finding.verdict, finding.told) == (DAMAGED, False)
    assert "writes up to version 2-" in finding.detail
    assert list(audit(*stores(), under=str(path.parent / "elsewhere"))) == []


def test_what_cannot_be_read_is_not_called_lost(work):
    landed.write(work / "a", b"one")

    class Denies(_fs.FileOps):
        def open(self, name, flags, mode=0o600, *, dir_fd=None):
            if name == str(work / "a"):
                raise PermissionError(13, "Permission denied")
            return super().open(name, flags, mode, dir_fd=dir_fd)

    finding = only(fs=Denies())
    assert (finding.verdict, finding.bad, finding.told) == (UNREADABLE, False, False)


def test_only_what_is_below(work):
    landed.write(work / "in" / "a", b"1")
    landed.write(work / "inner", b"1")
    assert verdicts(under=str(work / "in")) == {"a": [INTACT]}
    assert verdicts(under=str(work)) == {"a": [INTACT], "inner": [INTACT]}


def test_shared_directories_below_are_found(work):
    for name in ("one", "deep/er"):
        (work / name).mkdir(parents=True)
        share(str(work / name))
        landed.write(work / name / "a", b"1")
    landed.write(work / "own", b"1")
    found = {os.path.relpath(store.root, work) for store in stores(str(work)) if store.base}
    assert found == {"one/.landed", "deep/er/.landed"}
    (work / "one" / "a").unlink()
    by_path = {finding.path: finding.verdict for finding in audit(*stores(str(work)), under=str(work))}
    assert by_path == {str(work / "one/a"): LOST, str(work / "deep/er/a"): INTACT, str(work / "own"): INTACT}


def test_the_past_of_a_directory_that_is_shared_now_counts_once(work):
    landed.write(work / "a", b"one")
    share(str(work))
    landed.write(work / "a", b"two")
    assert {f.path: f.verdict for f in audit(*stores(), *stores(str(work)))} == {str(work / "a"): INTACT}
    assert verdicts() == {}  # the user's own store says nothing of it any more


def test_standing_of_a_first_write_has_no_name_yet(work):
    lock = Artifact(work / "a").shelf.lock
    user_store().make(_fs.LOCAL)
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with lock:
            entered.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert entered.wait(60)
        seen = standing(user_store(), Artifact(work / "a").key)
        assert seen is not None
        assert (seen.path, seen.held) == (None, True)
    finally:
        leave.set()
        thread.join()
    assert standing(user_store(), Artifact(work / "a").key) is None
