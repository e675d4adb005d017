"""``landed import-sqlite``: the threads of a SqliteSaver's database, into a directory of LandedSaver's."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from landed.cli import output
from landed.engines import absolute, without_password

if TYPE_CHECKING:
    import argparse

    from langgraph.checkpoint.landed.importing import Database

DESCRIPTION = """\
Copy all threads of a SqliteSaver's database into a directory (or an address) for LandedSaver: every
checkpoint with its id, its parent, its metadata and its pending writes. Values are copied as they are
stored, so that no class of yours is needed. Each thread is read back and compared when it is copied.

The database is only read; stop what writes to it first. A copy that was broken off goes on when it is
called again. A thread that is there already and is not a part of this one is refused, not overwritten.
"""


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add the command."""
    summary = "copy the LangGraph threads of a SqliteSaver"
    parser = output.add_command(subparsers, "import-sqlite", summary, DESCRIPTION)
    parser.add_argument("database", metavar="FILE", help="the database that SqliteSaver was given")
    parser.add_argument("directory", metavar="DIR", help="the directory that LandedSaver will be given")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Copy."""
    from langgraph.checkpoint.landed.importing import Database

    with closing(Database(args.database)) as database:
        done = _copy(database, args.directory)
    place = without_password(args.directory)
    if args.json:
        path = without_password(absolute(args.directory))
        output.emit({"database": database.path, "path": path, "threads": done, "verified": True})
        return output.OK
    checkpoints, before = (sum(each[what] for each in done) for what in ("checkpoints", "there_before"))
    earlier = f", {before} of them by an earlier copy" if before else ""
    print(
        f"copied {output.count(len(done), 'thread')} with {output.count(checkpoints, 'checkpoint')}{earlier}; "
        f"{output.shown(place)} reads back as {output.shown(database.path)} does"
    )
    return output.OK


def _copy(database: Database, directory: str) -> list[dict[str, Any]]:
    """Copy every thread; what there was to say of each."""
    from langgraph.checkpoint.landed import LandedSaver
    from langgraph.checkpoint.landed.importing import AsStored, copy_thread

    total, copied = database.count(), 0
    done: list[dict[str, Any]] = []
    with LandedSaver(directory, serde=AsStored(), on_conflict="fork") as saver, output.Meter("checkpoints") as meter:

        def watch(of_thread: int) -> None:
            meter.at(copied + of_thread, total)

        for thread in database.threads():
            checkpoints, before = copy_thread(database, saver, thread, watch)
            copied += checkpoints
            done.append({"thread": thread, "checkpoints": checkpoints, "there_before": before})
    return done
