"""The long strings of a JSON text, taken out of it while it comes.

What a hook is told holds whole files, up to three times. What they cost is fresh memory (the page faults take longer
than hashing the pages) and decoding. So what nobody asks for is passed over; a string that repeats bytes that are
known, as those of a tool's response repeat the file that it wrote, is not decoded: the bytes are encoded, which is
twice as fast, and compared; and any other is decoded piece by piece, in the same few pages.
"""

from __future__ import annotations

from _json import scanstring  # where it is missing, `wire` leaves the text whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import Final

LONG: Final = 32 * 1024
"""Bytes of a string without its end in sight, from which on it is a long one."""
MOST: Final = 16 << 20
"""Bytes of a file up to which an event is held against it: none repeats much more, and that of a Read a part alone."""
STAND_IN: Final = b"NaN"
"""What stands for a long string in the text that is left: no JSON says so itself."""
_ESCAPE: Final = 6
r"""Bytes of the longest escape, ``\u0000``."""
_PIECE: Final = 64 * 1024
"""Bytes that are encoded at once."""
_NAME: Final = b'"hook_event_name":"'
_INPUT: Final = b'"tool_input":{"file_path":"'
_WRITE: Final = b'"tool_name":"Write",' + _INPUT
_RESPONSE: Final = b'},"tool_response":{"'
_ID: Final = b'"tool_use_id":"'
_CALL: Final = b"}," + _ID
"""How an event tells of a call, one after the other. No string holds any of them: its quotes follow a backslash."""


def cutter_for(begun: bytearray) -> Cutter:
    """What takes the long strings out of an event that begins like that; after a tool, what it wrote is on the disk."""
    tool = begun.find(_INPUT)
    name = begun.find(_NAME, 0, tool if tool >= 0 else len(begun))
    if name < 0:
        return Cutter()
    if tool < 0 or begun[name + len(_NAME) :].partition(b'"')[0] != b"PostToolUse" or begun.find(_ID, 0, tool) >= 0:
        return Cutter()
    known = _standing(_string(begun, tool + len(_INPUT)))
    if begun.find(_WRITE) >= 0:
        return Cutter(known, passing=_asked_and_said)
    return Cutter(known, passing=_asked_and_said, change=_change(begun, tool))


def _asked_and_said(text: bytearray, at: int, repeated: bool) -> bytes:  # noqa: FBT001 - see `Cutter`
    """In what a tool was asked for, all up to its response; in that of a Write, all after what the disk holds."""
    if text.find(_RESPONSE, 0, at) < 0:
        return _RESPONSE
    return _CALL if repeated and text.find(_WRITE, 0, at) >= 0 else b""


def _change(begun: bytearray, tool: int) -> tuple[bytes, bytes] | None:
    """What an edit says that it replaced, and by what."""
    response = begun.find(_RESPONSE, tool)
    places = [begun.find(words, response) + len(words) for words in (b'"oldString":"', b'"newString":"')]
    if response < 0 or min(places) < response + len(_RESPONSE):
        return None
    old, new = (_string(begun, at).encode("utf-8", "surrogatepass") for at in places)
    return old, new


def _string(text: bytearray, at: int) -> str:
    """The JSON string that goes on there; "" if it is none, or does not end."""
    try:
        return scanstring(text[at : at + LONG].decode("utf-8", "replace"), 0, True)[0]  # noqa: FBT003 - the C function knows no names
    except ValueError:
        return ""


standing: tuple[os.stat_result, bytes] | None = None
"""What stood under the path of the event, as of `landed.artifact.Artifact.known`."""


