"""``landed copy``: journals from one place, on whichever engine, to another."""

from __future__ import annotations

from landed.cli import output
from landed.copying import copy_collection, copy_log
from landed.engines import below, kinds_of, open_collection, open_log, same_place, without_password
from landed.errors import NotLanded, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any, Final

    from landed.copying import Copied

BELOW: Final = "flows"
"""A root with this one below it is copied with it: CrewAI's memory, and its flows."""
DESCRIPTION = """\
Copy a journal, or a root with many (LangGraph threads, CrewAI's memory and its flows), to another
place: a directory, postgresql://..., s3://..., gs://... or az://... Every record keeps its number,
and what was copied is compared with its source at the end. Of an address that is both, both are
copied.

It can be broken off and called again, and goes on from there. Nobody may append to the target
meanwhile; what is appended to the source after the start is left for the next call.
"""


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add the command."""
    parser = output.add_command(subparsers, "copy", "copy journals to another place or engine", DESCRIPTION)
    parser.add_argument("source", metavar="SRC", help="a directory or address with a journal, or with many")
    parser.add_argument("target", metavar="DST", help="a directory or address; empty, or begun by an earlier copy")
    output.add_timeout(parser, "how long one step may take")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Copy, and say what."""
    if same_place(args.source, args.target):
        hint = "Name another place for the copy."
        raise Refused("it would be copied onto itself", path=without_password(args.target), step="copy", hint=hint)
    journal, collection = kinds_of(args.source)
    roots = _roots(args.source, args.target, collection=collection) if collection or not journal else []
    if not journal and not roots:
        raise NotLanded(
            "there is no journal, and no root of journals",
            path=without_password(args.source),
            step="copy",
            hint="Give the place that was given to Journal, Journals, a saver, or CrewAI's stores.",
        )
    copied: dict[str, Copied] = {}
    if journal:
        one, other = open_log(args.source), open_log(args.target)
        with output.Meter("copy") as meter:
            copied[""] = copy_log(one, other, meter.at, timeout=args.timeout)
        one.close()
        other.close()
    if roots:
        pairs = [(open_collection(source), open_collection(target)) for source, target in roots]
        total = len(copied) + sum(1 for journals, _ in pairs for _ in journals.names())
        with output.Meter("copy") as meter:
            for journals, others in pairs:

                def progress(name: str, result: Copied, root: str = journals.name) -> None:
                    copied[f"{root} {name}"] = result
                    meter.at(len(copied), total)

                copy_collection(journals, others, progress, timeout=args.timeout)
    batches = sum(each.batches for each in copied.values())
    present = sum(1 for each in copied.values() if each.present)
    if args.json:
        kind = "collection" if roots else "journal"
        output.emit({"kind": kind, "journals": len(copied), "batches": batches, "resumed": present, "verified": True})
        return output.OK
    went_on = f", {present} of which an earlier copy began" if present else ""
    source, target = (output.shown(without_password(place)) for place in (args.source, args.target))
    print(
        f"copied {batches} {'batch' if batches == 1 else 'batches'} "
        f"of {output.count(len(copied), 'journal')}{went_on}; "
        f"{target} reads back as {source} does"
    )
    return output.OK


def _roots(source: str, target: str, *, collection: bool) -> list[tuple[str, str]]:
    """What there is of a root, and of the one that a program keeps below it, each with its place in the target."""
    roots = [(source, target)] if collection else []
    try:
        parts = below(source, BELOW), below(target, BELOW)
    except Refused:  # an address without a database has nothing below it
        return roots
    return [*roots, parts] if kinds_of(parts[0])[1] else roots
