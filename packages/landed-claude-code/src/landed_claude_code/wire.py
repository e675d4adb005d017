"""JSON without the json module, which costs a third of what one hook call may take.

CPython's C scanner and encoder do the work; where an interpreter lacks them, the json module does.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Final

MUCH: Final = 32 * 1024
"""Bytes from which on a text may hold long strings."""


def decode(parts: Iterable[bytes]) -> dict[str, Any]:
    """The JSON object that `parts` make.

    A string of a few ten thousand bytes or more that is a member of an object is bytes here, its UTF-8, in
    which half a surrogate pair stands as if it were a character; or b"" if it is one that nobody asks for.

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


def _cut(text: bytearray, rest: Iterable[bytes]) -> tuple[bytearray, list[bytes | bytearray]]:
    """The rest read as well, and the long strings taken out of it all."""
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
