"""What the hook is told, with the files in it: read in parts, and always what the json module makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from landed_claude_code import long_strings, wire
from landed_claude_code.long_strings import Cutter

ODD = [
    "a",
    'b"',
    "\\",
    "\n",
    "\t",
    "\x01",
    '":"',
    '","',
    '"},"',
    "\ud83d",
    "\ude00",
    "\U0001f600",
    "\u00e9",
    ":",
    "}",
    "NaN",
]
words = st.lists(st.sampled_from(ODD), max_size=40).map("".join)
leaves = words | st.sampled_from([None, True, 7, -2.5])
names = st.sampled_from(["a", "file_1", "", ":", '"', "a:", "b\\"])
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=8
)


def whole(value: Any) -> Any:
    """`value` with its long strings as strings."""
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "surrogatepass")
    if isinstance(value, list):
        return [whole(each) for each in value]
    if isinstance(value, dict):
        return {name: whole(each) for name, each in value.items()}
    return value


def as_sent(value: object, *, plain: bool = False) -> bytes:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=plain).encode()
    except UnicodeEncodeError:  # half a surrogate pair is sent as an escape, as by JavaScript
        return json.dumps(value, separators=(",", ":")).encode()


def decoded(parts: list[bytes], known: bytes, long: int) -> tuple[Any, int]:
    cutter = Cutter(known, long)
    for part in parts:
        cutter.feed(part)
    cutter.close()
    count = len(cutter.strings)
    return whole(wire._value(cutter.text.decode(), cutter.strings[::-1])), count


@given(
    value=st.dictionaries(names, values, max_size=3),
    plain=st.booleans(),
    size=st.integers(1, 12),
    long=st.integers(1, 9),
    known=words,
    data=st.data(),
)
@example(value={"a": "\ud83d" * 9 + "\ude00"}, plain=True, size=6, long=1, known="", data=None)
@example(value={"a": ":", "b": 'x":"'}, plain=True, size=1, long=1, known="", data=None)
@settings(max_examples=300, deadline=None)
def test_parts_make_what_the_whole_makes(
    monkeypatch_module: None, value: dict, plain: bool, size: int, long: int, known: str, data: Any
) -> None:
    raw = as_sent(value, plain=plain)
    strings = [each for each in value.values() if isinstance(each, str)]
    if strings and data is not None and data.draw(st.booleans()):
        known = data.draw(st.sampled_from(strings))
    parts = [raw[at : at + size] for at in range(0, len(raw), size)]
    assert decoded(parts, known.encode("utf-8", "surrogatepass"), long)[0] == json.loads(raw)


@pytest.fixture(scope="module")
def monkeypatch_module() -> Any:
    """Pieces so small that a short string has several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_strings, "_PIECE", 5)
        yield


TEXT = "".join(f'{line}: a line, and "\t\u00fc" \\\n' for line in range(40_000))


@pytest.mark.parametrize("stands", ["the same", "less", "more", "another", "nothing"])
def test_a_write_of_a_large_file(work: Path, stands: str) -> None:
    path = work / "plan.md"
    on_disk = {"the same": TEXT, "less": TEXT[:-9], "more": TEXT + "x", "another": "x" + TEXT[1:]}.get(stands)
    if on_disk is not None:
        path.write_text(on_disk, newline="")
    event = {
        "hook_event_name": "PostToolUse",
        "tool_name": "Write",
        "tool_input": {"file_path": str(path), "content": TEXT},
        "tool_response": {"type": "update", "content": TEXT, "originalFile": TEXT[:-1] + "?"},
        "tool_use_id": "1",
    }
    raw = as_sent(event)
    got = wire.decode([raw[at : at + 65536] for at in range(0, len(raw), 65536)])
    assert whole(got) == event
    long = [got["tool_input"]["content"], got["tool_response"]["content"], got["tool_response"]["originalFile"]]
    assert not any(isinstance(each, str) for each in long), "they are taken out of the text"
    assert (long[0] is long[1]) is (stands == "the same"), "what stands on the disk is not decoded"


@pytest.mark.parametrize(
    "bad",
    [
        b'{"a":"%b' % (b"x" * 99_000),
        b'{"a":"%b\n"}' % (b"x" * 99_000),
        b'{"a":"%b\\q"}' % (b"x" * 99_000),
        b'{"a":"%b\xff"}' % (b"x" * 99_000),
        b'{"a":"%b","b":NaN}' % (b"x" * 99_000),
        b'{"b":NaN,"a":"%b"}' % (b"x" * 99_000),
    ],
)
def test_what_is_no_json_is_refused(bad: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|Invalid|decode|Unterminated|escape"):
        wire.decode([bad[at : at + 65536] for at in range(0, len(bad), 65536)])
