"""Where a journal is in object storage: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix``.

Credentials, regions and endpoints come from the places where the store's own tools look for them: the environment
(``AWS_*``, ``GOOGLE_*``, ``AZURE_*``), files that it names, and the machine's own identity. An address has none.
"""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

from landed.engines import OBJECTS
from landed.errors import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

PREFIX_LIMIT: Final = 700
"""Bytes of a prefix: a key has at most 1,024, and landed adds less than 200."""


def canonical(url: str) -> str:
    """The one spelling of an address, for messages as well: there is no secret in it.

    Raises:
        Refused: it is not such an address.
    """
    parts = urlsplit(url)
    if parts.scheme not in OBJECTS or not parts.hostname:
        raise _refused(f"it does not begin with {'://, '.join(OBJECTS)}:// and a bucket")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise _refused("it has credentials or options in it, which belong in the environment")
    try:
        prefix = unquote(parts.path, errors="strict").strip("/")
        size = len(prefix.encode())
    except UnicodeError:  # replaced, all such prefixes would be one
        raise _refused("a prefix is UTF-8") from None
    if size > PREFIX_LIMIT or any(part in {"", ".", ".."} for part in prefix.split("/") if prefix):
        raise _refused(f"a prefix has at most {PREFIX_LIMIT} bytes, and no empty part, '.' or '..'")
    return f"{parts.scheme}://{parts.netloc}" + (f"/{quote(prefix)}" if prefix else "")


def _refused(what: str) -> Refused:
    return Refused(f"no journal's address in object storage: {what}", step="open")
