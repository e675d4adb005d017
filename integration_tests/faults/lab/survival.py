"""What survives what: landed's stores and those that do the same without it, under the same cuts, kills and bad disks.

    python -m lab.survival [--write PAGE ...]

Every row is driven through the same workloads (`lab.workloads`) and judged by the same rule: what was acknowledged is
there, whole, and what is there was put there. Of a peer that raises an error, either outcome is taken. With --write the
table takes its place in each PAGE, between the two comments that mark it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lab import bad_disk, crash, kill, workloads

STATES = 40
KILLS = 8
STRIDE = 6
SEED = 7
BEGIN, END = "<!-- survival: python -m lab.survival -->", "<!-- end of survival -->"


def cuts(name: str) -> list[int]:
    (row,) = crash.explore(["ext4"], [name], STATES, SEED)["table"].values()
    return [row.get("bad", 0), row.get("states", 0)]


def kills(name: str) -> list[int]:
    result = kill.explore(name, limit=KILLS)
    return [result["bad"], result["killed"]]


def failing_writes(name: str) -> list[int]:
    counts = bad_disk.series("ext4", name, "write", STRIDE)["counts"]
    return [counts.get("bad", 0), counts.get("trials", 0)]


COLUMNS = {"power cut, ext4": cuts, "failing writes": failing_writes, "killed at a system call": kills}
"""Each says in how many states something acknowledged was lost or something half was visible, and of how many."""


def table(rows: dict[str, dict[str, list[int]]]) -> str:
    columns = list(next(iter(rows.values())))
    lines = [f"| store | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name, row in rows.items():
        words = f"{name} *(landed)*" if name not in workloads.PEERS else name
        cells = [f"**{bad} of {all_} bad**" if bad else f"{all_} of {all_} good" for bad, all_ in row.values()]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write(page: Path, text: str) -> None:
    """Put `text` between the marks of `page`."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.survival", description=__doc__.partition("\n")[0])
    parser.add_argument("--store", nargs="+", choices=[*workloads.EVERY], default=[*workloads.EVERY])
    parser.add_argument("--column", nargs="+", choices=[*COLUMNS], default=[*COLUMNS])
    parser.add_argument("--write", type=Path, metavar="PAGE", nargs="+", default=[])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = {}
    for name in options.store:
        if workloads.missing(name):
            print(f"{name} is left out: {workloads.missing(name)}", file=sys.stderr)
            continue
        rows[name] = {column: COLUMNS[column](name) for column in options.column}
        print(name, rows[name], file=sys.stderr, flush=True)
    print(json.dumps(rows) if options.json else table(rows))
    for page in options.write:
        write(page, table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
