"""The content identity that landed uses: sha256, in hexadecimal."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_sha256: Callable[..., object] | None = None


def sha256(data: bytes) -> str:
    """The sha256 of `data`, 64 hexadecimal digits."""
    global _sha256  # noqa: PLW0603 - hashlib costs 3 ms to import, and `import landed` has 3 ms in all
    if _sha256 is None:
        from hashlib import sha256 as _sha256
    return _sha256(data).hexdigest()  # type: ignore[attr-defined,no-any-return]
