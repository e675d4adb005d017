"""Does this store honour the conditions that everything here rests on? Tried, not believed.

Some servers that speak S3 take a conditional put and ignore the condition, so that two writers both hear success. The
proof stands in the store as an object, with the endpoint that it was made at, so that later processes read one object
instead of trying again.
"""

from __future__ import annotations

import os
from time import monotonic

from landed.digest import sha256
from landed.errors import Refused
from landed.objects.environment import endpoint
from landed.objects.store import CONFLICT, Object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.objects.store import Store

PROOF: Final = "landed-store"
"""Key of the proof."""

_proved: set[tuple[str, str]] = set()


def prove(store: Store, timeout: float) -> None:
    """Show that the store honours conditional puts, once for each address and endpoint.

    Raises:
        Refused: it does not.
        NotLanded: the store cannot be reached or written to.
    """
    server = endpoint()
    if (store.shown, server) in _proved:
        return
    deadline = monotonic() + timeout
    expected = f"landed 1 {sha256(server.encode())}\n".encode()
    held = store.ask(lambda: store.get(PROOF), "the store cannot be read", deadline)
    if not isinstance(held, Object) or held.data != expected:
        tag = held.tag if isinstance(held, Object) else None
        store.ask(lambda: _try(store), "the store cannot be tried", deadline, "open")
        # Where another process was first, its proof is as good.
        store.ask(lambda: _lands(store, PROOF, expected, tag), "the store cannot be written to", deadline, "open")
    _proved.add((store.shown, server))


def _try(store: Store) -> None:
    key = f"landed-probe-{os.urandom(8).hex()}"
    try:
        first = store.put(key, b"first", None)
        if _lands(store, key, b"second", None):
            raise _refused(store, "it creates an object that is there already")
        if not first:
            raise _refused(store, "it gives no ETag to replace an object by")
        second = store.put(key, b"third", first)
        if second == first:
            raise _refused(store, "another content has the same ETag")
        if _lands(store, key, b"fourth", first):
            raise _refused(store, "it replaces an object that has changed since")
        held = store.get(key)
        if not isinstance(held, Object) or held.data != b"third" or held.tag != second:
            raise _refused(store, "it reads back another object than was put last")
    finally:
        store.delete([key])


def _lands(store: Store, key: str, data: bytes, tag: dict[str, str] | None) -> bool:
    try:
        store.put(key, data, tag)
    except CONFLICT:
        return False
    return True


def _refused(store: Store, what: str) -> Refused:
    server = endpoint()
    return Refused(
        f"this store{f' at {server}' if server else ''} does not honour the conditions of a put: {what}",
        path=store.shown,
        step="open",
        hint="Two writers would both hear success. Use a store that has conditional writes.",
    )
