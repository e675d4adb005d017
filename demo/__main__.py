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
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from demo import ends_too_soon, half_a_batch, one_flow_id, one_kill, says_success, three_agents, two_runs, two_writers
from demo.offline_crewai import INSTALLED
from demo.page import page_of
from demo.report import BOLD, DIM, Row, Screen
from demo.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

INCIDENTS: dict[str, ModuleType] = {
    "says_success": says_success,
    "one_kill": one_kill,
    "two_writers": two_writers,
    "half_a_batch": half_a_batch,
    "two_runs": two_runs,
    "three_agents": three_agents,
}
CREWAI = {"one_flow_id": one_flow_id, "ends_too_soon": ends_too_soon}
"""Where CrewAI is installed; `make demo` installs it."""
if INSTALLED:
    INCIDENTS |= CREWAI
TOGETHER = 2
"""Incidents that are replayed at a time."""


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    names = options.incidents or list(INCIDENTS)
    screen = Screen(sys.stderr if options.json else sys.stdout, len(names))
    started = monotonic()
    with tempfile.TemporaryDirectory(prefix="landed-demo-", dir=options.directory) as made:
        # Its own locks and records, for the processes that it starts as well.
        os.environ["LANDED_STATE_DIR"] = str(Path(made, "state"))
        with _nurseries(names):
            rows = _replay_all(names, Path(made), screen)
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


@contextmanager
def _nurseries(names: Iterable[str]) -> Iterator[None]:
    """Import or fetch what frameworks the incidents need, while others are replayed."""
    started = [start() for start in {INCIDENTS[name].nursery for name in names if hasattr(INCIDENTS[name], "nursery")}]
    try:
        yield
    finally:
        for nursery in started:
            nursery.close()


def _replay_all(names: list[str], directory: Path, screen: Screen) -> list[Row]:
    """Replay so many at a time as have a core each: most of an incident is waiting for processes and disks."""
    with ThreadPoolExecutor(TOGETHER) as pool:
        replays = [pool.submit(_replay, name, directory / name, screen) for name in names]
        try:
            for ended in as_completed(replays):
                ended.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [row for replay in replays for row in replay.result()]


def _replay(name: str, directory: Path, screen: Screen) -> list[Row]:
    module = INCIDENTS[name]
    scene = Scene(directory, lambda text: screen.progress(name, text))
    rows = [Row(name, case, module.stock(scene, case), module.landed(scene, case)) for case in module.CASES]
    with screen.block(name):
        screen.say()
        screen.say(module.TITLE, BOLD)
        screen.say(f"as in {module.REPORTS}", DIM)
        for row in rows:
            screen.say(f"  {row.case}")
            screen.outcome(row.stock, good=row.stock.kept)
            screen.outcome(row.landed, good=row.landed.held)
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
        parser.error("CrewAI is not installed here; `make demo` installs it on Python 3.10 to 3.13")
    if unknown:
        parser.error(f"no incident is called {', '.join(unknown)}; there are {names}")
    return options


if __name__ == "__main__":
    sys.exit(main())
