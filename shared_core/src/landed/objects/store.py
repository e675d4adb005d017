"""A store of objects, with few calls, each of which happened, did not happen, or is not known to have happened.

The client's own retries are off: it would answer a put that landed and lost its reply with "precondition failed", and
only who knows the nonce can tell that from a conflict. Every call ends in time.
"""

from __future__ import annotations

import os
import re

from landed.errors import LandedError, NotLanded, OutcomeUnknown, Refused
from landed.objects import environment
from landed.objects.address import canonical
from landed.retries import pauses, wait

try:
    from obstore.exceptions import (
        AlreadyExistsError,
        BaseError,
        NotModifiedError,
        NotSupportedError,
        PermissionDeniedError,
        PreconditionError,
        UnauthenticatedError,
    )
    from obstore.store import from_url
except ImportError as missing:
    raise Refused(
        f"object storage needs obstore: {missing}",
        step="open",
        hint='Run pip install "landed[object-store]".',
    ) from missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Final, Literal, TypeAlias, TypeVar

    from obstore.store import ClientConfig

    Result = TypeVar("Result")
    Tag: TypeAlias = dict[str, str]
    """What tells one state of an object from another: its ETag, and its generation where there is one."""

CLIENT: Final[ClientConfig] = {
    "timeout": "20s",
    "connect_timeout": "5s",
    "allow_http": True,
    "user_agent": "landed",
}
"""Seconds that a request and a connection may take. Plain HTTP is for the endpoint that the environment names."""
UNCHANGED: Final = "unchanged"
"""What `Store.get` gives when the object is still the one that the caller knows."""
MISSING: Final = FileNotFoundError
CONFLICT: Final = (AlreadyExistsError, PreconditionError)
"""The condition of a put was not met: the put did not happen."""
FINAL: Final = (PermissionDeniedError, UnauthenticatedError, NotSupportedError)
"""Nothing happened, and nothing will."""
ERRORS: Final = (BaseError, OSError, ValueError)
"""All that the client raises."""

_pid: int | None = None
"""The process whose client runs. A forked child has none of its threads, and would wait for them for ever."""


class Object:
    """An object as it was read.

    Attributes:
        data: its bytes.
        tag: for `Store.put`.
        modified: when it was written, in seconds since the epoch, by the store's clock.
    """

    __slots__ = ("data", "modified", "tag")

    def __init__(self, data: bytes, tag: Tag, modified: float) -> None:
        self.data = data
        self.tag = tag
        self.modified = modified


class Store:
    """The objects under an address.

    Raises:
        Refused: the address is none, there is no such store, the environment has what the client may not be given, or
            this process was forked from one that had a store open.
    """

    def __init__(self, url: str) -> None:
        self.shown = canonical(url)
        self._client: Any = None
        _check_fork(self.shown)
        environment.check(self.shown)
        try:
            self._client = from_url(self.shown, client_options=CLIENT, retry_config={"max_retries": 0})
        except ERRORS as error:
            raise self.failed(Refused, error, "the store cannot be opened", "open") from error

    def get(self, key: str, known: Tag | None = None) -> Object | Literal["unchanged"] | None:
        """An object; None when there is none; `UNCHANGED` when it is still the one with the tag `known`.

        Raises:
            ERRORS: it cannot be told.
        """
        _check_fork(self.shown)
        options = {"if_none_match": known["e_tag"]} if known and "e_tag" in known else None
        try:
            answer = self._client.get(key, options=options)
            data = bytes(answer.bytes())
        except MISSING:
            return None
        except NotModifiedError:
            return UNCHANGED
        return Object(data, _tag(answer.meta), answer.meta["last_modified"].timestamp())

    def put(self, key: str, data: bytes, known: Tag | None) -> Tag:
        """Create an object (`known` None), or replace the one that has the tag `known`.

        Raises:
            CONFLICT: it did not happen; or the reply to an earlier try was lost.
            FINAL: it did not happen.
            ERRORS: it is not known.
        """
        _check_fork(self.shown)
        return _tag(self._client.put(key, data, mode="create" if known is None else known, use_multipart=False))

    def delete(self, keys: list[str]) -> None:
        """Delete objects, some of which may be gone already.

        Raises:
            ERRORS: some may still be there.
        """
        _check_fork(self.shown)
        for key in keys:
            try:
                self._client.delete(key)
            except MISSING:
                continue

    def list(self, prefix: str) -> Iterator[tuple[str, int, float]]:
        """Key, size and time of writing of each object under a prefix.

        Raises:
            ERRORS: it cannot be told.
        """
        _check_fork(self.shown)
        for page in self._client.list(prefix):
            for each in page:
                yield each["path"], each["size"], each["last_modified"].timestamp()

    def ask(self, question: Callable[[], Result], what: str, deadline: float, step: str = "read") -> Result:
        """Ask something that may be asked twice, again until it is answered or time is up.

        Raises:
            NotLanded: no answer.
        """
        waits = pauses(deadline)
        while True:
            try:
                return question()
            except ERRORS as error:
                if (pause := next(waits)) is None or isinstance(error, FINAL):
                    raise self.failed(NotLanded, error, what, step) from error
                self.wait(pause, error)

    def wait(self, pause: float, error: BaseException | None) -> None:
        """Pause until the next try; `error` is what stood in the way of the last."""
        wait(pause, self.shown, words(error) if error is not None else "another was faster")

    def failed(
        self, kind: type[LandedError], error: BaseException, what: str, step: str, *, path: str | None = None
    ) -> LandedError:
        """An error of ours, with the store's words."""
        return kind(f"{what}: {words(error)}", path=path or self.shown, step=step, hint=_HINTS.get(kind, ""))


_HINTS: Final[dict[type[LandedError], str]] = {
    OutcomeUnknown: "Read the journal again before trusting either state.",
    NotLanded: "See whether the store can be reached and this machine may write there, then try again.",
    Refused: "See the address, and the environment that the store's settings come from.",
}


def words(error: BaseException) -> str:
    """What the client said, on one line, without the query of any URL: signatures and tokens may be in it."""
    lines = str(error).splitlines()
    return re.sub(r"\?[^\s\")]*", "", lines[0]) if lines else type(error).__name__


def _tag(meta: Any) -> Tag:  # noqa: ANN401 - a typed dictionary of one class or the other
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name) is not None}


def _check_fork(shown: str) -> None:
    global _pid  # noqa: PLW0603 - one client runtime per process
    if _pid is None:
        _pid = os.getpid()
    elif _pid != os.getpid():
        raise Refused(
            "the client of object storage does not survive a fork",
            path=shown,
            step="open",
            hint="Start processes by spawn, or open the journal only in the child.",
        )
