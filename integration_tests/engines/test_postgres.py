"""A journal in PostgreSQL when the server lies, dies, is cut off or cannot be trusted."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from landed.engine import Commit
from landed.errors import Claimed, Corrupt, LandedError, NotLanded, OutcomeUnknown, Refused, StaleWrite, VerifyFailed
from landed.journal import Journal
from landed.journals import Journals

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

from postgres_server import PostgresServer, binaries  # noqa: E402
from wire import Wire  # noqa: E402

from landed.postgres.address import Address  # noqa: E402
from landed.postgres.collection import PostgresCollection  # noqa: E402
from landed.postgres.log import PostgresLog  # noqa: E402

if TYPE_CHECKING:
    from landed.engine import Batch

TIMEOUT = 10.0


def append(log: PostgresLog, *payloads: bytes, expect: int | None = None, timeout: float = TIMEOUT) -> list[Commit]:
    commits = [Commit(payload, 1, expect, inf) for payload in payloads]
    rest = commits
    while rest:
        rest = rest[log.commit(rest, timeout) :]
    return commits


def held(log: PostgresLog) -> list[bytes]:
    return [batch.payload for batch in log.batches(1)]


@pytest.fixture
def wire(postgres: PostgresServer) -> Iterator[Wire]:
    relay = Wire(postgres.port)
    yield relay
    relay.close()


@pytest.fixture
def wired(postgres_url: str, postgres: PostgresServer, wire: Wire) -> str:
    """The same journal as `postgres_url`, by way of the relay."""
    return postgres_url.replace(str(postgres.port), str(wire.port))


@pytest.fixture
def sql(postgres: PostgresServer) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres.conninfo, autocommit=True) as connection:
        yield connection


# Answers that are lost.


@pytest.mark.parametrize("answers", range(4))
def test_a_lost_answer_is_told_from_a_conflict(postgres_url: str, wired: str, wire: Wire, answers: int) -> None:
    log = PostgresLog(wired)
    append(log, b"one")
    wire.lose_answers = answers
    for number in range(8):
        (commit,) = append(log, b"%d" % number, expect=number + 1)
        assert commit.error is None
    assert wire.lost == 1
    assert held(PostgresLog(postgres_url)) == [b"one", *(b"%d" % number for number in range(8))]


def test_a_lost_answer_in_a_race_doubles_nothing(postgres_url: str, wired: str, wire: Wire) -> None:
    """Other writers move the tail between the lost answer and the second sending."""
    log, other = PostgresLog(wired), PostgresLog(postgres_url)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            append(other, b"other")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(30):
            wire.lose_answers = number % 4
            (commit,) = append(log, b"mine %d" % number)
            assert commit.error is None
    finally:
        stop.set()
        thread.join()
    assert wire.lost > 10
    assert [payload for payload in held(other) if payload != b"other"] == [b"mine %d" % number for number in range(30)]


def test_a_server_out_of_reach_is_unknown_or_not_landed_in_time(postgres_url: str, wired: str, wire: Wire) -> None:
    log = PostgresLog(wired)
    append(log, b"one")
    wire.lose_answers = 0
    original = wire._loses

    def lose_and_stay_down() -> bool:
        lost = original()
        if lost:
            wire.down = True
        return lost

    wire._loses = lose_and_stay_down  # type: ignore[method-assign]
    started = time.monotonic()
    (commit,) = append(log, b"two", timeout=1.0)
    assert isinstance(commit.error, OutcomeUnknown)
    assert commit.error.outcome == "unknown"
    assert commit.error.hint
    with pytest.raises(NotLanded):  # no connection at all: nothing was sent
        append(log, b"three", timeout=0.5)
    assert time.monotonic() - started < 20
    wire.mend()
    assert held(PostgresLog(postgres_url)) == [b"one", b"two"]
    assert append(log, b"four", expect=2)[0].error is None


# Groups whose fate is shared, and threads that look meanwhile.


def test_a_group_of_unknown_outcome_is_not_sent_again(
    postgres_url: str, wired: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Appends that travelled in one statement share its fate: to ask for the rest anew would double them."""
    log = PostgresLog(wired)
    append(log, b"one")
    journal = Journal(wired, log=log)
    monkeypatch.setattr(log, "_send", lost(log, wire))
    commits = [Commit(payload, 1, None, inf) for payload in (b"two", b"three", b"four")]
    assert log.commit(commits, 1.0) == 3
    assert all(isinstance(commit.error, OutcomeUnknown) for commit in commits)
    monkeypatch.undo()
    wire.mend()
    journal.append([b"five"])
    assert held(PostgresLog(postgres_url))[:4] == [b"one", b"two", b"three", b"four"]
    assert journal.tail == 5


