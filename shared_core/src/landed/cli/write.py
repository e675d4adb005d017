"""``landed write``: a whole file, from a file or standard input."""

from __future__ import annotations

import errno
import os
import sys

from landed import _fs, files
from landed.cli import output
from landed.engines import without_password
from landed.errors import StaleWrite
from landed.publish import LEVELS, READ
from landed.records import ABSENT, ANY, Absent

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from landed.values import Expect

DESCRIPTION = """\
Write a whole file: when the command succeeds, the bytes are on the disk, under that name, verified,
and nothing that another writer put there was overwritten unseen.

Without --expect the write creates a file and refuses to replace one. To replace one, say which
version you have seen (`landed cat PATH --json` and `landed status PATH` tell it), or `any`.
"""


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add the command."""
    parser = output.add_command(subparsers, "write", "write a whole file, durably and verified", DESCRIPTION)
    parser.add_argument("path", metavar="PATH", help="the file to write")
    parser.add_argument(
        "source",
        metavar="FILE",
        nargs="?",
        default="-",
        help="where the bytes are; standard input without it or with -",
    )
    parser.add_argument(
        "--expect",
        metavar="VERSION",
        default="absent",
        help="what must be there: a version, `absent` (the default), or `any` to overwrite on purpose",
    )
    parser.add_argument(
        "--verify",
        choices=LEVELS,
        default=READ,
        help="how to prove it: read the bytes back (the default), or read them past the page cache",
    )
    output.add_timeout(parser, "how long to wait for another writer of the same file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write."""
    try:
        data = _source(args.source)
    except OSError as error:
        return output.fail_plainly(args, error, output.USAGE)
    words: dict[str, Expect] = {"absent": ABSENT, "any": ANY}
    expect: Expect = words[args.expect] if args.expect in words else args.expect  # noqa: SIM401 - its type allows None
    try:
        receipt = files.write(args.path, data, expect=expect, verify=args.verify, timeout=args.timeout)
    except StaleWrite as stale:
        return output.fail(args, stale, _next_step(args.path, stale.found))
    if args.json:
        output.emit(output.receipt_document(receipt))
        return output.OK
    replaced = "a new file" if isinstance(receipt.replaced, Absent) else f"replaced {receipt.replaced}"
    took = f"verified by {receipt.verified}, {receipt.seconds * 1000:.1f} ms"
    print(f"{output.shown(receipt.path)}: {receipt.version}, {output.count(receipt.size, 'byte')}, {replaced}, {took}")
    if receipt.settled:
        output.note(f"before it: {receipt.settled}")
    return output.OK


def _source(name: str) -> bytes:
    if name == "-":
        if sys.stdin is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard input")
        return sys.stdin.buffer.read()
    with open(name, "rb") as source:
        return _fs.read_all(_fs.LOCAL, source.fileno(), 0)


def _next_step(path: str, found: str | None) -> str:
    if found is None or found == repr(ABSENT):
        return "nothing is there now: `--expect absent` creates it"
    from landed.audit import command

    return f"see it with `{command('cat', without_password(path))}`; `--expect {found}` then writes over exactly that"
