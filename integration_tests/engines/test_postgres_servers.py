"""A journal in PostgreSQL when the server lies, dies, or cannot be trusted."""

from __future__ import annotations

import contextlib
import logging
import threading
import time

import pytest
from logs import TIMEOUT, append, appended_to, held

from landed.errors import (
    Claimed,
    Corrupt,
    LandedError,
    NotLanded,
    Refused,
    StaleWrite,
    VerifyFailed,
)

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

from postgres_server import PostgresServer  # noqa: E402

from landed.postgres.address import Address  # noqa: E402
from landed.postgres.collection import PostgresCollection  # noqa: E402
from landed.postgres.log import PostgresLog  # noqa: E402
from landed.postgres.pool import CONNECTIONS, NoConnection  # noqa: E402

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


def test_a_name_that_is_none_is_corrupt_and_said_to_be(postgres_url: str, sql: psycopg.Connection) -> None:
    collection = PostgresCollection(postgres_url)
    collection.open("a", create=True)
    sql.execute(
        "INSERT INTO landed_journal (space, digest, name) VALUES (%s, 'x', %s)", (collection._space, b"\xff\xfe")
    )
    with pytest.raises(Corrupt, match="name"):
        list(collection.names())


# Servers that die.


@pytest.mark.parametrize("what", ["read", "newest first", "fetch", "tail", "compact", "remove", "append"])
def test_a_restart_between_two_operations_is_not_noticed(restarting: PostgresServer, what: str) -> None:
    """The connections that wait in the pool are dead, and nothing was under way in them."""
    collection = PostgresCollection(restarting.url(what.replace(" ", "-")))
    log = collection.open("a", create=True)
    assert log is not None
    (commit,) = append(log, b"one")
    with contextlib.ExitStack() as several:
        for _ in range(3):
            several.enter_context(log._server.connection(time.monotonic() + TIMEOUT))
    restarting.stop()
    restarting.start()
    if what == "read":
        assert held(log) == [b"one"]
    elif what == "newest first":
        assert [batch.payload for batch in log.newest_first()] == [b"one"]
    elif what == "fetch":
        assert log.fetch(commit.position) is not None
    elif what == "tail":
        assert log.tail() == 1
    elif what == "compact":
        log.rewrite(lambda batch: batch.payload, TIMEOUT)
    elif what == "remove":
        assert collection.remove("a", TIMEOUT)
    else:
        assert append(log, b"two", expect=1)[0].error is None


# Servers that cannot carry a journal, and addresses.


def test_a_server_that_does_not_flush_is_refused(postgres: PostgresServer, sql: psycopg.Connection, risky: str) -> None:
    sql.execute(f"ALTER ROLE {risky} SET synchronous_commit = off")
    with pytest.raises(Refused, match="synchronous_commit=off") as refused:
        PostgresLog(postgres.url("unsafe").replace("landed@", f"{risky}@"))
    assert "unsafe=yes" in refused.value.hint
    append(PostgresLog(postgres.url("unsafe", unsafe="yes").replace("landed@", f"{risky}@")), b"one")


def test_a_compaction_beside_appends_lands_whatever_isolation_the_role_has(
    postgres_url: str, sql: psycopg.Connection, risky: str
) -> None:
    sql.execute(f"ALTER ROLE {risky} SET default_transaction_isolation = 'repeatable read'")
    url = postgres_url.replace("landed@", f"{risky}@") + "?application_name=isolated"  # for connections of its own
    log, other = PostgresLog(url), PostgresLog(postgres_url)
    append(log, b"one")
    with appended_to(other, b"other"):
        for _ in range(20):
            log.rewrite(lambda batch: batch.payload, TIMEOUT)


def test_groups_land_whatever_a_backslash_means_to_the_role(
    postgres_url: str, sql: psycopg.Connection, risky: str
) -> None:
    sql.execute(f"ALTER ROLE {risky} SET standard_conforming_strings = off")
    log = PostgresLog(postgres_url.replace("landed@", f"{risky}@") + "?application_name=backslash")
    assert [commit.error for commit in append(log, b"one", b"two")] == [None, None]


