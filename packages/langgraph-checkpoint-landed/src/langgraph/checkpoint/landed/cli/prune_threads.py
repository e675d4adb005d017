"""``landed prune-threads``: give back the space of what no run needs to go on, or of whole threads."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from landed import Corrupt
from landed.cli import output
from langgraph.checkpoint.landed.cli.looking import (
    DIRECTORY,
    latest,
    no_such_thread,
    no_thread,
    threads_in,
)

if TYPE_CHECKING:
    from langgraph.checkpoint.landed import LandedSaver
    from langgraph.checkpoint.landed.threads import Threads

DESCRIPTION = """\
Take out of LangGraph threads what is not needed to go on: of each namespace the latest checkpoint stays,
with its pending writes and with what a DeltaChannel is rebuilt from. Time travel ends there. With
--delete the threads go altogether. The space is given back at once; graphs may run meanwhile: a run on
a thread that was deleted under it raises.

Without THREAD, all threads of the directory, which has to be said with --all or --older-than. A damaged
one goes with --delete, and with it what could still be salvaged; without, or if its age has to be known,
it stays as it is, and the command exits with 1. What another program keeps in the directory stays.
"""
DAY: Final = 86_400.0


class Pruned(NamedTuple):
    """One thread, with its size before and after; None where damage hides it. One with `damage` was left as it was."""

    thread: str
    before: int | None
    after: int | None
    damage: Corrupt | None = None


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
    if args.threads and args.all:
        output.note("name the threads or say --all, not both")
        return output.USAGE
    threads = threads_in(args.directory)
    there = set(threads.journals.names())
    for name in args.threads:  # before anything is changed
        if name not in there:
            raise no_such_thread(threads, name)
        if not threads.is_thread(name):
            raise no_thread(threads, name)
    done: list[Pruned] = []
    with LandedSaver(args.directory) as saver:
        for name in output.progress(args.threads or sorted(there), "prune"):
            one = _prune(saver, threads, name, args)
            if one is not None:
                done.append(one)
    if args.json:
        output.emit({"path": threads.journals.path, "threads": [_document(one) for one in done]})
    else:
        _print(done, threads.journals.path, "deleted" if args.delete else "pruned")
    return output.BAD_NEWS if any(one.damage for one in done) else output.OK


def _prune(saver: LandedSaver, threads: Threads, name: str, args: argparse.Namespace) -> Pruned | None:
    """What became of a thread; None for one that is too young, and for what is none."""
    if not threads.is_thread(name):
        return None
    before = None
    try:
        if not _old_enough(threads, name, args.older_than):
            return None
        before = _size(threads, name)
        saver.prune([name], strategy="delete" if args.delete else "keep_latest")
    except Corrupt as damage:
        if not args.delete or args.older_than is not None:
            return Pruned(name, before, before, damage)
        saver.delete_thread(name)
    return Pruned(name, before, _size(threads, name))


def _document(one: Pruned) -> dict[str, Any]:
    error = None if one.damage is None else output.error_document(one.damage)
    return {"thread": one.thread, "before": one.before, "after": one.after, "error": error}


def _print(done: list[Pruned], path: str, what: str) -> None:
    if done:
        rows = [(output.shown(one.thread), *(_bytes(size) for size in (one.before, one.after))) for one in done]
        output.table(rows, ("THREAD", "BEFORE", "AFTER"))
    for one in done:
        if one.damage is not None:
            print(f"{output.coloured('damaged', 'bad')}: {output.shown(one.thread)}: {output.shown(str(one.damage))}")
    changed = [one for one in done if one.damage is None]
    before, after = sum(one.before or 0 for one in changed), sum(one.after or 0 for one in changed)
    counted = f"{output.count(len(changed), 'thread')} {what}"
    print(f"{output.shown(path)}: {counted}, {before} to {output.count(after, 'byte')}")


def _bytes(size: int | None) -> str:
    return "-" if size is None else str(size)


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
