"""The disk against what a tool's response promises: encodings, line ends, quotes, patches."""

from __future__ import annotations

import pytest

from landed_claude_code import expected
from landed_claude_code.adapter import EDIT, NOTEBOOK, WRITE
from landed_claude_code.expected import EMPTY, HELD_BACK, MISSING, OLD, OTHER_BYTES, SAME, Shown, compare, shows

BOM = "\ufeff"


def yes() -> bool:
    """It is what stood there before."""
    return True


def no() -> bool:
    return False


def as_long(response: dict) -> dict:
    """As `wire` gives the strings of large files."""
    return {
        name: value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        for name, value in response.items()
    }


def edit(original, old, new, lines, start=1, **more):
    hunk = {"oldStart": start, "oldLines": 0, "newStart": start, "newLines": 0, "lines": lines}
    return {"originalFile": original, "oldString": old, "newString": new, "structuredPatch": [hunk], **more}


@pytest.mark.parametrize(
    ("content", "data"),
    [
        ("one\ntwo\n", b"one\ntwo\n"),
        ("one\r\ntwo\n", b"one\r\ntwo\n"),
        ("", b""),
        (BOM + "one", b"\xef\xbb\xbfone"),
        (BOM + "one", (BOM + "one").encode("utf-16-le")),
        ("one", (BOM + "one").encode("utf-16-le")),
        ("one", "one".encode("utf-16-le")),
        ("\0 \U0001f600 \u2028", "\0 \U0001f600 \u2028".encode()),
        ("half \ud83d pair", "half \ufffd pair".encode()),
    ],
)
def test_a_write_is_its_content(content: str, data: bytes) -> None:
    response = {"type": "update", "content": content}
    assert compare(WRITE, response, data, no) == SAME
    assert compare(WRITE, response, data, yes) == SAME, "identical content was written again"
    assert compare(WRITE, response, data + b"x", no) == OTHER_BYTES
    assert compare(WRITE, response, data + b"x", yes) == OLD
    assert compare(WRITE, response, None, no) == MISSING
    assert compare(WRITE, response, b"", no) == (EMPTY if content else SAME)
    assert compare(WRITE, as_long(response), data, no) == SAME
    assert compare(WRITE, as_long(response), data + b"x", no) == OTHER_BYTES


def test_line_ends_of_a_write_count() -> None:
    assert compare(WRITE, {"content": "one\n"}, b"one\r\n", no) == OTHER_BYTES


@pytest.mark.parametrize(
    ("response", "data"),
    [
        pytest.param(edit("a\nb\n", "a", "c", ["-a", "+c", " b"]), b"c\r\nb\r\n", id="crlf kept"),
        pytest.param(edit("a\nb\n", "a", "c  ", ["-a", "+c", " b"]), b"c\nb\n", id="blanks taken away"),
        pytest.param(
            edit("say \u201ca\u201d\n", 'say "a"', 'say "b"', ["-say \u201ca\u201d", "+say \u201cb\u201d"]),
            "say \u201cb\u201d\n".encode(),
            id="curly quotes kept",
        ),
        pytest.param(edit("x\n\ta\n", "a", "b", [" x", "-  a", "+  b"]), b"x\n\tb\n", id="tabs shown as spaces"),
        pytest.param(
            edit("x\n\ta\n", "a\u2019", "b", [" x", "-  a", "+  b"]), b"x\n\tb\n", id="tabs, and no plain replacement"
        ),
        pytest.param(
            edit("a", "a", "b", ["-a", "\\ No newline at end of file", "+b", "\\ No newline at end of file"]),
            b"b",
            id="no newline at the end",
        ),
        pytest.param(edit("a b a\n", "a", "c", ["-a b a", "+c b c"], replaceAll=True), b"c b c\n", id="all"),
        pytest.param(edit(BOM + "a\n", "a", "b", [f"-{BOM}a", f"+{BOM}b"]), b"\xef\xbb\xbfb\n", id="byte order mark"),
        pytest.param(
            edit(BOM + "a\n", "a", "b", [f"-{BOM}a", f"+{BOM}b"]), (BOM + "b\n").encode("utf-16-le"), id="utf-16"
        ),
        pytest.param(
            edit("".join(f"{n}\n" for n in range(20)), "x", "y", [" 9", "-10", "+ten", " 11"], start=10),
            "".join(f"{'ten' if n == 10 else n}\n" for n in range(20)).encode(),
            id="in the middle",
        ),
        pytest.param(
            {"originalFile": None, "oldString": "a", "newString": "b", "structuredPatch": []}, b"xbx", id="too large"
        ),
        pytest.param({"somethingNew": True}, b"whatever", id="says nothing"),
    ],
)
def test_an_edit_is_its_patch(response: dict, data: bytes) -> None:
    assert compare(EDIT, response, data, no) == SAME
    if "somethingNew" not in response:
        assert (
            compare(EDIT, response, data.replace(b"b", b"?").replace(b"c", b"?").replace(b"ten", b"?"), no)
            == OTHER_BYTES
        )
        assert compare(EDIT, response, b"", no) == EMPTY
        assert compare(EDIT, as_long(response), data, no) == SAME
        if response["originalFile"] is not None:
            assert compare(EDIT, as_long(response), data + b"x?", no) == OTHER_BYTES


