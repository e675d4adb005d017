"""The power fails at every call boundary of every operation: whatever was acknowledged is there, whole, known as ours.

Every history runs on file systems with and without extended attributes. Within each operation the power is cut after
each call, on every legal state of the disk (or a seeded sample); on each a new program reads and then writes.
"""

from __future__ import annotations

import os
from random import Random
from typing import TYPE_CHECKING

import pytest
from model_promise import History, Step
from model_world import PATH, STATE, WORK, Killed, Program, content, new_disk, power_cuts

from landed.records import ANY, LANDED

if TYPE_CHECKING:
    from model_disk import Disk

pytestmark = [pytest.mark.exhaustive, pytest.mark.usefixtures("model_state")]

OTHER = f"{WORK}/other.md"
NESTED = f"{WORK}/a/b/c.md"
LONG = b"0123456789abcdef" * 100
"""More than three sectors, so that it can be torn."""

HISTORIES: dict[str, list[Step]] = {
    "create": [Step(PATH, LONG)],
    "create in new directories": [Step(NESTED, LONG)],
    "replace": [Step(PATH, b"old"), Step(PATH, LONG), Step(PATH, b"short"), Step(PATH, LONG[::-1])],
    "edit": [Step(PATH, b"old", "edit"), Step(PATH, LONG, "edit")],
    "the same bytes again": [Step(PATH, b"old"), Step(PATH, b"new"), Step(PATH, b"old"), Step(PATH, b"old")],
    "delete": [Step(PATH, LONG), Step(PATH, None)],
    "create after delete": [Step(PATH, LONG), Step(PATH, None), Step(PATH, b"new"), Step(PATH, None)],
    "several paths": [Step(PATH, b"one"), Step(OTHER, LONG), Step(PATH, b"two"), Step(OTHER, None)],
    "after failed writes": [
        *(Step(PATH, b"failed", "fail"), Step(PATH, b"one"), Step(PATH, LONG, "fail")),
        *(Step(PATH, b"two"), Step(PATH, None)),
    ],
    "after dead writers": [
        *(Step(PATH, b"dead", "die"), Step(PATH, b"one"), Step(PATH, LONG, "die")),
        *(Step(PATH, LONG, "edit"), Step(PATH, b"last", "die"), Step(PATH, None)),
    ],
}


@pytest.mark.parametrize("name", HISTORIES)
@pytest.mark.parametrize("xattrs", [True, False], ids=["xattrs", "no xattrs"])
def test_power_cut_at_every_call(name: str, xattrs: bool) -> None:
    history = History(xattrs=xattrs, limit=8)
    assert history.run(HISTORIES[name])[:5] == []
    assert history.examined > 30, "too few states to mean anything"


@pytest.mark.parametrize("name", HISTORIES)
@pytest.mark.parametrize("xattrs", [True, False], ids=["xattrs", "no xattrs"])
def test_death_at_every_call(name: str, xattrs: bool) -> None:
    history = History(xattrs=xattrs, limit=4)
    found = history.run(HISTORIES[name], kill=True)
    assert history.examined > 30
    assert found[:5] == []


@pytest.mark.parametrize("xattrs", [True, False], ids=["xattrs", "no xattrs"])
def test_power_cut_inside_the_recovery_from_a_power_cut(xattrs: bool) -> None:
    history = History(xattrs=xattrs, limit=3)
    assert history.run(HISTORIES["after dead writers"], deep=True)[:5] == []
    assert history.examined > 200


# Directed: states that a sample may miss.


def test_file_ahead_of_a_record_that_says_begun() -> None:
    """The device has an old state of the record, from inside a write, and a later file: what a power cut leaves."""
    program = Program(new_disk())
    records: list[bytes] = []
    program.call(lambda files: files.write(PATH, b"one"))
    program.fs.boundary = lambda call: records.append(_record_now(program)) if call.name == "fsync" else None
    program.call(lambda files: files.write(PATH, b"two"))
    program.fs.boundary = None
    last = program.call(lambda files: files.write(PATH, b"three"))
    fd = program.fs.open(_record_path(program), os.O_WRONLY | os.O_TRUNC)
    program.fs.write(fd, records[0])
    program.die()
    reborn = Program(program.fs.disk)
    reborn.die_at("fsync")  # the next writer says begun, and dies too
    with pytest.raises(Killed):
        reborn.call(lambda files: files.write(PATH, b"four", expect=ANY))
    reborn.die()
    seen = Program(program.fs.disk).call(lambda files: files.read(PATH))
    assert (seen.data, seen.version, seen.origin) == (b"three", last.version, LANDED)


@pytest.mark.parametrize("xattrs", [True, False], ids=["xattrs", "no xattrs"])
def test_power_cut_inside_the_write_after_a_delete_that_died_before_its_flush(xattrs: bool) -> None:
    """The file may come back, and is landed's own then: what says that it was deleted is not written down before."""
    dying = Program(new_disk(xattrs=xattrs))
    old = dying.call(lambda files: files.write(PATH, LONG))
    dying.fs.boundary = lambda call: dying.kill_at(1) if call.name == "unlink" and call.path == "plan.md" else None
    with pytest.raises(Killed):
        dying.call(lambda files: files.delete(PATH, expect=ANY))
    dying.die()
    _, disks = power_cuts(
        Program(dying.fs.disk), lambda files: files.write(PATH, b"next", expect=ANY), limit=16, rng=Random(1)
    )
    seen = [_seen(disk) for disk in disks]
    assert {data for data, _ in seen} == {None, LONG, b"next"}
    assert {of for data, of in seen if data == LONG} == {(old.version, LANDED)}


def _seen(disk: Disk) -> tuple[bytes | None, tuple[object, str]]:
    try:
        found = Program(disk).call(lambda files: files.read(PATH))
    except FileNotFoundError:
        return None, ("", "")
    return found.data, (found.version, found.origin)


def _record_path(program: Program) -> str:
    directory = f"{STATE}/artifacts"
    return next(f"{directory}/{name}" for name in program.fs.listdir(directory) if name.endswith(".record"))


def _record_now(program: Program) -> bytes:
    program.fs.boundary = None
    return content(program.fs.disk, _record_path(program)) or b""
