"""The content identity that landed uses: sha256, in hexadecimal."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable

_hash: Callable[[bytes], hashlib._Hash] | None = None


def sha256(data: bytes) -> str:
    """The sha256 of `data`, 64 hexadecimal digits."""
    return (_hash or _load())(data).hexdigest()


def _load() -> Callable[[bytes], hashlib._Hash]:
    global _hash  # noqa: PLW0603 - hashlib costs 3 ms to import, and `import landed` has 3 ms in all
    from hashlib import sha256 as function

    _hash = function
    return function
