"""The long strings of a JSON text, taken out of it while it comes.

What a hook is told holds whole files, up to three times. What they cost is fresh memory (the page faults take longer
than hashing the pages) and decoding. So a long string is decoded piece by piece, in the same few pages; and one that
repeats bytes that are known, as those of a tool's response repeat the file that it wrote, is not decoded at all: the
bytes are encoded, which is three times as fast, and compared.
"""

from __future__ import annotations

from _json import scanstring  # where it is missing, `wire` leaves the text whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

LONG: Final = 32 * 1024
"""Bytes of a string without its end in sight, from which on it is a long one."""
STAND_IN: Final = b"NaN"
"""What stands for a long string in the text that is left: no JSON says so itself."""
_ESCAPE: Final = 6
r"""Bytes of the longest escape, ``\u0000``."""
_PIECE: Final = 64 * 1024
"""Bytes that are encoded at once."""
_AFTER: Final = b'"hook_event_name":"PostToolUse"'
_WRITE: Final = b'"tool_name":"Write"'
_PATH: Final = b'"tool_input":{"file_path":"'
"""How the event after a Write begins: what the tool was to write, and what it says that it wrote, are on the disk."""


class Cutter:
    """Takes a text in parts.

    A string counts as a value that begins where a letter or digit, a quote, a colon and a quote stand: the first quote
    is none of a string's own, which would follow a backslash, nor does it open a string, which no letter does precede.

    Attributes:
        text: what came so far, with `STAND_IN` for each long string that is the value of a member of an object.
        strings: those strings, in that order, as UTF-8; half a surrogate pair as if it were a character.

    Args:
        known: bytes that the strings may repeat; b"" for none.
        long: as in `LONG`.
    """

    def __init__(self, known: bytes = b"", long: int = LONG) -> None:
        self.text = bytearray()
        self.strings: list[bytes | bytearray] = []
        self._known = known
        self._least = long
        self._searched = 0
        self._at = 0
        """Where, in the text, the string that is being taken out goes on; 0 when none is."""
        self._taken = bytearray()
        self._repeats: _Repeats | None = None

    def feed(self, part: bytes | bytearray) -> None:
        """Take one part.

        Raises:
            ValueError: it holds a string that is none of JSON's.
        """
        self.text += part
        while (self._at or self._found()) and self._took(last=False):
            pass

    def close(self) -> None:
        """Take what was held back, after the last part.

        Raises:
            ValueError: as `feed`.
        """
        if self._at:
            self._took(last=True)

    def _found(self) -> bool:
        """Whether the last string that began may be a long one."""
        text = self.text
        begin = text.rfind(b'":"', self._searched)
        if begin < 0:
            self._searched = max(self._searched, len(text) - 2)
            return False
        self._searched = begin
        at = begin + 3
        if len(text) - at < self._least or not text[begin - 1 : begin].isalnum():
            return False
        self._at, self._taken = at, bytearray()
        self._repeats = _Repeats(self._known) if len(self._known) >= self._least else None
        return True

    def _took(self, *, last: bool) -> bool:
        """Take out of the string what is there; whether that was its end."""
        if self._repeats is not None:
            ended = self._repeats.take(self.text, self._at)
            if ended:
                self._end(0, self._known)
            if ended is not None:
                return ended
            self._repeats = None
        return self._decoded(len(self.text) if last else self._boundary())

    def _end(self, size: int, string: bytes | bytearray) -> None:
        """Put the stand-in where the last `size` bytes of a string and its quotes are."""
        self.text[self._at - 1 : self._at + size + 1] = STAND_IN
        self.strings.append(string)
        self._searched, self._at = self._at, 0

    def _boundary(self) -> int:
        """Up to where the text is made of whole characters and whole escapes."""
        text, at = self.text, self._at
        to = len(text) - 1
        slash = text.rfind(b"\\", max(at, to - _ESCAPE), to)
        if slash >= 0:
            return at + len(text[at : slash + 1].rstrip(b"\\"))  # the first of several begins an escape
        while to > at and text[to] & 0xC0 == 0x80:  # noqa: PLR2004 - a byte within a character
            to -= 1
        return to

    def _decoded(self, to: int) -> bool:
        text, at = self.text, self._at
        words = (text[at:to] + b'"').decode()
        value, end = scanstring(words, 0, True)  # noqa: FBT003 - the C function knows no names
        ended = end < len(words)
        size = len(words[: end - 1].encode()) if ended else to - at
        if ended and not self._taken and size < self._least:
            self._searched, self._at = at, 0  # a short one: it stays
            return True
        if not ended and "\ud800" <= value[-1:] <= "\udbff":
            value, size = value[:-1], size - _ESCAPE  # the other half may follow
        self._taken += value.encode("utf-8", "surrogatepass")
        if ended:
            self._end(size, self._taken)
        else:
            del text[at : at + size]
        return ended


class _Repeats:
    """A string that may be the JSON of known bytes. Bytes that no JSON string can stand for equal none."""

    def __init__(self, known: bytes) -> None:
        self._known = known
        self._encoded = 0
        """Bytes of the known ones that were encoded so far."""
        self._next = memoryview(b"")
        """What must come next: the rest of their last piece."""

    def take(self, text: bytearray, at: int) -> bool | None:
        """Remove from `text` what repeats the known bytes, from `at` on.

        Returns:
            Whether all of them came and then a quote; None, with all in its place again, if it is another string.
        """
        done = at
        while done < len(text) and (self._next or self._encode()):
            size = min(len(self._next), len(text) - done)
            if not text.startswith(self._next[:size], done):
                break
            self._next = self._next[size:]
            done += size
        if done == len(text):
            del text[at:]
            return False
        if not self._next and text[done] == ord('"'):
            del text[at:done]
            return True
        gone = _encoded(self._known[: self._encoded])
        text[at:done] = gone[: len(gone) - len(self._next)]
        return None

    def _encode(self) -> bool:
        piece = self._known[self._encoded : self._encoded + _PIECE]
        self._next = memoryview(_encoded(piece))
        self._encoded += len(piece)
        return bool(piece)


def _encoded(data: bytes) -> bytes:
    r"""As JSON has it, but for control characters such as ``\u0000``."""
    for byte, escape in ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"), (b"\t", b"\\t"), (b"\r", b"\\r")):
        data = data.replace(byte, escape)
    return data


def written(begun: bytearray) -> bytes:
    """What stands now under the path that was written, as an event that has begun so says; b"" if it says none."""
    at = begun.find(_PATH)
    if at < 0 or begun.find(_AFTER, 0, at) < 0 or begun.find(_WRITE, 0, at) < 0:
        return b""
    from landed import _fs

    try:
        path, _ = scanstring(begun[at + len(_PATH) :].decode("utf-8", "replace"), 0, True)  # noqa: FBT003 - as above
        fd = _fs.open_regular(_fs.LOCAL, path)
    except (ValueError, OSError):
        return b""
    try:
        return _fs.read_all(_fs.LOCAL, fd, _fs.LOCAL.fstat(fd).st_size)
    except OSError:
        return b""
    finally:
        _fs.close_read(_fs.LOCAL, fd)
