"""``landed-hook`` the command."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

from landed.cli import output
from landed_claude_code import __version__
from landed_claude_code.cli import doctor, install, status

if TYPE_CHECKING:
    from collections.abc import Sequence

EPILOG: Final = """\
exit codes:
  0    done, and all is well
  1    the answer is bad news: the settings were refused, a check failed, a write is not on the disk,
       or a workflow was left unfinished by a dead session
  2    the command line cannot be understood
  3    it cannot be told
  130  interrupted
  141  whoever read the output has stopped

Every command has --json. CLAUDE_CONFIG_DIR is Claude Code's own directory (else ~/.claude),
LANDED_STATE_DIR the one for this user's locks and records.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: its words, without the program's name; those of the process when None.

    Returns:
        The exit code.

    Raises:
        SystemExit: 2, the command line cannot be understood; 0 after ``--help`` and ``--version``.
    """
    output.survive_any_stream()
    words = sys.argv[1:] if argv is None else list(argv)
    parser = build_parser()
    if not words:
        parser.print_help(sys.stderr)
        return output.USAGE
    return output.run("landed-hook", parser.parse_args(words), output.CANNOT_TELL)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="landed-hook",
        description="A hook for Claude Code that keeps agents off each other's bytes and checks every write.",
        epilog=EPILOG,
        formatter_class=output.Formatter,
    )
    parser.add_argument("--version", action="version", version=f"landed-hook {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    install.add_parsers(subparsers)
    doctor.add_parser(subparsers)
    status.add_parsers(subparsers)
    return parser