@pytest.mark.parametrize("data", [b"onx 2 two two\n", b"one 3 two two\n", b"one 2 two twx\n", b"one 2 two two\n\n"])
def test_an_edit_of_a_large_file(data: bytes) -> None:
    response = edit("one two two\n", "two", "2 two", ["-one two two", "+one 2 two two"])
    del response["structuredPatch"][0]["lines"][:]  # what was replaced says it alone
    right = b"one 2 two two\n"
    assert compare(EDIT, as_long(response), right, no) == SAME
    assert compare(EDIT, as_long(response), data, no) == OTHER_BYTES


LARGE = {"originalFile": None, "oldString": "a", "newString": "b", "structuredPatch": []}


def test_an_edit_that_left_the_old_bytes() -> None:
    response = edit("a\nb\n", "a", "c", ["-a", "+c", " b"])
    assert compare(EDIT, response, b"a\nb\n", yes) == OLD
    assert compare(EDIT, LARGE, b"b was there before", yes) == OLD


def test_a_large_file_is_not_decoded_to_find_an_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    """900 MB would take longer than a hook may."""
    monkeypatch.setattr(expected, "_decode", lambda _: pytest.fail("it is"))
    assert compare(EDIT, LARGE, b"xb\xffx", no) == SAME


def test_a_patch_that_does_not_fit_is_no_proof() -> None:
    response = edit("a\nb\n", "q", "r", [" x", "-y", "+z"])
    assert compare(EDIT, response, b"z\n", no) == OTHER_BYTES


def test_a_notebook_is_its_text() -> None:
    response = {"updated_file": '{\n "cells": []\n}', "error": ""}
    assert compare(NOTEBOOK, response, b'{\r\n "cells": []\r\n}', no) == SAME
    assert compare(NOTEBOOK, response, b"{}", no) == OTHER_BYTES
    assert compare(NOTEBOOK, as_long(response), b'{\n "cells": []\n}', no) == SAME
    assert compare(NOTEBOOK, as_long(response), b"{}", no) == OTHER_BYTES
    assert compare(NOTEBOOK, {**response, "error": "no such cell"}, b"{}", yes) == HELD_BACK


def test_what_a_person_changed_in_the_dialog_is_no_alarm() -> None:
    response = {"content": "x", "userModified": True}
    assert compare(WRITE, response, b"y", no) == SAME
    assert compare(WRITE, response, None, no) == MISSING
    assert compare(WRITE, response, b"", no) == EMPTY


def test_what_is_held_back_was_not_written() -> None:
    assert compare(WRITE, {"content": "x", "staged": True}, b"old", yes) == HELD_BACK


@pytest.mark.parametrize(
    ("file", "data", "expected"),
    [
        ({"content": "a\nb\n", "startLine": 1, "numLines": 3, "totalLines": 3}, b"a\r\nb\r\n", True),
        ({"content": "a", "startLine": 1, "numLines": 1, "totalLines": 3}, b"a\r\nb\r\n", True),
        ({"content": "b", "startLine": 2, "numLines": 1, "totalLines": 3}, b"a\nb\n", True),
        ({"content": "b", "startLine": 2, "numLines": 1, "totalLines": 3}, b"a\nc\n", False),
        ({"content": "hallo\n", "startLine": 1}, (BOM + "hallo\n").encode("utf-16-le"), True),
        ({"content": "old\n", "startLine": 1}, b"new\n", False),
    ],
)
def test_what_a_read_showed(file: dict, data: bytes, expected: bool) -> None:
    assert shows({"type": "text", "file": file}, data) is expected
    assert shows({"type": "text", "file": as_long(file)}, data) is expected


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("start", [1, 3, 9])
def test_what_a_read_showed_is_found_in_pieces(size: int, start: int) -> None:
    data = "".join(f"line {number} \u00fc\r\n" for number in range(1, 10)).encode()
    part = b"".join(data.splitlines(keepends=True)[start - 1 : start + 2])
    for content, found in ((part, True), (part[:-4], True), (b"", True), (part + b"x", False), (b"x" + part, False)):
        shown = Shown({"type": "text", "file": {"content": content.decode("utf-8", "replace"), "startLine": start}})
        for at in range(0, len(data), size):
            shown.take(data[at : at + size])
        assert shown.found is found


def test_what_a_read_of_an_image_showed_is_not_known() -> None:
    assert shows({"type": "image", "file": {"base64": ""}}, b"x") is None
    assert shows({}, b"x") is None
