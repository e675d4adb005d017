"""A journal in PostgreSQL among processes: owners that were away, forks, compactions, long readers."""

from __future__ import annotations

import contextlib
import os
import time
from math import inf
from typing import TYPE_CHECKING

import pytest
from logs import TIMEOUT, append, held

from landed.engine import Commit
from landed.errors import (
    Claimed,
    LockTimeout,
    NotLanded,
    Refused,
)
from landed.journal import Journal
from landed.journals import Journals

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

from wire import Wire  # noqa: E402

from landed.postgres.collection import PostgresCollection  # noqa: E402
from landed.postgres.log import PostgresLog  # noqa: E402

if TYPE_CHECKING:
    from landed.engine import Batch


# Owners that were away.


def test_an_owner_that_was_cut_off_is_refused_when_it_is_back(
    postgres_url: str, postgres_wired: str, postgres_wire: Wire
) -> None:
    owner, other = PostgresLog(postgres_wired), PostgresLog(postgres_url)
    owner.claim()
    append(owner, b"mine")
    with pytest.raises(Claimed):
        append(other, b"no")
    postgres_wire.cut()  # the owner's host is gone, as far as the server can tell
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            append(other, b"taken over")
            break
        except Claimed:
            assert time.monotonic() < deadline
    postgres_wire.mend()
    with pytest.raises(Claimed) as refused:
        append(owner, b"late")
    assert "away" in refused.value.hint
    assert held(other) == [b"mine", b"taken over"]
    other.claim()
    owner.close()  # does not end the other's claim
    with pytest.raises(Claimed):
        append(owner, b"late again")
    append(other, b"still mine")
    other.close()


def test_who_holds_something_alone_keeps_it_while_idle(postgres_url: str, sql: psycopg.Connection, risky: str) -> None:
    """However short the role's sessions may be idle."""
    row = sql.execute("SELECT current_setting('idle_session_timeout', true)").fetchone()
    if row == (None,):
        pytest.skip("this server ends no sessions for being idle")
    sql.execute(f"ALTER ROLE {risky} SET idle_session_timeout = '100ms'")
    url = postgres_url.replace("landed@", f"{risky}@") + "?application_name=idle"  # for connections of its own
    owner, lock = PostgresLog(url), PostgresCollection(url).lock("a")
    owner.claim()
    lock.acquire()
    time.sleep(0.5)
    with pytest.raises(LockTimeout):
        PostgresCollection(postgres_url).lock("a").acquire(0.0, owner="another")
    with pytest.raises(Claimed):
        append(PostgresLog(postgres_url), b"no")
    lock.release()
    owner.close()


def test_an_append_that_was_on_its_way_while_the_claim_changed_does_nothing(
    postgres_url: str, sql: psycopg.Connection
) -> None:
    log = PostgresLog(postgres_url)
    append(log, b"one")
    group, _ = log._lay_out([Commit(b"two", 1, 1, inf)], log._state, sure=False)
    with contextlib.closing(PostgresLog(postgres_url)) as owner:
        owner.claim()
        assert log._append(group, time.monotonic() + TIMEOUT) is False
        assert held(owner) == [b"one"]


# Forks.


def test_a_forked_child_has_connections_of_its_own(postgres_url: str) -> None:
    journal = Journal(postgres_url, log=PostgresLog(postgres_url))
    journal.append([b"parent"])
    child = os.fork()
    if child == 0:
        try:
            journal.append([b"child"])
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a forked child reports by its exit status
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    journal.append([b"parent again"], expect=2)
    assert [entry.data for entry in journal.read()] == [b"parent", b"child", b"parent again"]


def test_a_forked_child_of_many_journals_has_connections_of_its_own(postgres_url: str) -> None:
    journals = Journals(postgres_url)
    journals.open("a").append([b"parent"])
    pids = backends(journals)
    child = os.fork()
    if child == 0:
        try:
            journals.open("b").append([b"child"])
            os._exit(1 if pids & backends(journals) else 0)
        except BaseException:  # noqa: BLE001 - a forked child reports by its exit status
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    journals.open("a").append([b"parent again"])
    assert sorted(journals.names()) == ["a", "b"]


@pytest.mark.parametrize("what", ["lock", "claim"])
def test_a_forked_child_gives_back_nothing_of_its_parents(postgres_url: str, what: str) -> None:
    lock, other = PostgresCollection(postgres_url).lock("a"), PostgresCollection(postgres_url).lock("a")
    owner = Journal(postgres_url)
    if what == "lock":
        lock.acquire()
    else:
        owner.claim()
    child = os.fork()
    if child == 0:
        try:
            if what == "lock":
                held_here = lock.held
                lock.release()
                os._exit(1 if held_here else 0)
            with contextlib.suppress(Claimed):
                owner.append([b"child"])
            owner.close()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a forked child reports by its exit status
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    if what == "lock":
        assert lock.held
        with pytest.raises(LockTimeout):
            other.acquire(0.2, owner="another")
        lock.release()
        other.acquire(TIMEOUT)
        other.release()
    else:
        owner.append([b"mine"], expect=0)
        with pytest.raises(Claimed):
            PostgresLog(postgres_url)
    owner.close()


def backends(journals: Journals) -> set[int]:
    """Which processes of the server this one talks to."""
    collection = journals._collection
    assert isinstance(collection, PostgresCollection)
    return {row[0] for row in collection._ask(b"SELECT pg_backend_pid()", (), "no answer")}


# Compactions and readers.


OWNER = ("landed owner",)


def test_a_session_that_has_others_locks_gives_none(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # So a pooler that hands out sessions by transaction would give one lock to two, and both would hold it.
    lock, other = PostgresCollection(postgres_url).lock("a"), PostgresCollection(postgres_url).lock("a")
    session = lock._server.alone(time.monotonic() + TIMEOUT)
    session.direct = False
    monkeypatch.setattr("landed.postgres.server.Server.alone", lambda *_: session)
    lock.acquire()
    with pytest.raises(Refused, match="sessions by transaction"):
        other.acquire(0.0, owner="another")


def test_compactions_without_a_turn_of_their_own_undo_nothing(postgres_url: str, sql: psycopg.Connection) -> None:
    """The turn is for throughput: when its connection ends, the journal's revision keeps the second one out."""
    log, other = PostgresLog(postgres_url), PostgresLog(postgres_url)
    append(log, b"12")
    raced = False

    def second(batch: Batch) -> bytes | None:
        nonlocal raced
        if not raced:
            raced = True
            sql.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", OWNER
            )
            other.rewrite(lambda batch: batch.payload[:1], TIMEOUT)  # drops the 2
        return batch.payload[1:]  # drops the 1

    with pytest.raises(NotLanded):
        log.rewrite(second, TIMEOUT)
    assert held(log) == [b"1"]


def test_a_long_journal_is_read_in_pieces_of_one_snapshot(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log, other = PostgresLog(postgres_url), PostgresLog(postgres_url)
    append(log, *(b"%d" % number for number in range(1300)), b"x" * (9 << 20), b"y" * (9 << 20), b"z")
    reader = log.batches(1)
    got: list[Batch] = [next(reader)]
    other.rewrite(lambda _: None, TIMEOUT)
    append(other, b"after")
    got += reader
    assert [batch.sequence for batch in got] == list(range(1, 1304))
    assert [batch.payload for batch in log.batches(1)] == [b"after"]
    abandoned = other.newest_first()
    next(abandoned)
    del abandoned
    assert append(log, b"on")[0].error is None
