"""A change and a question in one round trip, each a transaction of its own.

It is libpq's pipeline, driven without psycopg's own: that one asks the system a dozen times where one write and one
read will do, and a put on a checkpoint is two such exchanges. All that is sent has one end, so that the server answers
in one go as well; the change is committed by a COMMIT. This runs once for each put, so it is written to be short.
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

    Result: TypeAlias = pq.abc.PGresult
    Asked: TypeAlias = "tuple[Statement, Sequence[bytes | None]]"

SILENT: Final = "the server does not answer"
_TUPLES: Final = pq.ExecStatus.TUPLES_OK
_DONE: Final = pq.ExecStatus.COMMAND_OK
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
_CHANGE, _COMMIT, _QUESTION, _ALL = 1, 2, 3, 5
"""Where their results are among all: of BEGIN, the change, COMMIT, the question, and the end."""
_BINARY: Final = pq.Format.BINARY


def exchange(
    connection: Patient, change: Asked, question: Asked, limit: float, *, again: bool = True
) -> tuple[Result, Result | None]:
    """Carry out a change, commit it, and ask a question in a transaction after that. Values are binary both ways.

    Args:
        limit: seconds after which an answer is waited for no longer.
        again: whether to try once more where the session has forgotten what was prepared in it.

    Returns:
        What the change gave, which is committed; what the question gave, or None when that was not answered.

    Raises:
        psycopg.Error: the change is not committed; or the connection broke, which is closed then.
    """
    results: list[Result] = []
    failed: psycopg.Error | None = None
    try:
        _send(connection, change, question, monotonic() + limit)
        _receive(connection, results, _ALL, monotonic() + limit)
        connection.pgconn.exit_pipeline_mode()
    except psycopg.OperationalError as error:
        connection.close()
        failed = error
    except psycopg.Error:
        _leave_pipeline(connection)
        raise
    except BaseException:  # an interrupt: answers are under way that nobody will read
        connection.close()
        raise
    else:
        if results[_QUESTION].status == _TUPLES:
            return results[_CHANGE], results[_QUESTION]
        failed = _error(next(result for result in results if result.status in _WRONG))
        _leave_pipeline(connection)
    if len(results) > _COMMIT and results[_COMMIT].status == _DONE:
        return results[_CHANGE], None
    if again and isinstance(failed, InvalidSqlStatementName):  # or a pooler has given us another's session
        return exchange(connection, change, question, limit, again=False)
    raise failed


def _send(connection: Patient, change: Asked, question: Asked, end: float) -> None:
    """Send everything, with one end, which ends the transaction of the question as well."""
    pgconn = connection.pgconn
    pgconn.enter_pipeline_mode()
    (first, values), (second, keys) = change, question
    if not connection.direct:  # up to the end it is one session; what was prepared may be in another
        for statement, given in ((BEGIN, ()), change, (COMMIT, ()), question):
            pgconn.send_query_params(statement.text, given, None, [_BINARY] * len(given), _BINARY)
        pgconn.pipeline_sync()
        return
    if not (first.name in connection.prepared and second.name in connection.prepared):
        _prepare(connection, (BEGIN, first, COMMIT, second), end)
    send = pgconn.send_query_prepared
    send(BEGIN.name, None, None, _BINARY)
    send(first.name, values, [_BINARY] * len(values), _BINARY)
    send(COMMIT.name, None, None, _BINARY)
    send(second.name, keys, [_BINARY] * len(keys), _BINARY)
    pgconn.pipeline_sync()


def _prepare(connection: Patient, statements: Sequence[Statement], end: float) -> None:
    """Once for each connection. Where a pooler gives us another's session, they may be prepared already.

    Raises:
        psycopg.Error: one cannot be prepared.
    """
    for statement in statements:
        connection.pgconn.send_prepare(statement.name, statement.text)
        connection.pgconn.pipeline_sync()
    results: list[Result] = []
    _receive(connection, results, 2 * len(statements), end)
    failed = [_error(result) for result in results if result.status in _WRONG]
    wrong = [error for error in failed if not isinstance(error, DuplicatePreparedStatement)]
    if wrong:
        raise wrong[0]
    connection.prepared.update(statement.name for statement in statements)


def _receive(connection: Patient, results: list[Result], count: int, end: float) -> None:
    """Read until there are so many results.

    Raises:
        psycopg.OperationalError: the connection broke, or the server fell silent; what it said is in `results`.
    """
    pgconn = connection.pgconn
    unsent = pgconn.flush()
    while len(results) < count:
        while unsent or pgconn.is_busy():
            ready = _writable(pgconn.socket) if unsent else connection.readable
            if not ready.poll(max(0.0, 1000 * (end - monotonic()))):
                raise psycopg.OperationalError(SILENT)
            pgconn.consume_input()
            unsent = unsent and pgconn.flush()
        result = pgconn.get_result()
        if result is not None:  # which comes between two answers
            results.append(result)


def _writable(socket: int) -> select.poll:
    poll = select.poll()
    poll.register(socket, select.POLLIN | select.POLLOUT)
    return poll


def _error(result: Result) -> psycopg.Error:
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
