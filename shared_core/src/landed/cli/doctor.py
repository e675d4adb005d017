"""``landed doctor``: whether landed can keep its promise here, by trying it."""

from __future__ import annotations

from landed.cli import output
from landed.doctor import FAIL, NOTE, OK, STATUSES, WARN, Check, examine

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from typing import Any

DESCRIPTION = """\
Try in DIR, and where its locks are kept, everything that landed relies on: that locks exclude and die
with their process, that link is put-if-absent, that rename replaces in one step, that a directory can
be flushed, which file system this is and how it is mounted. Then break a few writes on purpose and
show that each is noticed. Leaves nothing behind. Exits with 1 when landed cannot keep its promise here;
a warning says what it promises less.
"""
COLOUR = {OK: "good", NOTE: "dim", WARN: "doubt", FAIL: "bad"}


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add the command."""
    parser = output.add_command(subparsers, "doctor", "try whether landed works here", DESCRIPTION)
    parser.add_argument("directory", metavar="DIR", nargs="?", default=".", help="where to try (default: here)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Try."""
    examined = examine(args.directory)
    return tell(args, examined, "landed can keep its promise here", "landed cannot keep its promise here")


def tell(args: argparse.Namespace, examined: Iterable[Check], good: str, bad: str) -> int:
    """Print each check as it comes, then what they come to; the exit code.

    Args:
        args: what was parsed; with ``json``, one document is printed instead.
        examined: the checks.
        good: what it means that none of them failed.
        bad: what it means that some did.
    """
    checks = []
    for check in examined:
        checks.append(check)
        if not args.json:
            _print(check)
    counts = {status: sum(check.status == status for check in checks) for status in STATUSES}
    if args.json:
        document = [{"name": c.name, "status": c.status, "detail": c.detail, "hint": c.hint or None} for c in checks]
        output.emit({"counts": counts, "ok": not counts[FAIL], "checks": document})
    elif counts[FAIL]:
        print(f"\n{bad}: {output.count(counts[FAIL], 'check')} failed")
    else:
        print(f"\n{good}" + (f", with {output.count(counts[WARN], 'warning')}" if counts[WARN] else ""))
    return output.BAD_NEWS if counts[FAIL] else output.OK


def _print(check: Check) -> None:
    print(f"{output.coloured(f'{check.status:4}', COLOUR[check.status])}  {check.name}: {output.shown(check.detail)}")
    if check.hint:
        print(f"      next: {output.shown(check.hint)}")
