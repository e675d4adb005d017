"""A journal in object storage when replies are lost, the store lies, is cut off, or ignores what it is asked."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import pytest

from landed.engine import Batch, Commit
from landed.errors import Claimed, Corrupt, LandedError, NotLanded, OutcomeUnknown, Refused, VerifyFailed

pytest.importorskip("obstore", reason="obstore is not installed")

from obstore.exceptions import GenericError, PermissionDeniedError
from s3_server import BUCKET, S3Server, environment
from wire import Wire

from landed.objects import leases, probe
from landed.objects import store as module
from landed.objects.address import Address
from landed.objects.collection import ObjectCollection
from landed.objects.log import INLINE_BATCHES, INLINE_BYTES, ObjectLog
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


def test_who_is_overtaken_asks_again_at_once(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever pauses is overtaken again by those who do not; and the head that was in the way has been read already.
    log, faster = ObjectLog(s3_url), ObjectLog(s3_url)
    requests = counted(log).requests
    real_put = log.objects.store.put

    def put(*args: Any) -> Any:
        if requests.count("put") < 5:
            append(faster, b"faster")
        return real_put(*args)

    def no_pause(seconds: float) -> None:
        raise AssertionError(f"paused for {seconds} s")

    monkeypatch.setattr(log.objects.store, "put", put)
    monkeypatch.setattr("landed.objects.log.sleep", no_pause)
    append(log, b"slower")
    assert requests == ["put", "get"] * 6
    assert held(log) == [b"faster"] * 5 + [b"slower"]


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
    (commit,) = append(log, b"two", timeout=1.0)
    assert isinstance(commit.error, OutcomeUnknown)
    assert commit.error.hint
    assert time.monotonic() - started < 20
    wire.mend()
    assert held(ObjectLog(s3_url))[0] == b"one"
    found = len(held(log))
    assert append(log, b"three", expect=found)[0].error is None


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


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_group_of_unknown_outcome_is_not_put_again(s3_url: str, interrupted: bool) -> None:
    """Appends that travelled in one put share its fate: to ask for the rest anew would double them."""
    log = ObjectLog(s3_url)

    def fault(put: Callable[[], Any], key: str) -> Any:
        put()
        log.objects.store.get = unreachable  # type: ignore[method-assign]
        raise KeyboardInterrupt if interrupted else GenericError("the reply was lost")

    def unreachable(*_: Any) -> Any:
        raise GenericError("no route")

    client = Faulty(log, fault)
    commits = [Commit(payload, 1, None, inf) for payload in (b"one", b"two", b"three")]
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            log.commit(commits, 0.2)
    else:
        assert log.commit(commits, 0.2) == 3
    assert all(isinstance(commit.error, OutcomeUnknown) for commit in commits)
    client.mend()
    assert held(ObjectLog(s3_url)) == [b"one", b"two", b"three"]


def test_what_was_refused_once_and_lands_later_has_landed(s3_url: str) -> None:
    """An error of an earlier try must not stay with a commit that lands in a later one."""
    log = ObjectLog(s3_url)

    def fault(put: Callable[[], Any], key: str) -> Any:
        raise PermissionDeniedError("no")

    client = Faulty(log, fault)
    commits = [Commit(b"one", 1, None, inf), Commit(b"two", 1, 0, inf)]
    with pytest.raises(NotLanded):
        log.commit(commits, TIMEOUT)
    client.mend()
    assert log.commit(commits[1:], TIMEOUT) == 1  # as a journal does: what stopped the first may not stop the others
    assert (commits[1].sequence, commits[1].error) == (1, None)


def test_a_refusal_after_a_lost_reply_is_no_refusal_of_the_first(s3_url: str) -> None:
    """The first put may land late; its segment must be there when it does."""
    log = ObjectLog(s3_url)
    late: list[Callable[[], Any]] = []

    def fault(put: Callable[[], Any], key: str) -> Any:
        if key != log.objects.key:
            return put()
        late.append(put)
        raise GenericError("slow") if len(late) == 1 else PermissionDeniedError("the credentials have expired")

    client = Faulty(log, fault)
    payload = b"x" * (INLINE_BYTES + 1)
    (commit,) = append(log, payload)
    assert isinstance(commit.error, OutcomeUnknown)
    client.mend()
    late[0]()
    assert held(ObjectLog(s3_url)) == [payload]


@pytest.mark.parametrize("what", ["claim", "compact", "close"])
def test_a_lost_reply_to_another_step_is_no_conflict(s3_url: str, what: str) -> None:
    log = ObjectLog(s3_url)
    append(log, b"one", b"two")
    if what == "close":
        log.claim()
    only_the_head = lose_one_reply()
    client = Faulty(log, lambda put, key: only_the_head(put, key) if key == log.objects.key else put())
    if what == "claim":
        log.claim()
        append(log, b"three")
    elif what == "compact":
        log.rewrite(lambda batch: batch.payload if batch.payload == b"two" else None, TIMEOUT)
        assert held(log) == [b"two"]
    else:
        log.close()
        append(ObjectLog(s3_url), b"three")
    client.mend()
    log.close()


def test_a_removal_whose_reply_was_lost_is_a_removal(s3_url: str) -> None:
    collection = ObjectCollection(s3_url)
    assert collection.open("a", create=True) is not None
    Faulty(collection._store, lose_one_reply())
    assert collection.remove("a", TIMEOUT)
    assert collection.open("a", create=False) is None


def test_a_lock_whose_reply_was_lost_is_held(s3_url: str) -> None:
    collection = ObjectCollection(s3_url)
    lock = collection.lock("a")
    client = Faulty(collection._store, lose_one_reply())
    lock.acquire(5.0)
    client.mend()
    client = Faulty(collection._store, lose_one_reply())
    assert lock._renew()  # this reply is lost
    assert lock._renew()
    assert lock.held
    client.mend()
    lock.release()
    collection.lock("a").acquire(0.0)


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
    assert isinstance(append(log, b"two")[0].error, VerifyFailed)


@pytest.mark.parametrize("lie", ["nothing was put", "other bytes were put"])
@pytest.mark.parametrize("how", ["append", "compact"])
def test_a_segment_that_is_not_there_is_named_by_no_head(s3_url: str, lie: str, how: str) -> None:
    log = ObjectLog(s3_url)
    before = [b"%d" % number for number in range(INLINE_BATCHES)]
    append(log, *before)

    def fault(put: Callable[[], Any], key: str) -> Any:
        if not key.startswith("segments/") or key.endswith("compaction"):
            return put()
        if lie == "other bytes were put":
            client._client.put(key, b"other")
        return {"e_tag": '"made up"', "version": None}

    client = Faulty(log, fault)
    step = (lambda: append(log, b"one more")) if how == "append" else lambda: log.rewrite(_keep, TIMEOUT)
    with pytest.raises(NotLanded):
        step()
    client.mend()
    assert held(ObjectLog(s3_url)) == before


def _keep(batch: Batch) -> bytes:
    return batch.payload


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


def test_a_claim_that_is_renewed_is_not_taken_over(s3_url: str) -> None:
    """Who met the claim a while ago looks again, and a renewal is another object by its tag."""
    owner, other = ObjectLog(s3_url), ObjectLog(s3_url)
    owner.claim()
    with pytest.raises(Claimed):
        append(other, b"no")
    tag = owner._known.tag
    assert owner._renew()
    assert owner._known.tag != tag
    other._known.modified -= 2 * leases.LEASE  # two minutes pass for the other
    with pytest.raises(Claimed):
        append(other, b"no")
    append(owner, b"mine")
    assert held(owner) == [b"mine"]
    owner.close()
    append(other, b"at once")
    assert held(other) == [b"mine", b"at once"]


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
