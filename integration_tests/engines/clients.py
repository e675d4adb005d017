"""Clients of object storage that count, fail, or drop what they are told, in the place of obstore's."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from obstore.exceptions import GenericError

from landed.objects.log import ObjectLog
from landed.objects.store import Store


class Counted:
    """A client of which each request is counted."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.requests: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.requests.append(name)
            return method(*args, **kwargs)

        return call


def counted(log: ObjectLog) -> Counted:
    log.objects.store._client = Counted(log.objects.store._client)
    return log.objects.store._client


class Faulty:
    """A client in whose puts something goes wrong.

    Args:
        fault: given what puts, and the key; what it does instead.
    """

    def __init__(self, log: ObjectLog | Store, fault: Callable[[Callable[[], Any], str], Any]) -> None:
        self._store = log if isinstance(log, Store) else log.objects.store
        self._client = self._store._client
        self._fault = fault
        self._store._client = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def put(self, key: str, *args: Any, **kwargs: Any) -> Any:
        return self._fault(lambda: self._client.put(key, *args, **kwargs), key)

    def mend(self) -> None:
        self._store._client = self._client


def lose_one_reply() -> Callable[[Callable[[], Any], str], Any]:
    replies = itertools.count()

    def fault(put: Callable[[], Any], key: str) -> Any:
        answer = put()
        if next(replies) == 0:
            raise GenericError("the reply was lost")
        return answer

    return fault


def refuse_once() -> Callable[[Callable[[], Any], str], Any]:
    tries = itertools.count()

    def fault(put: Callable[[], Any], _: str) -> Any:
        if next(tries) == 0:
            raise GenericError("503 Slow Down")
        return put()

    return fault


def put_twice_once() -> Callable[[Callable[[], Any], str], Any]:
    """As a proxy does that lost the store's answer: the second says that the condition is not met any more."""
    tries = itertools.count()

    def fault(put: Callable[[], Any], _: str) -> Any:
        if next(tries) == 0:
            put()
        return put()

    return fault


class IgnoresConditions:
    """What servers do that take a header which they do not know.

    Signed requests cannot be changed on their way, so the condition is dropped before it is signed.
    """

    def __init__(self, client: Any, kind: type) -> None:
        self._client = client
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def put(self, key: str, data: bytes, *, mode: Any, **kwargs: Any) -> Any:
        if isinstance(mode, self._kind):
            return self._client.put(key, data, **kwargs)
        return self._client.put(key, data, mode=mode, **kwargs)
