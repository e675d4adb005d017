"""The record beside the lock: it comes back as it was written; a torn one gives way to the one before it."""

from __future__ import annotations

import errno
import os
import sys
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from recording import Call, Recording

import landed
from landed import records
from landed.lease import Lease
from landed.log import writes
from landed.process import Owner, me
from landed.records import SLOT_SIZE, Record, Write, read_record
from landed.shelf import LOG_LIMIT, Shelf
from landed.state import Store

if TYPE_CHECKING:
    from pathlib import Path

quick = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# What the system may give as a path: any bytes but NUL, as os.fsdecode shows them.
names = st.binary(min_size=1, max_size=300).filter(lambda raw: 0 not in raw).map(os.fsdecode)
# What a process may call itself: one line.
programs_ = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1, max_size=50)
owners = st.builds(Owner, st.integers(0, 2**22), st.just("boot.12"), st.just("host"), programs_)
digests = st.sampled_from(["", "a" * 64, "0123456789abcdef" * 4])
versions = st.integers(1, 10**9).map(lambda count: f"{count}-0123456789ab")
a_written = st.builds(
    Write,
    versions,
    digests,
    st.integers(0, 2**40),
    st.one_of(st.just(""), versions),
    owners,
    st.integers(0, 2**33).map(float),
)


leases = st.builds(
    Lease, st.just("agent"), st.just("call"), st.integers(0, 2**33).map(float), st.integers(0, 2**33).map(float), owners
)


@st.composite
def whole_records(draw: st.DrawFn) -> Record:
    record = Record(draw(names))
    record.landed = draw(st.none() | a_written)
    record.begun = draw(st.none() | a_written)
    record.lease = draw(st.none() | leases)
    record.counter = draw(st.integers(0, 10**12))
    record.sequence = draw(st.integers(1, 10**12))
    return record


def facts(record: Record | None) -> object:
    if record is None:
        return None
    lines = [write.encode() if write is not None else None for write in (record.landed, record.begun, record.lease)]
    return (record.name, record.counter, record.sequence, *lines)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    (tmp_path / "store" / "artifacts").mkdir(parents=True)
    return Shelf(Store(str(tmp_path / "store")), "/the/name", "key")


def a_write(number: int, base: str = "") -> Write:
    return Write(f"{number}-{number:012x}", "d" * 64, 10, base, me(), 1000.0 + number)


def save(shelf: Shelf, record: Record) -> None:
    """With the lock that it needs."""
    with shelf.lock:
        shelf.save(record)


def log(shelf: Shelf, write: Write) -> None:
    with shelf.lock:
        shelf.log(write)


def saved(shelf: Shelf, number: int) -> Record:
    record = shelf.load()
    record.counter = number
    record.landed = a_write(number)
    save(shelf, record)
    return record


# Round trips.


@quick
@given(whole_records())
@example(Record("new\nline \\n back\\slash = sign"))
@example(Record("\\"))
@example(Record(os.fsdecode(b"\xff\\\n\\\\n")))
def test_records_come_back(record: Record) -> None:
    assert facts(Record.decode(record.encode())) == facts(record)


@quick
@given(a_written)
def test_writes_come_back(write: Write) -> None:
    decoded = Write.decode(write.encode())
    assert decoded is not None
    assert decoded.encode() == write.encode()
    assert (decoded.version, decoded.digest, decoded.base) == (write.version, write.digest, write.base)


def test_the_longest_path_fits(shelf: Shelf) -> None:
    name = "/" + "\n" * 4095
    shelf = Shelf(shelf.store, name, "key")
    record = shelf.load()
    record.landed, record.begun = a_write(1), a_write(2)
    save(shelf, record)
    assert facts(shelf.load()) == facts(record)


def test_the_path_that_does_not_fit_is_not_landed(shelf: Shelf) -> None:
    long = Shelf(shelf.store, "/" + "x" * SLOT_SIZE, "key")
    with pytest.raises(landed.NotLanded, match="too long"):
        save(long, long.load())


def test_states_alternate_between_two_slots(shelf: Shelf) -> None:
    for number in range(1, 6):
        saved(shelf, number)
        with open(shelf.record_path, "rb") as file:
            text = file.read()
        slots = [Record.decode(text[start : start + SLOT_SIZE]) for start in (0, SLOT_SIZE)]
        assert sorted(slot.counter for slot in slots if slot is not None) == list(range(max(1, number - 1), number + 1))


def test_no_record_is_an_empty_one(shelf: Shelf) -> None:
    assert facts(shelf.load()) == ("/the/name", 0, 0, None, None, None)


# Damage.


