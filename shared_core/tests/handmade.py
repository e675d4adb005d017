"""Segments of a journal that a test lays out byte by byte, and what a newly opened journal makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from landed.entries import Record, encode_records
from landed.errors import Corrupt
from landed.journal import Journal
from landed.local import log as local_log
from landed.local import segments
from landed.local.frames import BATCH, HEADER, PAGE, SEAL, Head, Header, boot_tag
from landed.local.log import LocalLog
from landed.local.segments import name_of

THIS, LAST = "this boot", "the last boot"
ID = b"segment1"
LOG_OFF = 60


@pytest.fixture
def boots(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[str], None]:
    """This boot runs; the fixture changes which one does."""
    caplog.set_level(LOG_OFF)

    def boot(name: str) -> None:
        for module in (local_log, segments):
            monkeypatch.setattr(module, "boot_id", lambda: name)

    boot(THIS)
    return boot


class Handmade:
    """A segment as the test lays it out.

    Args:
        boot: in which it was made, and its frames were written unless they say otherwise.
    """

    def __init__(self, size: int = 2 * PAGE, number: int = 1, *, boot: str = THIS, **header: object) -> None:
        tag = boot_tag(boot)
        self.header = Header(size, number, number, ID[:-1] + b"%d" % number, boot=tag, **{"base": 0, **header})  # type: ignore[arg-type]
        self.data = bytearray(self.header.encode().ljust(size, b"\0"))
        self.boot = tag
        self.end = HEADER.size
        self.back = 0
        self.sequence = self.header.base + 1

    def frame(
        self, *records: bytes, flushed: int | None = None, boot: str | None = None, kind: int = BATCH, put: bool = True
    ) -> bytes:
        """Add a frame; its bytes. `flushed` is where it begins unless given; `put` false leaves it out."""
        payload = encode_records(enumerate(Record(data) for data in records))
        head = Head(
            self.end,
            kind,
            len(payload),
            count=len(records),
            sequence=self.sequence,
            flushed=self.end if flushed is None else flushed,
            back=self.back,
            boot=self.boot if boot is None else boot_tag(boot),
        )
        data = head.encode(self.header.id, payload)
        if put:
            self.data[self.end : self.end + len(data)] = data
        self.end += len(data)
        self.back = len(data)
        self.sequence += len(records)
        return data

    def seal(self) -> Handmade:
        self.frame(kind=SEAL)
        return self

    def next(self, **header: object) -> Handmade:
        """The segment after this one."""
        number = self.header.first + 1
        end = self.end
        return Handmade(
            number=number,
            base=self.sequence - 1,
            previous_id=self.header.id,
            previous_end=header.pop("end", end),
            **header,  # type: ignore[arg-type]
        )

    def save(self, path: Path) -> Path:
        path.mkdir(exist_ok=True)
        (path / "lock").touch()
        file = path / name_of((self.header.first, self.header.last))
        file.write_bytes(self.data)
        return file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def read(path: Path) -> list[bytes]:
    """What a newly opened journal holds, the same both ways."""
    with Journal(path) as journal:
        entries = [entry.data for entry in journal.read()]
        assert [entry.data for entry in journal.read(newest_first=True)] == entries[::-1]
        assert journal.tail >= len(entries)
        return entries


def recovered(path: Path) -> str:
    log = LocalLog(str(path))
    log.close()
    return log.follower.recovered


def assert_corrupt(path: Path, offset: int, segment: str = "0000000001-0000000001.seg") -> None:
    """Opening or reading says so, with segment and offset; appending is refused; nothing changes."""
    before = {file.name: file.read_bytes() for file in path.glob("*.seg")}
    with pytest.raises(Corrupt) as told:
        read(path)
    assert segment in str(told.value.path)
    assert str(offset) in str(told.value.found)
    assert "Nothing was changed" in str(told.value)
    with pytest.raises(Corrupt):
        Journal(path).append([b"x"])
    assert {file.name: file.read_bytes() for file in path.glob("*.seg")} == before


def sealed(path: Path, *, seal: bool = True) -> tuple[Handmade, Handmade]:
    first = Handmade(PAGE)
    first.frame(b"one")
    second = first.next()
    second.frame(b"two")
    if seal:
        first.seal()
    first.save(path)
    second.save(path)
    return first, second
