"""A journal in object storage: what an append costs, and what becomes of it when replies are lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from math import inf
from typing import Any

import pytest
from logs import TIMEOUT, append, appended_to, held

import landed
from landed.engine import Commit
from landed.engines import open_cell
from landed.errors import Claimed, LockTimeout, NotLanded, OutcomeUnknown

pytest.importorskip("obstore", reason="obstore is not installed")

from clients import Faulty, counted, lose_one_reply, put_twice_once
from google_server import GoogleServer
from obstore.exceptions import AlreadyExistsError, GenericError, PermissionDeniedError
from s3_server import S3Server, environment
from wire import Wire

from landed.objects.cell import ObjectCell
from landed.objects.collection import ObjectCollection
from landed.objects.head import Head, Listed
from landed.objects.log import INLINE_BATCHES, INLINE_BYTES, ObjectLog
from landed.objects.segments import Objects
from landed.objects.store import Object, Store

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
    monkeypatch.setattr("landed.retries.sleep", no_pause)
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


def test_what_ends_after_the_timeout_is_not_asked_again(s3_url: str) -> None:
    tries = []

    def late() -> None:
        tries.append(time.sleep(0.02))
        raise OSError("it came too late")

    with pytest.raises(NotLanded, match="it came too late"):
        ObjectLog(s3_url).objects.store.ask(late, "no answer", time.monotonic() + 0.01)
    assert len(tries) == 1


@pytest.mark.parametrize("step", ["append", "move out", "create"])
def test_a_put_that_ends_after_the_timeout_is_not_begun_again(s3_url: str, step: str) -> None:
    log, tries = ObjectLog(s3_url), []

    def late(*_: object) -> None:
        tries.append(time.sleep(0.02))
        raise GenericError("it came too late")

    Faulty(log, late)
    if step == "create":
        with pytest.raises(NotLanded, match="it came too late"):
            Objects(log.objects.store, "heads/new", "segments/new/", timeout=0.01).create("new")
    elif step == "append":
        assert isinstance(append(log, b"one", timeout=0.01)[0].error, OutcomeUnknown)
    else:
        with pytest.raises(NotLanded, match="it came too late"):
            append(log, *[b"1"] * (INLINE_BATCHES + 1), timeout=0.01)
    assert len(tries) == 1


@pytest.mark.parametrize("step", ["append", "claim", "file"])
def test_who_is_overtaken_until_the_timeout_is_over_begins_nothing_more(s3_url: str, step: str) -> None:
    log, other, theirs, tries = ObjectLog(s3_url, timeout=0.1), ObjectLog(s3_url), Store(s3_url), []
    cell = open_cell(f"{s3_url}/plan.md")
    assert isinstance(cell, ObjectCell)

    def overtaken(put: Callable[[], Any], key: str) -> Any:
        tries.append(key)
        append(other, b"faster")
        seen = theirs.get("plan.md")
        theirs.put("plan.md", b"faster %d" % len(tries), seen.tag if isinstance(seen, Object) else None)
        time.sleep(0.11)
        return put()

    client = Faulty(cell._store if step == "file" else log, overtaken)
    steps: dict[str, Callable[[], object]] = {
        "append": lambda: append(log, b"slower", timeout=0.1),
        "claim": log.claim,
        "file": lambda: landed.write(cell.name, b"slower", expect=landed.ANY, timeout=0.1),
    }
    with pytest.raises(LockTimeout, match="other writers were faster"):
        steps[step]()
    client.mend()
    assert len(tries) == 1
    assert held(log) == [b"faster"]


def test_a_step_whose_put_was_tried_twice_on_its_way_is_looked_for_when_the_timeout_is_over(s3_url: str) -> None:
    log = ObjectLog(s3_url, timeout=0.1)

    def twice(put: Callable[[], Any], _: str) -> Any:
        put()
        time.sleep(0.11)
        return put()

    client = Faulty(log, twice)
    log.claim()
    client.mend()
    with pytest.raises(Claimed):
        ObjectLog(s3_url)
    log.close()


# Replies that are lost.


@pytest.mark.parametrize("answers", range(4))
def test_a_lost_reply_is_told_from_a_conflict(
    s3_url: str, s3: S3Server, s3_wired: str, s3_wire: Wire, answers: int
) -> None:
    log = ObjectLog(s3_wired)
    append(log, b"one")
    s3_wire.lose_answers = answers
    for number in range(8):
        (commit,) = append(log, b"%d" % number, expect=number + 1)
        assert commit.error is None
    assert s3_wire.lost == 1
    assert held(log) == [b"one", *(b"%d" % number for number in range(8))]


def test_a_segment_that_conflicts_with_nothing_is_put_again(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As S3 answers (409) where what passes it on tries a put again while the first is still under way."""
    monkeypatch.setattr("landed.objects.log.INLINE_BATCHES", 0)
    log = ObjectLog(s3_url)
    refused: list[str] = []

    def fault(put: Callable[[], Any], key: str) -> Any:
        if not refused:
            refused.append(key)
            raise AlreadyExistsError("a conflict")
        return put()

    client = Faulty(log, fault)
    (commit,) = append(log, b"one")
    client.mend()
    assert refused[0].startswith("segments/")
    assert commit.error is None
    assert held(ObjectLog(s3_url)) == [b"one"]


