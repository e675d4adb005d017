"""Run the code of a Markdown page as its reader would: ``python blocks.py PAGE`` in an empty directory.

* ``python`` blocks run from top to bottom, in one namespace, as one program.
* A ``text`` block is what the ``python`` block above it prints.
* ``console`` blocks are transcripts: lines that start with ``$ `` run in a shell, the lines below are what they print.
  A command that fails stops the page, unless the transcript asks for its status (``; echo $?``).

In both kinds of output ``...`` stands for what differs from run to run. Other blocks (``sh``, ``toml``, none) are to
be read, not run.

A page that says ``<!-- needs: NAME -->`` is run where the package NAME can be imported, and skipped elsewhere.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib.util
import io
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<source>.*?)^(?P=indent)```[ ]*$", re.MULTILINE | re.DOTALL
)
NEEDS = re.compile(r"^<!-- needs: (\w+) -->$", re.MULTILINE)
COMPOUND = (
    ast.AsyncFor, ast.AsyncFunctionDef, ast.AsyncWith, ast.ClassDef, ast.For, ast.FunctionDef, ast.If, ast.Match,
    ast.Try, ast.While, ast.With,
)  # fmt: skip
PAGE_TIMEOUT = 240
"""Seconds until a page counts as hung."""
ALONE = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "CREWAI_TESTING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "OTEL_SDK_DISABLED": "true",
}
"""No page needs another host; CrewAI asks several, and waits for them, unless it is told not to."""


class Block(NamedTuple):
    """One fenced block of a page."""

    language: str
    line: int
    """Of its first line of code, counted from 1."""
    source: str


class Differs(Exception):
    """A block printed something else than its page shows."""


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page that name a language, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(match["language"], text.count("\n", 0, match.start()) + 2, textwrap.dedent(match["source"]))
        for match in FENCE.finditer(text)
    ]


def has_code(page: Path) -> bool:
    """Whether anything on the page runs."""
    return any(block.language in {"python", "console"} for block in blocks_of(page))


def missing(page: Path) -> list[str]:
    """The packages that a page needs and that are not installed here."""
    return [name for name in NEEDS.findall(page.read_text(encoding="utf-8")) if importlib.util.find_spec(name) is None]


def untypable(page: Path) -> list[str]:
    """The lines of its ``python`` blocks at which Python's prompt, up to 3.12, refuses what is typed or pasted.

    It ends a compound statement at an empty line, and only there.
    """
    refused = []
    for block in blocks_of(page):
        if block.language != "python":
            continue
        lines = [*block.source.splitlines(), ""]
        for statement in ast.parse(block.source).body:
            if isinstance(statement, COMPOUND):
                first = min(node.lineno for node in [statement, *getattr(statement, "decorator_list", [])])
                assert statement.end_lineno is not None
                numbers = [number for number in range(first, statement.end_lineno) if not lines[number].strip()]
                if lines[statement.end_lineno].strip():
                    numbers.append(statement.end_lineno)
                refused += [f"{page.name}:{block.line + number}" for number in numbers]
    return refused


def check_page(page: Path, directory: Path) -> None:
    """Run a page in a process of its own, with its own records, and fail with what it printed if it does not hold."""
    if lacking := missing(page):
        import pytest  # here, because the page's own process needs none

        pytest.skip(f"{page.name} needs {', '.join(lacking)}, which is not installed in this environment")
    work = directory / "work"
    work.mkdir()
    env = {key: value for key, value in os.environ.items() if not key.startswith(("LANDED_", "XDG_"))}
    env |= {
        "HOME": str(directory),
        "LANDED_STATE_DIR": str(directory / "state"),
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), env.get("PATH", os.defpath)]),
        "NO_COLOR": "1",
        "COLUMNS": "120",
    }
    ran = subprocess.run(
        [sys.executable, __file__, str(page)],
        cwd=work,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PAGE_TIMEOUT,
        check=False,
    )
    assert ran.returncode == 0, f"{page.name} does not hold:\n{ran.stdout}"


def run_page(page: Path) -> None:
    """Run the blocks of a page here.

    Raises:
        Differs: a block printed something else than the page shows.
        Exception: whatever a block raised.
    """
    namespace: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    for block in blocks_of(page):
        if block.language == "python":
            printed = _run_python(block, page, namespace)
        elif block.language == "text":
            _compare(block.source, printed, page, block.line)
        elif block.language == "console":
            _run_transcript(block, page)


def _run_python(block: Block, page: Path, namespace: dict[str, object]) -> str:
    # The empty lines in front make tracebacks count as the page does.
    code = compile("\n" * (block.line - 1) + block.source, str(page), "exec", dont_inherit=True)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, namespace)
    return out.getvalue()


def _run_transcript(block: Block, page: Path) -> None:
    command, shown, line = "", [], block.line
    for number, text in enumerate([*block.source.splitlines(), "$ "], block.line):
        if not text.startswith("$ "):
            shown.append(text + "\n")
            continue
        if command:
            ran = subprocess.run(
                ["/bin/sh", "-c", command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},  # both streams in the order that a terminal shows
                check=False,
            )
            if ran.returncode != 0:
                raise Differs(f"{page}:{line}: `{command}` ended with status {ran.returncode}:\n{ran.stdout}")
            _compare("".join(shown), ran.stdout, page, line)
        command, shown, line = text[2:], [], number


def _compare(shown: str, printed: str, page: Path, line: int) -> None:
    if not doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS):
        raise Differs(
            f"{page}:{line}: shown:\n{textwrap.indent(shown, '    ')}printed:\n{textwrap.indent(printed, '    ')}"
        )


if __name__ == "__main__":
    page = Path(sys.argv[1])
    sys.argv = [""]  # as at an interactive prompt
    os.environ |= ALONE
    run_page(page)
