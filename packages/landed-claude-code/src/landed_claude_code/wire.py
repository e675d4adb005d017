"""JSON without the json module, which costs a third of what one hook call may take.

CPython's C scanner and encoder do the work; where an interpreter lacks them, the json module does.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def decode(raw: bytes | bytearray) -> dict[str, Any]:
    """The JSON object in `raw`.

    Raises:
        ValueError: it is none.
    """
    text = raw.decode("utf-8").strip()
    del raw  # the caller kept none: its memory is where the strings go
    try:
        value, end = _scan(text)
    except StopIteration as error:
        raise ValueError("the input is not JSON") from error
    if end != len(text) or not isinstance(value, dict):
        raise ValueError("the input is not one JSON object")
    return value


def encode(value: object) -> bytes:
    """`value`, made of dict, list, str, bool and None, as one line of ASCII JSON."""
    return (_text(value) + "\n").encode("ascii")


def _scan(text: str) -> tuple[Any, int]:
    try:
        from _json import make_scanner
    except ImportError:
        import json

        return json.JSONDecoder().raw_decode(text)
    value, end = make_scanner(_Context())(text, 0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return value, end


class _Context:
    """What the C scanner asks of its decoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


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
