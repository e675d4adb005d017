"""The content identity that landed uses: sha256, in hexadecimal."""

from __future__ import annotations

try:
    from _sha2 import sha256 as _small  # type: ignore[import-not-found, unused-ignore]  # CPython 3.12 and newer
except ImportError:
    try:
        from _sha256 import sha256 as _small  # type: ignore[import-not-found, unused-ignore, no-redef]  # older
    except ImportError:
        _small = None

TYPE_CHECKING = False
if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable
    from typing import Final

SMALL: Final = 16 * 1024
"""Bytes up to which CPython's own function is used: hashlib's is four times as fast, and takes 3 ms to import."""

_hash: Callable[[bytes], hashlib._Hash] | None = None


def sha256(data: bytes) -> str:
    """The sha256 of `data`, 64 hexadecimal digits."""
    if _hash is None and _small is not None and len(data) <= SMALL:
        return str(_small(data).hexdigest())
    return (_hash or _load())(data).hexdigest()


def _load() -> Callable[[bytes], hashlib._Hash]:
    global _hash  # noqa: PLW0603 - see SMALL
    from hashlib import sha256 as function

    _hash = function
    return function
