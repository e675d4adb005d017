"""Run the incidents and say how they ended.

Exit status: 0 when landed kept its promise in every case, 1 when it did not, 2 when a fault could not be brought about
on the stock side, so that nothing was shown.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from time import monotonic

from demo import ends_too_soon, half_a_batch, one_flow_id, one_kill, says_success, three_agents, two_runs, two_writers
from demo.offline_crewai import INSTALLED
from demo.page import page_of
from demo.report import BOLD, DIM, Row, Screen
from demo.scene import Scene

INCIDENTS = {
    "says_success": says_success,
    "one_kill": one_kill,
    "two_writers": two_writers,
    "half_a_batch": half_a_batch,
    "two_runs": two_runs,
    "three_agents": three_agents,
}
CREWAI = {"one_flow_id": one_flow_id, "ends_too_soon": ends_too_soon}
"""Where CrewAI is installed: it is some 800 MB, so `make demo` puts it into an environment of its own."""
if INSTALLED:
    INCIDENTS |= CREWAI


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    screen = Screen(sys.stderr if options.json else sys.stdout)
    started = monotonic()
    with tempfile.TemporaryDirectory(prefix="landed-demo-", dir=options.directory) as made:
        # Its own locks and records, for the processes that it starts as well.
        os.environ["LANDED_STATE_DIR"] = str(Path(made, "state"))
        scene = Scene(Path(made), lambda text: screen.progress(f"    {text}"))
        rows = [row for name in options.incidents or INCIDENTS for row in _replay(name, scene, screen)]
    seconds = monotonic() - started
    if options.report:
        titles = {name: (module.TITLE, module.REPORTS) for name, module in INCIDENTS.items()}
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(page_of(rows, titles, seconds), encoding="utf-8")
    if options.json:
        cases = [{**row._asdict(), "stock": asdict(row.stock), "landed": asdict(row.landed)} for row in rows]
        print(json.dumps({"status": status_of(rows), "seconds": round(seconds, 1), "cases": cases}, indent=2))
    else:
        screen.say()
        screen.table(rows)
        if options.report:
            screen.say(f"As one HTML page: {options.report.resolve()}")
        screen.say(f"{_in_words(rows)} {seconds:.1f} s.")
    return status_of(rows)


def status_of(rows: list[Row]) -> int:
    if not all(row.landed.held for row in rows):
        return 1
    return 0 if all(row.stock.shown for row in rows) else 2


def _replay(name: str, scene: Scene, screen: Screen) -> list[Row]:
    module = INCIDENTS[name]
    screen.say()
    screen.say(module.TITLE, BOLD)
    screen.say(f"as in {module.REPORTS}", DIM)
    rows = []
    for case in module.CASES:
        screen.say(f"  {case}")
        stock = module.stock(scene, case)
        screen.outcome(stock, good=stock.kept)
        landed = module.landed(scene, case)
        screen.outcome(landed, good=landed.held)
        rows.append(Row(name, case, stock, landed))
    return rows


def _in_words(rows: list[Row]) -> str:
    broken = [row.case for row in rows if not row.landed.held]
    unmet = [row.case for row in rows if not row.stock.shown]
    if broken:
        return f"landed BROKE its promise: {'; '.join(broken)}."
    if unmet:
        return f"The pattern without landed was not seen to lose: {'; '.join(unmet)}."
    return f"landed kept its promise in {len(rows)} of {len(rows)} cases."


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m demo", description="Incidents, replayed with the pattern they happened to and with landed."
    )
    names = ", ".join(INCIDENTS)
    parser.add_argument("incidents", nargs="*", metavar="INCIDENT", help=f"only these, of {names}")
    parser.add_argument("--json", action="store_true", help="the outcomes for machines; what happens goes to stderr")
    parser.add_argument("--report", metavar="FILE.html", type=Path, help="make one HTML page of it as well")
    parser.add_argument(
        "--directory", metavar="DIR", help="on whose file system to replay them; default: temporary files"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.incidents if name not in INCIDENTS]
    if CREWAI.keys() & {*unknown}:
        parser.error("CrewAI is not installed here; make demo runs these in an environment that has it")
    if unknown:
        parser.error(f"no incident is called {', '.join(unknown)}; there are {names}")
    return options


if __name__ == "__main__":
    sys.exit(main())