def test_a_journal_stays_where_it_was_found_when_the_role_s_search_path_changes(
    postgres_url: str, sql: psycopg.Connection, risky: str
) -> None:
    """Else the next connection would append to the journal that has the same number there."""
    url = postgres_url.replace("landed@", f"{risky}@")
    logs = []
    for schema in ("one", '"a \\ schema"'):
        sql.execute(f"CREATE SCHEMA {schema}")
        sql.execute(f"ALTER ROLE {risky} SET search_path = {schema}, pg_temp")
        logs.append(PostgresLog(f"{url}{len(logs)}?application_name=schema-{len(logs)}"))
        append(logs[-1], b"%d" % len(logs))
        logs[-1]._server.close()
    assert logs[0].journal == logs[1].journal
    sql.execute(f"ALTER ROLE {risky} SET search_path = one")
    for log in logs:
        append(log, b"more")
    assert [held(log) for log in logs] == [[b"1", b"more"], [b"2", b"more"]]


def test_nothing_is_prepared_where_a_pooler_may_change_the_session(
    postgres: PostgresServer, sql: psycopg.Connection
) -> None:
    """It shows a process of its own; here it is the server that says so."""
    sql.execute("CREATE SCHEMA pooled")
    sql.execute("CREATE FUNCTION pooled.pg_backend_pid() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    log = PostgresLog(postgres.url("j", options="-c%20search_path%3Dpooled,pg_catalog"))
    for number in range(10):
        append(log, b"%d" % number)
        assert len(held(log)) == number + 1
    append(log, b"many", b"at once")
    with log._server.connection(time.monotonic() + TIMEOUT) as connection:
        assert connection.execute("SELECT name FROM pg_prepared_statements").fetchall() == []


def test_a_database_without_an_encoding_is_one_as_any(postgres: PostgresServer, sql: psycopg.Connection) -> None:
    """As `initdb` makes them where no locale is set."""
    sql.execute("CREATE DATABASE plain ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    url = postgres.url("\u00e4").replace("/postgres/", "/plain/")
    log = PostgresLog(url)
    append(log, b"one")
    log.claim()
    with pytest.raises(Claimed, match=r"alone: (?!b')"):
        PostgresLog(url)
    log.close()
    sql.execute("ALTER DATABASE plain SET synchronous_commit = off")
    with pytest.raises(Refused, match="synchronous_commit=off"):
        PostgresLog(f"{url}?application_name=another")


def test_a_server_that_stops_flushing_is_refused_on_the_next_connection_and_open(
    postgres_url: str, sql: psycopg.Connection, risky: str
) -> None:
    url = postgres_url.replace("landed@", f"{risky}@")
    log = PostgresLog(url)
    append(log, b"one")
    sql.execute(f"ALTER ROLE {risky} SET synchronous_commit = off")
    with contextlib.ExitStack() as in_use:
        for _ in range(len(log._server._pool)):  # those that were there before
            in_use.enter_context(log._server.connection(time.monotonic() + TIMEOUT))
        for attempt in (lambda: append(log, b"two"), log.tail, log.claim):
            with pytest.raises(Refused, match="synchronous_commit=off"):
                attempt()
    sql.execute(f"ALTER ROLE {risky} RESET synchronous_commit")
    deadline = time.monotonic() + TIMEOUT
    while not lands(log, b"two"):  # sessions that were begun meanwhile are refused, and closed
        assert time.monotonic() < deadline
    try:
        for value in ("off", "on"):
            sql.execute(f"ALTER SYSTEM SET fsync = {value}")  # reaches each session at its own time
            sql.execute("SELECT pg_reload_conf()")
            deadline = time.monotonic() + TIMEOUT
            while opens(url) != (value == "on"):
                assert time.monotonic() < deadline
    finally:
        sql.execute("ALTER SYSTEM RESET fsync")
        sql.execute("SELECT pg_reload_conf()")
    assert held(log) == [b"one", b"two"]


def lands(log: PostgresLog, payload: bytes) -> bool:
    try:
        return append(log, payload)[0].error is None
    except Refused:
        return False


def opens(url: str) -> bool:
    try:
        PostgresLog(url)
    except Refused:
        return False
    return True


def test_a_server_that_gives_no_connection_is_waited_for_and_then_quoted(
    postgres: PostgresServer,
    sql: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("landed.retries.SHOWN", 0.0)  # the first pauses are short
    PostgresLog(postgres.url("few"))  # which makes the tables
    sql.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 1")
    sql.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO few")
    log = PostgresLog(postgres.url("few").replace("landed@", "few@"))
    log._server.close()
    log._server._pool = log._server._new_pool()
    taken = connect_when_free(postgres.conninfo.replace("landed@", "few@"))
    with pytest.raises(NotLanded, match="too many connections for role"):
        append(log, b"one", timeout=1.0)
    assert "trying again in" in caplog.text
    assert "too many connections for role" in caplog.text
    threading.Timer(1.0, taken.close).start()
    assert append(log, b"two")[0].error is None
    lock = PostgresCollection(postgres.url("few").replace("landed@", "few@")).lock("a")
    for step in (lambda: held(log), lock.acquire):
        log._server.close()
        taken = connect_when_free(postgres.conninfo.replace("landed@", "few@"))
        threading.Timer(0.3, taken.close).start()
        step()
    lock.release()
    log._server.close()


def test_a_connection_that_an_interrupt_drops_leaves_its_place(postgres_url: str) -> None:
    pool = PostgresLog(postgres_url)._server._new_pool()
    for _ in range(CONNECTIONS + 1):
        pool.take(time.monotonic() + TIMEOUT)  # and nobody gives it back
    assert pool._free.qsize() == CONNECTIONS


def test_a_connection_that_cannot_be_had_takes_no_place(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = PostgresLog(postgres_url)._server._new_pool()

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pool, "_connect", interrupted)
    with pytest.raises(KeyboardInterrupt) as kept:
        pool.take(time.monotonic() + TIMEOUT)
    assert pool._free.qsize() == CONNECTIONS, kept


def test_no_more_connections_than_the_limit_and_the_rest_wait(postgres_url: str) -> None:
    log = PostgresLog(postgres_url)
    pool, deadline = log._server._new_pool(), time.monotonic() + TIMEOUT
    taken = [pool.take(deadline) for _ in range(CONNECTIONS)]
    with pytest.raises(NoConnection, match=f"all {CONNECTIONS} connections were in use"):
        pool.take(time.monotonic() + 0.1)
    threading.Timer(0.2, pool.give_back, (taken[3],)).start()
    assert pool.take(deadline) is taken[3]
    taken[5].close()
    for connection in taken:
        pool.give_back(connection)
    assert len(pool) == CONNECTIONS - 1
    assert pool.take(deadline) is taken[-1]
    pool.close()
    assert all(connection.closed for connection in taken[:-1])
    taken[-1].close()


def test_a_connection_that_nobody_needs_is_closed_in_the_end(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, deadline = PostgresLog(postgres_url)._server._new_pool(), time.monotonic() + TIMEOUT
    idle, used = pool.take(deadline), pool.take(deadline)
    pool.give_back(idle)
    pool.give_back(used)
    assert pool.take(deadline) is used
    assert not idle.closed
    monkeypatch.setattr("landed.postgres.pool.IDLE", 0.0)
    time.sleep(0.01)
    pool.give_back(used)
    assert (idle.closed, used.closed, len(pool)) == (True, False, 1)
    pool.close()


def test_a_connection_in_the_midst_of_something_is_given_to_nobody(postgres_url: str) -> None:
    pool = PostgresLog(postgres_url)._server._new_pool()
    connection = pool.take(time.monotonic() + TIMEOUT)
    connection.execute("BEGIN")
    pool.give_back(connection)
    assert connection.closed
    assert len(pool) == 0


def connect_when_free(conninfo: str) -> psycopg.Connection:
    """A connection; one that was just closed may still count."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            return psycopg.connect(conninfo)
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


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
        url + f"?password={secret}%00",
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


def test_options_of_the_address_hold_on_every_connection(postgres: PostgresServer, sql: psycopg.Connection) -> None:
    sql.execute("CREATE SCHEMA agents")
    log = PostgresLog(postgres.url("j", options="-c%20search_path%3Dagents"))
    append(log, b"one")
    row = sql.execute("SELECT count(*) FROM agents.landed_batch").fetchone()
    assert row == (1,)


@pytest.mark.parametrize(
    "userinfo",
    [
        "u:hun%ter2word", "u:hunter2word/1", "u:1/hunter2word", "u:1#hunter2word", "u:1?hunter2word",
        "u:1@hunter2word", "u:1 hunter2word", "u:hunter2word%00",
    ],
)  # fmt: skip
def test_a_password_that_breaks_the_address_is_not_repeated(userinfo: str) -> None:
    with pytest.raises(LandedError) as error:
        PostgresLog(f"postgresql://{userinfo}@127.0.0.1:1/db/j", timeout=0.2)
    assert "ter2word" not in f"{error.value} {error.value!r} {error.value.__dict__} {error.value.__cause__!r}"
