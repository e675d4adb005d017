"""Reading, writing, editing and deleting whole files: what comes back, and what is refused."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import threading
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from recording import Recording

import landed
from landed import ABSENT, ANY, SEEN, Files, Refused, StaleWrite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def files_in(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


# What comes back.


def test_write_then_read(files: Files, work: Path) -> None:
    receipt = files.write(work / "a", b"hello\n")
    snapshot = files.read(work / "a")
    assert snapshot.data == b"hello\n"
    assert snapshot.text == "hello\n"
    assert snapshot.version == receipt.version
    assert snapshot.digest == receipt.digest == sha256(b"hello\n").hexdigest()
    assert snapshot.path == receipt.path == str(work / "a")
    assert snapshot.origin == "landed"
    assert f"pid {os.getpid()}" in snapshot.writer
    assert (receipt.size, receipt.verified, receipt.replaced, receipt.settled) == (6, "read", ABSENT, "")
    assert 0 < receipt.seconds < 60
    assert (work / "a").read_bytes() == b"hello\n"


def test_a_receipt_names_what_was_replaced(files: Files, work: Path) -> None:
    first = files.write(work / "a", b"one")
    second = files.write(work / "a", b"two")
    assert second.replaced == first.version
    assert second.version != first.version


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\xff",
        b"line\r\nline\n",
        b"\xef\xbb\xbfwith a BOM",
        bytes(range(256)) * 40_960,
        bytearray(b"array"),
        memoryview(b"view"),
        memoryview(b"0123456789")[::2],
        memoryview(b"12345678").cast("I"),
    ],
    ids=["empty", "binary", "crlf", "bom", "10 MiB", "bytearray", "memoryview", "strided", "cast"],
)
def test_bytes_are_kept_as_they_are(files: Files, work: Path, data: bytes) -> None:
    wanted = bytes(data)
    receipt = files.write(work / "a", data)
    assert (work / "a").read_bytes() == wanted
    assert files.read(work / "a").data == wanted
    assert receipt.size == len(wanted)


@pytest.mark.parametrize("text", ["", "naïve ☃ 𝄞", "a\r\nb\rc\n", "\ufeffwith a BOM", "\0"])
def test_text_is_utf8_with_its_newlines(files: Files, work: Path, text: str) -> None:
    files.write(work / "a", text)
    assert (work / "a").read_bytes() == text.encode()
    assert files.read(work / "a").text == text


@pytest.mark.parametrize("data", ["\ud800", 5, None, ["a"], object()])
def test_what_has_no_bytes_is_refused(files: Files, work: Path, data: object) -> None:
    with pytest.raises(Refused) as caught:
        files.write(work / "a", data)  # type: ignore[arg-type]
    assert caught.value.step == "data"
    assert files_in(work) == []


def test_reading_what_is_not_there(files: Files, work: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        files.read(work / "a")
    assert caught.value.filename == str(work / "a")
    with pytest.raises(FileNotFoundError):
        files.read(work / "no" / "a")


def test_reading_changes_nothing(files: Files, work: Path, state_dir: Path) -> None:
    (work / "a").write_bytes(b"x")
    files.read(work / "a")
    assert not state_dir.exists()
    assert files_in(work) == ["a"]


# Expectations.


@pytest.mark.parametrize("of", [lambda r: r, lambda r: r.version], ids=["receipt", "version"])
def test_expect_what_was_written(files: Files, work: Path, of: Callable[[landed.Receipt], object]) -> None:
    first = files.write(work / "a", b"one")
    second = Files().write(work / "a", b"two", expect=of(first))  # type: ignore[arg-type]
    with pytest.raises(StaleWrite) as caught:
        files.write(work / "a", b"three", expect=of(first))  # type: ignore[arg-type]
    assert (caught.value.expected, caught.value.found) == (first.version, second.version)
    assert f"pid {os.getpid()}" in str(caught.value.writer)
    assert (work / "a").read_bytes() == b"two"


def test_expect_a_snapshot(files: Files, work: Path) -> None:
    files.write(work / "a", b"one")
    snapshot = Files().read(work / "a")
    Files().write(work / "a", b"two", expect=snapshot)
    with pytest.raises(StaleWrite):
        Files().write(work / "a", b"three", expect=snapshot)


def test_expect_absent_creates_once(files: Files, work: Path) -> None:
    files.write(work / "a", b"one", expect=ABSENT)
    with pytest.raises(StaleWrite) as caught:
        files.write(work / "a", b"two", expect=ABSENT)
    assert "expected no file" in str(caught.value)
    assert (work / "a").read_bytes() == b"one"


def test_expect_any_overwrites_and_says_what(files: Files, work: Path) -> None:
    theirs = Files().write(work / "a", b"theirs")
    assert files.write(work / "a", b"ours", expect=ANY).replaced == theirs.version
    assert files.write(work / "b", b"ours", expect=ANY).replaced is ABSENT


def test_expect_seen_is_the_default(files: Files, work: Path) -> None:
    first = files.write(work / "a", b"one")  # on nothing
    files.write(work / "a", b"two")  # on what it wrote
    other = Files()
    with pytest.raises(StaleWrite, match="this program has not seen") as caught:
        other.write(work / "a", b"three")
    assert caught.value.expected is None
    other.read(work / "a")
    other.write(work / "a", b"three", expect=SEEN)  # on what it read
    with pytest.raises(StaleWrite):
        files.write(work / "a", b"four")
    with pytest.raises(StaleWrite):
        files.write(work / "a", b"four", expect=first)
    assert (work / "a").read_bytes() == b"three"


def test_a_refused_write_does_not_count_as_seen(files: Files, work: Path) -> None:
    Files().write(work / "a", b"theirs")
    for _ in range(3):
        with pytest.raises(StaleWrite):
            files.write(work / "a", b"ours")


def in_a_thread(work: Callable[[], object]) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_a_new_thread_does_not_inherit_what_a_dead_one_saw(files: Files, work: Path) -> None:
    """The system gives the identifier of a thread that ended to the next; what it had seen must not go with it."""
    for number in range(20):
        in_a_thread(lambda number=number: files.write(work / "a", b"first %d" % number))
        release = threading.Event()
        idle = threading.Thread(target=release.wait)  # takes the identifier that is free now
        idle.start()
        in_a_thread(lambda number=number: files.write(work / "a", b"second %d" % number))
        release.set()
        idle.join()


def test_a_thread_that_has_seen_nothing_goes_by_the_program(files: Files, work: Path) -> None:
    files.write(work / "a", b"main")
    in_a_thread(lambda: files.write(work / "a", b"thread"))
    with pytest.raises(StaleWrite):
        files.write(work / "a", b"main again")


@pytest.mark.parametrize("expect", [None, 5, b"1-x", True])
def test_what_is_no_expectation_is_refused(files: Files, work: Path, expect: object) -> None:
    with pytest.raises(Refused, match="expect is"):
        files.write(work / "a", b"x", expect=expect)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="expect is"):
        files.delete(work / "a", expect=expect)  # type: ignore[arg-type]


def test_what_is_no_level_is_refused(files: Files, work: Path) -> None:
    for attempt in (
        lambda: files.write(work / "a", b"x", verify="none"),
        lambda: files.verify(work / "a", level="none"),
        lambda: files.edit(work / "a", verify="none").__enter__(),
    ):
        with pytest.raises(Refused, match="verify is one of"):
            attempt()


# Edit.


def test_edit_changes_a_file(files: Files, work: Path) -> None:
    files.write(work / "a", "todo")
    with files.edit(work / "a") as doc:
        assert doc.origin == "landed"
        doc.text = doc.text.replace("todo", "done")
    assert (work / "a").read_text() == "done"
    assert doc.receipt is not None
    assert doc.receipt.replaced == doc.version
    files.write(work / "a", b"on what the edit wrote")


def test_edit_of_another_programs_bytes_counts_as_seen(files: Files, work: Path) -> None:
    Files().write(work / "a", b"theirs")
    with files.edit(work / "a") as doc:
        doc.data += b" and ours"
    files.write(work / "a", b"more")


def test_edit_without_a_change_writes_nothing(files: Files, work: Path, fs: Recording) -> None:
    Files().write(work / "a", b"same")
    before = os.stat(work / "a")
    editing = Files(fs)
    with editing.edit(work / "a") as doc:
        doc.data = bytearray(b"same")  # type: ignore[assignment]
    assert doc.receipt is None
    assert os.stat(work / "a").st_mtime_ns == before.st_mtime_ns
    assert not fs.named("fsync")
    editing.write(work / "a", b"it has been seen")


def test_edit_with_an_exception_writes_nothing(files: Files, work: Path) -> None:
    files.write(work / "a", b"old")
    with pytest.raises(ZeroDivisionError), files.edit(work / "a") as doc:  # noqa: PT012 - the block is what raises
        doc.data = b"new"
        _ = 1 / 0
    assert (work / "a").read_bytes() == b"old"
    assert doc.receipt is None
    files.write(work / "a", b"the lock is free")


def test_edit_of_a_missing_file_creates_it(files: Files, work: Path) -> None:
    with files.edit(work / "new" / "a") as doc:
        assert (doc.data, doc.text, doc.version) == (b"", "", ABSENT)
        doc.text = "made"
    assert (work / "new" / "a").read_text() == "made"
    assert doc.receipt is not None
    assert doc.receipt.replaced is ABSENT


def test_edit_that_leaves_a_missing_file_empty_creates_nothing(files: Files, work: Path) -> None:
    with files.edit(work / "a"):
        pass
    assert files_in(work) == []


@pytest.mark.parametrize("leave", ["exception", "unchanged"])
def test_edit_that_writes_nothing_leaves_no_new_directories(files: Files, work: Path, leave: str) -> None:
    with contextlib.suppress(ZeroDivisionError), files.edit(work / "x" / "y" / "a"):
        _ = 1 / (leave == "unchanged")
    assert files_in(work) == []


def test_edit_holds_the_lock(files: Files, work: Path) -> None:
    with files.edit(work / "a") as doc:
        doc.data = b"edited"
        with pytest.raises(landed.LockTimeout):
            in_a_thread(lambda: files.write(work / "a", b"other", expect=ANY, timeout=0))
    assert (work / "a").read_bytes() == b"edited"


@pytest.mark.parametrize(
    "nested",
    [
        lambda files, path: files.edit(path).__enter__(),
        lambda files, path: files.write(path, b"x"),
        lambda files, path: files.delete(path),
        lambda files, path: Files().write(path, b"x", expect=ANY),
    ],
    ids=["edit", "write", "delete", "another Files"],
)
def test_nested_writes_are_refused_at_once(files: Files, work: Path, nested: Callable[..., object]) -> None:
    files.write(work / "a", b"old")
    with files.edit(work / "a") as doc:
        with pytest.raises(Refused, match="would wait for itself"):
            nested(files, work / "a")
        assert files.read(work / "a").data == b"old"  # reading needs no lock
        doc.data = b"new"
    assert (work / "a").read_bytes() == b"new"


def test_one_edit_may_be_entered_again_but_not_in_its_own_block(files: Files, work: Path) -> None:
    edit = files.edit(work / "a")
    for line in ("one,", "two,"):
        with edit as doc:
            with pytest.raises(Refused, match="would wait for itself"), edit:
                pass
            doc.text += line
    assert (work / "a").read_text() == "one,two,"
    in_a_thread(lambda: files.write(work / "a", b"free", expect=ANY, timeout=0))


def test_edits_of_different_files_nest(files: Files, work: Path) -> None:
    with files.edit(work / "a") as a, files.edit(work / "b") as b:
        a.text, b.text = "a", "b"
    assert files_in(work) == ["a", "b"]


def test_edit_sees_a_bypass_that_happens_in_its_block(files: Files, work: Path) -> None:
    files.write(work / "a", b"old")
    with pytest.raises(landed.Bypassed), files.edit(work / "a") as doc:  # noqa: PT012 - leaving the block raises
        (work / "a").write_bytes(b"bypass")
        doc.data = b"new"
    assert (work / "a").read_bytes() == b"bypass"


# Delete.


def test_delete(files: Files, work: Path) -> None:
    receipt = files.write(work / "a", b"x")
    deleted = files.delete(work / "a")
    assert files_in(work) == []
    assert (deleted.version, deleted.digest, deleted.size, deleted.replaced) == (ABSENT, "", 0, receipt.version)
    with pytest.raises(FileNotFoundError):
        files.read(work / "a")
    with pytest.raises(FileNotFoundError):
        files.delete(work / "a")
    assert files.verify(work / "a").version is ABSENT


def test_delete_in_a_directory_that_is_not_there(files: Files, work: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.delete(work / "no" / "a")


def test_delete_only_what_was_seen(files: Files, work: Path) -> None:
    theirs = Files().write(work / "a", b"x")
    with pytest.raises(StaleWrite):
        files.delete(work / "a")
    assert (work / "a").exists()
    files.delete(work / "a", expect=theirs)


def test_versions_never_repeat(files: Files, work: Path, state_dir: Path) -> None:
    """Not over a delete, not when the same bytes come back, not after all records were lost."""
    versions = []
    for number in range(12):
        versions.append(files.write(work / "a", b"same", expect=ANY).version)
        if number % 2:
            files.delete(work / "a")
        if number % 4 == 3:
            for name in os.listdir(state_dir / "artifacts"):
                os.unlink(state_dir / "artifacts" / name)
    assert len(set(versions)) == len(versions)


def test_a_stale_writer_is_refused_after_delete_and_create_with_the_same_bytes(files: Files, work: Path) -> None:
    first = files.write(work / "a", b"same")
    files.delete(work / "a")
    files.write(work / "a", b"same")
    with pytest.raises(StaleWrite):
        Files().write(work / "a", b"x", expect=first)


def test_after_a_delete_the_writer_may_create_again_and_others_too(files: Files, work: Path) -> None:
    files.write(work / "a", b"x")
    files.delete(work / "a")
    Files().write(work / "a", b"theirs")
    with pytest.raises(StaleWrite):
        files.write(work / "a", b"y")


# Verify.


@pytest.mark.parametrize("level", ["read", "device"])
def test_verify_gives_the_receipt_of_the_last_write(files: Files, work: Path, level: str) -> None:
    first = files.write(work / "a", b"one")
    second = files.write(work / "a", b"two", verify=level)
    assert second.verified == level
    receipt = Files().verify(work / "a", level=level)
    assert (receipt.version, receipt.digest, receipt.size) == (second.version, second.digest, 3)
    assert (receipt.replaced, receipt.verified) == (first.version, level)


@pytest.mark.parametrize("level", ["read", "device"])
@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(b"bad"),
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"good and more"),
    ],
    ids=["overwritten", "gone", "emptied", "appended"],
)
def test_verify_finds_harm(files: Files, work: Path, harm: Callable[[Path], object], level: str) -> None:
    files.write(work / "a", b"good")
    harm(work / "a")
    with pytest.raises(landed.VerifyFailed) as caught:
        files.verify(work / "a", level=level)
    assert "1-" in str(caught.value.expected)


def test_verify_of_what_landed_never_wrote(files: Files, work: Path) -> None:
    (work / "a").write_bytes(b"x")
    for name in ("a", "missing"):
        with pytest.raises(landed.VerifyFailed, match="no record"):
            files.verify(work / name)


# Values.


@pytest.mark.parametrize("value", [ABSENT, ANY, SEEN])
def test_the_named_expectations_survive_copies(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) is value
    assert copy.deepcopy(value) is value
    assert repr(value).startswith("landed.")


def test_receipts_and_snapshots_survive_pickling(files: Files, work: Path) -> None:
    receipt = pickle.loads(pickle.dumps(files.write(work / "a", b"one")))
    snapshot = pickle.loads(pickle.dumps(files.read(work / "a")))
    assert snapshot.version == receipt.version
    assert receipt.replaced is ABSENT
    Files().write(work / "a", b"two", expect=receipt)
    for value in (receipt, snapshot):
        assert str(work / "a") in repr(value)
