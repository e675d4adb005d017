"""What a tool's response promises to be on the disk, and whether it is.

The response decides, not the input: Claude Code keeps a file's byte order mark, its UTF-16 and its line ends, and
matches an edit's quotes to the file's. Where a response says too little, what it does say must hold.
"""

from __future__ import annotations

from landed_claude_code.adapter import NOTEBOOK, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

SAME: Final = "same"
"""The disk holds what the response promises."""
MISSING: Final = "missing"
EMPTY: Final = "empty"
OLD: Final = "old"
"""The disk holds what it held before the call, which is not what the response promises."""
OTHER_BYTES: Final = "other"
"""The disk holds neither: somebody rewrote it since, as a formatter may."""
HELD_BACK: Final = "held back"
"""The tool says itself that it has not written."""

SEARCHED: Final = 16 << 20
"""Bytes of a file up to which it is decoded to find in it what a Read showed: that takes five times the memory."""

_UTF16: Final = b"\xff\xfe"
_BOM: Final = "\ufeff"


def compare(operation: str, response: dict[str, Any], data: bytes | None, unchanged: Callable[[], bool]) -> str:
    """Hold the disk against a tool's response.

    Args:
        operation: of the tool.
        response: what it returned.
        data: what stands under the path now; None for nothing.
        unchanged: tells whether that is what stood there before the call.
    """
    if response.get("staged") is True or response.get("error"):
        return HELD_BACK
    if data is None:
        return MISSING
    holds = {WRITE: _holds_content, NOTEBOOK: _holds_notebook}.get(operation, _holds_edit)
    same = holds(response, data, unchanged)
    if same or (data and response.get("userModified") is True):
        return SAME  # a person changed it in the dialog, and Claude Code tells the model so
    if not data:
        return EMPTY
    return OLD if unchanged() else OTHER_BYTES


def _holds_content(response: dict[str, Any], data: bytes, _unchanged: Callable[[], bool]) -> bool:
    content = response.get("content")
    if content == data:
        return True
    content = _text(content)
    if content is None:
        return True
    try:
        if data == content.encode("utf-8"):
            return True
    except UnicodeEncodeError:  # half a surrogate pair has no UTF-8; JavaScript writes U+FFFD for it
        whole = content.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        if data == whole.encode("utf-8"):
            return True
    # UTF-16, of which some versions lose the mark.
    return data.removeprefix(_UTF16) == content.removeprefix(_BOM).encode("utf-16-le", "surrogatepass")


def _holds_notebook(response: dict[str, Any], data: bytes, _unchanged: Callable[[], bool]) -> bool:
    text = response.get("updated_file")
    if text == data:
        return True
    text = _text(text)
    return text is None or _lines(text) == _lines(_decode(data))


def _holds_edit(response: dict[str, Any], data: bytes, unchanged: Callable[[], bool]) -> bool:
    original = response.get("originalFile")
    old, new = (_text(response.get(name)) for name in ("oldString", "newString"))
    patch = response.get("structuredPatch")
    every = bool(response.get("replaceAll"))
    if new is None:
        return True
    if (
        isinstance(original, (bytes, bytearray))
        and patch
        and old
        and not every
        and _is_replaced(original, old, new, data)
    ):
        return True
    if original is None and new.encode("utf-8", "surrogatepass") in data:
        return not unchanged()  # a large file: as text it takes five times the memory, and longer than a hook may
    text = _lines(_decode(data))
    original = _text(original)
    if original is not None and isinstance(patch, list) and patch:
        original = _lines(original)
        if old:
            replaced = original.replace(_lines(old), _lines(new), -1 if every else 1)
            if replaced == text:
                return True
        patched = _patched(original, patch)
        return patched is not None and _untabbed(patched) == _untabbed(text)
    return not unchanged() and _lines(new).rstrip() in text


def _is_replaced(original: bytes | bytearray, old: str, new: str, data: bytes) -> bool:
    """Whether `data` is `original` with the first `old` replaced; without a copy of either."""
    gone, come = (text.encode("utf-8", "surrogatepass") for text in (old, new))
    at = original.find(gone)
    if at < 0 or len(data) != len(original) - len(gone) + len(come):
        return False
    view = memoryview(original)
    return data.startswith(view[:at]) and data.startswith(come, at) and data.endswith(view[at + len(gone) :])


