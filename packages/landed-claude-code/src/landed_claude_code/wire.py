"""JSON without the json module, which costs a third of what one hook call may take.

CPython's C scanner and encoder do the work; where an interpreter lacks them, the json module does.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator
    from typing import Any, Final

MUCH: Final = 32 * 1024
"""Bytes from which on a text may hold long strings."""
_BATCH: Final = b'"hook_event_name":"PostToolBatch","tool_calls":['
_WRITE: Final = b'"hook_event_name":"PreToolUse","tool_name":"Write","tool_input":{"file_path":"'
_CONTENT: Final = b'","content":"'
_CALL: Final = b'"},"tool_use_id":"'
"""Words of events. No string holds one of them: a quote in a string follows a backslash."""


def decode(parts: Iterable[bytes]) -> dict[str, Any]:
    """The JSON object that `parts` make.

    A string of a few ten thousand bytes or more that is a member of an object is bytes here, its UTF-8, in
    which half a surrogate pair stands as if it were a character. What nobody asks for is left out: the calls of a
    batch, what a Write is to write, what a response says besides what stands on the disk.

    Raises:
        ValueError: they make none.
    """
    text = bytearray()
    strings: list[bytes | bytearray] = []
    rest = iter(parts)
    for part in rest:
        text += part
        if len(text) > MUCH:
            text, strings = _cut(text, rest)
    strings.reverse()
    value = _value(text.decode("utf-8").strip(), strings)
    if not isinstance(value, dict):
        raise ValueError("the input is not one JSON object")  # noqa: TRY004 - the input is wrong, not a type
    return value


def _cut(text: bytearray, rest: Iterator[bytes]) -> tuple[bytearray, list[bytes | bytearray]]:
    """The rest read as well, and the long strings taken out of it all."""
    if (batch := text.find(_BATCH)) >= 0:
        for _ in rest:
            pass
        return text[: batch + len(_BATCH)] + b"]}", []
    if (content := _content(text)) > 0:
        return text[:content] + _from(_CALL, text[content:], rest), []
    try:
        from landed_claude_code.long_strings import cutter_for
    except ImportError:
        for part in rest:
            text += part
        return text, []
    cutter = cutter_for(text)
    cutter.feed(text)
    for part in rest:
        cutter.feed(part)
    cutter.close()
    return cutter.text, cutter.strings


def _content(text: bytearray) -> int:
    """Where, before a Write, what it is to write begins; 0 where that cannot be told."""
    write = text.find(_WRITE)
    content = text.find(_CONTENT, write)
    usual = write >= 0 and content >= 0 and text.find(_CALL[3:], 0, write) < 0  # the id of the call comes at the end
    return content + len(_CONTENT) if usual else 0


def _from(words: bytes, text: bytearray, rest: Iterator[bytes]) -> bytearray:
    """All from `words` on.

    Raises:
        ValueError: they do not come.
    """
    while b'"' not in text or (at := text.find(words)) < 0:
        part = next(rest, b"")
        if not part:
            raise ValueError("the input is not JSON: it ends within a string")
        text = text[-len(words) :] + part
    return text[at:] + b"".join(rest)


def standing() -> tuple[os.stat_result, bytes] | None:
    """What was read of the file that the event is about, while it was decoded; as of `landed.artifact.Artifact`."""
    reader = sys.modules.get("landed_claude_code.long_strings")
    return None if reader is None else reader.standing


def encode(value: object) -> bytes:
    """`value`, made of dict, list, str, bool and None, as one line of ASCII JSON."""
    return (_text(value) + "\n").encode("ascii")


def _value(text: str, strings: list[bytes | bytearray]) -> Any:  # noqa: ANN401 - JSON
    try:
        from _json import make_scanner
    except ImportError:
        import json

        value, end = json.JSONDecoder().raw_decode(text)
    else:
        try:
            value, end = make_scanner(_Context(strings))(text, 0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        except StopIteration as error:
            raise ValueError("the input is not JSON") from error
    if end != len(text):
        raise ValueError("the input is not one JSON object")
    return value


class _Context:
    """What the C scanner asks of its decoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    def __init__(self, strings: list[bytes | bytearray]) -> None:
        self._strings = strings

    def parse_constant(self, name: str) -> bytes | bytearray:
        """What stands for a long string, the next one being the last of the list; no JSON says it."""
        if not self._strings:
            raise ValueError(f"the input is not JSON: it says {name}")
        return self._strings.pop()


def _text(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_string(key)}: {_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, str):
        return _string(value)
    return {True: "true", False: "false", None: "null"}[value]  # type: ignore[index]


def _string(text: str) -> str:
    try:
        from _json import encode_basestring_ascii
    except ImportError:
        import json

        return json.dumps(text)
    return str(encode_basestring_ascii(text))
