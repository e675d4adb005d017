"""``landed journal``: what a journal holds, whether it is whole, its space, and what is left of a damaged one."""

from __future__ import annotations

import functools
import itertools
import os

from landed import inspection
from landed.audit import command
from landed.cli import output
from landed.errors import Refused
from landed.journal import Journal
from landed.local.recovery import CRASH, TORN
from landed.local.salvage import Salvaged, Skipped, salvage
from landed.local.survey import Survey
from landed.local.walk import BUSY

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any, Final

    from landed.entries import Entry
    from landed.inspection import Report, SegmentReport
    from landed.local.survey import Hold
    from landed.local.walk import Damage, Tail

DESCRIPTION = "Look at a journal's files, prove that they are whole, compact them, or copy what is left of them."
INSPECT = """\
Show what a journal's files hold: its segments, who appends to it or owns it, and what a crash left.
It reads all of the journal and changes nothing; others may append meanwhile. A damaged journal is
shown as far as it reads. Exits with 1 when something is damaged.
"""
VERIFY = """\
Check every byte that was acknowledged: every frame, the order of the records, and that the segments
join. It changes nothing; others may append meanwhile. Exits with 1 when something is damaged, and
says in which segment and at which offset; with 3 when a stopped writer hides the end.

A crash tail is no damage: bytes of appends that were under way when the machine or a process
stopped. Nobody was told that they landed.
"""
COMPACT = """\
Merge the segments of a journal into one, which gives back the space that was reserved for appends.
Every record is kept, under its sequence number; others may append and read meanwhile. Refused while
another process owns the journal.
"""
SALVAGE = """\
Copy every record that still reads into a new journal, under its sequence number, and say exactly what
was skipped. The damaged journal is not touched. Exits with 1 when something was skipped.
"""
LIMIT: Final = 100
"""Records listed unless told otherwise."""
WORDS: Final = {
    CRASH: "the machine stopped during an append",
    TORN: "a process died during an append",
    BUSY: "a writer holds the lock and has half written a frame",
}


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add the commands."""
    parser = subparsers.add_parser(
        "journal",
        help="look at, verify, compact or salvage a journal",
        description=DESCRIPTION,
        formatter_class=output.Formatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    one = _add(commands, "inspect", "what its files hold", INSPECT, _inspect)
    one.add_argument("--records", action="store_true", help="list records as well, the oldest first")
    start = "where to begin the list"
    one.add_argument("--from", dest="start", metavar="SEQUENCE", type=output.number, default=1, help=start)
    limit = f"records to list (default {LIMIT})"
    one.add_argument("--limit", metavar="N", type=output.number, default=LIMIT, help=limit)
    output.add_level(_add(commands, "verify", "whether it is whole", VERIFY, _verify))
    one = _add(commands, "compact", "give back the space it does not need", COMPACT, _compact)
    output.add_timeout(one, "how long to wait for writers and other compactions")
    one = _add(commands, "salvage", "copy what still reads of a damaged one", SALVAGE, _salvage)
    one.add_argument("output", metavar="OUT", help="the new journal's directory; must not exist")
    output.add_level(one)


def _add(commands: Any, name: str, summary: str, description: str, run: Any) -> argparse.ArgumentParser:  # noqa: ANN401
    parser = output.add_command(commands, name, summary, description)
    parser.add_argument("directory", metavar="DIR", help="the journal's directory")
    parser.set_defaults(run=_on_a_directory(run))
    return parser


@functools.cache
def _on_a_directory(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """`run`, which says what to do where there is no directory."""

    def named(args: argparse.Namespace) -> int:
        try:
            return run(args)
        except (FileNotFoundError, NotADirectoryError) as error:
            if error.filename is None or os.path.isdir(args.directory):
                raise
            path = os.path.abspath(args.directory)
            what = "it is no directory" if os.path.lexists(path) else "there is no such directory"
            hint = "Name a journal's directory; `landed audit DIR` finds those below one."
            raise Refused(what, path=path, step="open", hint=hint) from error

    return named


# inspect


def _inspect(args: argparse.Namespace) -> int:
    with output.Meter("inspect", output.MIB) as meter:
        report = inspection.examine(args.directory, watch=meter.at)
    listed: list[tuple[Entry, str]] = []
    if args.records:
        listed = list(itertools.islice(inspection.records(args.directory, start=args.start), args.limit))
    if args.json:
        document = _report_document(report)
        output.emit({**document, "records": [_entry_document(*one) for one in listed]} if args.records else document)
    else:
        _print_report(report)
        if args.records:
            print()
            output.table([_entry_row(entry) for entry, _ in listed], ("SEQUENCE", "KIND", "SIZE", "KEY"))
    return output.BAD_NEWS if report.damage else output.OK


def _print_report(report: Report) -> None:
    header = ("SEGMENT", "SIZE", "USED", "FRAMES", "RECORDS", "SEQUENCE", "STATE", "BOOT", "FLUSHED", "TAIL")
    output.table([_segment_row(segment) for segment in report.segments], header)
    print(f"{_totals(report)}, tail {report.tail}")
    for what, hold in (("appended to", report.lock), ("owned", report.claim)):
        if hold.held:
            print(f"{what} by {output.shown(str(hold.holder or 'one that does not say who it is'))}")
    if report.suspect:
        print("suspect: a flush failed; the next appender goes on from what the device holds")
    for name in report.leftovers:
        print(f"temp file: {output.shown(name)}")
    for name in report.replaced:
        print(f"replaced by a compaction, and not removed yet: {output.shown(name)}")
    _print_tails(report.tails)
    _print_damage(report.damage)


def _totals(report: Report) -> str:
    parts = (
        output.count(len(report.segments), "segment"),
        output.count(sum(segment.size for segment in report.segments), "byte"),
        output.count(sum(segment.frames for segment in report.segments), "frame"),
        output.count(sum(segment.records for segment in report.segments), "record"),
    )
    return ", ".join(parts)


def _segment_row(segment: SegmentReport) -> tuple[str, ...]:
    return (
        segment.name,
        str(segment.size),
        str(segment.used),
        str(segment.frames),
        str(segment.records),
        f"{segment.first}-{segment.last}" if segment.records else "-",
        "sealed" if segment.sealed else "newest",
        {True: "this", False: "earlier", None: "-"}[segment.this_boot],
        str(segment.flushed),
        f"{segment.tail.size} ({segment.tail.kind})" if segment.tail is not None else "-",
    )


def _entry_row(entry: Entry) -> tuple[str, ...]:
    key = output.shown(entry.key.decode(errors="backslashreplace")) if entry.key else "-"
    return str(entry.sequence), str(entry.kind), str(len(entry.data)), key


# verify


def _verify(args: argparse.Namespace) -> int:
    with output.Meter("verify", output.MIB) as meter:
        report = inspection.examine(args.directory, level=args.level, watch=meter.at)
    if args.json:
        output.emit(_report_document(report))
    else:
        _print_tails(report.tails)
        _print_damage(report.damage)
        state = "damaged" if report.damage else "in progress" if report.busy else "whole"
        colour = {"damaged": "bad", "in progress": "doubt", "whole": "good"}[state]
        print(f"{output.shown(report.path)}: {output.coloured(state, colour)}, {_totals(report)}, tail {report.tail}")
    if report.damage:
        if not args.json:
            output.note(f"`{command('journal', 'salvage', args.directory, 'OUT')}` copies what still reads")
        return output.BAD_NEWS
    return output.CANNOT_TELL if report.busy else output.OK


def _print_tails(tails: list[Tail]) -> None:
    for tail in tails:
        where = f"{output.shown(tail.segment)}: offset {tail.offset} to {tail.offset + tail.size}"
        print(f"{tail.kind} tail: {where}: {WORDS[tail.kind]}; never acknowledged, no part of the journal")


def _print_damage(damage: list[Damage]) -> None:
    for one in damage:
        print(f"{output.coloured('damaged', 'bad')}: {output.shown(str(one))}")


# compact


def _compact(args: argparse.Namespace) -> int:
    survey = Survey(args.directory)  # a journal that is not there must not be made
    total, done = survey.size(), 0
    with output.Meter("compact", output.MIB) as meter, Journal(args.directory, timeout=args.timeout) as journal:

        def keep(entry: Entry) -> bool:
            nonlocal done
            done += len(entry.key) + len(entry.data)
            meter.at(done, total)
            return True

        compacted = journal.compact(keep)
    if args.json:
        output.emit(
            {
                "path": journal.path,
                "before": compacted.before,
                "after": compacted.after,
                "records": compacted.kept,
            }
        )
    else:
        size = f"{compacted.before} to {output.count(compacted.after, 'byte')}"
        print(f"{output.shown(journal.path)}: {size}, {output.count(compacted.kept, 'record')} merged")
    return output.OK


# salvage


def _salvage(args: argparse.Namespace) -> int:
    with output.Meter("salvage", output.MIB) as meter:
        done = salvage(args.directory, args.output, level=args.level, watch=meter.at)
    if args.json:
        output.emit(_salvage_document(done))
    else:
        for skipped in done.skipped:
            print(f"{output.coloured('skipped', 'bad')}: {output.shown(str(skipped.damage))}{_between(skipped)}")
        _print_tails(done.tails)
        frames = output.count(done.batches, "frame")
        print(f"{output.shown(done.path)}: {frames} copied, tail {done.tail}; goes on at {done.base + 1}")
    return output.BAD_NEWS if done.skipped else output.OK


def _between(skipped: Skipped) -> str:
    if skipped.before is None:
        return f"; after sequence number {skipped.after}"
    if skipped.before == skipped.after + 1:
        return "; no sequence number is missing there"
    return f"; sequence numbers {skipped.after + 1} to {skipped.before - 1} are missing"


# For machines.


def _report_document(report: Report) -> dict[str, Any]:
    return {
        "path": report.path,
        "ok": not report.damage,
        "tail": report.tail,
        "segments": [_segment_document(segment) for segment in report.segments],
        "damage": [_damage_document(damage) for damage in report.damage],
        "lock": _hold_document(report.lock),
        "claim": _hold_document(report.claim),
        "suspect": report.suspect,
        "leftovers": report.leftovers,
        "replaced": report.replaced,
    }


def _segment_document(segment: SegmentReport) -> dict[str, Any]:
    return {
        "name": segment.name,
        "size": segment.size,
        "used": segment.used,
        "frames": segment.frames,
        "records": segment.records,
        "first": segment.first or None,
        "last": segment.last or None,
        "sealed": segment.sealed,
        "this_boot": segment.this_boot,
        "flushed": segment.flushed,
        "tail": _tail_document(segment.tail) if segment.tail is not None else None,
    }


def _damage_document(damage: Damage) -> dict[str, Any]:
    return {"segment": damage.segment, "offset": damage.offset, "size": damage.size, "what": damage.what}


def _tail_document(tail: Tail) -> dict[str, Any]:
    return {"segment": tail.segment, "offset": tail.offset, "size": tail.size, "kind": tail.kind}


def _hold_document(hold: Hold) -> dict[str, Any]:
    return {"held": hold.held, "holder": output.holder_document(hold.holder)}


def _entry_document(entry: Entry, segment: str) -> dict[str, Any]:
    return {
        "sequence": entry.sequence,
        "kind": entry.kind,
        "key": entry.key.decode(errors="backslashreplace"),
        "size": len(entry.data),
        "segment": segment,
    }


def _salvage_document(done: Salvaged) -> dict[str, Any]:
    return {
        "path": done.path,
        "batches": done.batches,
        "tail": done.tail,
        "next": done.base + 1,
        "skipped": [{**_damage_document(one.damage), "after": one.after, "before": one.before} for one in done.skipped],
        "tails": [_tail_document(tail) for tail in done.tails],
    }
