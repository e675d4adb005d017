"""What ``import landed`` and its hot modules cost over a bare interpreter, on every Python at hand."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys

from frame import Cell, Contender, Report, measure

STATEMENT = "import landed; import landed.lock, landed.publish, landed.records, landed.files"
FIRST_WRITE = f"{STATEMENT}; import landed.landing"
"""And what the first write of a file loads besides, of landed's own."""
STANDARD = "import __future__, errno, fcntl, sys, time"
"""What they import from the standard library."""
LIMIT_MS = 3.0
VERSIONS = range(10, 15)


def interpreters() -> dict[str, str]:
    """This one, those of the PATH, those that pyenv installed: each version's executable."""
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    found = dict([_identity(sys.executable)])
    for minor in VERSIONS:
        for candidate in (shutil.which(f"python3.{minor}"), *glob.glob(f"{pyenv}/versions/3.{minor}.*/bin/python")):
            version, executable = _identity(candidate) if candidate is not None else ("", "")
            if version == f"3.{minor}":
                found.setdefault(version, executable)
    return dict(sorted(found.items(), key=lambda item: int(item[0][2:])))


def _identity(python: str) -> tuple[str, str]:
    """Its version, and what really runs: a shim on the PATH is a shell script, or stands for no version at all."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
    answer = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
    version, _, executable = answer.stdout.strip().partition(" ")
    return version, executable


def report_imports(report: Report, rounds: int) -> None:
    """Whole processes, the bare one and the importing one in turn; and what -X importtime adds up to."""
    import landed

    source = os.path.dirname(os.path.dirname(os.path.abspath(landed.__file__)))
    path = f"import sys; sys.path.insert(0, {source!r}); "
    programs = {"bare": path, "standard": path + STANDARD, "landed": path + STATEMENT, "writing": path + FIRST_WRITE}
    pythons = interpreters()
    told = _importtimes([[python, code] for python in pythons.values() for code in programs.values()])
    rows: list[list[Cell]] = []
    for version, python in pythons.items():
        contenders = [
            Contender(name, lambda _, command=command: subprocess.run(command, check=True))
            for name in ("bare", "standard", "landed")
            for command in [_command(python, programs[name])]
        ]
        samples = measure(f"imports, {version}", contenders, rounds)
        cost = (samples["landed"].median - samples["bare"].median) * 1e3
        nothing, standard, importtime, writing = (told[python, code] for code in programs.values())
        rows.append(
            [
                version,
                f"{samples['bare'].median * 1e3:.2f}",
                f"{samples['landed'].median * 1e3:.2f}",
                f"{cost:.2f}",
                f"{(samples['landed'].least - samples['bare'].least) * 1e3:.2f}",
                f"{(samples['standard'].median - samples['bare'].median) * 1e3:.2f}",
                f"{importtime - nothing:.2f}",
                f"{standard - nothing:.2f}",
                f"{writing - nothing:.2f}",
            ]
        )
        report.require(f"import landed and its hot modules, Python {version}", LIMIT_MS, importtime - nothing, "ms")
    report.table(
        "Imports: milliseconds over a bare interpreter (python -I -S)",
        [
            "Python",
            "bare",
            "landed",
            "cost",
            "cost (least)",
            "of which standard",
            "-X importtime",
            "standard by it",
            "with a write's",
        ],
        rows,
        [
            STATEMENT,
            "cost: medians of whole processes, landed's less the bare one's",
            f"with a write's: -X importtime of what has written a file, too: {FIRST_WRITE}",
            f"standard: what they import from the standard library: {STANDARD}",
        ],
    )


def _importtimes(programs: list[list[str]]) -> dict[tuple[str, str], float]:
    """For each interpreter and its code the least of thirty sums of self times, in milliseconds; in turns.

    So that each has had the machine at its best, whose pace may change within a second.
    """
    least: dict[tuple[str, str], float] = {}
    for _ in range(30):
        for python, code in programs:
            command = _command(python, code, "-X", "importtime")
            told = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()
            sums = [line.removeprefix("import time:").split("|")[0].strip() for line in told]
            spent = sum(int(line) for line in sums if line.isdigit()) / 1e3
            least[python, code] = min(spent, least.get((python, code), spent))
    return least


def _command(python: str, code: str, *options: str) -> list[str]:
    return [python, "-I", "-S", *options, "-c", code]
