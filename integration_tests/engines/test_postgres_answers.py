"""A journal in PostgreSQL when answers are lost, come late, or never."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from math import inf
from typing import Any

import pytest
from logs import TIMEOUT, append, appended_to, held

import landed
from landed.engine import Commit
from landed.errors import (
    Claimed,
    LockTimeout,
    NotLanded,
    OutcomeUnknown,
)
from landed.journal import Journal

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

from postgres_server import PostgresServer  # noqa: E402
from wire import Wire  # noqa: E402

from landed.postgres import reading  # noqa: E402
from landed.postgres.collection import PostgresCollection  # noqa: E402
from landed.postgres.exchange import Statement  # noqa: E402
from landed.postgres.group import Group  # noqa: E402
from landed.postgres.log import PostgresLog  # noqa: E402
from landed.postgres.pool import NoConnection  # noqa: E402

# Answers that are lost.


@pytest.mark.parametrize("answers", range(4))
def test_a_lost_answer_is_told_from_a_conflict(
    postgres_url: str, postgres_wired: str, postgres_wire: Wire, answers: int
) -> None:
    log = PostgresLog(postgres_wired)
    append(log, b"one")
    postgres_wire.lose_answers = answers
    for number in range(8):
        (commit,) = append(log, b"%d" % number, expect=number + 1)
        assert commit.error is None
    assert postgres_wire.lost == 1
    assert held(PostgresLog(postgres_url)) == [b"one", *(b"%d" % number for number in range(8))]


def test_a_lost_answer_in_a_race_doubles_nothing(postgres_url: str, postgres_wired: str, postgres_wire: Wire) -> None:
    """Other writers move the tail between the lost answer and the second sending."""
    log, other = PostgresLog(postgres_wired), PostgresLog(postgres_url)
    with appended_to(other, b"other"):
        for number in range(30):
            postgres_wire.lose_answers = number % 4
            (commit,) = append(log, b"mine %d" % number)
            assert commit.error is None
    assert postgres_wire.lost > 10
    assert [payload for payload in held(other) if payload != b"other"] == [b"mine %d" % number for number in range(30)]


def test_who_is_overtaken_when_the_connection_breaks_appends_behind(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, other = PostgresLog(postgres_url), PostgresLog(postgres_url)
    append(other, b"one")  # so that the log queues for the row

    def break_off(_: Group, connection: Any, *__: object) -> bool:
        monkeypatch.undo()
        connection.close()
        append(other, b"two")
        raise psycopg.OperationalError("cut off")

    monkeypatch.setattr("landed.postgres.group.Group.append", break_off)
    (commit,) = append(log, b"three")
    assert commit.error is None
    assert held(log) == [b"one", b"two", b"three"]


@pytest.mark.parametrize("turn", [False, True])
def test_a_lost_answer_is_unknown_when_the_next_connection_is_refused(
    postgres_url: str, postgres_wired: str, postgres_wire: Wire, sql: psycopg.Connection, risky: str, turn: bool
) -> None:
    """As after a failover: what the name leads to now carries no journal, and what it led to took the append."""
    log, other = PostgresLog(postgres_wired.replace("landed@", f"{risky}@")), PostgresLog(postgres_url)
    append(log, b"one")
    if turn:
        append(other, b"two")  # so that the log queues, with a transaction of five answers; and the first is in vain
    before = held(other)
    postgres_wire.lose_answers = 5 if turn else 0
    postgres_wire.meanwhile = lambda: sql.execute(f"ALTER ROLE {risky} SET synchronous_commit = off")
    (commit,) = append(log, b"mine")
    assert held(other) == [*before, b"mine"]
    assert isinstance(commit.error, OutcomeUnknown)


def test_a_server_out_of_reach_is_unknown_or_not_landed_in_time(
    postgres_url: str, postgres_wired: str, postgres_wire: Wire
) -> None:
    log = PostgresLog(postgres_wired)
    append(log, b"one")
    postgres_wire.lose_answers = 0
    original = postgres_wire._loses

    def lose_and_stay_down() -> bool:
        lost = original()
        if lost:
            postgres_wire.down = True
        return lost

    postgres_wire._loses = lose_and_stay_down  # type: ignore[method-assign]
    started = time.monotonic()
    (commit,) = append(log, b"two", timeout=1.0)
    assert isinstance(commit.error, OutcomeUnknown)
    assert commit.error.outcome == "unknown"
    assert commit.error.hint
    with pytest.raises(NotLanded):  # no connection at all: nothing was sent
        append(log, b"three", timeout=0.5)
    assert time.monotonic() - started < 20
    postgres_wire.mend()
    assert held(PostgresLog(postgres_url)) == [b"one", b"two"]
    assert append(log, b"four", expect=2)[0].error is None


@pytest.mark.parametrize("reached", ["append", "ask", "claim"])
def test_a_server_that_falls_silent_is_not_waited_for_for_ever(
    postgres_url: str, postgres_wired: str, postgres_wire: Wire, monkeypatch: pytest.MonkeyPatch, reached: str
) -> None:
    """Its system still acknowledges each packet, so that no timeout of TCP helps."""
    monkeypatch.setattr("landed.postgres.server.ANSWER", 1.0)
    monkeypatch.setattr("landed.postgres.server.CONNECT", 2)
    log = PostgresLog(postgres_wired, timeout=1.0)
    append(log, b"one")
    postgres_wire.delay = 60.0
    started = time.monotonic()
    if reached == "append":
        assert isinstance(append(log, b"two", timeout=1.0)[0].error, OutcomeUnknown)
    elif reached == "ask":
        with pytest.raises(NotLanded):
            log._server.ask(lambda each: each.execute("SELECT 1"), "no answer", time.monotonic() + 1.0)
    else:
        with pytest.raises(NotLanded):
            log.claim()
    assert time.monotonic() - started < 30
    postgres_wire.cut()
    assert held(PostgresLog(postgres_url))[0] == b"one"


def test_what_ends_after_the_timeout_is_not_begun_again(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A try may take longer than the timeout, and two take twice as long.
    log, tries = PostgresLog(postgres_url), []

    def late(*_: object) -> None:
        tries.append(time.sleep(0.02))
        raise NoConnection("it came too late")

    monkeypatch.setattr("landed.postgres.pool.Pool.take", late)
    monkeypatch.setattr("landed.postgres.server.Server._connect", late)
    steps: list[Callable[[], object]] = [
        lambda: append(log, b"one", timeout=0.01),
        lambda: log._append_in_turn([Commit(b"one", 1, None, inf)], time.monotonic() + 0.01),
        lambda: log._server.ask(id, "no answer", time.monotonic() + 0.01),
        lambda: log._server.alone(time.monotonic() + 0.01),
        lambda: next(reading.batches(log._server, log.journal, log.name, 1, time.monotonic() + 0.01)),
    ]
    for step in steps:
        with pytest.raises(NotLanded, match="it came too late"):
            step()
    assert len(tries) == len(steps)


def test_a_commit_that_no_standby_confirms_is_not_acknowledged(
    postgres: PostgresServer, sql: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor when the statement's time is up, at which a wait for a standby may end as if one had answered."""
    monkeypatch.setattr("landed.postgres.server.STATEMENT", 4_000)
    monkeypatch.setattr("landed.postgres.server.ANSWER", 6.0)
    log = PostgresLog(postgres.url("standby", application_name="standby"))
    sent: list[bytes] = []
    sql.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    try:
        sql.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + TIMEOUT
        while True:  # the server takes its time to begin with it
            sent.append(b"%d" % len(sent))
            (commit,) = append(log, sent[-1], timeout=1.0)
            if commit.error is not None:
                break
            assert time.monotonic() < deadline
    finally:
        sql.execute("ALTER SYSTEM RESET synchronous_standby_names")
        sql.execute("SELECT pg_reload_conf()")
    assert isinstance(commit.error, OutcomeUnknown)
    assert held(log)[: len(sent) - 1] == sent[:-1]


