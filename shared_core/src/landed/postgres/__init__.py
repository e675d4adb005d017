"""Journals in PostgreSQL, for programs on many hosts: `pip install "landed[postgres]"`.

    landed.Journal("postgresql://user@host/database/name")

| module | its one job |
|---|---|
| `address` | where a journal is: server, database, name |
| `server` | waits that end, errors in landed's words |
| `pool` | a bounded pool of connections |
| `exchange` | a change, its commit and a question in one round trip |
| `schema` | the tables, and what a server must be |
| `log` | the `landed.engine.Log`: append and prove it in one round trip |
| `reading` | batches, in one snapshot, each checked |
| `compaction` | rewrite in one transaction |
| `claims` | own a journal alone, fenced by an epoch |
"""

from landed.errors import Refused

# Here, because several modules need the driver, and the first of them that is imported would say so in its words.
try:
    import psycopg as _psycopg  # noqa: F401
except ImportError as missing:
    raise Refused(
        f"PostgreSQL needs psycopg: {missing}", step="open", hint='Run pip install "landed[postgres]".'
    ) from missing
