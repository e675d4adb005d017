"""The content identity that landed uses: sha256, in hexadecimal."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable, Iterable
    from typing import Final

FEW: Final = 512 * 1024
"""Bytes that a process hashes by CPython's own function: OpenSSL's is five times as fast and takes 2 ms to load, in
which the other hashes half a megabyte."""
EACH: Final = 64
"""Bytes that a call counts for besides those that it is given."""

LEAST: Final = 1024
"""Bytes that take longer to hash than to compare with others."""
KEPT: Final = 1 << 20
"""Bytes that are kept at most for `_last`."""

_last: tuple[bytes, str] = (b"", "")
"""What was hashed last, with its digest: who reads and writes one file over and over hashes what it holds once."""
_hash: Callable[[bytes], hashlib._Hash] | None = None
_hashed = 0


def sha256(data: bytes) -> str:
    """The sha256 of `data`, 64 hexadecimal digits."""
    global _last  # noqa: PLW0603 - one pair per process, replaced as a whole
    size = len(data)
    if size < LEAST or size > KEPT or type(data) is not bytes:
        return (_hash or _choose(size))(data).hexdigest()
    last = _last
    if data == last[0]:
        return last[1]
    digest = (_hash or _choose(size))(data).hexdigest()
    _last = (data, digest)
    return digest


def sha256_of(size: int, pieces: Iterable[bytes]) -> str:
    """The sha256 of some `size` bytes that come in pieces."""
    hashed = (_hash or _choose(size))(b"")
    for piece in pieces:
        hashed.update(piece)
    return hashed.hexdigest()


def _choose(size: int) -> Callable[[bytes], hashlib._Hash]:
    global _hash, _hashed  # noqa: PLW0603 - see FEW
    _hashed += size + EACH
    if _hashed <= FEW and "hashlib" not in sys.modules:
        try:
            return _own()
        except ImportError:
            pass  # another Python
    try:
        from _hashlib import openssl_sha256 as function
    except ImportError:
        from hashlib import sha256 as function  # without OpenSSL
    _hash = function
    return function


def _own() -> Callable[[bytes], hashlib._Hash]:
    name = "_sha2" if sys.version_info >= (3, 12) else "_sha256"
    return __import__(name).sha256  # type: ignore[no-any-return]