@pytest.mark.parametrize("end", ["pg_cancel_backend", "pg_terminate_backend"])
@pytest.mark.parametrize("what", ["append", "append behind another", "write"])
def test_a_commit_whose_wait_for_a_standby_was_ended_is_not_acknowledged(
    postgres_url: str, sql: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, what: str, end: str
) -> None:
    """It can be seen, as after a crash: cancelled, it even succeeds, with a warning. A failover may lose it yet."""
    monkeypatch.setattr("landed.postgres.server.ANSWER", 0.5)
    log, other = PostgresLog(postgres_url), PostgresLog(postgres_url)
    done = threading.Event()

    def end_waits() -> None:
        while not done.wait(0.01):
            sql.execute(f"SELECT {end}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")

    def step() -> None:
        if what == "write":
            landed.write(f"{postgres_url}.txt", os.urandom(8), timeout=0.2)
            return
        if what == "append behind another":
            append(other, b"other", timeout=0.2)
        (commit,) = append(log, b"mine", timeout=0.2)
        if commit.error is not None:
            raise commit.error

    ending = threading.Thread(target=end_waits)
    sql.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    try:
        sql.execute("SELECT pg_reload_conf()")
        ending.start()
        with pytest.raises(OutcomeUnknown):  # the server takes its time to begin with it
            repeat(step, time.monotonic() + TIMEOUT)
    finally:
        done.set()
        ending.join()
        sql.execute("ALTER SYSTEM RESET synchronous_standby_names")
        sql.execute("SELECT pg_reload_conf()")
    assert append(log, b"last")[0].error is None


