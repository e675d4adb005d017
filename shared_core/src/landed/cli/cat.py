"""``landed cat``: the bytes of a file, and what landed knows of them."""

from __future__ import annotations

import sys

from landed import files
from landed.cli import output
from landed.records import OUTSIDE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

DESCRIPTION = """\
Print a file's bytes, and on standard error a word where something that does not use landed changed
them. --json gives the version as well, for `landed write --expect`, and the bytes as `text` where
they are UTF-8, else as `base64`.
"""


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add the command."""
    parser = output.add_command(subparsers, "cat", "print a file and its version", DESCRIPTION)
    parser.add_argument("path", metavar="PATH", help="the file to read")
    parser.set_defaults(run=run, looks=True)


def run(args: argparse.Namespace) -> int:
    """Read."""
    snapshot = files.read(args.path)
    if args.json:
        output.emit(
            {
                "path": snapshot.path,
                "version": snapshot.version,
                "sha256": snapshot.digest,
                "size": len(snapshot.data),
                "origin": snapshot.origin,
                "writer": snapshot.writer or None,
                **_content(snapshot.data),
            }
        )
        return output.OK
    sys.stdout.buffer.write(snapshot.data)
    sys.stdout.buffer.flush()
    if snapshot.origin == OUTSIDE and not snapshot.version.startswith("0+"):
        output.note(f"{snapshot.path} was changed outside landed; its version is now {snapshot.version}")
    return output.OK


def _content(data: bytes) -> dict[str, str | None]:
    import base64

    try:
        return {"text": data.decode("utf-8"), "base64": None}
    except UnicodeDecodeError:
        return {"text": None, "base64": base64.b64encode(data).decode("ascii")}
