"""The tables, and what a server must be for a journal (docs/reference/engines.md).

One row of `landed_journal` is a journal: where it ends, and who owns it alone. It is found by the digest of its name in
its space, which is a collection's, or that of all journals with an address of their own; the true name is stored beside
it and compared. One row of `landed_batch` is a batch, under the number of its first record. Two writers cannot take one
number: that is the primary key.
"""

from __future__ import annotations

from landed.errors import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from psycopg import Connection

FORMAT: Final = 1
"""Version of the tables. A server that holds another is refused."""
OLDEST: Final = 120_000
"""PostgreSQL 12: sha256(bytea) came with 11, and 12 is the oldest that was thought through."""
OVERHEAD: Final = 64
"""Bytes that a batch counts beside its payload: about what its row and index entries take."""
_MAKING: Final = 0x6C616E646564
"""Advisory lock under which the tables are made: CREATE IF NOT EXISTS fails when two do it at once."""

# A journal's row is updated by every append. Room on its page lets that stay on the page and out of the index (HOT).
# A foreign key from batches to journals would lock the journal's row once more with each append; who removes a journal
# removes its batches in the same transaction.
# Payloads are mostly compressed or random already, so PostgreSQL need not try (EXTERNAL).
TABLES: Final = """
CREATE TABLE IF NOT EXISTS landed_format (version integer NOT NULL);
INSERT INTO landed_format SELECT %(format)s WHERE NOT EXISTS (SELECT FROM landed_format);
CREATE TABLE IF NOT EXISTS landed_journal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    space text NOT NULL,
    digest bytea NOT NULL,
    name bytea NOT NULL,
    tail bigint NOT NULL DEFAULT 0,
    batches bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    revision bigint NOT NULL DEFAULT 0,
    epoch bigint NOT NULL DEFAULT 0,
    owner text,
    UNIQUE (space, digest)
) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS landed_batch (
    journal bigint NOT NULL,
    sequence bigint NOT NULL,
    tail bigint NOT NULL,
    revision bigint NOT NULL,
    nonce bytea NOT NULL,
    crc bigint NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (journal, sequence)
);
ALTER TABLE landed_batch ALTER payload SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS landed_file (
    digest bytea PRIMARY KEY,
    name bytea NOT NULL,
    tag bytea NOT NULL,
    data bytea NOT NULL
);
ALTER TABLE landed_file ALTER data SET STORAGE EXTERNAL;
"""


def check(connection: Connection[Any], shown: str, *, unsafe: bool) -> bool:
    """Refuse what a connection leads to when it cannot carry a journal.

    Args:
        unsafe: whether a server that does not flush what it acknowledges is good enough.

    Returns:
        Whether it leads there straight. A pooler between shows a process of its own, and may give each transaction
        another session.

    Raises:
        Refused: the server does not flush what it acknowledges, takes no writes, or is too old.
    """
    if connection.info.server_version < OLDEST:
        raise _refused(shown, f"PostgreSQL {connection.info.server_version // 10_000} is older than 12")
    row = connection.execute(_CHECK).fetchone()
    assert row is not None  # noqa: S101 - a select without a condition
    if row[-1]:
        raise _refused(shown, "it is a standby, which takes no writes", "Connect to the primary.")
    risky = [f"{name}=off" for name, value in zip(_MUST_BE_ON, row, strict=False) if value == "off"]
    if risky and not unsafe:
        raise _refused(
            shown,
            f"with {', '.join(risky)} it acknowledges what a crash takes back",
            "Turn it on, or say that this will do with the option unsafe=yes in the address.",
        )
    return bool(row[-2] == connection.info.backend_pid)


def make(connection: Connection[Any], shown: str) -> str:
    """Make the tables where they are missing.

    Returns:
        The search path on which they are.

    Raises:
        Refused: there are tables of another format.
    """
    newest = connection.execute("SELECT to_regclass('landed_file')").fetchone()
    if newest == (None,):
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
            for statement in TABLES.split(";\n"):
                if statement.strip():
                    connection.execute(statement, {"format": FORMAT})
    held = connection.execute("SELECT version, current_setting('search_path') FROM landed_format").fetchone()
    if held is None or held[0] != FORMAT:
        raise _refused(shown, f"its tables are of format {held and held[0]}, this landed reads {FORMAT}")
    return str(held[1])


_MUST_BE_ON: Final = ("fsync", "full_page_writes", "synchronous_commit")
_CHECK: Final = f"""
SELECT {", ".join(f"current_setting({name!r})" for name in _MUST_BE_ON)}, pg_backend_pid(), pg_is_in_recovery()
""".encode()


def _refused(shown: str, what: str, hint: str = "") -> Refused:
    return Refused(f"this server cannot carry a journal: {what}", path=shown, step="open", hint=hint)
