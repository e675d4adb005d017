"""What survives what: landed's stores and those that do the same without it, under the same cuts, kills and bad disks.

    python -m lab.survival [--store NAME ...] [--column NAME ...] [--write]

Every row is driven through the same workloads (`lab.workloads`) and judged by the same rule: what was acknowledged is
there, whole, and what is there was put there. Of a peer that raises an error, either outcome is taken. With --write
what was tried takes its place in `RECORDED`, and the table of all that is recorded there in each of `PLACES`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lab import bad_disk, crash, kill, rivals, workloads
from lab.pages import Place

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PLACES = [
    Place(ROOT / page, "<!-- survival: python -m lab.survival -->", "<!-- end of survival -->")
    for page in ("README.md", "docs/explanation/what-survives-what.md")
]
"""Where the table stands."""
RECORDED = HERE.parent / "survival.json"
STORES = {
    "files": "whole files",
    "journal": "journal",
    "graph": "LangGraph checkpoints",
    "memory": "CrewAI memory",
    "flow states": "CrewAI flow states",
    "checkpoints": "CrewAI checkpoints",
    **{name: name for name in workloads.PEERS},
}
"""The workloads that are compared, and what the table calls them."""
PACKAGES = (*("langgraph", "langgraph-checkpoint-sqlite", "crewai", "lancedb", "agent-coherence", "atomicwrites"),)
"""Whose versions are told with the table."""
STATES = 40
KILLS = 12
STRIDE = 6
STUCK = ("the process ended with -14", "the process ended with -7", "EnsureSecretError")
"""What is said of a process that did not end within `lab.child.GUARD`, of one that a full disk kills by SIGBUS, where
SQLite maps its index, and of a store that asks to be repaired by hand: nothing is known to be lost; nothing goes on."""
PATIENCE = 300
"""Seconds for all trials of a cell with failing requests. After an error SQLite may wait for a lock for very long."""
SEED = 7


def _counts(bad: int, trials: int, problems: list[str]) -> list[int]:
    """How many trials are bad, of how many, and in how many of the others the store was stuck."""
    stuck = min(bad, sum(any(words in problem for words in STUCK) for problem in problems))
    return [bad - stuck, trials, stuck]


def power_cuts(name: str) -> list[int]:
    result = crash.explore(["ext4"], [name], STATES, SEED)
    (row,) = result["table"].values()
    return _counts(row.get("bad", 0), row.get("states", 0), result["problems"])


def kills(name: str) -> list[int]:
    result = kill.explore(name, limit=KILLS)
    return _counts(result["bad"], result["killed"], result["problems"])


def _failing(name: str, fault: str) -> list[int] | str:
    try:
        result = bad_disk.series("ext4", name, fault, STRIDE)
    except subprocess.TimeoutExpired:
        return f"waits for more than {bad_disk.GUARD} s"
    if not result["counts"].get("trials"):
        if result["problems"]:
            raise RuntimeError(f"{name}, {fault}: {result['problems']}")
        return f"no {fault} is met"
    return _counts(result["counts"].get("bad", 0), result["counts"]["trials"], result["problems"])


def failing_writes(name: str) -> list[int] | str:
    return _failing(name, "write")


def failing_flushes(name: str) -> list[int] | str:
    return _failing(name, "flush")


def full_disk(name: str) -> list[int] | str:
    return _failing(name, "bytes")


def two_writers(name: str) -> list[int]:
    result = rivals.explore(name)
    return [result["lost"], result["acknowledged"]]


COLUMNS = {
    "power cut": power_cuts,
    "kill": kills,
    "failing write": failing_writes,
    "failing flush": failing_flushes,
    "full disk": full_disk,
    "two writers": two_writers,
}
"""Each says in how many trials something acknowledged was lost or something half was visible, and of how many; of two
writers, how many acknowledged additions are lost, and of how many."""


def table(recorded: dict[str, Any]) -> str:
    """What was recorded, as a table."""
    lines = [f"| store | {' | '.join(COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}"]
    for name, words in STORES.items():
        row = recorded["rows"].get(name, {})
        cells = [_cell(row.get(column), column) for column in COLUMNS]
        lines.append(f"| {words if name in workloads.PEERS else f'{words} *(landed)*'} | {' | '.join(cells)} |")
    versions = ", ".join(f"{package} {version}" for package, version in recorded["versions"].items())
    return "\n".join([*lines, "", f"With {versions}."])


def _cell(counts: list[int] | str | None, column: str) -> str:
    if counts is None or isinstance(counts, str):
        return counts or "not tried"
    bad, trials, *rest = counts
    stuck = sum(rest)
    words = f"**{bad} of {trials} {'lost' if column == 'two writers' else 'bad'}**" if bad else f"{trials - stuck} good"
    return f"{words}, {stuck} stuck" if stuck else words


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.survival", description=__doc__.partition("\n")[0])
    parser.add_argument("--store", nargs="+", choices=[*STORES], default=[*STORES])
    parser.add_argument("--column", nargs="+", choices=[*COLUMNS], default=[*COLUMNS])
    parser.add_argument("--write", action="store_true", help="record it, and renew the tables of the pages")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    bad_disk.GUARD = PATIENCE
    recorded: dict[str, Any] = json.loads(RECORDED.read_text()) if RECORDED.exists() else {"rows": {}}
    for name in options.store:
        if workloads.missing(name):
            print(f"{name} is left out: {workloads.missing(name)}", file=sys.stderr)
            continue
        row = recorded["rows"].setdefault(name, {})
        for column in options.column:
            started = time.monotonic()
            row[column] = COLUMNS[column](name)
            words = _cell(row[column], column)
            print(f"{name:24}{column:16}{words:28}{time.monotonic() - started:5.0f} s", file=sys.stderr, flush=True)
        recorded["versions"] = {package: importlib.metadata.version(package) for package in PACKAGES}
        if options.write:
            RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")
    print(json.dumps(recorded) if options.json else table(recorded))
    if options.write:
        for place in PLACES:
            place.write(table(recorded))
    return 0


if __name__ == "__main__":
    sys.exit(main())
