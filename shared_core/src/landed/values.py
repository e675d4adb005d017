"""What goes into a whole-file operation and what comes out: data, snapshots, receipts, drafts."""

from __future__ import annotations

from landed.errors import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import TypeAlias

    from landed.records import Absent, Any_, Seen

    Path: TypeAlias = str | os.PathLike[str]
    Data: TypeAlias = bytes | bytearray | memoryview | str


class Snapshot:
    """A file as it was read.

    Attributes:
        data: its bytes.
        version: pass it as ``expect`` to write only on top of this.
        digest: sha256 of `data` in hexadecimal.
        path: absolute, every symbolic link resolved.
        origin: ``"landed"``, or ``"outside"`` when something that does not use landed wrote these bytes.
        writer: who wrote them, in words; "" when landed does not know.
    """

    __slots__ = ("data", "digest", "origin", "path", "version", "writer")

    def __init__(self, data: bytes, version: str, digest: str, path: str, origin: str, writer: str) -> None:
        self.data = data
        self.version = version
        self.digest = digest
        self.path = path
        self.origin = origin
        self.writer = writer

    @property
    def text(self) -> str:
        """The bytes as UTF-8, newlines as they are."""
        return self.data.decode("utf-8")

    def __repr__(self) -> str:
        return f"<Snapshot {self.path} {self.version} {len(self.data)} bytes, {self.origin}>"


class Receipt:
    """What was acknowledged: these bytes are on the disk, under this name, flushed and verified.

    Attributes:
        path: absolute, every symbolic link resolved.
        version: the version that was written; `ABSENT` after a delete.
        digest: sha256 of the bytes in hexadecimal; "" after a delete.
        size: in bytes.
        verified: ``"read"`` or ``"device"``.
        seconds: from call to acknowledgement, waiting included.
        replaced: the version that was there before, or `ABSENT`.
        settled: what became of a write that somebody before us began and never ended; "" when there was none.
    """

    __slots__ = ("digest", "path", "replaced", "seconds", "settled", "size", "verified", "version")

    def __init__(
        self,
        path: str,
        version: str | Absent,
        digest: str,
        size: int,
        verified: str,
        seconds: float,
        replaced: str | Absent,
        settled: str,
    ) -> None:
        self.path = path
        self.version = version
        self.digest = digest
        self.size = size
        self.verified = verified
        self.seconds = seconds
        self.replaced = replaced
        self.settled = settled

    def __repr__(self) -> str:
        return f"<Receipt {self.path} {self.version} {self.size} bytes, verified by {self.verified}>"


if TYPE_CHECKING:
    Version: TypeAlias = str | Absent
    Expect: TypeAlias = Version | Any_ | Seen | Snapshot | Receipt


class Draft:
    """The document of an `edit`: change `data` or `text`; leaving the block writes it.

    Attributes:
        data: the bytes, empty when there was no file.
        version: the version that was read, or `ABSENT`.
        path: absolute, every symbolic link resolved.
        origin: as in `Snapshot`.
        receipt: after the block: what was acknowledged, or None when nothing changed.
    """

    __slots__ = ("data", "origin", "path", "receipt", "version")

    def __init__(self, data: bytes, version: str | Absent, path: str, origin: str) -> None:
        self.data = data
        self.version = version
        self.path = path
        self.origin = origin
        self.receipt: Receipt | None = None

    @property
    def text(self) -> str:
        """The bytes as UTF-8, newlines as they are."""
        return self.data.decode("utf-8")

    @text.setter
    def text(self, text: str) -> None:
        self.data = to_bytes(text, self.path)


def to_bytes(data: Data, path: str) -> bytes:
    """What is stored for `data`: bytes as they are, text as UTF-8 with its newlines as given.

    Raises:
        Refused: it is neither, or the text has no UTF-8 form (lone surrogates).
    """
    if isinstance(data, str):
        try:
            return data.encode("utf-8")
        except UnicodeEncodeError as error:
            raise Refused(f"the text has no UTF-8 form: {error}", path=path, step="data") from error
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise Refused(f"the data is bytes or str, not {type(data).__name__}", path=path, step="data")
