"""What landed raises.

    LandedError
    ├── NotLanded              the write failed; the old state is intact
    │   ├── StaleWrite         the current version is not the expected one
    │   │   └── Bypassed       ... because something that does not use landed changed the bytes
    │   ├── LockTimeout        another holder kept the lock for the whole time allowed
    │   ├── Claimed            another process owns the directory alone
    │   ├── Full               the store's growth limit would be passed
    │   └── Refused            the path, the argument or the platform is one that landed does not write to
    ├── OutcomeUnknown         the write may or may not survive; re-read before trusting either state
    │   └── VerifyFailed       published, but the name does not lead to our bytes
    └── Corrupt                stored bytes fail their checksum on read

Every error says where (``path``, ``step``), why (``errno``, ``expected``, ``found``), and in which state it left the
disk (``outcome``). Its message says what happened, to which path, what state it left, and what to do next.
"""

from __future__ import annotations

from errno import errorcode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypeVar

    Kind = TypeVar("Kind", bound="LandedError")

NOT_WRITTEN: Final = "not_written"
"""``LandedError.outcome``: nothing was changed; the old state is intact."""
UNKNOWN: Final = "unknown"
"""``LandedError.outcome``: either state may be found after a crash."""
_NEXT: Final = {
    "EACCES": "Do it as a user who may.",
    "EDQUOT": "Make room, then do it again.",
    "EIO": "Look at the disk before anything else.",
    "EMFILE": "Close files, or allow more of them: ulimit -n.",
    "ENAMETOOLONG": "Name another path: a part of this one is too long.",
    "ENOSPC": "Make room, then do it again.",
    "ENOTDIR": "Name another path: a part of this one is no directory.",
    "EPERM": "Do it as a user who may.",
    "EROFS": "Mount it for writing, or name another path.",
}
"""The next step after what the system has refused, by its error, where nothing more particular is known."""


class LandedError(Exception):
    """Base of all that landed raises.

    Attributes:
        path: the artifact, as an absolute resolved path where one was reached.
        step: the step of the operation that failed: ``"lock"``, ``"write"``, ``"sync"``, ``"rename"`` ...
        errno: the system's error number, or None when no system call failed.
        expected: what the operation relied on (a version, a digest, an inode), or None.
        found: what it met instead, or None.
        outcome: ``"not_written"`` or ``"unknown"``.
        hint: the one next step, as a sentence.
    """

    outcome: str = NOT_WRITTEN
    state = "Nothing was changed."

    def __init__(
        self,
        what: str,
        *,
        path: str | None = None,
        step: str | None = None,
        errno: int | None = None,
        expected: str | None = None,
        found: str | None = None,
        hint: str = "",
    ) -> None:
        self.what = what
        self.path = path
        self.step = step
        self.errno = errno
        self.expected = expected
        self.found = found
        self.hint = hint
        super().__init__(what)

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path is not None else ""
        step = f" (step: {self.step})" if self.step is not None else ""
        return " ".join(part for part in (f"{where}{self.what}{step}.", self.state, self.hint) if part)

    def __reduce__(self) -> tuple[object, ...]:
        # The default would call the class with the message alone and lose every field on the way between processes.
        return _rebuild, (type(self), self.__dict__)


def _rebuild(kind: type[LandedError], fields: dict[str, object]) -> LandedError:
    error = kind.__new__(kind)
    error.__dict__.update(fields)
    error.args = (fields["what"],)
    return error


class NotLanded(LandedError):
    """The write failed and the old state is intact: same bytes, mode, owner and extended attributes."""


class StaleWrite(NotLanded):
    """The expected version is not the current one; nothing moved.

    Attributes:
        expected: the version the caller relied on.
        found: the current version.
        writer: who wrote the current version, or None when landed does not know.
    """

    writer: str | None = None


class Bypassed(StaleWrite):
    """The bytes were changed by something that does not use landed, and this program has not seen the change."""


class LockTimeout(NotLanded):
    """The lock was not free within the time allowed.

    Attributes:
        holder: who holds it, in words (program, pid, since when), as far as the holder said so.
    """

    holder: str | None = None


class Claimed(NotLanded):
    """Another process has claimed the directory for itself.

    Attributes:
        holder: who, in words, as far as it said so.
    """

    holder: str | None = None


class Full(NotLanded):
    """The write would pass the store's growth limit.

    Attributes:
        expected: the limit in bytes.
        found: the bytes that the store would have.
    """


class Refused(NotLanded):
    """The target or the argument is one that landed does not write to (directory, device, hard link, bad name)."""


class OutcomeUnknown(LandedError):
    """The write was published, but whether it survives a crash cannot be shown.

    The handle that raised it refuses further writes to that artifact until it has been read again, from the device.
    """

    outcome = UNKNOWN
    state = "Whether the new or the old state survives a crash is unknown."


class VerifyFailed(OutcomeUnknown):
    """After the rename, the name does not lead to the inode that was written, or the bytes there are not ours."""

    state = "The write was published, but what the name leads to now is not what was written."


class Corrupt(LandedError):
    """Stored bytes fail their checksum on read. Nothing was changed or dropped."""


def from_os_error(kind: type[Kind], error: OSError, what: str, *, path: str, step: str, hint: str = "") -> Kind:
    """Build a landed error of `kind` from the OSError that caused it; the caller raises it ``from`` that error."""
    reason = error.strerror or type(error).__name__
    if not hint:
        unknown = kind.outcome == UNKNOWN
        hint = "Read it again before writing." if unknown else _NEXT.get(errorcode.get(error.errno or 0, ""), "")
    return kind(f"{what}: {reason}", path=path, step=step, errno=error.errno, hint=hint)
