"""The bodies used last, of all threads, up to a number of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeAlias

from langgraph.checkpoint.landed.records import Fields, Typed, ValueRecord, body_size

if TYPE_CHECKING:
    from collections.abc import Hashable

LIMIT: Final = 64 << 20
"""Bytes of bodies that are kept in memory."""
OVERHEAD: Final = 256
"""Bytes that an entry costs beside its body, about."""


Encoded: TypeAlias = tuple[int, bytes]
"""A record's kind and its data."""


class Cache:
    """Decoded records and whole values by their index and sequence number; the longest unused go first.

    Safe for threads.
    """

    def __init__(self) -> None:
        self._used = 0
        self._guard = threading.Lock()
        self._entries: OrderedDict[tuple[int, Hashable], tuple[Fields | Encoded | Typed, int]] = OrderedDict()
        self._of: dict[int, set[tuple[int, Hashable]]] = {}

    def get(self, owner: int, sequence: int) -> Fields | Encoded | None:
        """A record: decoded, or as it was appended."""
        return self._get((owner, sequence))  # type: ignore[return-value]

    def value(self, owner: int, sequence: int) -> Typed | None:
        """A whole value, if it was put together lately."""
        return self._get((owner, ("value", sequence)))  # type: ignore[return-value]

    def keep(self, owner: int, sequence: int, fields: Fields) -> None:
        self._keep((owner, sequence), fields, body_size(fields))
        if isinstance(fields, ValueRecord) and isinstance(fields.body, bytes):
            self._keep((owner, ("value", sequence)), (fields.type, fields.body), 0)

    def keep_encoded(self, owner: int, sequence: int, kind: int, data: bytes) -> None:
        """A record that was just appended: few are read again, and encoded it is one object instead of many."""
        self._keep((owner, sequence), (kind, data), len(data))

    def keep_value(self, owner: int, sequence: int, typed: Typed) -> None:
        self._keep((owner, ("value", sequence)), typed, len(typed[1]))

    def forget(self, owner: int) -> None:
        """Drop everything of one thread."""
        with self._guard:
            for key in self._of.pop(owner, ()):
                entry = self._entries.pop(key, None)
                if entry is not None:
                    self._used -= entry[1]

    def _get(self, key: tuple[int, Hashable]) -> Fields | Encoded | Typed | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        try:
            self._entries.move_to_end(key)
        except KeyError:
            return entry[0]  # another thread has just let it go
        return entry[0]

    def _keep(self, key: tuple[int, Hashable], body: Fields | Encoded | Typed, size: int) -> None:
        size += OVERHEAD
        if size > LIMIT // 4:
            return
        with self._guard:
            before = self._entries.pop(key, None)
            self._entries[key] = (body, size)
            self._of.setdefault(key[0], set()).add(key)
            self._used += size - (before[1] if before is not None else 0)
            while self._used > LIMIT:
                gone, (_, freed) = self._entries.popitem(last=False)
                self._of[gone[0]].discard(gone)
                self._used -= freed
