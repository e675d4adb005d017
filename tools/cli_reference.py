"""The page on the command, from the program's own help.

python tools/cli_reference.py            write docs/reference/cli.md
python tools/cli_reference.py --check    say whether it is up to date
"""

from __future__ import annotations

import sys
from pathlib import Path

from landed.cli import COMMANDS, build_parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "cli.md"
INTRODUCTION = """\
# The command

`landed` comes with the package; `python -m landed` is the same. This page is the program's own help
(`python tools/cli_reference.py` writes it).
"""


def page() -> str:
    # Only the core's own commands: what else is installed here is not the reader's.
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
    new = page()
    if mode != "--check":
        PAGE.write_text(new, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == new:
        return 0
    print(f"{PAGE.name} is not what the program says: python tools/cli_reference.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
