"""Who has a name to itself: an object that its holder renews, and that others take over when it was not renewed.

A lease can be lost while its holder still runs: a clock, a pause, a cut network. So nothing rests on it but order and
throughput; what keeps data from harm is the conditional put.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from time import monotonic, sleep, time

from landed.engine import Holders
from landed.errors import LockTimeout, NotLanded, Refused
from landed.lock import DEFAULT_TIMEOUT
from landed.objects.store import CONFLICT, ERRORS, FINAL, Object
from landed.process import me
from landed.retries import pauses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Final

    from landed.objects.store import Store, Tag

LEASE: Final = 60.0
"""Seconds without renewal after which a holder is taken for gone. Clocks may differ by less than that."""
RENEWAL: Final = LEASE / 4
"""Seconds between renewals."""
LAST_LOOK: Final = 1.0
"""Seconds that a look may take at least."""
GIVING_BACK: Final = 1.0
"""Seconds for which a store that does not take it is told again that a lock is free."""

_holders = Holders()


class Renewal:
    """Calls something every now and then in a thread of its own, until it is told to stop or is refused.

    Args:
        renew: whether to go on.
    """

    def __init__(self, renew: Callable[[], bool]) -> None:
        self._renew = renew
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="landed lease", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(RENEWAL):
            if not self._renew():
                return


class ObjectMutex:
    """A lock by an object; not re-entrant.

    Args:
        key: of the object.
        name: what messages call it.
    """

    def __init__(self, store: Store, key: str, name: str) -> None:
        self.path = name
        self._store = store
        self._key = key
        self._guard = threading.Lock()
        self._tag: Tag | None = None
        self._owner: Hashable = None
        self._renewal: Renewal | None = None
        self._nonce = ""
        self._written = 0

    @property
    def held(self) -> bool:
        """Whether this object took the lock, and has not heard that it lost it."""
        return self._tag is not None

    def acquire(self, timeout: float = DEFAULT_TIMEOUT, *, owner: Hashable = None) -> None:
        """Take the lock.

        Args:
            timeout: seconds to wait at most; 0 tries once.
            owner: who asks, for telling a wait from a deadlock; the calling thread when None.

        Raises:
            LockTimeout: it was not free in time; names the holder. Nothing was changed.
            Refused: this object or owner holds it already.
            NotLanded: the store cannot be reached.
        """
        if self._tag is not None:
            raise Refused("this lock is held already and would wait for itself", path=self.path, step="lock")
        owner = threading.get_ident() if owner is None else owner
        _holders.check(self.path, owner)
        holder = "one that does not say who it is"
        nonce = os.urandom(8).hex()  # of this call: others may wait with this object, too
        deadline = monotonic() + timeout
        waits = pauses(deadline)
        while True:
            lost: Exception | None = None
            held = self._look(deadline)
            if held is None or not held.data or _is_of(nonce, held) or time() - held.modified > LEASE:
                try:
                    tag = self._put(held.tag if held is not None else None, nonce)
                except ERRORS as error:
                    lost = error
                else:
                    if tag is not None:
                        self._tag, self._nonce, self._owner = tag, nonce, owner
                        self._renewal = Renewal(self._renew)
                        _holders.took(self.path, owner)
                        return
            else:
                holder = held.data.decode("utf-8", "replace").partition(" ")[2]
            pause = next(waits)
            if lost is not None and (pause is None or isinstance(lost, FINAL)):
                raise self._store.failed(NotLanded, lost, "the lock cannot be taken", "lock", path=self.path) from lost
            if pause is None:
                timed_out = LockTimeout(
                    f"another holder kept the lock: {holder}",
                    path=self.path,
                    step="lock",
                    hint="Try again, or allow a longer timeout.",
                )
                timed_out.holder = holder
                raise timed_out
            if lost is not None:
                self._store.wait(pause, lost)
            else:
                sleep(pause)

    def release(self) -> None:
        """Give the lock back; when the store cannot be told in a second, it is free after a minute."""
        renewal, self._renewal = self._renewal, None
        if renewal is not None:
            renewal.stop()
        with self._guard:
            tag, self._tag = self._tag, None
            if tag is not None:
                _holders.gave_back(self.path, self._owner)
                with suppress(NotLanded):
                    self._give_back(tag, self._nonce)

    def _give_back(self, tag: Tag, nonce: str) -> None:
        waits = pauses(monotonic() + GIVING_BACK)
        while True:
            try:
                self._store.put(self._key, b"", tag)
            except ERRORS:
                if (pause := next(waits)) is None:
                    return
            else:
                return
            sleep(pause)
            held = self._look()
            if held is None or not _is_of(nonce, held):
                return
            tag = held.tag  # a renewal may have landed whose answer was lost

    def __enter__(self) -> ObjectMutex:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _look(self, deadline: float = 0.0) -> Object | None:
        deadline = max(deadline, monotonic() + LAST_LOOK)
        held = self._store.ask(lambda: self._store.get(self._key), "the lock cannot be read", deadline)
        return held if isinstance(held, Object) else None

    def _put(self, tag: Tag | None, nonce: str) -> Tag | None:
        """Write that the lock is ours; None when it is another's. A reply that was lost is told by the nonce.

        Raises:
            ERRORS: it is not known.
            NotLanded: the same, and the lock cannot be read.
        """
        self._written += 1  # each time other bytes, for an ETag may be their digest
        try:
            return self._store.put(self._key, f"{nonce}-{self._written} {me()}".encode(), tag)
        except ERRORS as error:
            held = self._look()
            if held is not None and _is_of(nonce, held):
                return held.tag
            if isinstance(error, CONFLICT):
                return None
            raise

    def _renew(self) -> bool:
        with self._guard:
            if self._tag is None:
                return False
            try:
                self._tag = self._put(self._tag, self._nonce)
            except (NotLanded, *ERRORS):
                return True  # the next renewal may get through
            if self._tag is None:  # another has taken it for abandoned
                _holders.gave_back(self.path, self._owner)
            return self._tag is not None


def _is_of(nonce: str, held: Object) -> bool:
    return held.data.startswith(f"{nonce}-".encode())
