"""``landed verify``: files against the last write that was acknowledged for them."""

from __future__ import annotations

from landed import files
from landed.cli import output
from landed.errors import LandedError, VerifyFailed
from landed.records import Absent

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

DESCRIPTION = """\
Compare files with the last write that landed acknowledged for each, under their locks. A write that
a dead process left unfinished is settled on the way: completed if its bytes are in place, else struck off.
"""


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add the command."""
    parser = output.add_command(subparsers, "verify", "compare files with their last acknowledged write", DESCRIPTION)
    parser.add_argument("paths", metavar="PATH", nargs="+", help="the files to verify")
    output.add_level(parser)
    output.add_timeout(parser, "how long to wait for a writer")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Verify."""
    codes = [output.OK]
    documents = []
    for path in output.progress(args.paths, "verify"):
        try:
            receipt = files.verify(path, level=args.level, timeout=args.timeout)
        except LandedError as error:
            # What the name leads to is known, and it is not what was written: that is bad news, not doubt.
            codes.append(output.BAD_NEWS if isinstance(error, VerifyFailed) else output.exit_code(error, looks=True))
            documents.append({"path": error.path or path, "ok": False, "error": output.error_document(error)})
            output.complain(error)
            continue
        documents.append({"ok": True, **output.receipt_document(receipt)})
        if not args.json:
            what = "deleted" if isinstance(receipt.version, Absent) else f"{receipt.version}"
            size = output.count(receipt.size, "byte")
            print(f"{output.shown(receipt.path)}: {output.coloured('verified', 'good')}, {what}, {size}")
            if receipt.settled:
                output.note(f"settled: {receipt.settled}")
    if args.json:
        output.emit({"files": documents})
    return output.BAD_NEWS if output.BAD_NEWS in codes else max(codes)
