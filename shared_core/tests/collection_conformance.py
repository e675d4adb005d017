"""What every engine's collection of logs must do: the promises of `landed.engine.Collection`.

A new engine subclasses `CollectionConformance` and says how a handle is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, TypeAlias

import pytest

from landed.engine import Commit
from landed.errors import Claimed, LandedError, LockTimeout, StaleWrite

if TYPE_CHECKING:
    from landed.engine import Collection, Log

TIMEOUT = 10.0
NAMES = ["", "a", "A", "a/b", "../x", "sp ace", "é", "e\u0301", "\0", "\ud800", "x" * 5000, "0", "a\nb", "%", "_"]

OpenCollection: TypeAlias = "Callable[[], Collection]"


def log_of(collection: Collection, name: str) -> Log:
    log = collection.open(name, create=True)
    assert log is not None
    return log


def land(log: Log, payload: bytes) -> None:
    commit = Commit(payload, 1, None, inf)
    log.commit([commit], TIMEOUT)
    assert commit.error is None


def payloads(log: Log | None) -> list[bytes]:
    assert log is not None
    return [batch.payload for batch in log.batches(1)]


class CollectionConformance:
    """The checks. A subclass provides the fixture `open_collection`: handles on one store, empty at first."""

    def test_any_name_and_no_two_meet(self, open_collection: OpenCollection) -> None:
        here, there = open_collection(), open_collection()
        for name in NAMES:
            assert here.open(name, create=False) is None
            land(log_of(here, name), name.encode("utf-8", "surrogatepass"))
        assert sorted(there.names()) == sorted(NAMES)
        for name in NAMES:
            assert payloads(there.open(name, create=False)) == [name.encode("utf-8", "surrogatepass")]

    def test_looking_makes_nothing(self, open_collection: OpenCollection) -> None:
        collection = open_collection()
        assert collection.open("a", create=False) is None
        assert list(collection.names()) == []
        assert collection.remove("a", TIMEOUT) is False

    def test_a_removed_log_is_gone_for_all_and_a_new_one_begins_empty(self, open_collection: OpenCollection) -> None:
        here, there = open_collection(), open_collection()
        old, other = log_of(here, "a"), log_of(there, "a")
        land(old, b"old")
        land(log_of(here, "b"), b"stays")
        assert here.current(old)
        assert there.current(other)
        assert there.remove("a", TIMEOUT) is True
        assert there.remove("a", TIMEOUT) is False
        with pytest.raises(LandedError):
            old.tail()
        assert not here.current(old)
        assert here.open("a", create=False) is None
        new = log_of(here, "a")
        assert payloads(new) == []
        land(new, b"new")
        for dead in (old, other):
            with pytest.raises(LandedError):
                land(dead, b"lost")
            assert not there.current(dead)
        assert payloads(there.open("a", create=False)) == [b"new"]
        assert payloads(there.open("b", create=False)) == [b"stays"]

    def test_removed_only_at_the_tail_that_is_expected(self, open_collection: OpenCollection) -> None:
        collection = open_collection()
        log = log_of(collection, "a")
        land(log, b"one")
        land(log, b"two")
        with pytest.raises(StaleWrite):
            collection.remove("a", TIMEOUT, 1)
        assert payloads(collection.open("a", create=False)) == [b"one", b"two"]
        assert collection.remove("a", TIMEOUT, 2) is True

    def test_what_somebody_owns_alone_is_not_removed(self, open_collection: OpenCollection) -> None:
        here, there = open_collection(), open_collection()
        owner = log_of(here, "a")
        land(owner, b"one")
        owner.claim()
        with pytest.raises(Claimed):
            there.remove("a", TIMEOUT)
        land(owner, b"two")
        owner.close()
        assert there.remove("a", TIMEOUT) is True

    def test_a_lock_goes_by_the_name(self, open_collection: OpenCollection) -> None:
        here, there = open_collection(), open_collection()
        lock = here.lock("a")
        with lock:
            assert lock.held
            with pytest.raises(LockTimeout):
                there.lock("a").acquire(0.05, owner="another")
            with there.lock("b"):
                land(log_of(there, "a"), b"no append waits for it")
        assert not lock.held
        with there.lock("a"):
            pass

    def test_many(self, open_collection: OpenCollection) -> None:
        collection = open_collection()
        for number in range(40):
            land(log_of(collection, f"thread {number}"), b"%d" % number)
        assert sorted(open_collection().names()) == sorted(f"thread {number}" for number in range(40))
