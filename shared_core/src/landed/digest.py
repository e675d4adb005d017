"""The content identity that landed uses: sha256, in hexadecimal."""

from __future__ import annotations

import sys

try:
    from _sha2 import sha256 as _own  # type: ignore[import-not-found, unused-ignore]  # CPython 3.12 and newer
except ImportError:
    try:
        from _sha256 import sha256 as _own  # type: ignore[import-not-found, unused-ignore, no-redef]  # older
    except ImportError:
        _own = None

TYPE_CHECKING = False
if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable
    from typing import Final

FEW: Final = 256 * 1024
"""Bytes that a process hashes by CPython's own function: hashlib's is four times as fast and takes 3 ms to import."""
EACH: Final = 64
"""Bytes that a call counts for besides those that it is given."""

_hash: Callable[[bytes], hashlib._Hash] | None = None
_hashed = 0


def sha256(data: bytes) -> str:
    """The sha256 of `data`, 64 hexadecimal digits."""
    return (_hash or _choose(data))(data).hexdigest()


def _choose(data: bytes) -> Callable[[bytes], hashlib._Hash]:
    global _hash, _hashed  # noqa: PLW0603 - see FEW
    _hashed += len(data) + EACH
    if _own is not None and _hashed <= FEW and "hashlib" not in sys.modules:
        return _own  # type: ignore[no-any-return, unused-ignore]
    from hashlib import sha256 as function

    _hash = function
    return function
