"""What the hook is told, with the files in it: read in parts, and always what the json module makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from landed_claude_code import expected, long_strings, wire
from landed_claude_code.adapter import EDIT
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


TEXT = "".join(f'{line}: a line, and "\t\u00fc" \\\n' for line in range(10_000))


def as_parts(raw: bytes) -> list[bytes]:
    return [raw[at : at + 65536] for at in range(0, len(raw), 65536)]


def after(path: Path, tool: str, asked: dict[str, Any], response: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An event after a tool, its members in the order in which Claude Code sends them."""
    name = {"session_id": "s", "cwd": "/", **more, "hook_event_name": "PostToolUse", "tool_name": tool}
    asked = {"file_path": str(path), **asked}
    return {**name, "tool_input": asked, "tool_response": response, "tool_use_id": "1", "duration_ms": 3}


@pytest.mark.parametrize("stands", ["the same", "less", "more", "another", "nothing"])
def test_a_write_of_a_large_file(work: Path, stands: str) -> None:
    path = work / "plan.md"
    on_disk = {"the same": TEXT, "less": TEXT[:-9], "more": TEXT + "x", "another": "x" + TEXT[1:]}.get(stands)
    if on_disk is not None:
        path.write_text(on_disk, newline="")
    response = {"type": "update", "content": TEXT, "originalFile": TEXT[:-1] + "?", "userModified": False}
    event = after(path, "Write", {"content": TEXT}, response)
    got = wire.decode(as_parts(as_sent(event)))
    assert got["tool_input"] == {"file_path": str(path), "content": b""}, "nobody asks for what it was to write"
    assert got["tool_use_id"] == "1"
    if stands == "the same":
        assert got["tool_response"]["content"] == path.read_bytes()
        assert got["tool_response"]["originalFile"] == b"", "nor, when the disk holds the content, for what comes then"
    else:
        assert whole(got["tool_response"]) == response


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("5000: a line", "a change"),
        ("5000: a line", ""),
        ("\n5000: a line", "\n5000: a line, and more"),
        ('5000: a line, and "\t\u00fc" \\\n', '"\n\t\\'),
        ("0: a line", "x"),
        ('9999: a line, and "\t\u00fc" \\\n', "the end"),
        ('9999: a line, and "\t\u00fc" \\\n', ""),
    ],
)
@pytest.mark.parametrize("stands", ["edited", "as before", "otherwise"])
def test_an_edit_of_a_large_file(work: Path, old: str, new: str, stands: str) -> None:
    path = work / "plan.md"
    done = TEXT.replace(old, new, 1)
    disk = {"edited": done, "as before": TEXT, "otherwise": done[:700_000] + "?" + done[700_001:]}[stands]
    path.write_text(disk, newline="")
    patch = [{"oldStart": 1, "oldLines": 1, "newStart": 1, "newLines": 1, "lines": ["-?", "+!"]}]
    response = {"oldString": old, "newString": new, "originalFile": TEXT, "structuredPatch": patch, "replaceAll": False}
    event = after(path, "Edit", {"old_string": old, "new_string": new}, response)
    got = wire.decode(as_parts(as_sent(event)))
    assert whole(got) == event
    assert isinstance(got["tool_response"]["originalFile"], (bytes, bytearray))
    verdict = expected.compare(EDIT, got["tool_response"], disk.encode(), lambda: stands == "as before")
    assert verdict == {"edited": expected.SAME, "as before": expected.OLD, "otherwise": expected.OTHER_BYTES}[stands]


@given(
    before=words, old=words, new=words, rest=words, size=st.integers(1, 12), other=words, same=st.sampled_from("yyyn")
)
@example(before="", old="a", new="ab", rest="b\n", size=1, other="", same="y")
@example(before="\t", old="\t", new="\n", rest="", size=1, other="", same="y")
@settings(max_examples=300, deadline=None)
def test_a_string_may_be_what_was_before_a_change(
    monkeypatch_module: None, before: str, old: str, new: str, rest: str, size: int, other: str, same: str
) -> None:
    """Or another one: it comes out as it is."""
    known, change = ((before + new + rest).encode("utf-8", "surrogatepass"), [old, new])
    original = before + old + (rest if same == "y" else other)
    raw = as_sent({"a": original})
    old_bytes, new_bytes = (each.encode("utf-8", "surrogatepass") for each in change)
    cutter = Cutter(known, 1, change=(old_bytes, new_bytes))
    for at in range(0, len(raw), size):
        cutter.feed(raw[at : at + size])
    cutter.close()
    assert whole(wire._value(cutter.text.decode(), cutter.strings[::-1])) == json.loads(raw)


@pytest.mark.parametrize("event", ["PreToolUse", "PostToolBatch", "PermissionRequest", "UserPromptSubmit"])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("asked", [{"file_path": "/x", "content": TEXT}, {"file_path": "/x", "a": [{"b": TEXT}]}])
def test_what_nobody_asks_for_is_left_out(event: str, first: bool, asked: dict[str, Any]) -> None:
    name = "Write" if "content" in asked else "mcp__other"
    call: dict[str, Any] = {"tool_name": name, "tool_input": asked, "tool_use_id": "1"}
    if first:
        call = {"tool_use_id": "1", **call}
    if event == "PostToolBatch":
        read = {"tool_name": "Read", "tool_input": {"file_path": "/y"}, "tool_use_id": "2", "tool_response": TEXT}
        call = {"tool_calls": [{**call, "tool_response": "done"}, read, {**call, "tool_response": TEXT}, read]}
    said: dict[str, Any] = {"session_id": "s", "agent_id": "a", "hook_event_name": event, **call}
    if event not in {"PreToolUse", "PostToolBatch"}:
        said["prompt"] = TEXT
    got = whole(wire.decode(as_parts(as_sent(said))))
    if event == "PostToolBatch":
        said["tool_calls"] = []
    elif event == "PreToolUse" and name == "Write" and not first:
        said["tool_input"] = {"file_path": "/x", "content": ""}
    assert got == said


@pytest.mark.parametrize("event", ["PreToolUse", "PostToolUse"])
def test_an_event_that_ends_too_early_is_refused(event: str) -> None:
    said = as_sent({**after(Path("/x"), "Write", {"content": TEXT}, {"content": TEXT}), "hook_event_name": event})
    for end in (100_000, len(said) - 100_000):
        with pytest.raises(ValueError, match="JSON"):
            wire.decode(as_parts(said[:end]))


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
