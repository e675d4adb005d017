"""What two versions of Claude Code gave to a hook, one of each kind of event."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PAYLOADS: dict[str, list[dict[str, Any]]] = json.loads(Path(__file__).with_name("payloads.json").read_text("utf-8"))
