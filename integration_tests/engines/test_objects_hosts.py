"""A journal in object storage among hosts, some of which were away."""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("obstore", reason="obstore is not installed")

from clients import Faulty, lose_one_reply, refuse_once
from logs import TIMEOUT, append, held
from obstore.exceptions import GenericError, PermissionDeniedError

from landed.errors import Claimed, Corrupt, LandedError, LockTimeout, NotLanded, Refused, StaleWrite
from landed.objects import compaction, leases
from landed.objects.collection import ObjectCollection
from landed.objects.log import INLINE_BYTES, ObjectLog

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from landed.engine import Batch

SEGMENT = re.compile("segments/[0-9a-f]+/")


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


OWNER = """
import sys
from landed import Claimed, Journal

journal = Journal(sys.argv[1]).claim()
journal.append([b"mine"])
print("mine", flush=True)
sys.stdin.readline()
for attempt in (b"late", b"later"):
    try:
        journal.append([attempt])
    except Claimed:
        print("refused", flush=True)
"""


def test_a_process_that_was_stopped_for_longer_than_its_claim_holds_is_refused(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sleeps with its renewals, and knows nothing of what happened when it wakes up."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, s3_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        assert owner.stdout.readline() == "mine\n"
        owner.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(Claimed):
                ObjectLog(s3_url)
            monkeypatch.setattr("landed.objects.log.LEASE", -1.0)  # a minute passes
            other = ObjectLog(s3_url)
            assert append(other, b"taken over")[0].error is None
        finally:
            owner.send_signal(signal.SIGCONT)
        assert owner.communicate("go on\n", TIMEOUT)[0] == "refused\n" * 2
    assert held(other)[1:] == [b"taken over"]


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


@pytest.mark.parametrize("who", ["list", "make", "remove"])
def test_what_a_removal_has_left_that_was_killed_is_deleted(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    collection, name = ObjectCollection(s3_url), "a" * 400  # which no key spells out
    for each in ("a", name):
        log = collection.open(each, create=True)
        assert log is not None
        append(log, b"x" * 2 * INLINE_BYTES)
        with monkeypatch.context() as patch:
            patch.setattr(collection._store, "delete", killed)
            with pytest.raises(KeyboardInterrupt):
                collection.remove(each, TIMEOUT)
    assert len([*collection._store.list("segments/")]) == 2
    for each in [*collection.names()] if who == "list" else ["a", name]:
        if who == "remove":
            assert not collection.remove(each, TIMEOUT)
        else:
            assert (collection.open(each, create=who == "make") is None) == (who == "list")
    assert [*collection._store.list("segments/")] == []
    assert [*collection.names()] == ([] if who != "make" else ["a", name])


def killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("kept", [0, 1 << 20])
@pytest.mark.parametrize("late", ["append", "compaction"])
def test_who_is_late_for_a_removal_leaves_nothing(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, late: str, kept: int
) -> None:
    monkeypatch.setattr("landed.objects.segments.KEPT_BYTES", kept)  # else a segment is read that is there no more
    collection, other = ObjectCollection(s3_url), ObjectCollection(s3_url)
    log = collection.open("a", create=True)
    assert log is not None
    append(log, b"x" * 2 * INLINE_BYTES)
    append(log, b"y" * 2 * INLINE_BYTES)

    def rewrite(batch: Batch) -> bytes:
        other.remove("a", TIMEOUT)
        return batch.payload[:1]

    if late == "append":
        other.remove("a", TIMEOUT)
    with pytest.raises(NotLanded, match="removed"):
        _ = log.rewrite(rewrite, TIMEOUT) if late == "compaction" else append(log, b"z" * 2 * INLINE_BYTES)
    assert [key for key, size, _ in collection._store.list("segments/") if size] == []


def test_who_puts_a_segment_while_the_journal_is_removed_is_told_so(s3_url: str) -> None:
    collection, other = ObjectCollection(s3_url), ObjectCollection(s3_url)
    log = collection.open("a", create=True)
    assert log is not None

    def and_remove(put: Callable[[], Any], _: str) -> Any:
        tag = put()
        other.remove("a", TIMEOUT)
        return tag

    Faulty(log, and_remove)
    with pytest.raises(NotLanded, match="the journal was removed"):
        append(log, b"x" * 2 * INLINE_BYTES)


def test_who_is_overtaken_leaves_no_segments(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landed.objects.log.INLINE_BATCHES", 0)
    monkeypatch.setattr("landed.objects.compaction.MERGED_SEGMENTS", 2)
    log, faster = ObjectLog(s3_url), ObjectLog(s3_url)
    append(log, b"one")
    heads: list[str] = []

    def overtaken(put: Callable[[], Any], key: str) -> Any:
        if key == log.objects.key and not heads:
            heads.append(key)
            append(faster, b"faster")
        return put()

    client = Faulty(log, overtaken)
    append(log, b"slower")
    client.mend()
    found = {key.rpartition("/")[2] for key, _, _ in log.objects.store.list("segments/")}
    assert found == compaction._named(log._look().head)


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
    other.acquire(5.0, owner="another")
    lock.release()  # the other's, by now
    monkeypatch.undo()
    with pytest.raises(LandedError):
        collection.lock("a").acquire(0.1, owner="a third")
    with pytest.raises(Refused):  # it still has it, and would wait for itself
        collection.lock("a").acquire(0.1, owner="another")
    other.release()


def test_threads_that_wait_with_one_lock_have_it_one_after_the_other(s3_url: str) -> None:
    collection = ObjectCollection(s3_url)
    other, lock = collection.lock("a"), collection.lock("a")
    other.acquire(5.0, owner="another")
    inside: list[int] = []
    together: list[int] = []

    def enter() -> None:
        lock.acquire(TIMEOUT)
        inside.append(1)
        time.sleep(0.5)  # longer than the other one's pauses
        inside.pop()
        together.append(len(inside))
        lock.release()

    threads = [threading.Thread(target=enter) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)  # both wait
    other.release()
    for thread in threads:
        thread.join()
    assert together == [0, 0]
    collection.lock("a").acquire(0.0)


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


def test_a_lock_in_a_store_that_is_asked_too_much_is_taken_and_given_back(s3_url: str) -> None:
    """And not kept for the minute after which nobody is taken to hold it."""
    collection = ObjectCollection(s3_url)
    lock = collection.lock("a")
    client = Faulty(collection._store, refuse_once())
    lock.acquire(5.0)
    client.mend()
    client = Faulty(collection._store, refuse_once())
    lock.release()
    client.mend()
    lock.acquire(0.0)
    before = lock._tag
    lock._renew()
    lock._tag = before  # nobody heard of it
    lock.release()
    lock.acquire(0.0)


def test_a_lock_that_the_store_took_late_is_held(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its answer, and the look for it."""
    collection = ObjectCollection(s3_url)
    lock, late = collection.lock("a"), []

    def fault(put: Callable[[], Any], _: str) -> Any:
        if not late:
            late.append(put)
            raise GenericError("no answer in time")
        return put()

    Faulty(collection._store, fault)
    monkeypatch.setattr(collection._store, "wait", lambda *_: late[0]())
    lock.acquire(5.0)
    assert lock.held
    with pytest.raises(LockTimeout):
        collection.lock("a").acquire(0.0, owner="another")
    lock.release()


def test_every_look_at_a_lock_ends_when_the_caller_s_time_is_over(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, lock = (ObjectCollection(s3_url).lock("a") for _ in range(2))
    holder.acquire(TIMEOUT)
    ends, ask = [], lock._store.ask

    def ends_at(question: Callable[[], Any], what: str, deadline: float) -> Any:
        ends.append(deadline)
        if len(ends) == 3:
            raise NotLanded("it answers no more")
        return ask(question, what, deadline)

    monkeypatch.setattr(lock._store, "ask", ends_at)
    with pytest.raises(NotLanded, match="it answers no more"):
        lock.acquire(TIMEOUT, owner="another")
    assert len(set(ends)) == 1
    holder.release()


def test_a_lock_that_may_not_be_taken_is_not_waited_for(s3_url: str) -> None:
    def fault(*_: object) -> Any:
        raise PermissionDeniedError("no")

    collection = ObjectCollection(s3_url)
    Faulty(collection._store, fault)
    started = time.monotonic()
    with pytest.raises(NotLanded, match="the lock cannot be taken: no"):
        collection.lock("a").acquire(5.0)
    assert time.monotonic() - started < 4


def test_a_compaction_gets_through_while_others_append(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merges of what it works on would undo its work, and writers that never pause are faster at the head."""
    monkeypatch.setattr("landed.objects.log.INLINE_BATCHES", 2)
    monkeypatch.setattr("landed.objects.compaction.MERGED_SEGMENTS", 3)
    log = ObjectLog(s3_url)
    append(log, b"old")
    for number in range(12):
        append(log, b"drop %d" % number)
    stop = threading.Event()
    written: list[bytes] = []

    def write(name: str) -> None:
        writer = ObjectLog(s3_url)
        turn = 0
        while not stop.is_set():
            payload = b"%s %d" % (name.encode(), turn)
            turn += 1
            append(writer, payload)
            written.append(payload)

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    try:
        compactor = ObjectLog(s3_url)
        for _ in range(3):
            before = len(written)

            def slowly(batch: Batch, until: int = before + 20) -> bytes | None:
                deadline = time.monotonic() + TIMEOUT
                while len(written) < until and time.monotonic() < deadline:
                    time.sleep(0.01)  # some segments come and are merged meanwhile
                return None if batch.payload.startswith(b"drop") else batch.payload

            compactor.rewrite(slowly, TIMEOUT)
            assert len(written) > before
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    found = held(ObjectLog(s3_url))
    assert found[0] == b"old"
    assert sorted(found[1:]) == sorted(written)


def test_a_compaction_is_not_starved_by_who_appends_faster(s3_url: str) -> None:
    """Another appends as often as the compaction puts a segment: it is not to begin anew each time."""
    log, compactor = ObjectLog(s3_url), ObjectLog(s3_url)
    append(log, b"drop", b"old")
    appended: list[bytes] = []

    def overtaken(put: Callable[[], Any], key: str) -> Any:
        answer = put()
        if SEGMENT.match(key):
            appended.append(b"%d" % len(appended))
            append(log, appended[-1])
        return answer

    Faulty(compactor, overtaken)
    compactor.rewrite(lambda batch: None if batch.payload == b"drop" else batch.payload, TIMEOUT)
    assert len(appended) == 2, "what the head held, and what was made of it"
    assert held(ObjectLog(s3_url)) == [b"old", *appended]


@pytest.mark.parametrize("overtaken", [False, True], ids=["alone", "while another moves the same batches"])
def test_a_compaction_whose_first_reply_is_lost_deletes_nothing_that_is_named(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, overtaken: bool
) -> None:
    monkeypatch.setattr("landed.objects.compaction.MERGED_BYTES", 1)  # a segment that nothing changes in stays
    log, compactor = ObjectLog(s3_url), ObjectLog(s3_url)
    expected = [b"first", b"second"]
    append(log, *expected)
    lose = lose_one_reply()

    def fault(put: Callable[[], Any], key: str) -> Any:
        if key == "head":
            return lose(put, key)
        answer = put()
        if overtaken and SEGMENT.match(key) and len(expected) == 2:
            expected.extend(b"%d" % number for number in range(70))
            for payload in expected[2:]:
                append(log, payload)
        return answer

    Faulty(compactor, fault)
    compactor.rewrite(lambda batch: batch.payload, TIMEOUT)
    assert held(ObjectLog(s3_url)) == expected


def test_a_compaction_that_another_came_between_names_nothing_that_the_other_has_swept(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that slept for longer than its turn holds, and than a segment may be named by no head."""
    monkeypatch.setattr("landed.objects.compaction.MERGED_BYTES", 1)  # a segment that nothing changes in stays
    monkeypatch.setattr("landed.objects.compaction.ORPHANED", -1.0)
    monkeypatch.setattr("landed.objects.leases.LEASE", -1.0)
    sleeper, other = ObjectLog(s3_url), ObjectLog(s3_url)
    append(sleeper, b"one", b"two", b"drop")
    other.rewrite(lambda batch: batch.payload, TIMEOUT)  # a segment for each
    put_heads = itertools.count()

    def slept(put: Callable[[], Any], key: str) -> Any:
        if key == "head" and next(put_heads) == 1:
            thread = threading.Thread(target=other.rewrite, args=(lambda batch: batch.payload, TIMEOUT))
            thread.start()
            thread.join()
        return put()

    client = Faulty(sleeper, slept)
    with pytest.raises(StaleWrite):
        sleeper.rewrite(lambda batch: b"changed" if batch.payload == b"two" else batch.payload, TIMEOUT)
    client.mend()
    assert held(ObjectLog(s3_url)) == [b"one", b"two", b"drop"]


def test_an_object_that_is_no_journals_is_corrupt_and_named(s3_url: str) -> None:
    collection = ObjectCollection(s3_url)
    assert collection.open("a", create=True) is not None
    for foreign in ("heads/notes.txt", "heads/=!", "heads/=_w=="):
        collection._store.put(foreign, b"something", None)
        with pytest.raises(Corrupt) as error:
            list(collection.names())
        assert foreign in str(error.value)
        collection._store.delete([foreign])
    assert list(collection.names()) == ["a"]
