"""``landed report``: one HTML page with a timeline of each artifact."""

from __future__ import annotations

import os
from dataclasses import asdict

from landed import inspection
from landed.cli import output
from landed.cli.scope import scope_of
from landed.errors import Refused
from landed.files import read, write
from landed.records import ABSENT
from landed.report.directory import files, journals, report
from landed.report.model import BAD, DOUBT, GOOD
from landed.report.page import MARK, render

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any, Final

    from landed.report.model import Section

OUTPUT: Final = "landed-report.html"
DESCRIPTION = """\
Make one HTML page of what landed knows: for each file and each journal a timeline of who wrote, who was
refused, what did not land and what something else changed, and whether the last acknowledged write is
on the disk now. The page is one file without scripts; open it in a browser, print it, send it.

Without DIR, all files in this user's records and in the shared directory that this one lies in; with
it, the files below it, whichever records they are in, and the journals below it. It changes nothing
else. An earlier report is replaced, any other file is not. Exits as `landed audit` does.
"""


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add the command."""
    parser = output.add_command(subparsers, "report", "one page with a timeline of each artifact", DESCRIPTION)
    parser.add_argument("target", metavar="DIR", nargs="?", help="only this file, or what is below this directory")
    parser.add_argument(
        "--output", metavar="FILE.html", default=OUTPUT, help=f"where to put the page (default {OUTPUT}); - prints it"
    )
    parser.set_defaults(run=run, looks=True)


def run(args: argparse.Namespace) -> int:
    """Look, and write the page."""
    path = args.output if args.output == "-" else os.path.abspath(args.output)
    replaced = None if path == "-" else _replaceable(path)
    scope = scope_of(args.target)
    sections = [files(output.progress(scope.entries, "files"), scope.under, page=os.path.realpath(path))]
    if scope.under:
        found = list(inspection.journals(scope.under))
        sections.append(journals(output.progress(found, "journals")))
    made = report(scope.words, sections)
    scope.refuse_nothing(args.target, known=bool(made.total))
    page = render(made)
    if path != "-":
        args.looks = False  # from here on it writes
        write(path, page, expect=ABSENT if replaced is None else replaced)
    if args.json:
        told = [_document(section) for section in made.sections]
        output.emit({"path": None if path == "-" else path, "total": made.total, "sections": told})
    elif path == "-":
        print(page, end="")
    else:
        bad, doubt = made.count(BAD), made.count(DOUBT)
        said = f"{made.count(GOOD)} kept, {bad} not kept, {doubt} unclear"
        print(f"{output.count(made.total, 'artifact')} in {output.shown(scope.words)}: {said}")
        print(f"the page is {output.shown(path)}")
    if made.count(BAD):
        return output.BAD_NEWS
    return output.CANNOT_TELL if made.count(DOUBT) else output.OK


def _document(section: Section) -> dict[str, Any]:
    document = asdict(section)
    for event in (event for timeline in document["timelines"] for event in timeline["events"]):
        event["at"] = None if event["at"] is None else output.stamp(event["at"])
    return document


def _replaceable(path: str) -> str | None:
    """The version of an earlier report; None where there is no file.

    Raises:
        Refused: the file is no report.
    """
    try:
        there = read(path)
    except FileNotFoundError:
        return None
    if not there.data.startswith(MARK.encode()):
        hint = "Name another file with --output."
        raise Refused("there is a file that is no report of landed", path=path, step="argument", hint=hint)
    return there.version