def lost(log: PostgresLog, wire: Wire) -> Callable[..., object]:
    """The statement is carried out, and the answer and the server are gone."""
    send = log._send

    def send_and_lose(*args: Any) -> object:
        send(*args)
        wire.cut()
        args[0].close()
        raise psycopg.OperationalError("cut off")

    return send_and_lose


def test_an_interrupted_group_is_of_unknown_outcome(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PostgresLog(postgres_url)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(log, "_send", interrupt)
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

    monkeypatch.setattr(log, "_send", refused)
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
    monkeypatch.setattr("landed.postgres.log.PROOF", "SELECT 1 / (%(to)s * 0) FROM landed_journal")
    with pytest.raises(NotLanded):
        log._server.ask(lambda connection: connection.execute("SELECT 1 / 0"), "it does not divide", 0.0)
    (commit,) = append(log, b"two", timeout=0.5)
    assert isinstance(commit.error, OutcomeUnknown)
    monkeypatch.undo()
    assert held(log) == [b"one", b"two"]


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


# Servers that lie, or that damage came to.


def lie(sql: psycopg.Connection, body: str) -> None:
    sql.execute(
        f"CREATE OR REPLACE FUNCTION lie() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;"
        "CREATE OR REPLACE TRIGGER lie BEFORE INSERT ON landed_batch FOR EACH ROW"
        " WHEN (encode(new.payload, 'escape') LIKE 'lie%') EXECUTE FUNCTION lie()"
    )


@pytest.mark.parametrize(
    "body",
    [
        "RETURN NULL;",
        "new.payload = 'other'; RETURN new;",
        "new.sequence = new.sequence + 1; RETURN new;",
        "new.nonce = 'other'; RETURN new;",
    ],
    ids=["drops the row", "changes the bytes", "changes the number", "changes the nonce"],
)
def test_a_lying_server_is_found_out_in_the_append(postgres_url: str, sql: psycopg.Connection, body: str) -> None:
    log = PostgresLog(postgres_url)
    append(log, b"one")
    lie(sql, body)
    try:
        (commit,) = append(log, b"lie")
        assert isinstance(commit.error, VerifyFailed)
    finally:
        sql.execute("DROP TRIGGER lie ON landed_batch")


def test_damage_is_corrupt(postgres_url: str, sql: psycopg.Connection) -> None:
    log = PostgresLog(postgres_url)
    (_, commit, _) = append(log, b"one", b"two", b"three")
    sql.execute("UPDATE landed_batch SET payload = 'twx' WHERE payload = 'two' AND journal = %s", (log.journal,))
    with pytest.raises(Corrupt):
        held(log)
    with pytest.raises(Corrupt):
        log.fetch(commit.position)


@pytest.mark.parametrize("which", ["two", "three", "%"])
def test_missing_batches_are_corrupt_and_never_an_empty_journal(
    postgres_url: str, sql: psycopg.Connection, which: str
) -> None:
    log = PostgresLog(postgres_url)
    append(log, b"one", b"two", b"three")
    sql.execute(
        "DELETE FROM landed_batch WHERE encode(payload, 'escape') LIKE %s AND journal = %s", (which, log.journal)
    )
    with pytest.raises(Corrupt):
        held(log)
    with pytest.raises(Corrupt):
        list(PostgresLog(postgres_url).newest_first())


def test_a_journal_removed_under_a_writer_raises_in_the_writer(postgres_url: str, sql: psycopg.Connection) -> None:
    log = PostgresLog(postgres_url)
    append(log, b"one")
    sql.execute("DELETE FROM landed_journal WHERE id = %s", (log.journal,))
    with pytest.raises(NotLanded, match="removed"):
        append(log, b"two")
    with pytest.raises(NotLanded, match="removed"):
        log.tail()


# Servers that die.


def test_a_killed_server_loses_nothing_that_was_acknowledged() -> None:
    programs = binaries()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    server = PostgresServer(programs)
    acknowledged: list[bytes] = []
    unknown: list[bytes] = []
    stop = threading.Event()
    logs = [PostgresLog(server.url("history")) for _ in range(4)]

    def write(number: int) -> None:
        turn = 0
        while not stop.is_set():
            payload = b"%d/%d" % (number, turn)
            turn += 1
            try:
                (commit,) = append(logs[number], payload, timeout=30)
            except NotLanded:
                continue
            (acknowledged if commit.error is None else unknown).append(payload)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    try:
        for thread in threads:
            thread.start()
        for round_ in range(1, 5):
            deadline = time.monotonic() + 60
            while len(acknowledged) < 40 * round_:  # how long that takes depends on the machine
                assert time.monotonic() < deadline
                time.sleep(0.01)
            if round_ < 4:
                server.kill()
                server.start()
        stop.set()
        for thread in threads:
            thread.join()
        found = held(PostgresLog(server.url("history")))
    finally:
        stop.set()
        server.remove()
    assert len(found) == len(set(found)), "doubled"
    assert not set(acknowledged) - set(found), "lost"
    assert not set(found) - set(acknowledged) - set(unknown), "a write that was refused is there"
    for number in range(4):
        turns = [int(payload.split(b"/")[1]) for payload in found if payload.startswith(b"%d/" % number)]
        assert turns == sorted(turns), "out of order"


# Owners that were away.


def test_an_owner_that_was_cut_off_is_refused_when_it_is_back(postgres_url: str, wired: str, wire: Wire) -> None:
    owner, other = PostgresLog(wired), PostgresLog(postgres_url)
    owner.claim()
    append(owner, b"mine")
    with pytest.raises(Claimed):
        append(other, b"no")
    wire.cut()  # the owner's host is gone, as far as the server can tell
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            append(other, b"taken over")
            break
        except Claimed:
            assert time.monotonic() < deadline
    wire.mend()
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


def test_an_append_that_was_on_its_way_while_the_claim_changed_does_nothing(
    postgres_url: str, sql: psycopg.Connection
) -> None:
    log = PostgresLog(postgres_url)
    append(log, b"one")
    group, _ = log._lay_out([Commit(b"two", 1, 1, inf)], log._state, sure=False)
    owner = PostgresLog(postgres_url)
    owner.claim()
    assert log._append(group, time.monotonic() + TIMEOUT) is False
    assert held(owner) == [b"one"]
    owner.close()


# Servers that cannot carry a journal, and addresses.


def test_a_server_that_does_not_flush_is_refused(postgres: PostgresServer, sql: psycopg.Connection) -> None:
    sql.execute("ALTER ROLE landed SET synchronous_commit = off")
    try:
        with pytest.raises(Refused, match="synchronous_commit=off") as refused:
            PostgresLog(postgres.url("unsafe", application_name="new"))
        assert "unsafe=yes" in refused.value.hint
        append(PostgresLog(postgres.url("unsafe", application_name="new", unsafe="yes")), b"one")
    finally:
        sql.execute("ALTER ROLE landed RESET synchronous_commit")


def test_tables_of_another_format_are_refused(postgres: PostgresServer, sql: psycopg.Connection) -> None:
    PostgresLog(postgres.url("format"))
    sql.execute("UPDATE landed_format SET version = 99")
    try:
        with pytest.raises(Refused, match="format 99"):
            PostgresLog(postgres.url("format", application_name="newer"))
    finally:
        sql.execute("UPDATE landed_format SET version = 1")


def test_two_processes_may_make_the_tables_at_once(postgres: PostgresServer, sql: psycopg.Connection) -> None:
    sql.execute("CREATE DATABASE fresh")
    url = postgres.url("j").replace("/postgres/", "/fresh/")
    failures: list[BaseException] = []

    def open_it(number: int) -> None:
        try:
            append(PostgresLog(f"{url}?application_name=p{number}"), b"%d" % number)
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=open_it, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(held(PostgresLog(f"{url}?application_name=p0"))) == [b"%d" % number for number in range(8)]


def test_credentials_are_nowhere_to_be_seen(postgres: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "hunter2-and-more"
    url = postgres.url("s").replace("landed@", f"landed:{secret}@")
    log = PostgresLog(url)
    assert secret not in log.name
    append(log, b"one")
    errors: list[LandedError] = []
    for broken in (
        url.replace(str(postgres.port), "1"),
        url.replace("landed:", "nobody:"),
        url.replace("/postgres/", "/nowhere/"),
        url + "?unsafe=perhaps",
        url.replace("postgresql", "mysql"),
        url.replace(str(postgres.port), "port"),
    ):
        with pytest.raises(LandedError) as error:
            PostgresLog(broken)
        errors.append(error.value)
    (stale,) = append(log, b"x", expect=7)
    assert isinstance(stale.error, StaleWrite)
    errors.append(stale.error)
    for error in errors:
        assert secret not in f"{error} {error!r} {error.__dict__} {error.__cause__}"
    assert secret not in caplog.text


@pytest.mark.parametrize(
    ("url", "name", "shown"),
    [
        ("postgresql://u:p@h:1/db", "", "postgresql://h:1/db"),
        ("postgres://h/db/a/b", "a/b", "postgresql://h/db/a/b"),
        ("postgresql://[::1]:7/db/%C3%A4%20x?sslmode=require", "ä x", "postgresql://[::1]:7/db/%C3%A4%20x"),
        ("postgresql:///db/j?host=/run/x", "j", "postgresql:///db/j"),
    ],
)
def test_address(url: str, name: str, shown: str) -> None:
    address = Address(url)
    assert (address.name, address.shown) == (name, shown)


# Processes.


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


def backends(journals: Journals) -> set[int]:
    """Which processes of the server this one talks to."""
    collection = journals._collection
    assert isinstance(collection, PostgresCollection)
    return {row[0] for row in collection._ask(b"SELECT pg_backend_pid()", (), "no answer")}


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


OWNER = ("landed owner",)


@pytest.mark.parametrize("reached", ["append", "ask", "claim"])
def test_a_server_that_falls_silent_is_not_waited_for_for_ever(
    postgres_url: str, wired: str, wire: Wire, monkeypatch: pytest.MonkeyPatch, reached: str
) -> None:
    """Its system still acknowledges each packet, so that no timeout of TCP helps."""
    monkeypatch.setattr("landed.postgres.server.ANSWER", 1.0)
    log = PostgresLog(wired)
    append(log, b"one")
    wire.delay = 60.0
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
    wire.cut()
    assert held(PostgresLog(postgres_url))[0] == b"one"


def test_options_of_the_address_hold_on_every_connection(postgres: PostgresServer, sql: psycopg.Connection) -> None:
    sql.execute("CREATE SCHEMA agents")
    log = PostgresLog(postgres.url("j", options="-csearch_path%3Dagents"))
    append(log, b"one")
    row = sql.execute("SELECT count(*) FROM agents.landed_batch").fetchone()
    assert row is not None
    assert row[0] == 1


@pytest.mark.parametrize(
    "userinfo", ["u:hun%ter2word", "u:hunter2word/1", "u:1/hunter2word", "u:1#hunter2word", "u:1?hunter2word"]
)
def test_a_password_that_breaks_the_address_is_not_repeated(userinfo: str) -> None:
    with pytest.raises(LandedError) as error:
        PostgresLog(f"postgresql://{userinfo}@127.0.0.1:1/db/j", timeout=0.2)
    assert "ter2word" not in f"{error.value} {error.value!r} {error.value.__dict__} {error.value.__cause__!r}"


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
