"""Which tests run a line of landed: found once, by running them all.

`lines()` starts pytest with this module as a plugin, which writes for every test how long it took and which lines of
landed it ran in its own process. Programs that a test starts are not looked into.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import CodeType

ROOT = Path(__file__).resolve().parents[3]
SOURCE = f"{ROOT}/shared_core/src/landed/"
REPORT = "LANDED_LAB_LINES"
OPTIONS = ("-q", "--tb=short", "-p", "no:cacheprovider", "-p", "lab.covering", "-n2")
LIMIT = 1800
"""Seconds for the tests of a layer."""


class Covered(dict[tuple[str, int], list[str]]):
    """For each line (module, number) the tests that run it, quickest first."""

    def of(self, module: str, lines: range, around: range) -> list[str]:
        """The tests that run any of `lines`.

        One for each way through the lines `around`, the rarest first, then a second for each, and so on: what is done
        about an error is on one way, and an error that leaves the function ends another. Of a way the quickest first.
        """
        ways: dict[str, list[int]] = {test: [] for line in lines for test in self.get((module, line), [])}
        for line in around:
            for test in self.get((module, line), []):
                if test in ways:
                    ways[test].append(line)
        found: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for test, way in ways.items():
            found[tuple(way)].append(test)
        rounds = itertools.zip_longest(*sorted(found.values(), key=len))
        return [test for each in rounds for test in each if test]


def lines(files: tuple[str, ...], longest: float) -> Covered:
    """Run the tests in `files` and see which lines each of them runs.

    Args:
        longest: seconds; a test that takes longer is left out, as it may seem to hang.

    Raises:
        RuntimeError: they could not be run.
    """
    with tempfile.TemporaryDirectory(prefix="landed-covering-") as place:
        os.chmod(place, 0o755)
        report = Path(place, "lines.jsonl")
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", *OPTIONS, f"--basetemp={place}/tests", *files],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), REPORT: str(report)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        if ran.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            raise RuntimeError(f"{files}: {ran.returncode} {ran.stdout[-4000:]}")
        print(*(line for line in ran.stdout.splitlines() if line.startswith("FAILED")), sep="\n", flush=True)
        tests = list(map(json.loads, report.read_text().splitlines()))
    covered = defaultdict(list)
    for test in sorted((test for test in tests if test["seconds"] < longest), key=lambda test: test["seconds"]):
        for module, numbers in test["lines"].items():
            for number in numbers:
                covered[module, number].append(test["test"])
    return Covered(covered)


_ran: dict[str, set[int]] = defaultdict(set)


def _line(code: CodeType, number: int) -> object:
    if code.co_filename.startswith(SOURCE):
        _ran[code.co_filename[len(SOURCE) : -len(".py")]].add(number)
    return sys.monitoring.DISABLE  # once is enough, until the next test


def pytest_sessionstart() -> None:
    if sys.version_info < (3, 12):
        raise pytest.UsageError("which tests run a line is seen by sys.monitoring, which Python has from 3.12 on")
    sys.monitoring.use_tool_id(sys.monitoring.COVERAGE_ID, "lab.covering")
    sys.monitoring.register_callback(sys.monitoring.COVERAGE_ID, sys.monitoring.events.LINE, _line)
    sys.monitoring.set_events(sys.monitoring.COVERAGE_ID, sys.monitoring.events.LINE)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    _ran.clear()
    sys.monitoring.restart_events()
    started, failed = time.monotonic(), item.session.testsfailed
    done = yield
    if item.session.testsfailed > failed:  # with no bug: it says nothing of one
        return done
    test = {"test": item.nodeid, "seconds": time.monotonic() - started}
    ran = {module: sorted(numbers) for module, numbers in _ran.items()}
    with open(os.environ[REPORT], "a") as file:
        file.write(json.dumps({**test, "lines": ran}) + "\n")
    return done
