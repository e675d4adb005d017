"""What follows from the hook's own program: the plugin folder's hooks, and the page on the command `landed-hook`.

python tools/claude_code_plugin.py            write both
python tools/claude_code_plugin.py --check    say whether they are up to date
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cli_reference import block, commands_of, help_of

from landed_claude_code.cli import build_parser
from landed_claude_code.settings import entries

ROOT = Path(__file__).resolve().parent.parent
DESCRIPTION = "No agent overwrites what it has not seen, and every write is checked against the disk."
INTRODUCTION = """\
# The command landed-hook

`landed-hook` comes with `landed-claude-code`; `python -m landed_claude_code` is the same. With the plugin alone, it is
on the PATH of the shells in Claude Code (`! landed-hook status`). This page is the program's own help
(`python tools/claude_code_plugin.py` writes it).
"""


def hooks() -> str:
    groups = entries("python3", ["${CLAUDE_PLUGIN_ROOT}/lib"])
    document = {"description": DESCRIPTION, "hooks": {event: [group] for event, group in groups.items()}}
    return json.dumps(document, indent=2) + "\n"


def page() -> str:
    parser = build_parser()
    sections = [INTRODUCTION, block(parser.format_help())]
    for name, below in commands_of(parser).items():
        sections += help_of(below, f"## landed-hook {name}")
    return "\n".join(sections)


def main(mode: str = "") -> int:
    made = {
        ROOT / "packages" / "landed-claude-code" / "plugin" / "hooks" / "hooks.json": hooks(),
        ROOT / "docs" / "reference" / "landed-hook.md": page(),
    }
    for path, text in made.items():
        if mode != "--check":
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8").split() != text.split():  # 3.13 sets it otherwise
            print(f"{path.name} is not what the program says: python tools/claude_code_plugin.py", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
