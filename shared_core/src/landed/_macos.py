"""Extended attributes on macOS, where the os module has none: the libc calls by ctypes, under the os names."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes


def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _check(answer: int, name: str) -> int:
    if answer < 0:
        import ctypes

        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return answer


def listxattr(fd: int) -> list[str]:
    import ctypes

    libc = _libc()
    size = _check(libc.flistxattr(fd, None, 0, 0), "")
    buffer = ctypes.create_string_buffer(max(size, 1))
    size = _check(libc.flistxattr(fd, buffer, size, 0), "")
    return [os.fsdecode(name) for name in buffer.raw[:size].split(b"\0") if name]


def getxattr(fd: int, name: str) -> bytes:
    import ctypes

    libc = _libc()
    encoded = os.fsencode(name)
    size = _check(libc.fgetxattr(fd, encoded, None, 0, 0, 0), name)
    buffer = ctypes.create_string_buffer(max(size, 1))
    size = _check(libc.fgetxattr(fd, encoded, buffer, size, 0, 0), name)
    return buffer.raw[:size]


def setxattr(fd: int, name: str, value: bytes) -> None:
    _check(_libc().fsetxattr(fd, os.fsencode(name), value, len(value), 0, 0), name)


def removexattr(fd: int, name: str) -> None:
    _check(_libc().fremovexattr(fd, os.fsencode(name), 0), name)