def _patched(original: str, patch: list[Any]) -> str | None:
    """`original` with the hunks applied; None where they do not fit."""
    lines = original.split("\n")
    ended = lines[-1] == ""
    if ended:
        lines.pop()
    done: list[str] = []
    at = 0
    for hunk in patch:
        start = max(0, int(hunk["oldStart"]) - 1)
        done += lines[at:start]
        at = start
        before = ""
        for line in hunk["lines"]:
            mark, rest = line[:1], line[1:]
            if mark == "\\":  # the line before has no newline: the end of the old file, of the new, or of both
                ended = before == "-"
            elif mark == "+":
                done.append(rest)
            else:
                if at >= len(lines) or _untabbed(lines[at]) != _untabbed(rest):
                    return None
                if mark == " ":
                    done.append(lines[at])
                at += 1
            before = mark
    done += lines[at:]
    return "\n".join(done) + ("\n" if ended and done else "")


def _untabbed(text: str) -> str:
    """The tool shows the tabs at the beginning of a line as two spaces each."""
    if "\t" not in text:
        return text
    lines = [(line, line.lstrip("\t")) for line in text.split("\n")]
    return "\n".join("  " * (len(line) - len(bare)) + bare for line, bare in lines)


class Shown:
    """Looks for what a Read showed, as it was shown, in a file that is given piece by piece.

    Attributes:
        found: whether it stands there.
    """

    def __init__(self, response: dict[str, Any]) -> None:
        file = response.get("file")
        content = file.get("content") if isinstance(file, dict) and response.get("type") == "text" else None
        start = file.get("startLine") if isinstance(file, dict) else None
        self.found = False
        self.nothing = response.get("type") == "file_unchanged"
        """Whether Claude Code says instead that it is what was shown before: it goes by the file's time."""
        self.line = start - 1 if isinstance(start, int) and start > 0 else 0
        """Lines that are to be passed over."""
        self.content: bytes | bytearray | None = None
        """What was shown; None where the response does not say (an image, a notebook)."""
        if isinstance(content, (bytes, bytearray)):
            self.content = content
        elif isinstance(content, str):
            self.content = content.encode("utf-8", "surrogatepass")
        self._came: int | None = 0
        """Bytes of it that came; None once others did."""

    def take(self, piece: bytes) -> None:
        """Look at the next piece."""
        at = 0
        while self.line:
            at = piece.find(b"\n", at) + 1
            if not at:
                return
            self.line -= 1
        if self.content is None or self._came is None or self.found:
            return
        due = self.content[self._came : self._came + len(piece) - at]
        self._came = self._came + len(due) if piece.startswith(bytes(due), at) else None
        self.found = self._came == len(self.content)


def shows(response: dict[str, Any], data: bytes) -> bool | None:
    """Whether what a Read showed is in the file now; None where the response does not say (an image, a notebook)."""
    looked = Shown(response)
    first = looked.line
    if looked.content is None:
        return None
    looked.take(data)
    if looked.found:
        return True  # as nearly always
    shown = _lines(looked.content.decode("utf-8", "surrogatepass")).removeprefix(_BOM)
    # Claude Code 2.1.295 and older show UTF-16 as if it were UTF-8.
    return any(_shows(shown, _lines(text).removeprefix(_BOM), first) for text in {_decode(data), _utf8(data)})


def _shows(shown: str, text: str, first: int) -> bool:
    if shown == text:
        return True
    lines = text.split("\n")[first:]
    part = "\n".join(lines[: shown.count("\n") + 1])
    return part == shown or part.startswith(shown) or shown == ""


def _text(value: object) -> str | None:
    """A string of a response; of a long one, `wire` gives the UTF-8."""
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "surrogatepass")
    return value if isinstance(value, str) else None


def _decode(data: bytes) -> str:
    if data.startswith(_UTF16):
        return data.decode("utf-16-le", "replace")
    return _utf8(data)


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _lines(text: str) -> str:
    """Line ends as Claude Code compares them."""
    return text.replace("\r\n", "\n")