def test_a_slot_torn_at_any_byte_gives_the_state_before(shelf: Shelf) -> None:
    before = saved(shelf, 7)
    after = saved(shelf, 8)
    block = after.encode()
    start = after.sequence % 2 * SLOT_SIZE
    with open(shelf.record_path, "rb") as file:
        whole = file.read()
    earlier = whole[:start] + a_record_of(3) + whole[start + len(a_record_of(3)) :]
    torn = 0
    for torn in range(len(block)):
        # The new block up to `torn`, what was in the slot two states ago behind it.
        text = earlier[:start] + block[:torn] + earlier[start + torn :]
        if text == whole:
            break  # the older block ends in the same bytes
        with open(shelf.record_path, "wb") as file:
            file.write(text)
        assert facts(shelf.load()) == facts(before), torn
    assert torn > 100
    with open(shelf.record_path, "wb") as file:
        file.write(whole)
    assert facts(shelf.load()) == facts(after)


def a_record_of(number: int) -> bytes:
    record = Record("/the/name")
    record.counter, record.landed = number, a_write(number)
    return record.encode()


def test_every_flipped_byte_of_a_block_is_noticed() -> None:
    block = a_record_of(3)
    wanted = facts(Record.decode(block))
    for position in range(len(block)):
        harmed = bytearray(block)
        harmed[position] ^= 0x01
        found = facts(Record.decode(bytes(harmed)))
        assert found is None or found == wanted, position  # the last header byte only ends a line


def test_a_file_cut_anywhere_is_read(shelf: Shelf) -> None:
    before, after = saved(shelf, 1), saved(shelf, 2)
    with open(shelf.record_path, "rb") as file:
        whole = file.read()
    wanted = {facts(Record("/the/name")), facts(before), facts(after)}
    for size in range(0, len(whole), 97):
        os.truncate(shelf.record_path, size)
        assert facts(shelf.load()) in wanted
        with open(shelf.record_path, "wb") as file:
            file.write(whole)


@quick
@given(st.binary(max_size=2000))
def test_garbage_is_no_record(garbage: bytes) -> None:
    assert Record.decode(garbage) is None
    assert Record.decode(records.MAGIC + garbage) is None


@settings(quick, report_multiple_bugs=False)
@given(st.binary(max_size=200))
@example(b"")
@example(b"sequence=1\ncounter=x\nname=y")
def test_garbage_with_a_checksum_is_no_record(body: bytes) -> None:
    assert Record.decode(records.MAGIC + b"%08x %08x\n" % (zlib.crc32(body), len(body)) + body) is None


def test_an_owner_of_odd_digits_is_none() -> None:
    assert Owner.decode("² boot host program") is None


@quick
@given(st.text(max_size=200))
def test_garbage_is_no_write_and_no_owner(line: str) -> None:
    for decode in (Write.decode, Owner.decode):
        decoded = decode(line)
        assert decoded is None or decode(decoded.encode()) is not None


@quick
@given(st.binary(max_size=3000))
def test_a_garbage_record_file_neither_crashes_nor_loses_the_guard(tmp_path: Path, garbage: bytes) -> None:
    files, path = landed.Files(), tmp_path / "guarded"
    first = files.write(path, b"one", expect=landed.ANY)
    (record,) = [each for each in (tmp_path / "state" / "artifacts").iterdir() if each.suffix == ".record"]
    record.write_bytes(garbage)
    assert files.read(path).version == first.version
    with pytest.raises(landed.StaleWrite):
        landed.Files().write(path, b"two")
    assert files.write(path, b"two").replaced == first.version


def test_the_record_of_another_artifact_is_corrupt(shelf: Shelf) -> None:
    saved(shelf, 1)
    other = Shelf(shelf.store, "/another/name", "key")
    with pytest.raises(landed.Corrupt) as caught:
        other.load()
    assert (caught.value.expected, caught.value.found) == ("/another/name", "/the/name")


