"""Differences: they rebuild the value exactly, and cost what changed."""

from __future__ import annotations

import os

import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph.checkpoint.landed.difference import apply, cost, difference


def messages(count: int) -> bytes:
    return ormsgpack.packb([{"id": number, "text": os.urandom(30).hex()} for number in range(count)])


def test_what_is_left_of_a_list_that_grew() -> None:
    items = [os.urandom(400).hex() for _ in range(70_000 // 100)]
    for count in (1, 14, 15, 16, 100, 255, 256, 699):
        old, new = ormsgpack.packb(items[:count]), ormsgpack.packb(items[: count + 1])
        parts = difference(old, new)
        if count == 1:
            continue
        assert parts is not None
        assert apply(old, parts) == new
        assert cost(parts) < 900


def test_when_the_arrays_header_grows() -> None:
    for count in (15, 65_535):
        old, new = ormsgpack.packb(["x" * 20] * count), ormsgpack.packb(["x" * 20] * (count + 1))
        parts = difference(old, new)
        assert parts is not None
        assert apply(old, parts) == new
        assert cost(parts) < 200


@pytest.mark.parametrize("where", ["front", "middle", "end", "window"])
def test_where_it_changed(where: str) -> None:
    items = [os.urandom(100).hex() for _ in range(200)]
    extra = os.urandom(100).hex()
    changed = {
        "front": [extra, *items],
        "middle": [*items[:100], extra, *items[100:]],
        "end": [*items, extra],
        "window": [*items[1:], extra],
    }[where]
    old, new = ormsgpack.packb({"messages": items, "n": 1}), ormsgpack.packb({"messages": changed, "n": 2})
    parts = difference(old, new)
    assert parts is not None
    assert apply(old, parts) == new
    assert cost(parts) < 600


def test_what_has_nothing_in_common_is_whole() -> None:
    assert difference(os.urandom(5000), os.urandom(5000)) is None
    assert difference(b"", os.urandom(5000)) is None
    assert difference(os.urandom(100), b"short") is None


def test_nothing_is_searched_for_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    def searched(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("langgraph.checkpoint.landed.difference._pick_up_far", searched)
    assert difference(os.urandom(100_000), os.urandom(100_000)) is None


def test_a_window_of_long_messages_moves_on() -> None:
    items = [os.urandom(6000).hex() for _ in range(8)]
    old, new = ormsgpack.packb(items[:7]), ormsgpack.packb(items[1:])
    parts = difference(old, new)
    assert parts is not None
    assert apply(old, parts) == new
    assert cost(parts) < 12_200


def test_the_same_again() -> None:
    old = os.urandom(200_000)
    parts = difference(old, old)
    assert parts is not None
    assert cost(parts) < 100
    assert apply(old, parts) == old


def test_from_another_value() -> None:
    with pytest.raises(ValueError, match="fit"):
        apply(b"short", [[0, 100]])


PIECES = st.lists(st.sampled_from([b"a" * 30, b"b" * 300, b"\0", b"0123456789" * 10, b"c" * 70_000, b"x"]), max_size=8)


@given(PIECES, PIECES)
def test_any_two(old: list[bytes], new: list[bytes]) -> None:
    before, after = b"".join(old), b"".join(new)
    parts = difference(before, after)
    if parts is not None:
        assert apply(before, parts) == after
        assert cost(parts) * 2 <= len(after)


@given(st.binary(max_size=2000), st.integers(0, 2000), st.binary(max_size=50), st.integers(0, 100))
def test_an_edit_anywhere(value: bytes, at: int, insert: bytes, cut: int) -> None:
    after = value[:at] + insert + value[at + cut :]
    parts = difference(value, after)
    assert parts is None or apply(value, parts) == after
