"""``landed init``: a directory keeps its own locks and records."""

from __future__ import annotations

from landed.cli import output
from landed.sharing import share
from landed.state import directory_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

DESCRIPTION = """\
Make DIR/.landed, so that the directory keeps its own locks and records: for several users, or for
containers that mount it under different names. Every program finds it by walking up from the file.
Who may write DIR may use it. What this user's records know of files in DIR comes along.

Do it before programs of other users write there: only those that this user's records know of can be
waited for. Doing it again changes nothing.
"""


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add the command."""
    parser = output.add_command(subparsers, "init", "let a directory keep its own locks and records", DESCRIPTION)
    parser.add_argument("directory", metavar="DIR", help="an existing directory")
    output.add_timeout(parser, "how long to wait for a file that is being written")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make it."""
    _allow_many_locks()
    shared = share(args.directory, timeout=args.timeout, watch=lambda keys: output.progress(keys, "init"))
    store = shared.store
    mode = f"{directory_mode(store.mode):04o}"
    if args.json:
        output.emit(
            {
                "root": store.root,
                "directory": store.base,
                "mode": mode,
                "created": not shared.existed,
                "carried": shared.carried,
            }
        )
        return output.OK
    if shared.existed:
        print(f"{output.shown(store.base)} keeps its own locks and records already, in {output.shown(store.root)}")
        return output.OK
    print(
        f"{output.shown(store.base)} keeps its own locks and records now, in {output.shown(store.root)} (mode {mode})"
    )
    if shared.carried:
        print(f"the records of {output.count(len(shared.carried), 'file')} came along")
    return output.OK


def _allow_many_locks() -> None:
    """All known files are locked at once, each by a descriptor; the usual limit of 1,024 is there to be raised."""
    try:
        import resource
    except ImportError:  # pragma: no cover - run on Windows only
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
