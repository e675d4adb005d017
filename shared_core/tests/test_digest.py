"""The digest of bytes is sha256 of those bytes, whatever was hashed before."""

from __future__ import annotations

import hashlib

import pytest

from landed import digest
from landed.digest import KEPT, LEAST, sha256

SIZES = (0, 1, LEAST - 1, LEAST, 4096, 65536, KEPT, KEPT + 1)


@pytest.mark.parametrize("size", SIZES)
def test_digest_is_that_of_hashlib(size: int) -> None:
    data = bytes(size)
    other = data[:-1] + b"x"
    for each in (data, data, other, data, other, other, data + b"\0", data):
        assert sha256(each) == hashlib.sha256(each).hexdigest()


def test_bytes_that_change_under_their_name_are_hashed_anew() -> None:
    data = bytearray(4096)
    before = sha256(data)  # type: ignore[arg-type]
    data[-1] = 1
    assert sha256(data) == hashlib.sha256(data).hexdigest() != before  # type: ignore[arg-type]


def test_what_was_hashed_last_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []

    def function(data: bytes) -> object:
        hashed.append(data)
        return hashlib.sha256(data)

    monkeypatch.setattr(digest, "_hash", function)
    data = b"a" * 4096
    assert sha256(data) == sha256(bytes(bytearray(data)))
    assert hashed == [data]


def test_large_bytes_are_not_kept() -> None:
    sha256(bytes(4096))
    sha256(bytes(KEPT + 1))
    assert len(digest._last[0]) == 4096
