"""Journals in PostgreSQL, for programs on many hosts: `pip install "landed[postgres]"`.

    landed.Journal("postgresql://user@host/database/name")

| module | its one job |
|---|---|
| `address` | where a journal is: server, database, name |
| `server` | waits that end, errors in landed's words |
| `pool` | a bounded pool of connections |
| `exchange` | a change, its commit and a question in one round trip |
| `schema` | the tables, and what a server must be |
| `rows` | the row of a journal: where it ends, and who owns it alone |
| `log` | the `landed.engine.Log`: append and prove it in one round trip |
| `group` | commits behind a tail: one statement that appends them, or does nothing, and one that proves it |
| `reading` | batches, in one snapshot, each checked |
| `compaction` | rewrite in one transaction |
| `claims` | own a journal alone, fenced by an epoch |
| `mutex` | a lock that goes by a name, among all hosts: for throughput, never for safety |
| `collection` | many journals of one server under one root |
| `cell` | a whole file: one row, replaced by the tag of its last change |
"""

from landed.errors import Refused

# Here, because several modules need the driver, and the first of them that is imported would say so in its words.
try:
    import psycopg as _psycopg  # noqa: F401
except ImportError as missing:
    raise Refused(
        f"PostgreSQL needs psycopg: {missing}", step="open", hint='Run pip install "landed[postgres]".'
    ) from missing
