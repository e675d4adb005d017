"""A whole file in object storage: one object, replaced by its ETag."""

from __future__ import annotations

from urllib.parse import unquote

from landed.cell import Held, Unsure
from landed.errors import NotLanded, Refused
from landed.objects.address import canonical
from landed.objects.probe import PROOF, prove
from landed.objects.store import CONFLICT, ERRORS, FINAL, Object, Store, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class ObjectCell:
    """The `Cell` of object storage.

    Args:
        url: the object's address; the store's proof is kept beside it (`landed.objects.probe`).

    Raises:
        Refused: the address is none, or the store does not honour conditional puts.
        NotLanded: the store cannot be reached.
    """

    def __init__(self, url: str, timeout: float) -> None:
        folder, _, last = canonical(url).rpartition("/")
        if folder.endswith("/"):  # what is left is the scheme, and the key the bucket
            raise Refused("the address names a bucket", path=url, step="path", hint="Name an object in it.")
        self._key = unquote(last)
        if self._key == PROOF:
            raise Refused("landed keeps its proof of the store there", path=url, step="path", hint="Use another name.")
        self._store = Store(folder)
        self.name = f"{self._store.shown}/{last}"
        prove(self._store, timeout)

    def get(self, deadline: float) -> Held | None:
        held = self._store.ask(lambda: self._store.get(self._key), "the object cannot be read", deadline)
        return Held(held.data, held.tag) if isinstance(held, Object) else None

    def put(self, data: bytes, known: Held | None, deadline: float) -> bool:  # noqa: ARG002 - a request has its own limit
        tag: Any = known.tag if known is not None else None
        try:
            self._store.put(self._key, data, tag)
        except CONFLICT:
            return False
        except FINAL as error:
            raise self._store.failed(NotLanded, error, "the object cannot be put", "write", path=self.name) from error
        except ERRORS as error:
            raise Unsure(words(error)) from error
        return True

    def confirm(self, deadline: float) -> None:
        """Nothing: what a store gives back it has taken."""
