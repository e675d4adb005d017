"""Runs tests against a landed with a bug, at the price of the tests: each trial is a fork of a process that has pytest.

    with Trials() as trials:
        trials.failing(["shared_core/tests/test_rules.py"], path)

The process that forks (``python -m lab.trial``) never imports landed, so that every child imports the one at `path`.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING

import hypothesis.stateful  # noqa: F401 - for the children
import pytest

if TYPE_CHECKING:
    from typing_extensions import Self

ROOT = Path(__file__).resolve().parents[3]
LAB = Path(__file__).resolve().parents[1]
HANGS = 20
"""Seconds after which a test hangs; a bug that makes it hang is seen."""
RAN = (
    *(pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED),
    pytest.ExitCode.INTERRUPTED,  # a file of tests that cannot be imported
)
OPTIONS = (
    *("-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"),
    *("-p", "pytest_timeout", "--timeout=0"),  # whoever waits for the answer sees what hangs
)


class Trials:
    """Processes that fork for every trial, `jobs` of them; more threads than that wait for each other."""

    def __init__(self, jobs: int = 1) -> None:
        self._jobs = jobs
        self._idle: Queue[subprocess.Popen[str]] = Queue()

    def __enter__(self) -> Self:
        for _ in range(self._jobs):
            process = subprocess.Popen(
                [sys.executable, "-m", "lab.trial"],
                cwd=LAB,
                env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "400"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self._idle.put(process)
        return self

    def __exit__(self, *_: object) -> None:
        for _ in range(self._jobs):
            self._idle.get().communicate()  # the end of its input is its end

    def failing(self, tests: list[str], path: str, hangs: int = HANGS) -> str:
        """The first of `tests` that fails with landed imported from `path`; "" when none does.

        Args:
            hangs: seconds after which a test hangs, and so fails.

        Raises:
            RuntimeError: they could not be run.
        """
        process = self._idle.get()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            print(json.dumps([path, tests, hangs]), file=process.stdin, flush=True)
            failed, status, said = json.loads(process.stdout.readline())
        finally:
            self._idle.put(process)
        if status not in RAN:
            raise RuntimeError(f"{tests}: {status} {said}")
        return failed


class _Chosen:
    """Runs the chosen tests, or files of tests, in their order; those that are gone are none that fail.

    Attributes:
        failed: the first that did.
    """

    def __init__(self, tests: list[str], answer: int) -> None:
        self._places = {test: place for place, test in enumerate(tests)}
        self._answer = answer
        self.failed = ""

    def say(self, *what: object) -> None:
        os.write(self._answer, json.dumps(what).encode() + b"\n")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.say(nodeid)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        by_file = {item: self._places.get(item.nodeid.partition("::")[0]) for item in items}
        places = {item: self._places.get(item.nodeid, by_file[item]) for item in items}
        items[:] = sorted((item for item in items if places[item] is not None), key=places.__getitem__)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed = self.failed or f"{report.nodeid} cannot be imported"


def _child(path: str, tests: list[str], hangs: int, place: str, answer: int) -> None:
    """Become a process that a shell could have started, run the tests, answer with the first that fails."""
    os.setsid()
    for number, name, how in ((0, os.devnull, os.O_RDONLY), (1, f"{place}/out", os.O_WRONLY | os.O_CREAT)):
        fd = os.open(name, how)
        os.dup2(fd, number)
        os.close(fd)
    os.dup2(1, 2)
    os.chdir(ROOT)
    os.environ |= {"PYTHONPATH": path, "LANDED_STATE_DIR": f"{place}/state"}
    sys.path[:] = [path, *(entry for entry in sys.path if entry not in ("", str(LAB)))]
    for name in [name for name in sys.modules if name.partition(".")[0] == "lab"]:
        del sys.modules[name]
    chosen = _Chosen(tests, answer)
    files = dict.fromkeys(file for test in tests if Path(file := test.partition("::")[0]).exists())
    options = [*OPTIONS, f"--basetemp={place}/tests"]
    status = pytest.main([*options, *files], plugins=[chosen]) if files else pytest.ExitCode.NO_TESTS_COLLECTED
    chosen.say(chosen.failed, int(status))


def _trial(path: str, tests: list[str], hangs: int) -> tuple[str, int, str]:
    """What failed, the status of pytest and, where it could not run them, what it said."""
    place = tempfile.mkdtemp(prefix="landed-trial-")
    os.chmod(place, 0o755)
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            _child(path, tests, hangs, place, theirs)
        finally:
            os._exit(0)  # whatever threads the bug left
    os.close(theirs)
    try:
        running, answers = [f"{tests[0]} does not start"], b""
        while len(running) == 1:
            said = os.read(ours, 65536) if select.select([ours], [], [], hangs)[0] else b""
            if not said:  # it hangs, or the process has ended
                return running[0], pytest.ExitCode.TESTS_FAILED, ""
            *lines, answers = (answers + said).split(b"\n")
            running = json.loads(lines[-1]) if lines else running
        failed, status = running
        return failed, status, Path(place, "out").read_text(errors="replace")[-2000:]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # and the programs that the tests started
        os.waitpid(pid, 0)
        os.close(ours)
        shutil.rmtree(place, ignore_errors=True)


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(_trial(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
