"""``python -m landed_claude_code``: the command ``landed-hook``."""

from __future__ import annotations

import sys

from landed_claude_code.cli import main

if __name__ == "__main__":
    sys.exit(main())