def test_a_head_from_a_cache_does_not_say_that_a_put_was_overtaken(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ObjectLog(s3_url)
    append(log, b"one")
    store, get = log.objects.store, log.objects.store.get
    cached = [get(log.objects.key)]
    append(log, b"two")
    client = Faulty(log, lose_one_reply())
    monkeypatch.setattr(store, "get", lambda key, *known: cached.pop() if cached else get(key, *known))
    (commit,) = append(log, b"three")
    client.mend()
    assert not cached
    assert commit.error is None
    assert held(log) == [b"one", b"two", b"three"]


def test_lost_replies_in_a_race_double_nothing(s3: S3Server, s3_url: str, s3_wire: Wire) -> None:
    other = ObjectLog(s3_url)
    with environment(f"http://127.0.0.1:{s3_wire.port}"):
        log = ObjectLog(s3_url)
    with appended_to(other, b"other", 0.005):
        for number in range(20):
            s3_wire.lose_answers = number % 3
            (commit,) = append(log, b"mine %d" % number)
            assert commit.error is None
    assert s3_wire.lost > 10
    assert [payload for payload in held(other) if payload != b"other"] == [b"mine %d" % number for number in range(20)]


def test_a_lost_reply_to_who_came_second_is_no_success(s3: S3Server, s3_url: str, s3_wire: Wire) -> None:
    other = ObjectLog(s3_url)
    with environment(f"http://127.0.0.1:{s3_wire.port}"):
        log = ObjectLog(s3_url)
    append(log, b"one")
    s3_wire.meanwhile = lambda: append(other, b"other")
    s3_wire.lose_answers = 0
    (commit,) = append(log, b"mine")
    assert commit.error is None
    assert s3_wire.lost == 1
    assert held(other) == [b"one", b"other", b"mine"]


def test_a_store_that_is_asked_too_much_is_waited_for_and_then_quoted(
    google: GoogleServer, google_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("landed.retries.SHOWN", 0.0)  # the first pauses are short
    log = ObjectLog(google_url)
    append(log, b"one")
    google.busy = 4
    (commit,) = append(log, b"two", expect=1)
    assert commit.error is None
    assert "trying again in" in caplog.text
    assert "reduce your request rate" in caplog.text
    google.busy = 1_000_000
    try:
        (commit,) = append(log, b"three", timeout=0.5)
        assert isinstance(commit.error, OutcomeUnknown)  # a put that was answered so may have landed
        assert "reduce your request rate" in str(commit.error)
        with pytest.raises(NotLanded, match="reduce your request rate"):
            log.objects.load(deadline=0.0)
    finally:
        google.busy = 0
    assert held(log)[:2] == [b"one", b"two"]


def test_a_store_out_of_reach_is_unknown_or_not_landed_in_time(s3: S3Server, s3_url: str, s3_wire: Wire) -> None:
    with environment(f"http://127.0.0.1:{s3_wire.port}"):
        log = ObjectLog(s3_url)
    append(log, b"one")
    s3_wire.cut()
    started = time.monotonic()
    (commit,) = append(log, b"two", timeout=1.0)
    assert isinstance(commit.error, OutcomeUnknown)
    assert commit.error.hint
    assert time.monotonic() - started < 20
    s3_wire.mend()
    assert held(ObjectLog(s3_url))[0] == b"one"
    found = len(held(log))
    assert append(log, b"three", expect=found)[0].error is None


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


def test_a_lost_reply_that_is_looked_into_too_late_is_unknown(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer slept between the head and the segment that it names: the batch is in another by now."""
    monkeypatch.setattr("landed.objects.compaction.GRACE", -1.0)
    log, other = ObjectLog(s3_url), ObjectLog(s3_url)
    append(log, b"one")
    lose, slept = lose_one_reply(), threading.Event()
    frames = Objects.frames

    def followed(put: Callable[[], Any], key: str) -> Any:
        try:
            return lose(put, key)
        finally:
            for number in range(INLINE_BATCHES):
                append(other, b"%d" % number)  # until the batch is in a segment

    def sleeping(self: Objects, head: Head, listed: Listed) -> Any:
        if not slept.is_set():
            slept.set()
            other.rewrite(lambda batch: batch.payload, TIMEOUT)
            for number in range(2 * INLINE_BATCHES):
                append(other, b"%d" % number)  # until the segment is swept
        return frames(self, head, listed)

    client = Faulty(log, followed)
    monkeypatch.setattr(log.objects, "frames", sleeping.__get__(log.objects))
    (commit,) = append(log, b"mine")
    client.mend()
    assert slept.is_set()
    assert held(ObjectLog(s3_url)).count(b"mine") == 1
    assert isinstance(commit.error, OutcomeUnknown)


@pytest.mark.parametrize("fault", [lose_one_reply, put_twice_once])
@pytest.mark.parametrize("what", ["claim", "compact", "close"])
def test_a_lost_reply_to_another_step_is_no_conflict(
    s3_url: str, what: str, fault: Callable[[], Callable[[Callable[[], Any], str], Any]]
) -> None:
    log = ObjectLog(s3_url)
    append(log, b"one", b"two")
    if what == "close":
        log.claim()
    only_the_head = fault()
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


@pytest.mark.parametrize("what", ["append", "claim"])
def test_a_conflict_that_cannot_be_looked_into_is_unknown(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """What passes the put on may have tried it twice, and give the second answer."""
    log = ObjectLog(s3_url, timeout=0.1)

    def fault(put: Callable[[], Any], _: str) -> Any:
        put()
        monkeypatch.setattr(log.objects.store, "get", unreadable)
        return put()

    client = Faulty(log, fault)
    if what == "append":
        assert isinstance(append(log, b"one", timeout=0.1)[0].error, OutcomeUnknown)
    else:
        with pytest.raises(OutcomeUnknown):
            log.claim()
    monkeypatch.undo()
    client.mend()
    if what == "append":
        assert held(log) == [b"one"]
    else:
        with pytest.raises(Claimed):
            ObjectLog(s3_url)


def unreadable(*_: object) -> None:
    raise OSError("it cannot be read")


@pytest.mark.parametrize("fault", [lose_one_reply, put_twice_once])
def test_a_removal_whose_reply_was_lost_is_a_removal(s3_url: str, fault: Callable[[], Any]) -> None:
    collection = ObjectCollection(s3_url)
    assert collection.open("a", create=True) is not None
    Faulty(collection._store, fault())
    assert collection.remove("a", TIMEOUT)
    assert collection.open("a", create=False) is None


def test_a_removal_in_a_store_that_is_asked_too_much_leaves_nothing(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = ObjectCollection(s3_url)
    log = collection.open("a", create=True)
    assert log is not None
    append(log, b"x" * 2 * INLINE_BYTES)
    refused, delete = [], collection._store.delete

    def busy(keys: list[str]) -> None:
        if not refused:
            refused.append(keys)
            raise GenericError("503 Slow Down")
        delete(keys)

    monkeypatch.setattr(collection._store, "delete", busy)
    assert collection.remove("a", TIMEOUT)
    assert refused[0]
    assert [*collection._store.list("segments/")] == []


def test_a_removal_that_another_was_faster_with_removes_nothing(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = ObjectCollection(s3_url)
    found = [collection.open("a", create=True) for _ in range(2)]
    monkeypatch.setattr(collection, "open", lambda *_, **__: found.pop())
    assert collection.remove("a", TIMEOUT)
    assert not collection.remove("a", TIMEOUT)


@pytest.mark.parametrize("kept", [True, False])
def test_a_compaction_between_put_and_proof_is_no_lie(s3_url: str, kept: bool) -> None:
    """A batch that was changed meanwhile landed, and its revision says so; of one that was dropped nothing is known."""
    log, other = ObjectLog(s3_url), ObjectLog(s3_url)
    append(log, b"one")

    def fault(put: Callable[[], Any], key: str) -> Any:
        answer = put()
        client.mend()
        other.rewrite(lambda batch: b"changed" if kept else None, TIMEOUT)
        return answer

    client = Faulty(log, fault)
    (commit,) = append(log, b"two")
    if kept:
        assert commit.error is None
        batch = log.fetch(commit.position)
        assert batch is not None
        assert batch.payload == b"changed"
    else:
        assert type(commit.error) is OutcomeUnknown
    assert held(log) == ([b"changed", b"changed"] if kept else [])
    assert append(log, b"three", expect=2)[0].error is None
