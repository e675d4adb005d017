"""Several statements in one round trip, each a transaction of its own.

It is libpq's pipeline, driven without psycopg's own: that one asks the system a dozen times where one write and one
read will do, and a put on a checkpoint is two such exchanges.
"""

from __future__ import annotations

import select
from time import monotonic

import psycopg
from psycopg import pq
from psycopg.errors import DuplicatePreparedStatement, InvalidSqlStatementName

from landed.digest import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, TypeAlias

    from landed.postgres.server import Patient

    Row: TypeAlias = tuple[bytes | None, ...]
    Asked: TypeAlias = "tuple[Statement, Sequence[bytes | None]]"

SILENT: Final = "the server does not answer"


class Statement:
    """A statement that each connection prepares when it meets it first.

    Attributes:
        name: for the server; another text has another, whatever version of landed or pooler prepared it.

    Args:
        text: with ``$1`` and so on, whose types it gives.
    """

    __slots__ = ("name", "text")

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.name = f"landed_{sha256(self.text)[:16]}".encode()


def exchange(
    connection: Patient, asked: Sequence[Asked], limit: float, *, again: bool = True
) -> tuple[list[list[Row]], Exception | None]:
    """Send all statements, then read all answers. Values are binary both ways.

    Args:
        limit: seconds after which an answer is waited for no longer.
        again: whether to try once more where the session has forgotten what was prepared in it.

    Returns:
        The rows of each statement up to the first that failed, and why it did: an error of psycopg. When the connection
        broke it is closed then.
    """
    answers: list[list[Row]] = []
    try:
        _send(connection, asked)
        _receive(connection.pgconn, answers, len(asked), monotonic() + limit)
        connection.pgconn.exit_pipeline_mode()
    except psycopg.OperationalError as error:
        connection.close()
        return answers, error
    except (InvalidSqlStatementName, DuplicatePreparedStatement) as error:
        # Not one was carried out. What is prepared was forgotten, or a pooler has given us another's session.
        _leave_pipeline(connection)
        if again and not answers:
            if isinstance(error, DuplicatePreparedStatement):
                connection.prepared.update(statement.name for statement, _ in asked)
            return exchange(connection, asked, limit, again=False)
        return answers, error
    except psycopg.Error as error:
        _leave_pipeline(connection)
        return answers, error
    except BaseException:  # an interrupt: answers are under way that nobody will read
        connection.close()
        raise
    connection.prepared.update(statement.name for statement, _ in asked)
    return answers, None


def _send(connection: Patient, asked: Sequence[Asked]) -> None:
    pgconn = connection.pgconn
    pgconn.enter_pipeline_mode()
    for statement, values in asked:
        if statement.name not in connection.prepared:
            pgconn.send_prepare(statement.name, statement.text)
        pgconn.send_query_prepared(statement.name, values, [pq.Format.BINARY] * len(values), pq.Format.BINARY)
        pgconn.pipeline_sync()


def _receive(pgconn: pq.abc.PGconn, answers: list[list[Row]], syncs: int, end: float) -> None:
    """Read until every statement is answered.

    Raises:
        psycopg.Error: the first that failed; those before it are in `answers`.
    """
    failed: psycopg.Error | None = None
    poll = select.poll()
    while syncs:
        unsent = pgconn.flush()
        while pgconn.is_busy() or unsent:
            poll.register(pgconn.socket, select.POLLIN | (select.POLLOUT if unsent else 0))
            if not poll.poll(max(0.0, 1000 * (end - monotonic()))):
                raise psycopg.OperationalError(SILENT)
            pgconn.consume_input()
            unsent = pgconn.flush()
        result = pgconn.get_result()
        if result is None:
            continue  # between two answers
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            syncs -= 1
        elif result.status == pq.ExecStatus.TUPLES_OK:
            if failed is None:
                answers.append(_rows(result))
        elif result.status == pq.ExecStatus.FATAL_ERROR and failed is None:
            failed = _error(result)
    if failed is not None:
        raise failed


def _rows(result: pq.abc.PGresult) -> list[Row]:
    columns = range(result.nfields)
    return [tuple(result.get_value(row, column) for column in columns) for row in range(result.ntuples)]


def _error(result: pq.abc.PGresult) -> psycopg.Error:
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    words = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode("utf-8", "replace")
    try:
        kind = psycopg.errors.lookup(state)
    except KeyError:
        kind = psycopg.DatabaseError
    return kind(words or result.get_error_message())


def _leave_pipeline(connection: Patient) -> None:
    """After a statement that failed, with every answer read: the connection goes on."""
    connection.prepared.clear()
    try:
        connection.pgconn.exit_pipeline_mode()
    except psycopg.Error:
        connection.close()