@pytest.mark.parametrize("failed_saves", [1, 2, 3])
def test_saves_that_tear_leave_the_state_before(shelf: Shelf, failed_saves: int) -> None:
    saved(shelf, 6)
    before = saved(shelf, 7)
    fs = Recording()

    def tear(call: Call) -> None:
        fd, data, offset = call.args
        os.pwrite(fd, bytes(data[:40]), offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    fs.before("pwrite", tear, always=True)
    failing_shelf = Shelf(shelf.store, shelf.name, "key", fs)
    record = failing_shelf.load()
    record.counter = 99
    for _ in range(failed_saves):
        with pytest.raises(OSError, match="No space"):
            save(failing_shelf, record)
    assert facts(shelf.load()) == facts(before)


def test_a_record_file_that_is_a_link_is_not_followed(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    os.symlink(tmp_path / "victim", shelf.record_path)
    with pytest.raises(landed.NotLanded):
        shelf.load()
    with pytest.raises(OSError, match="symbolic links"):
        save(shelf, Record(shelf.name))
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_reading_a_missing_record_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_record(str(tmp_path / "none"), Recording())


# The log.


def chain(shelf: Shelf, *numbers: int) -> None:
    """Writes that landed, each on the one before."""
    write = None
    for number in numbers:
        write = a_write(number, write.version if write else "")
        log(shelf, write)
    record = shelf.load()
    record.landed = write
    save(shelf, record)


def history(shelf: Shelf) -> list[tuple[int, bool]]:
    return [(int(write.version.split("-")[0]), landed_) for write, landed_ in writes(shelf)]


def test_the_log_tells_what_landed_and_what_did_not(shelf: Shelf) -> None:
    log(shelf, a_write(1))
    log(shelf, a_write(2, a_write(1).version))
    log(shelf, a_write(3, a_write(1).version))  # 2 never landed
    log(shelf, a_write(4, f"{a_write(3).version}+0123"))  # on an outside change after 3
    log(shelf, a_write(5, a_write(4).version))  # and 5 has not
    record = shelf.load()
    record.landed = a_write(4)
    save(shelf, record)
    assert history(shelf) == [(1, True), (2, False), (3, True), (4, True), (5, False)]


def test_no_log_is_no_history(shelf: Shelf) -> None:
    assert writes(shelf) == []


def test_the_log_of_real_writes(files: landed.Files, work: Path) -> None:
    from landed.artifact import Artifact

    versions = [files.write(work / "a", b"%d" % number).version for number in range(5)]
    files.delete(work / "a")
    told = writes(Artifact(work / "a").shelf)
    assert [write.version for write, _ in told[:5]] == versions
    assert [landed_ for _, landed_ in told] == [True] * 6
    assert told[-1][0].digest == ""


def test_the_log_is_trimmed_to_whole_lines_and_keeps_the_newest(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, looked_at_every, line = 16_384, 64, 200
    monkeypatch.setattr("landed.shelf.LOG_LIMIT", limit)
    sizes = []
    for number in range(1, 500):
        log(shelf, a_write(number, a_write(number - 1).version if number > 1 else ""))
        sizes.append(os.path.getsize(shelf.record_path.replace(".record", ".log")))
    record = shelf.load()
    record.landed = a_write(499)
    save(shelf, record)
    told = history(shelf)
    assert limit < max(sizes) < limit + looked_at_every * line
    assert told[-1] == (499, True)
    assert [number for number, _ in told] == list(range(told[0][0], 500))
    assert all(landed_ for _, landed_ in told)
    assert len(told) > 10


def test_a_line_that_is_no_write_is_passed_over(shelf: Shelf) -> None:
    chain(shelf, 1, 2)
    with open(shelf.record_path.replace(".record", ".log"), "ab") as file:
        file.write(b"\xff\0 not a line\n\n1 2 3\n")
    assert history(shelf) == [(1, True), (2, True)]


def test_a_torn_line_does_not_take_the_next_with_it(shelf: Shelf) -> None:
    chain(shelf, 1)
    fs = Recording()

    def tear(call: Call) -> None:
        fd, data = call.args
        os.write(fd, bytes(data[:20]))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    fs.before("write", tear)
    with pytest.raises(OSError, match="No space"):
        log(Shelf(shelf.store, shelf.name, "key", fs), a_write(2, a_write(1).version))
    log(shelf, a_write(3, a_write(1).version))
    record = shelf.load()
    record.landed = a_write(3)
    save(shelf, record)
    assert [each for each in history(shelf) if each[1]] == [(1, True), (3, True)]


def test_a_garbage_log_over_the_limit_does_not_stop_writes(shelf: Shelf) -> None:
    with open(shelf.record_path.replace(".record", ".log"), "wb") as file:
        file.write(bytes(LOG_LIMIT + 1))
    log(shelf, a_write(64))


def test_counters_and_bases() -> None:
    assert [records.counter_of(text) for text in ("12-ab", "12-ab+cd", "0+cd", "", "x", "-")] == [12, 12, 0, 0, 0, 0]
    assert [records.base_of(text) for text in ("12-ab", "12-ab+cd", "0+cd")] == ["12-ab", "12-ab", "0"]


def test_a_name_is_written_down_in_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs whose encodings of names differ know one file by two strings."""
    line = records.escape("é")
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "latin-1")
    assert records.unescape(line) == "Ã©"
    assert records.escape("Ã©") == line
