"""``landed threads``: the threads in a directory, with their size, their checkpoints and who put the last one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from landed import Corrupt
from landed.audit import clock
from landed.cli import output
from langgraph.checkpoint.landed.cli.looking import DIRECTORY, latest, threads_in

if TYPE_CHECKING:
    import argparse

    from langgraph.checkpoint.landed.history import History, Stored
    from langgraph.checkpoint.landed.threads import Threads

DESCRIPTION = """\
List the LangGraph threads that LandedSaver keeps in a directory: what each takes of the disk, how many
checkpoints it has, and which process put the last one, the thread changed last first. It changes
nothing; graphs may run meanwhile. Exits with 1 when a thread is damaged. What another program keeps
there, as CrewAI does its memory, is named, and is none of them.
"""


class Row(NamedTuple):
    """One thread; `damage` says what is the matter with it, None when it reads."""

    thread: str
    size: int
    namespaces: int
    checkpoints: int
    last: Stored | None
    damage: Corrupt | None


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add the command."""
    parser = output.add_command(subparsers, "threads", "the LangGraph threads in a directory", DESCRIPTION)
    parser.add_argument("directory", metavar="DIR", help=DIRECTORY)
    parser.set_defaults(run=run, looks=True)


def run(args: argparse.Namespace) -> int:
    """List."""
    threads = threads_in(args.directory)
    rows, others = [], []
    for name in output.progress(sorted(threads.journals.names()), "threads"):
        row = _row(threads, name)
        if row is not None and row.damage is not None and not threads.is_thread(name):
            others.append(name)
        elif row is not None:
            rows.append(row)
    found = sorted(rows, key=lambda row: -row.last.time if row.last else 0.0)
    if args.json:
        output.emit({"path": threads.journals.path, "threads": [_document(row) for row in found], "others": others})
    else:
        _print(found, others, threads.journals.path)
    return output.BAD_NEWS if any(row.damage for row in found) else output.OK


def _row(threads: Threads, name: str) -> Row | None:
    def look(history: History) -> Row:
        namespaces = history.namespaces.values()
        count = sum(len(namespace.ids) for namespace in namespaces)
        return Row(name, history.journal.size, len(namespaces), count, latest(history), None)

    try:
        return threads.look(name, look, None)
    except Corrupt as damage:
        return Row(name, 0, 0, 0, None, damage)


def _document(row: Row) -> dict[str, Any]:
    return {
        "thread": row.thread,
        "size": row.size,
        "namespaces": row.namespaces,
        "checkpoints": row.checkpoints,
        "last": None
        if row.last is None
        else {"id": row.last.id, "at": output.stamp(row.last.time), "writer": row.last.writer},
        "error": None if row.damage is None else output.error_document(row.damage),
    }


def _print(rows: list[Row], others: list[str], path: str) -> None:
    if rows:
        output.table([_cells(row) for row in rows], ("THREAD", "SIZE", "CHECKPOINTS", "LAST PUT", "BY"))
    for row in rows:
        if row.damage is not None:
            print(f"{output.coloured('damaged', 'bad')}: {output.shown(row.thread)}: {output.shown(str(row.damage))}")
    for name in others:
        print(f"no thread: {output.shown(name)}: another program keeps its data here")
    size, checkpoints = sum(row.size for row in rows), sum(row.checkpoints for row in rows)
    counted = f"{output.count(len(rows), 'thread')}, {output.count(checkpoints, 'checkpoint')}"
    print(f"{output.shown(path)}: {counted}, {output.count(size, 'byte')}")


def _cells(row: Row) -> tuple[str, ...]:
    if row.damage is not None:
        return output.shown(row.thread), "-", "damaged", "-", "-"
    when, who = (clock(row.last.time), output.shown(row.last.writer)) if row.last else ("-", "-")
    return output.shown(row.thread), str(row.size), str(row.checkpoints), when, who
