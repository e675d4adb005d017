"""The plugin folder's hooks, from what `landed-hook install` puts into settings.

python tools/claude_code_plugin.py    write packages/landed-claude-code/plugin/hooks/hooks.json
"""

from __future__ import annotations

import json
from pathlib import Path

from landed_claude_code.settings import entries

PLUGIN = Path(__file__).resolve().parent.parent / "packages" / "landed-claude-code" / "plugin"
DESCRIPTION = "No agent overwrites what it has not seen, and every write is checked against the disk."

if __name__ == "__main__":
    groups = entries("python3", ["${CLAUDE_PLUGIN_ROOT}/lib"])
    document = {"description": DESCRIPTION, "hooks": {event: [group] for event, group in groups.items()}}
    (PLUGIN / "hooks" / "hooks.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
