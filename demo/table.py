"""The README's table of what a run of the demo found.

python -m demo --json | python -m demo.table    keep the figures of this run, and write the table from them
python -m demo.table --check                    say whether the table is what the kept figures give
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from demo.scene import ROOT

FIGURES = ROOT / "demo" / "figures.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- demo: python -m demo --json | python -m demo.table -->\n", "<!-- end of demo -->"
SHOWN = ("two_writers", "two_runs", "one_flow_id", "ends_too_soon", "three_agents", "one_kill")
"""Those that count something, the first case of each; the demo has more."""


def kept(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What the table says of a run."""
    if report["status"] != 0:
        sys.exit("the demo did not show what it should; its figures are not kept")
    found = {case["incident"]: case for case in reversed(report["cases"])}
    return [
        {
            "incident": name,
            **{
                side: {what: found[name][side][what] for what in ("means", "acknowledged", "found")}
                for side in ("stock", "landed")
            },
        }
        for name in SHOWN
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """The table, with what each side was told beside what was on the disk."""
    lines = [
        "| what happened | with | told that it is stored | found on the disk |",
        "|---|---|---|---|",
    ]
    for row in rows:
        title = importlib.import_module(f"demo.{row['incident']}").TITLE
        stock, landed = row["stock"], row["landed"]
        lines += [
            f"| {title} | {stock['means']} | {stock['acknowledged']} | **{stock['found']}** |",
            f"| | {landed['means']} | {landed['acknowledged']} | {landed['found']} |",
        ]
    return "\n".join(line.replace("Flow- ", "Flow") for line in lines) + "\n"


def main(*arguments: str) -> int:
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not closed:
        sys.exit("README.md has no place for the table")
    if not arguments:
        FIGURES.write_text(json.dumps(kept(json.load(sys.stdin)), indent=1) + "\n", encoding="utf-8")
    written = f"{before}{BEGIN}\n{table(json.loads(FIGURES.read_text(encoding='utf-8')))}\n{END}{after}"
    if arguments == ("--check",):
        return int(written != README.read_text(encoding="utf-8"))
    README.write_text(written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
