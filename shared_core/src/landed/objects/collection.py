"""Many journals of one store under one root, by any name.

ROOT/heads/=dXNlci80Mg==     the head of the journal whose name that is, so that a list of keys lists the names
ROOT/heads/~3f2a...          the same for a long name, by its digest; the name is in the head
ROOT/segments/3f2a.../...    its segments
ROOT/locks/3f2a...           the lock that goes by the name
"""

from __future__ import annotations

import base64
from contextlib import suppress
from time import monotonic

from landed.engine import decode_name, digest_of_name, encode_name, stale
from landed.errors import Corrupt, NotLanded, OutcomeUnknown
from landed.lock import DEFAULT_TIMEOUT
from landed.objects.leases import ObjectMutex
from landed.objects.log import REMOVE, ObjectLog
from landed.objects.probe import prove
from landed.objects.segments import Objects
from landed.objects.store import CONFLICT, ERRORS, Object, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from landed.engine import Log
    from landed.objects.head import Head
    from landed.objects.segments import Known

HEADS: Final = "heads/"
SPELLED: Final = "="
BY_DIGEST: Final = "~"
NAME_LIMIT: Final = 200
"""Characters of an encoded name that is spelled out in a key; a longer one is read from its head."""


class ObjectCollection:
    """The `Collection` of object storage.

    Args:
        url: the root's address (`landed.objects.address`).
        max_bytes: growth limit of each journal in bytes; None for none.
        timeout: seconds in which the store must answer.

    Raises:
        Refused: the address is none, or the store does not honour conditional puts.
        NotLanded: the store cannot be reached.
    """

    def __init__(self, url: str, *, max_bytes: int | None = None, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._store = Store(url)
        self.name = self._store.shown
        self._max_bytes = max_bytes
        self._timeout = timeout
        prove(self._store, timeout)

    def open(self, name: str, *, create: bool) -> ObjectLog | None:
        objects = self._objects(name)
        known = _head(objects)
        if known is None:
            if not create:
                return None
            known = objects.create(_spelled(name))
        if known.head.name != _spelled(name):
            raise Corrupt("a journal bears a name that is not its own", path=objects.name, step="open")
        return ObjectLog.of_head(objects, known, f"{self.name}[{name!r}]", max_bytes=self._max_bytes)

    def current(self, log: Log) -> bool:
        """As far as is known without asking: a log finds out with its next request."""
        return isinstance(log, ObjectLog) and not log.gone

    def names(self) -> Iterator[str]:
        found = self._store.ask(lambda: [*self._store.list(HEADS)], "the list", monotonic() + self._timeout)
        for key, size, _ in found:
            if size == 0:
                continue  # a grave
            name: str | None = key[len(HEADS) + 1 :]
            if key[len(HEADS)] == BY_DIGEST:
                known = _head(Objects(self._store, key, f"segments/{key[len(HEADS) + 1 :]}/", self._timeout))
                name = known.head.name if known is not None else None
            if name is not None:
                yield self._decoded(name, key)

    def _decoded(self, text: str, key: str) -> str:
        try:
            if key[len(HEADS)] not in {SPELLED, BY_DIGEST}:
                raise ValueError  # noqa: TRY301 - likewise
            return decode_name(base64.b64decode(text, altchars=b"-_", validate=True))
        except ValueError:
            raise Corrupt(
                "an object where heads of journals are is called by no name",
                path=f"{self._store.shown}/{key}",
                step="list",
                hint="Something else has put it there. See what it is, and move it away.",
            ) from None

    def remove(self, name: str, timeout: float, expect: int | None = None) -> bool:
        try:
            log = self.open(name, create=False)
        except Corrupt:
            if expect is not None:
                raise
            return self._bury(self._objects(name))
        if log is None:
            return False

        def check(head: Head) -> None:
            if expect is not None and head.tail != expect:
                raise stale(log.name, expect, head.tail)

        try:
            log.replace(check, monotonic() + timeout, REMOVE)
        except NotLanded:
            if log.gone:
                return False  # another process was first
            raise
        # From here on nobody can append to it, and what is left of it costs space and nothing else.
        try:
            log.objects.grave()
        except NotLanded as error:
            what = "it was removed, but its segments cannot be deleted"
            raise self._store.failed(OutcomeUnknown, error.__cause__ or error, what, "remove", path=log.name) from error
        return True

    def _bury(self, objects: Objects) -> bool:
        """Remove a journal whose head cannot be read; its segments stay, as nothing says which they are."""
        held = self._store.ask(lambda: self._store.get(objects.key), "the head", monotonic() + self._timeout)
        if not isinstance(held, Object):
            return False
        try:
            self._store.put(objects.key, b"", held.tag)
        except CONFLICT as error:
            raise self._store.failed(NotLanded, error, "it is written to meanwhile", "remove") from error
        except ERRORS as error:
            raise self._store.failed(OutcomeUnknown, error, "the removal", "remove") from error
        return True

    def lock(self, name: str) -> ObjectMutex:
        return ObjectMutex(self._store, f"locks/{digest_of_name(name)}", f"{self.name}[{name!r}]")

    def _objects(self, name: str) -> Objects:
        digest, spelled = digest_of_name(name), _spelled(name)
        key = f"{SPELLED}{spelled}" if len(spelled) <= NAME_LIMIT else f"{BY_DIGEST}{digest}"
        return Objects(self._store, f"{HEADS}{key}", f"segments/{digest}/", self._timeout)


def _head(objects: Objects) -> Known | None:
    """The head of a journal. What one has left that was removed by somebody who died meanwhile is deleted."""
    known = objects.load()
    if objects.unburied:
        with suppress(NotLanded):  # who may not delete, or cannot now, finds no journal all the same
            objects.grave()
    return known


def kind_of(place: str) -> tuple[bool, bool]:
    """Whether there is a journal at an address, and whether there are journals below it."""
    collection = ObjectCollection(place)
    return ObjectLog.exists(place), any(True for _ in collection.names())


def _spelled(name: str) -> str:
    return base64.urlsafe_b64encode(encode_name(name)).decode()