def repeat(step: Callable[[], None], deadline: float) -> None:
    while time.monotonic() < deadline:
        step()


# Groups whose fate is shared, and threads that look meanwhile.


def test_a_group_of_unknown_outcome_is_not_sent_again(
    postgres_url: str, postgres_wired: str, postgres_wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Appends that travelled in one statement share its fate: to ask for the rest anew would double them."""
    log = PostgresLog(postgres_wired)
    append(log, b"one")
    journal = Journal(postgres_wired, log=log)
    monkeypatch.setattr(Group, "append_and_prove", lost(postgres_wire))
    commits = [Commit(payload, 1, None, inf) for payload in (b"two", b"three", b"four")]
    assert log.commit(commits, 1.0) == 3
    assert all(isinstance(commit.error, OutcomeUnknown) for commit in commits)
    monkeypatch.undo()
    postgres_wire.mend()
    journal.append([b"five"])
    assert held(PostgresLog(postgres_url))[:4] == [b"one", b"two", b"three", b"four"]
    assert journal.tail == 5


def lost(postgres_wire: Wire) -> Callable[..., object]:
    """The statement is carried out, and the answer and the server are gone."""
    send = Group.append_and_prove

    def send_and_lose(group: Group, connection: Any, *args: Any) -> object:
        send(group, connection, *args)
        postgres_wire.cut()
        connection.close()
        raise psycopg.OperationalError("cut off")

    return send_and_lose


def test_an_interrupted_group_is_of_unknown_outcome(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PostgresLog(postgres_url)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Group, "append_and_prove", interrupt)
    commits = [Commit(payload, 1, None, inf) for payload in (b"one", b"two")]
    with pytest.raises(KeyboardInterrupt):
        log.commit(commits, TIMEOUT)
    assert all(isinstance(commit.error, OutcomeUnknown) for commit in commits)


def test_what_was_refused_once_and_lands_later_has_landed(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of an earlier try must not stay with a commit that lands in a later one."""
    log = PostgresLog(postgres_url)
    commits = [Commit(b"one", 1, None, inf), Commit(b"two", 1, 0, inf)]

    def refused(*_: object) -> None:
        raise psycopg.errors.InsufficientPrivilege("no")

    monkeypatch.setattr(Group, "append_and_prove", refused)
    with pytest.raises(NotLanded):
        log.commit(commits, TIMEOUT)
    monkeypatch.undo()
    assert log.commit(commits[1:], TIMEOUT) == 1  # as a journal does: what stopped the first may not stop the others
    assert (commits[1].sequence, commits[1].error) == (1, None)


def test_a_proof_that_fails_after_the_append_is_not_a_refusal(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = PostgresLog(postgres_url)
    append(log, b"one")
    monkeypatch.setattr("landed.postgres.group.PROVE_ONE", Statement("SELECT $1::bigint, 1 / ($2::bigint * 0)"))
    monkeypatch.setattr("landed.postgres.group.PROOF", "SELECT 1 / (%(to)s * 0) FROM landed_journal")
    with pytest.raises(NotLanded):
        log._server.ask(lambda connection: connection.execute("SELECT 1 / 0"), "it does not divide", 0.0)
    (commit,) = append(log, b"two", timeout=0.5)
    assert isinstance(commit.error, OutcomeUnknown)
    monkeypatch.undo()
    assert held(log) == [b"one", b"two"]


@pytest.mark.parametrize("kept", [True, False])
def test_a_compaction_between_append_and_proof_is_no_lie(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """A batch that was changed meanwhile landed, and its revision says so; of one that was dropped nothing is known."""
    log, other = PostgresLog(postgres_url), PostgresLog(postgres_url)
    append(log, b"one")
    send = Group.append_and_prove

    def and_compact(group: Group, *args: Any) -> Any:
        landed, _ = send(group, *args)
        other.rewrite(lambda batch: b"changed" if kept else None, TIMEOUT)
        return landed, None  # the proof is asked for only now

    monkeypatch.setattr(Group, "append_and_prove", and_compact)
    (commit,) = append(log, b"two")
    monkeypatch.undo()
    if kept:
        assert commit.error is None
        assert log.fetch(commit.position) is not None
    else:
        assert type(commit.error) is OutcomeUnknown
    assert held(log) == ([b"changed", b"changed"] if kept else [])
    assert append(log, b"three", expect=2)[0].error is None


@pytest.mark.parametrize("how", ["append", "append behind another", "remove", "compact", "claim"])
def test_a_row_that_is_held_is_waited_for_no_longer_than_the_caller_allows(
    postgres_url: str, sql: psycopg.Connection, how: str
) -> None:
    collection = PostgresCollection(postgres_url)
    log = PostgresCollection(postgres_url, timeout=1.0).open("a", create=True)
    assert log is not None
    append(log, b"one")
    if how == "append behind another":
        other = collection.open("a", create=True)
        assert other is not None
        append(other, b"two")
    with sql.transaction():
        sql.execute("SELECT 1 FROM landed_journal WHERE id = %s FOR UPDATE", (log.journal,))
        started = time.monotonic()
        steps: dict[str, Callable[[], object]] = {
            "remove": lambda: collection.remove("a", 1.0),
            "compact": lambda: log.rewrite(lambda batch: batch.payload, 1.0),
            "claim": log.claim,
        }
        with pytest.raises(LockTimeout):
            steps.get(how, lambda: append(log, b"no", timeout=1.0))()
        assert time.monotonic() - started < 10
    assert append(log, b"three")[0].error is None


def test_a_claim_is_given_up_beside_a_row_that_is_held(postgres_url: str, sql: psycopg.Connection) -> None:
    log, other = PostgresLog(postgres_url), PostgresLog(postgres_url)
    log.claim()
    with sql.transaction():
        sql.execute("SELECT 1 FROM landed_journal WHERE id = %s FOR UPDATE", (log.journal,))
        started = time.monotonic()
        log.close()
        assert time.monotonic() - started < 10
    assert append(other, b"one")[0].error is None


def test_who_is_overtaken_until_the_timeout_is_over_begins_nothing_more(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, other = PostgresLog(postgres_url), PostgresLog(postgres_url)
    append(other, b"faster")
    real = log._append

    def slow(*args: Any) -> bool:
        time.sleep(0.02)
        return real(*args)

    monkeypatch.setattr(log, "_append", slow)
    with pytest.raises(LockTimeout, match="other writers were faster"):
        append(log, b"slower", timeout=0.01)
    assert held(other) == [b"faster"]
    append(other, b"again")
    monkeypatch.undo()
    assert append(log, b"at once", timeout=0)[0].error is None


def test_a_last_try_without_a_connection_tells_what_the_time_was_spent_on(
    postgres_url: str, sql: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, other = PostgresLog(postgres_url), PostgresLog(postgres_url)
    append(other, b"one")
    connection = log._server.connection
    late = time.monotonic() + 1.0

    def none_when_late(deadline: float) -> Any:
        if time.monotonic() > late:
            raise NoConnection("all connections were in use")
        return connection(deadline)

    monkeypatch.setattr(log._server, "connection", none_when_late)
    with sql.transaction():
        sql.execute("SELECT 1 FROM landed_journal WHERE id = %s FOR UPDATE", (log.journal,))
        with pytest.raises(LockTimeout, match="lock"):
            append(log, b"no", timeout=1.0)
    monkeypatch.undo()
    assert append(log, b"two")[0].error is None


def test_a_session_that_forgot_what_was_prepared_prepares_again(postgres_url: str) -> None:
    """As a pooler's, or after a ROLLBACK by psycopg."""
    log = PostgresLog(postgres_url)
    append(log, b"one")
    for statement in ("DEALLOCATE ALL", "SELECT 1"):
        with log._server.connection(time.monotonic() + TIMEOUT) as connection:
            connection.execute(statement)
            if statement == "SELECT 1":
                connection.prepared.clear()  # it is another's session, where the same was prepared
        assert append(log, b"more")[0].error is None
    assert held(log) == [b"one", b"more", b"more"]


def test_a_claim_seen_between_two_lines_is_obeyed(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread's look must not lend an append the epoch of somebody else's claim."""
    log, owner = PostgresLog(postgres_url), PostgresLog(postgres_url)
    append(log, b"one")
    lay_out = log._lay_out

    def claimed_meanwhile(*args: Any, **kwargs: Any) -> Any:
        laid_out = lay_out(*args, **kwargs)
        owner.claim()
        log.tail()  # in another thread
        return laid_out

    monkeypatch.setattr(log, "_lay_out", claimed_meanwhile)
    with pytest.raises(Claimed):
        append(log, b"two")
    assert held(owner) == [b"one"]
    owner.close()


def test_looking_while_others_append_never_says_that_the_journal_was_removed(postgres_url: str) -> None:
    log, other = PostgresLog(postgres_url), PostgresLog(postgres_url)
    append(log, b"one")
    before = log._state
    append(other, b"two")
    look_alone = log._look_alone

    def and_another_thread_remembers_less(*args: Any) -> Any:
        state = look_alone(*args)
        log._state = before
        return state

    log._look_alone = and_another_thread_remembers_less  # type: ignore[method-assign]
    assert append(log, b"three")[0].error is None
    assert not log.gone


class Taken(list[Any]):
    """Connections that lie idle until somebody looks at them, and then another thread has them."""

    def __getitem__(self, at: Any) -> Any:
        raise IndexError


def test_a_connection_that_another_thread_takes_meanwhile_fails_no_append(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = PostgresLog(postgres_url)
    monkeypatch.setattr(log._server._pool, "_idle", Taken())
    (commit,) = append(log, b"one")
    assert commit.error is None
    assert held(log) == [b"one"]
