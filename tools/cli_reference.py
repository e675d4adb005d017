"""The pages on the command, from the program's own help: the core's commands, and those that a plugin adds.

python tools/cli_reference.py            write them to docs/reference
python tools/cli_reference.py --check    say whether they are up to date

The page of a plugin that is not installed here is left as it is, with a note.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path

from landed.cli import COMMANDS, GROUP, build_parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
INTRODUCTION = """\
# The command

`landed` comes with the package; `python -m landed` is the same. This page is the program's own help
(`python tools/cli_reference.py` writes it). What `langgraph-checkpoint-landed` adds to it has [a page of its
own](langgraph-commands.md).
"""
PLUGINS = {
    "langgraph-checkpoint-landed": (
        "langgraph-commands.md",
        """\
# Commands for LangGraph

What `langgraph-checkpoint-landed` adds to [`landed`](cli.md). This page is the program's own help
(`python tools/cli_reference.py` writes it). [Prune](../how-to/prune.md) and [Move off
SqliteSaver](../how-to/move-off-sqlitesaver.md) show them at work. Their exit codes are those of `landed`.
""",
    )
}
"""Distributions that add commands: the page on them, and how it begins."""


def pages() -> dict[Path, str]:
    """What each page that can be made here should say."""
    made = {REFERENCE / "cli.md": page()}
    for distribution, (name, introduction) in PLUGINS.items():
        entries = entry_points(group=GROUP)
        added = sorted(entry.name for entry in entries if entry.dist and entry.dist.name == distribution)
        if not added:
            print(f"{name} is left as it is: {distribution} is not installed here", file=sys.stderr)
            continue
        parsers = commands_of(build_parser())
        sections = [introduction]
        for command in added:
            sections += help_of(parsers[command], f"## landed {command}")
        made[REFERENCE / name] = "\n".join(sections)
    return made


def page() -> str:
    """The page on the core's commands."""
    # Only those: what else is installed here is not the reader's.
    sections = [INTRODUCTION, block(build_parser(None, added=False).format_help())]
    for name in COMMANDS:
        sections += help_of(commands_of(build_parser(name))[name], f"## landed {name}")
    return "\n".join(sections)


def help_of(parser: argparse.ArgumentParser, title: str) -> list[str]:
    """The help of a command, then that of each command in it."""
    sections = [f"{title}\n", block(parser.format_help())]
    for name, below in commands_of(parser).items():
        sections += help_of(below, f"#{title} {name}")
    return sections


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return {
        name: below
        for action in parser._actions
        if isinstance(action.choices, dict)
        for name, below in action.choices.items()
    }


def block(text: str) -> str:
    return f"```text\n{text.strip()}\n```\n"


def main(mode: str = "") -> int:
    stale = []
    for path, text in pages().items():
        if mode != "--check":
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8").split() != text.split():  # 3.13 sets it otherwise
            stale.append(path.name)
    for name in stale:
        print(f"{name} is not what the program says: python tools/cli_reference.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
