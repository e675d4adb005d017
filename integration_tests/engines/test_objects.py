"""A journal in object storage when replies are lost, the store lies, is cut off, or ignores what it is asked."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from math import inf
from typing import Any

import pytest

from landed.engine import Commit
from landed.errors import Claimed, Corrupt, LandedError, NotLanded, OutcomeUnknown, Refused, VerifyFailed

pytest.importorskip("obstore", reason="obstore is not installed")

from s3_server import BUCKET, S3Server, environment
from wire import Wire

from landed.objects import leases, probe
from landed.objects import store as module
from landed.objects.address import Address
from landed.objects.collection import ObjectCollection
from landed.objects.log import INLINE_BATCHES, ObjectLog
from landed.objects.store import Store

TIMEOUT = 20.0


def append(log: ObjectLog, *payloads: bytes, expect: int | None = None, timeout: float = TIMEOUT) -> list[Commit]:
    commits = [Commit(payload, 1, expect, inf) for payload in payloads]
    rest = commits
    while rest:
        rest = rest[log.commit(rest, timeout) :]
    return commits


def held(log: ObjectLog) -> list[bytes]:
    return [batch.payload for batch in log.batches(1)]


@pytest.fixture
def wire(s3: S3Server) -> Iterator[Wire]:
    relay = Wire(s3.port)
    yield relay
    relay.close()


@pytest.fixture
def wired(s3_url: str, wire: Wire) -> Iterator[str]:
    """The environment leads to the store by way of the relay."""
    with environment(f"http://127.0.0.1:{wire.port}"):
        yield s3_url


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


# What an append costs.


def test_an_append_is_one_write_and_one_read(s3_url: str) -> None:
    log = ObjectLog(s3_url)
    append(log, b"first")
    requests = counted(log).requests
    for number in range(20):
        append(log, b"%d" % number)
    assert requests == ["put", "get"] * 20


def test_appends_that_come_together_share_a_write(s3_url: str) -> None:
    log = ObjectLog(s3_url)
    requests = counted(log).requests
    append(log, *(b"%d" % number for number in range(64)))
    assert len(requests) <= 12
    assert held(log) == [b"%d" % number for number in range(64)]


def test_small_segments_are_merged_and_the_old_ones_deleted(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landed.objects.compaction.GRACE", 0.0)
    log, reader = ObjectLog(s3_url), ObjectLog(s3_url)
    walk = reader.batches(1)
    expected = []
    for number in range(18 * (INLINE_BATCHES + 1)):
        payload = b"%d" % number
        expected.append(payload)
        if len(expected) % (INLINE_BATCHES + 1) == 0:
            append(log, *expected[-INLINE_BATCHES - 1 :])
        if number == 5 * (INLINE_BATCHES + 1):
            assert next(walk).payload == b"0"
    assert held(ObjectLog(s3_url)) == expected
    assert len(log._look().head.segments) < 5
    keys = [key for key, _, _ in log.objects.store.list("segments/")]
    assert len(keys) <= 5
    assert [batch.payload for batch in log.newest_first()] == expected[::-1]


# Replies that are lost.


@pytest.mark.parametrize("answers", range(4))
def test_a_lost_reply_is_told_from_a_conflict(s3_url: str, s3: S3Server, wired: str, wire: Wire, answers: int) -> None:
    log = ObjectLog(wired)
    append(log, b"one")
    wire.lose_answers = answers
    for number in range(8):
        (commit,) = append(log, b"%d" % number, expect=number + 1)
        assert commit.error is None
    assert wire.lost == 1
    assert held(log) == [b"one", *(b"%d" % number for number in range(8))]


def test_lost_replies_in_a_race_double_nothing(s3: S3Server, s3_url: str, wire: Wire) -> None:
    other = ObjectLog(s3_url)
    with environment(f"http://127.0.0.1:{wire.port}"):
        log = ObjectLog(s3_url)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            append(other, b"other")
            time.sleep(0.005)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(20):
            wire.lose_answers = number % 3
            (commit,) = append(log, b"mine %d" % number)
            assert commit.error is None
    finally:
        stop.set()
        thread.join()
    assert wire.lost > 10
    assert [payload for payload in held(other) if payload != b"other"] == [b"mine %d" % number for number in range(20)]


def test_a_store_out_of_reach_is_unknown_or_not_landed_in_time(s3: S3Server, s3_url: str, wire: Wire) -> None:
    with environment(f"http://127.0.0.1:{wire.port}"):
        log = ObjectLog(s3_url)
    append(log, b"one")
    wire.cut()
    started = time.monotonic()
    with pytest.raises((OutcomeUnknown, NotLanded)) as failed:
        append(log, b"two", timeout=1.0)
    assert failed.value.hint
    assert time.monotonic() - started < 20
    wire.mend()
    assert held(ObjectLog(s3_url))[0] == b"one"
    found = len(held(log))
    assert append(log, b"three", expect=found)[0].error is None


# Stores that ignore conditions, or lie.


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


@pytest.mark.parametrize(
    ("kind", "what"), [(str, "creates an object that is there"), (dict, "replaces an object that has changed")]
)
def test_a_store_that_ignores_a_condition_is_refused(
    s3: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch, kind: type, what: str
) -> None:
    from_url = module.from_url
    monkeypatch.setattr(module, "from_url", lambda *args, **kwargs: IgnoresConditions(from_url(*args, **kwargs), kind))
    with pytest.raises(Refused, match=what) as refused:
        ObjectLog(s3_url)
    assert s3.endpoint in str(refused.value)
    monkeypatch.undo()
    with environment(s3.endpoint):
        ObjectLog(s3_url)


def test_a_proof_is_made_once_and_anew_at_another_endpoint(s3: S3Server, s3_url: str, wire: Wire) -> None:
    ObjectLog(s3_url)
    probe._proved.clear()
    store = Store(Address(s3_url))
    store._client = Counted(store._client)
    probe.prove(store, TIMEOUT)
    assert store._client.requests == ["get"]
    with environment(f"http://127.0.0.1:{wire.port}"):
        other = Store(Address(s3_url))
        other._client = Counted(other._client)
        probe.prove(other, TIMEOUT)
        assert len(other._client.requests) > 5


@pytest.mark.parametrize("lie", ["nothing was put", "other bytes were put"])
def test_a_lying_store_is_found_out_in_the_append(s3_url: str, lie: str) -> None:
    log = ObjectLog(s3_url)
    append(log, b"one")
    client = log.objects.store._client

    class Liar:
        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def put(self, key: str, data: bytes, **kwargs: Any) -> Any:
            if lie == "nothing was put":
                return {"e_tag": '"made up"', "version": None}
            head = log._known.head.copy()
            head.tail += 1
            return client.put(key, head.encode(), **kwargs)

    log.objects.store._client = Liar()
    with pytest.raises(VerifyFailed):
        append(log, b"two")


def test_damage_is_corrupt_and_never_an_empty_journal(s3_url: str) -> None:
    log = ObjectLog(s3_url)
    append(log, *(b"%d" % number * 100 for number in range(2 * INLINE_BATCHES)))
    client = log.objects.store._client
    (segment, *_), head = [key for key, _, _ in log.objects.store.list("segments/")], log.objects.key
    whole = {key: bytes(client.get(key).bytes()) for key in (segment, head)}
    for key, data in whole.items():
        for damaged in (data[:-1], data[:20], b"x" + data[1:], data[:-30] + b"y" + data[-29:]):
            client.put(key, damaged)
            with pytest.raises(Corrupt):
                held(ObjectLog(s3_url))
        client.put(key, data)
    client.delete(segment)
    with pytest.raises(Corrupt):
        held(ObjectLog(s3_url))
    with pytest.raises(Corrupt):
        list(ObjectLog(s3_url).newest_first())


# Hosts that were away.


def test_an_owner_that_was_away_is_refused_when_it_is_back(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEWAL", 1000.0)  # this owner is paused: it renews nothing
    owner, other = ObjectLog(s3_url), ObjectLog(s3_url)
    owner.claim()
    append(owner, b"mine")
    with pytest.raises(Claimed):
        append(other, b"no")
    monkeypatch.setattr("landed.objects.log.LEASE", -1.0)  # a minute passes
    append(other, b"taken over")
    with pytest.raises(Claimed) as refused:
        append(owner, b"late")
    assert "away" in refused.value.hint
    owner.close()
    append(other, b"goes on")
    assert held(other) == [b"mine", b"taken over", b"goes on"]


def test_a_claim_is_renewed_while_its_owner_is_idle(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEWAL", 0.05)
    owner = ObjectLog(s3_url)
    owner.claim()
    first = owner.objects.load()
    deadline = time.monotonic() + TIMEOUT
    while True:
        now = owner.objects.load()
        assert first is not None
        assert now is not None
        if now.modified > first.modified:
            break
        assert time.monotonic() < deadline
        time.sleep(0.2)
    owner.close()


def test_a_writer_that_slept_through_a_removal_writes_nothing(s3_url: str) -> None:
    collection = ObjectCollection(s3_url)
    log = collection.open("a", create=True)
    assert log is not None
    append(log, b"old")
    assert collection.remove("a", TIMEOUT)
    with pytest.raises(NotLanded, match="removed"):
        append(log, b"late")
    assert list(collection.names()) == []
    again = collection.open("a", create=True)
    assert again is not None
    with pytest.raises(NotLanded, match="removed"):
        append(log, b"later")
    assert held(again) == []


def test_a_damaged_journal_can_be_removed(s3_url: str) -> None:
    collection = ObjectCollection(s3_url)
    log = collection.open("a", create=True)
    assert log is not None
    log.objects.store._client.put(log.objects.key, b"damaged")
    with pytest.raises(Corrupt):
        collection.open("a", create=True)
    assert collection.remove("a", TIMEOUT)
    assert collection.open("a", create=False) is None


def test_a_lock_that_nobody_renews_is_taken_over(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = ObjectCollection(s3_url)
    lock, other = collection.lock("a"), collection.lock("a")
    lock.acquire()
    monkeypatch.setattr(leases, "LEASE", -1.0)
    other.acquire(5.0)
    lock.release()  # the other's, by now
    monkeypatch.undo()
    with pytest.raises(LandedError):
        collection.lock("a").acquire(0.1)
    other.release()


# Secrets, forks, addresses.


def test_credentials_are_nowhere_to_be_seen(s3_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    log = ObjectLog(s3_url)
    append(log, b"one")
    errors = []
    with environment("http://127.0.0.1:1"), pytest.raises(NotLanded) as error:
        ObjectLog("s3://elsewhere/j", timeout=0.5)
    errors.append(error.value)
    for broken in ("s3://key:word@bucket/j", "s3://bucket/j?secret=word", "s3:///j", "s3://bucket/a/../b", "az://"):
        with pytest.raises(Refused) as refused:
            ObjectLog(broken)
        errors.append(refused.value)
    for each in errors:
        assert secret not in f"{each} {each!r} {each.__dict__} {each.__cause__}"
        assert "word" not in f"{each} {each!r} {each.__dict__} {each.__cause__}"
    assert secret not in caplog.text


def test_a_forked_child_is_refused_and_does_not_hang(s3_url: str) -> None:
    log = ObjectLog(s3_url)
    append(log, b"parent")
    child = os.fork()
    if child == 0:
        try:
            append(log, b"child")
            os._exit(1)
        except Refused as refused:
            os._exit(0 if "spawn" in refused.hint else 2)
        except BaseException:  # noqa: BLE001 - a forked child reports by its exit status
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    append(log, b"parent again", expect=1)
    assert held(log) == [b"parent", b"parent again"]


def test_address() -> None:
    assert Address("s3://b").shown == "s3://b"
    assert Address("gs://b/a/c/").url == "gs://b/a/c"
    assert Address("az://container/%C3%A4").shown == "az://container/%C3%A4"
    assert BUCKET
