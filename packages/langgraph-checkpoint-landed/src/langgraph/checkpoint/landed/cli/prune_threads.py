"""``landed prune-threads``: give back the space of what no run needs to go on, or of whole threads."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from landed.cli import output
from langgraph.checkpoint.landed.cli.looking import DIRECTORY, latest, no_such_thread, threads_in

if TYPE_CHECKING:
    from langgraph.checkpoint.landed.threads import Threads

DESCRIPTION = """\
Take out of LangGraph threads what is not needed to go on: of each namespace the latest checkpoint stays,
with its pending writes and with what a DeltaChannel is rebuilt from. Time travel ends there. With
--delete the threads go altogether. The space is given back at once; graphs may run meanwhile: a run on
a thread that was deleted under it raises.

Without THREAD, all threads of the directory, which has to be said with --all or --older-than.
"""
DAY: Final = 86_400.0


class Pruned(NamedTuple):
    """One thread, with its size before and after."""

    thread: str
    before: int
    after: int


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add the command."""
    summary = "give back the space of LangGraph's history"
    parser = output.add_command(subparsers, "prune-threads", summary, DESCRIPTION)
    parser.add_argument("directory", metavar="DIR", help=DIRECTORY)
    parser.add_argument("threads", metavar="THREAD", nargs="*", default=[], help="a thread_id")
    parser.add_argument("--all", action="store_true", help="all threads of the directory")
    parser.add_argument(
        "--older-than", metavar="DAYS", type=_days, help="only threads in which nothing was put for so many days"
    )
    parser.add_argument("--delete", action="store_true", help="remove the threads instead of keeping their latest")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prune."""
    from langgraph.checkpoint.landed import LandedSaver

    if not args.threads and not args.all and args.older_than is None:
        output.note("name the threads, or say --all or --older-than DAYS")
        return output.USAGE
    threads = threads_in(args.directory)
    there = set(threads.journals.names())
    for name in args.threads:  # before anything is changed
        if name not in there:
            raise no_such_thread(threads, name)
    chosen = [name for name in args.threads or sorted(there) if _old_enough(threads, name, args.older_than)]
    done: list[Pruned] = []
    with LandedSaver(args.directory) as saver:
        for name in output.progress(chosen, "prune"):
            before = _size(threads, name)
            saver.prune([name], strategy="delete" if args.delete else "keep_latest")
            done.append(Pruned(name, before, _size(threads, name)))
    if args.json:
        output.emit({"path": threads.journals.path, "threads": [one._asdict() for one in done]})
        return output.OK
    if done:
        rows = [(output.shown(one.thread), str(one.before), str(one.after)) for one in done]
        output.table(rows, ("THREAD", "BEFORE", "AFTER"))
    before, after = sum(one.before for one in done), sum(one.after for one in done)
    counted = f"{output.count(len(done), 'thread')} {'deleted' if args.delete else 'pruned'}"
    print(f"{output.shown(threads.journals.path)}: {counted}, {before} to {output.count(after, 'byte')}")
    return output.OK


def _old_enough(threads: Threads, name: str, days: float | None) -> bool:
    if days is None:
        return True
    stored = threads.look(name, latest, None)
    return stored is not None and stored.time < time.time() - days * DAY


def _size(threads: Threads, name: str) -> int:
    return threads.look(name, lambda history: history.journal.size, 0, complete=False)


def _days(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days")
    return value
