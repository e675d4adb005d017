"""Once a file is gone, only its record can say that it was deleted: that record has to be found after a power cut."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from recording import Recording, failing

import landed

if TYPE_CHECKING:
    from pathlib import Path


def test_the_name_of_the_record_is_flushed_before_the_file_is_removed(fs: Recording, work: Path) -> None:
    files = landed.Files(fs)
    files.write(work / "a", "one")  # its record needs no flush, and has none
    assert not fs.named("fdatasync")
    files.delete(work / "a")
    flushed = [fs.calls.index(call) for call in fs.named("fsync", on="/artifacts")]
    removed = fs.position("unlink", on="/a")
    assert flushed, "nothing ever flushed the name of the record"
    assert flushed[0] < removed


@pytest.mark.parametrize(("name", "on"), [("fsync", "/artifacts"), ("fsync", "/state"), ("fdatasync", ".record")])
def test_a_flush_of_the_record_that_fails_is_not_tried_again(fs: Recording, work: Path, name: str, on: str) -> None:
    files = landed.Files(fs)
    files.write(work / "a", "one")
    fs.forget()
    fs.before(name, failing(errno.EIO), on=on)
    with pytest.raises(landed.NotLanded) as caught:
        files.delete(work / "a")
    assert caught.value.step == "record"
    assert len(fs.named(name, on=on)) == 1
    assert (work / "a").read_text() == "one"
