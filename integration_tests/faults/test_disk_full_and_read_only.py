"""A small file system of our own fills up, runs out of inodes, or turns read-only in the middle of things.

Whatever the error, the old bytes stand, nothing is left lying about, the error says what happened, and the same program
works again when there is space again. The records of a disk that fills up stand on it, so that they are hit as well.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections import deque
from typing import TYPE_CHECKING

import pytest

import landed
import landed.audit
from landed.artifact import Artifact
from landed.log import writes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD = b"old bytes\n"
SIZE = 4 << 20
"""Bytes of the file system."""
INODES = 128
LARGE = os.urandom(256 << 10)

if sys.platform != "linux" or os.geteuid() != 0:
    pytest.skip("mounting a file system needs root on Linux", allow_module_level=True)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)


def consume(calls: Iterator[object]) -> None:
    deque(calls, maxlen=0)


class Disk:
    """A mounted file system with one artifact on it, and the records of the user."""

    def __init__(self, mountpoint: Path) -> None:
        self.mountpoint = mountpoint
        self.path = mountpoint / "work" / "file.txt"
        self.ballast = mountpoint / "ballast"

    def fill(self, leave: int = 0) -> None:
        """Use up all bytes but about `leave`."""
        with self.ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 64 << 10, 4096, 512, 1):
                with pytest.raises(OSError, match="No space left"):
                    consume(iter(lambda: file.write(b"x" * size), 0))  # noqa: B023 - used up at once
            os.truncate(self.ballast, max(0, file.tell() - leave))
            os.fsync(file.fileno())

    def use_up_inodes(self) -> None:
        self.ballast.mkdir()
        with pytest.raises(OSError, match="No space left"):
            consume((self.ballast / str(n)).touch() for n in range(1 << 20))

    def empty(self) -> None:
        if self.ballast.is_dir():
            shutil.rmtree(self.ballast)
        else:
            self.ballast.unlink()

    def remount(self, how: str) -> None:
        run("mount", "-o", f"remount,{how}", str(self.mountpoint))

    def temps(self) -> list[str]:
        return [name for name in os.listdir(self.path.parent) if name.startswith(".landed-")]

    def history(self) -> list[tuple[str, bool]]:
        return [(write.version, landed) for write, landed in writes(Artifact(self.path).shelf)]

    def verdicts(self) -> dict[str, str]:
        findings = landed.audit.audit(*landed.audit.stores(str(self.mountpoint)))
        return {finding.path: finding.verdict for finding in findings}


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    mountpoint = tmp_path / "disk"
    mountpoint.mkdir()
    try:
        if request.param == "tmpfs":
            run("mount", "-t", "tmpfs", "-o", f"size={SIZE},nr_inodes={INODES}", "landed-test", str(mountpoint))
        else:
            image = tmp_path / "image"
            with image.open("wb") as file:
                file.truncate(SIZE)
            run("mkfs.ext4", "-q", "-m", "0", "-N", str(INODES), str(image))
            run("mount", "-o", "loop", str(image), str(mountpoint))
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"cannot mount {request.param} here: {getattr(error, 'stderr', error)}")
    try:
        # A file system on which something is open for writing cannot be made read-only, and a lock file is.
        on_it = "read_only" not in request.node.name
        monkeypatch.setenv("LANDED_STATE_DIR", str((mountpoint if on_it else tmp_path) / "state"))
        disk = Disk(mountpoint)
        disk.path.parent.mkdir()
        landed.write(disk.path, OLD)
        disk.path.chmod(0o640)
        yield disk
    finally:
        run("umount", "--lazy", str(mountpoint))


def unhurt(disk: Disk) -> bool:
    return disk.path.read_bytes() == OLD and disk.path.stat().st_mode & 0o777 == 0o640 and disk.temps() == []


def test_full(disk: Disk) -> None:
    disk.fill(leave=64 << 10)
    for attempt in range(3):
        with pytest.raises(landed.NotLanded) as caught:
            landed.write(disk.path, LARGE)
        assert caught.value.errno == errno.ENOSPC, attempt
        assert caught.value.step in {"write", "sync", "close"}
        assert "No space left" in str(caught.value)
        assert unhurt(disk)
    assert landed.read(disk.path).data == OLD
    landed.verify(disk.path)
    disk.empty()
    landed.write(disk.path, LARGE)
    assert list(disk.verdicts().values()) == ["intact"]


def attempt(path: Path, data: bytes) -> landed.NotLanded | None:
    try:
        landed.write(path, data, expect=landed.ANY)
    except landed.NotLanded as error:
        return error
    return None


def test_full_to_the_last_byte(disk: Disk) -> None:
    """Not even a record can be begun: whatever is refused, it is refused before the file is touched."""
    disk.fill()
    other = disk.path.with_name("other.txt")
    refusals = [attempt(path, data) for _ in range(100) for path, data in ((disk.path, LARGE), (other, OLD))]
    assert sum(refusal is not None for refusal in refusals) >= 100
    assert {refusal.errno for refusal in refusals if refusal is not None} == {errno.ENOSPC}
    assert unhurt(disk)
    disk.empty()
    receipt = landed.write(disk.path, LARGE, expect=landed.ANY)
    assert landed.verify(disk.path).version == receipt.version
    assert disk.verdicts()[str(disk.path)] == "intact"


def test_audit_of_a_file_that_never_had_room(disk: Disk) -> None:
    """On a disk that is full from the start a first write is refused; that is no damage."""
    disk.fill()
    other = disk.path.with_name("other.txt")
    refusals = [attempt(other, OLD) for _ in range(3)]
    assert all(refusals)
    disk.empty()
    assert "damaged record" not in disk.verdicts().values()


def test_history_after_a_full_disk(disk: Disk) -> None:
    """What was cut short when space ran out (tmpfs takes what fits) takes no later line with it."""
    disk.fill()
    while (refusal := attempt(disk.path, OLD * 2)) is None or refusal.step != "log":
        assert len(disk.history()) < 1000
    disk.empty()
    receipt = landed.write(disk.path, LARGE, expect=landed.ANY)
    history = disk.history()
    assert history[0][1]
    assert history[-1] == (receipt.version, True)


def test_out_of_inodes(disk: Disk) -> None:
    disk.use_up_inodes()
    with pytest.raises(landed.NotLanded) as caught:
        landed.write(disk.path, b"new")
    assert (caught.value.errno, caught.value.step) == (errno.ENOSPC, "temp")
    with pytest.raises(landed.NotLanded) as caught:
        landed.write(disk.path.with_name("another"), b"new")
    assert caught.value.errno == errno.ENOSPC
    assert unhurt(disk)
    disk.empty()
    landed.write(disk.path, b"new")
    landed.write(disk.path.with_name("another"), b"new")
    assert list(disk.verdicts().values()) == ["intact", "intact"]


def test_read_only_in_the_middle(disk: Disk) -> None:
    def edit() -> None:
        with landed.edit(disk.path) as draft:
            draft.data = b"new"
            disk.remount("ro")

    try:
        for operation in (edit, lambda: landed.write(disk.path, b"new"), lambda: landed.delete(disk.path)):
            with pytest.raises(landed.NotLanded) as caught:
                operation()
            assert caught.value.errno == errno.EROFS
            assert "Read-only" in str(caught.value)
        assert landed.read(disk.path).data == OLD
        landed.verify(disk.path)
        assert unhurt(disk)
    finally:
        disk.remount("rw")
    with landed.edit(disk.path) as draft:
        draft.data = b"new"
    assert landed.read(disk.path).data == b"new"
    assert list(disk.verdicts().values()) == ["intact"]


def test_a_journal_takes_what_there_is_place_for(disk: Disk) -> None:
    """What is appended comes before the zeros ahead of later appends, which could take all of it."""
    journal = landed.Journal(disk.mountpoint / "journal")
    record = bytes([7]) * 3000
    journal.append([record])
    for _ in range(3):
        disk.fill(leave=20 << 10)
        held = journal.tail
        with pytest.raises(landed.NotLanded) as told:
            consume(journal.append([record]) for _ in range(100))
        assert told.value.errno == errno.ENOSPC
        assert journal.tail >= held + 4, journal.tail
        disk.empty()
    journal.append([record])
    assert {entry.data for entry in landed.Journal(disk.mountpoint / "journal").read()} == {record}