def _standing(path: str) -> bytes:
    """What stands now under a path; b"" if that cannot be read."""
    global standing  # noqa: PLW0603 - one event per process
    from landed import _fs
    from landed_claude_code.ledger import stat_before, tick

    now = tick()
    try:
        fd = _fs.open_regular(_fs.LOCAL, path)
    except (ValueError, OSError):
        return b""
    try:
        status = _fs.LOCAL.fstat(fd)
        if status.st_size > MOST:
            return b""
        data = _fs.read_all(_fs.LOCAL, fd, status.st_size)
        standing = (status, data) if stat_before(status, now) and len(data) == status.st_size else None
        return data
    except OSError:
        return b""
    finally:
        _fs.close_read(_fs.LOCAL, fd)


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
        change: what was replaced in the known bytes, and by what, so that a string may repeat what they were before.
        passing: told of the text, of where in it a long string begins, and whether one before it repeated the known
            bytes; returns words up to which all is passed over from there on, so that b"" is in `strings` for it; or
            b"" to take the string.
    """

    def __init__(
        self,
        known: bytes = b"",
        long: int = LONG,
        *,
        change: tuple[bytes, bytes] | None = None,
        passing: Callable[[bytearray, int, bool], bytes] | None = None,
    ) -> None:
        self.text = bytearray()
        self.strings: list[bytes | bytearray] = []
        self._known = known
        self._least = long
        self._change = change
        self._passing = passing
        self._repeated = False
        self._searched = 0
        self._at = 0
        """Where, in the text, the string that is being taken out goes on; 0 when none is."""
        self._until = b""
        """What comes after all that is passed over; b"" when nothing is."""
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
        if self._at and not self._took(last=True):
            raise ValueError("the input is not JSON: it ends within a string")

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
        self._until = self._passing(text, at, self._repeated) if self._passing is not None else b""
        self._repeats = _Repeats(self._known, self._change) if len(self._known) >= self._least else None
        return True

    def _took(self, *, last: bool) -> bool:
        """Take out of the string what is there; whether that was its end."""
        if self._until:
            return self._passed()
        if self._repeats is not None:
            ended = self._repeats.take(self.text, self._at)
            if ended:
                self._end(0, self._repeats.known)
                self._repeated = True
            if ended is not None:
                return ended
            self._repeats = None
        return self._decoded(len(self.text) if last else self._boundary())

    def _passed(self) -> bool:
        """Drop what is there of what is passed over; whether it has ended."""
        # A quote is found twenty times as fast, where there is none.
        to = self.text.find(self._until, self._at) if self.text.find(b'"', self._at) >= 0 else -1
        if to >= 0:
            self._end(to - self._at - 1, b"")
            return True
        del self.text[self._at : max(self._at, len(self.text) - len(self._until))]
        return False

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
    """A string that may be the JSON of known bytes. Bytes that no JSON string can stand for equal none.

    Attributes:
        known: the bytes; from where one `change` in them has been found on, those before it.
    """

    def __init__(self, known: bytes, change: tuple[bytes, bytes] | None = None) -> None:
        self.known = known
        self._change = change
        self._encoded = 0
        """Bytes of the known ones that were encoded so far."""
        self._piece = b""
        """The last of them, encoded."""
        self._came = 0
        """Bytes of that piece that came."""

    def take(self, text: bytearray, at: int) -> bool | None:
        """Remove from `text` what repeats the known bytes, from `at` on.

        Returns:
            Whether all of them came and then a quote; None, with all in its place again, if it is another string.
        """
        done = at
        while done < len(text) and (self._came < len(self._piece) or self._encode()):
            due = memoryview(self._piece)[self._came : self._came + len(text) - done]
            same = len(due) if text.startswith(due, done) else _alike(due, memoryview(text)[done:])
            self._came += same
            done += same
            if same < len(due):
                back = self._before(done - at)
                if back is None:
                    break
                done -= back
        if done == len(text):
            del text[at:]
            return False
        if self._came == len(self._piece) and text[done] == ord('"'):
            del text[at:done]
            return True
        gone = _encoded(self.known[: self._encoded])
        text[at:done] = gone[: len(gone) - len(self._piece) + self._came]
        return None

    def _encode(self) -> bool:
        piece = self.known[self._encoded : self._encoded + _PIECE]
        self._piece, self._came = _encoded(piece), 0
        self._encoded += len(piece)
        return bool(piece)

    def _before(self, most: int) -> int | None:
        """At the first difference, see whether what comes is what was known before the change, and go on with that.

        Returns:
            How many of the bytes that came last, `most` at most, come again; None where it is not.
        """
        if self._change is None:
            return None
        old, new = self._change
        self._change = None
        at = self._encoded - _decoded_size(self._piece) + _decoded_size(self._piece[: self._came])
        back = self._came - len(_whole(self._piece[: self._came]))
        if back > most:
            return None
        begin = self.known.rfind(new, 0, at - _alike(old, new) + len(new))
        after = begin + len(new)
        if begin < 0 or (old + self.known[after : after + at - begin])[: at - begin] != self.known[begin:at]:
            return None
        self.known = b"".join((self.known[:begin], old, self.known[after:]))
        self._encoded, self._piece, self._came = at, b"", 0
        return back


def _alike(one: bytes | memoryview, other: bytes | memoryview) -> int:
    """How many bytes two begin with in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _encoded(data: bytes) -> bytes:
    r"""As JSON has it, but for control characters such as ``\u0000``."""
    for byte, escape in ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"), (b"\t", b"\\t"), (b"\r", b"\\r")):
        data = data.replace(byte, escape)
    return data


def _whole(encoded: bytes) -> bytes:
    """Without the first half of an escape at its end."""
    slashes = len(encoded) - len(encoded.rstrip(b"\\"))
    return encoded[: len(encoded) - slashes % 2]


def _decoded_size(encoded: bytes) -> int:
    """Bytes that `_encoded` made these of; half an escape counts as none."""
    text = _whole(encoded).replace(b"\\\\", b"/")
    return len(text) - text.count(b"\\")
