"""Several statements in one round trip, each a transaction of its own.

It is libpq's pipeline, driven without psycopg's own: that one asks the system a dozen times where one write and one
read will do, and a put on a checkpoint is two such exchanges. All that is sent has one end, so that the server answers
in one go as well; what comes before the last statement is committed by a COMMIT.
"""

from __future__ import annotations

import select
from collections import deque
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
_PREPARE, _BEGIN, _ROWS, _COMMIT = "prepare", "begin", "rows", "commit"
_WRONG: Final = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED)


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


BEGIN: Final = Statement("BEGIN")
COMMIT: Final = Statement("COMMIT")


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
        steps = _send(connection, asked)
        _receive(connection.pgconn, answers, steps, monotonic() + limit)
        connection.pgconn.exit_pipeline_mode()
    except psycopg.OperationalError as error:
        connection.close()
        return answers, error
    except (InvalidSqlStatementName, DuplicatePreparedStatement) as error:
        # Not one was carried out. What is prepared was forgotten, or a pooler has given us another's session.
        _leave_pipeline(connection)
        if again and not answers:
            if isinstance(error, DuplicatePreparedStatement):
                connection.prepared.update(_names(asked))
            return exchange(connection, asked, limit, again=False)
        return answers, error
    except psycopg.Error as error:
        _leave_pipeline(connection)
        return answers, error
    except BaseException:  # an interrupt: answers are under way that nobody will read
        connection.close()
        raise
    connection.prepared.update(_names(asked))
    return answers, None


def _names(asked: Sequence[Asked]) -> list[bytes]:
    return [BEGIN.name, COMMIT.name, *(statement.name for statement, _ in asked)]


def _send(connection: Patient, asked: Sequence[Asked]) -> deque[str]:
    """Send everything; the steps of which answers will come, in order."""
    pgconn = connection.pgconn
    steps: deque[str] = deque()

    def send(step: str, statement: Statement, values: Sequence[bytes | None] = ()) -> None:
        if statement.name not in connection.prepared:
            pgconn.send_prepare(statement.name, statement.text)
            steps.append(_PREPARE)
        pgconn.send_query_prepared(statement.name, values, [pq.Format.BINARY] * len(values), pq.Format.BINARY)
        steps.append(step)

    pgconn.enter_pipeline_mode()
    *before, last = asked
    for each in before:
        send(_BEGIN, BEGIN)
        send(_ROWS, *each)
        send(_COMMIT, COMMIT)
    send(_ROWS, *last)
    pgconn.pipeline_sync()  # which ends the transaction of the last
    steps.append(_COMMIT)
    return steps


def _receive(pgconn: pq.abc.PGconn, answers: list[list[Row]], steps: deque[str], end: float) -> None:
    """Read until every step is answered. Rows count when their transaction was committed.

    Raises:
        psycopg.Error: the first that failed; what was committed before it is in `answers`.
    """
    failed: psycopg.Error | None = None
    rows: list[Row] = []
    poll = select.poll()
    while steps:
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
        step = steps.popleft()
        if result.status in _WRONG:
            failed = failed or _error(result)
        elif step == _ROWS:
            rows = _rows(result)
        elif step == _COMMIT and failed is None:
            answers.append(rows)
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
        connection.rollback()
    except psycopg.Error:
        connection.close()
