"""`landed` the command.

Each command is a module with two functions::

    def add_parser(subparsers) -> None     adds its parser, which sets the default ``run``
    def run(args) -> int                   does it and returns the exit code

`COMMANDS` names those of the core. An installed package adds its own through an entry point of the group
``landed.commands``, whose name is the command's and whose value is such a module. Only the module of the command that
is asked for is imported. `landed.cli.audit` says how a package adds to what ``landed audit`` finds.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from landed.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.metadata import EntryPoint
    from types import ModuleType
    from typing import Final

COMMANDS: Final = {
    "write": "landed.cli.write",
    "cat": "landed.cli.cat",
    "verify": "landed.cli.verify",
    "status": "landed.cli.status",
    "log": "landed.cli.log",
    "audit": "landed.cli.audit",
    "report": "landed.cli.report",
    "init": "landed.cli.init",
    "doctor": "landed.cli.doctor",
    "journal": "landed.cli.journal",
    "copy": "landed.cli.copy",
}
"""The core's commands, in the order in which the help lists them."""
GROUP: Final = "landed.commands"
"""The entry-point group through which other packages add commands."""
ELSEWHERE: Final = dict.fromkeys(("threads", "thread", "prune-threads", "import-sqlite"), "langgraph")
"""Commands that the documentation names and other packages add, and the extra that brings each."""

EPILOG: Final = """\
exit codes:
  0    done, and all is well
  1    the answer is bad news: nothing was written (stale, locked, refused, failed),
       or something was lost, damaged, bypassed or left unfinished by a dead owner
  2    the command line cannot be understood, or a file named on it cannot be read
  3    it cannot be told: the outcome of a write is unknown, or a record, file or directory
       cannot be read
  130  interrupted
  141  whoever read the output has stopped

Every command has --json, which prints one JSON document on standard output; an error
is then {"error": {...}} as well as a sentence on standard error. NO_COLOR turns colour off.
LANDED_STATE_DIR names the directory for this user's locks and records, LANDED_PROGRAM what
a process is called in them.
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
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except KeyboardInterrupt:  # while its modules are imported, which takes as long as most commands do
        output.note("interrupted")
        return output.INTERRUPTED


def _run(words: list[str]) -> int:
    parser = build_parser(words[0] if words else None)
    if not words:
        parser.print_help(sys.stderr)
        return output.USAGE
    if words[0] in ELSEWHERE and not any(entry.name == words[0] for entry in _entry_points()):
        output.note(f'`landed {words[0]}` comes with another package. Run pip install "landed[{ELSEWHERE[words[0]]}]".')
        return output.USAGE
    return output.run("landed", parser.parse_args(words), output.BAD_NEWS)


def build_parser(wanted: str | None = None, *, added: bool = True) -> argparse.ArgumentParser:
    """The parser of the command line.

    Args:
        wanted: the one command that it has to know, which saves importing the others; all when None or no command.
        added: whether the commands of other packages count.
    """
    from landed import __version__

    parser = argparse.ArgumentParser(
        prog="landed",
        description="Writes that land: on the disk, under their name, verified, and over nobody else's.",
        epilog=EPILOG,
        formatter_class=output.Formatter,
    )
    parser.add_argument("--version", action="version", version=f"landed {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in _modules(wanted, added=added):
        module.add_parser(subparsers)
    return parser


def _modules(wanted: str | None, *, added: bool) -> list[ModuleType]:
    if wanted in COMMANDS:
        return [importlib.import_module(COMMANDS[wanted])]
    own = [importlib.import_module(name) for name in COMMANDS.values()]
    return own + _added() if added else own


def _added() -> list[ModuleType]:
    """The commands of other packages. One that cannot be loaded must not take the others with it."""
    modules = []
    for entry in _entry_points():
        if entry.name in COMMANDS:
            continue  # the core's commands mean the same on every machine
        try:
            modules.append(entry.load())
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it
            print(f"landed: the command {entry.name!r} ({entry.value}) cannot be loaded: {error}", file=sys.stderr)
    return modules


def _entry_points() -> list[EntryPoint]:
    from importlib.metadata import entry_points

    return sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
