"""The page on the command, from the program's own help.

python tools/cli_reference.py            write docs/reference/cli.md
python tools/cli_reference.py --check    say whether it is up to date
"""

from __future__ import annotations

import sys
from pathlib import Path

from landed.cli import COMMANDS, build_parser

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "cli.md"
INTRODUCTION = """\
# The command

`landed` comes with the package; `python -m landed` is the same. This page is the program's own help
(`python tools/cli_reference.py` writes it).
"""


def page() -> str:
    sections = [INTRODUCTION, block(help_of())]
    for name in COMMANDS:
        sections += [f"## landed {name}\n", block(help_of(name))]
    return "\n".join(sections)


def help_of(command: str | None = None) -> str:
    if command is None:
        # Only the core's own commands: what else is installed here is not the reader's.
        parser = build_parser(None, added=False)
        return parser.format_help()
    (subparsers,) = (action for action in build_parser(command)._actions if isinstance(action.choices, dict))
    assert isinstance(subparsers.choices, dict)
    return str(subparsers.choices[command].format_help())


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
