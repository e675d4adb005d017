"""Bugs made from landed's own source: every flush, every check, every error and every lock gets one, whoever adds it.

A mutant has no text of its own to keep up to date: the rules below walk the modules that write (`MODULES`), and each
site that they know gives a mutant or two. So a flush that is new has its mutant from the first day, and a test that
must see it (`lab.matrix`).
"""

from __future__ import annotations

import ast
import itertools
import os
import shutil
import tempfile
from bisect import bisect_right
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import landed

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(landed.__file__).parent
FILES = ("landing", "deleting", "artifact", "shelf", "records", "memory")
"""The modules of whole files."""
SHARED = ("_fs", "lock", "publish", "state")
"""Those that whole files and journals have in common."""
JOURNAL = (
    *("local/ahead", "local/claim", "local/collection", "local/compaction", "local/directory", "local/doubt"),
    *("local/follower", "local/frames", "local/full", "local/log", "local/permissions", "local/reading"),
    *("local/recovery", "local/segments"),
)
MODULES = (*SHARED, *FILES, *JOURNAL)
FLUSHES = ("fsync", "fdatasync", "sync", "flush", "flush_ancestors", "_flush_names")
CHECKS = ("verify", "check", "refuse", "_verify", "_check", "_refuse", "still", "before_rename")
CARES = ("drop_cache", "sweep", "_sweep", "_discard", "_hand_on", "fchmod", "poison", "share", "_share")
"""Beginnings of the names of calls that only look, and of those that only clean up or hand on."""
RULES = (
    *("flush dropped", "failed flush tried again", "flush one step late", "error swallowed"),
    *("check skipped", "lock not taken", "lock released early", "call left out"),
)
DROPPED, AGAIN, LATE, SWALLOWED, SKIPPED, UNLOCKED, EARLY, LEFT_OUT = RULES

EQUIVALENT = {
    "local/log.py LocalLog._make_durable: flush one step late: `self.directory.sync()`": (
        "the step that then comes first is a flush as well, and no frame is written before both"
    ),
    "local/collection.py LocalCollection._refuse_if_claimed: lock released early: `lock.acquire(GLANCE)`": (
        "it is taken to see whether it is free, and released at once"
    ),
}
"""What the rules make and is no bug, with the reason."""


class Mutant(NamedTuple):
    """A bug: `new` in place of the source between two offsets of a module.

    Attributes:
        lines: where that is.
        around: the function.
    """

    module: str
    where: str
    rule: str
    what: str
    start: int
    stop: int
    new: str
    lines: range
    around: range

    @property
    def name(self) -> str:
        """What it is called in tables; the same as long as the site is."""
        return f"{self.module}.py {self.where}: {self.rule}: `{self.what}`"


class _Walk(ast.NodeVisitor):
    """All mutants of one module."""

    def __init__(self, module: str, text: str) -> None:
        self.module, self.text = module, text
        self._lines = [0]
        for line in text.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line.encode()))
        self._bytes = text.encode()
        self._where: list[tuple[str, range]] = []
        self.found: list[Mutant] = []

    def _span(self, node: ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._lines[node.lineno - 1] + node.col_offset
        return start, self._lines[node.end_lineno - 1] + node.end_col_offset

    def _add(self, rule: str, node: ast.AST, span: tuple[int, int], new: str) -> None:
        what = " ".join(ast.unparse(node).split())
        what = what if len(what) <= 70 else f"{what[:67]}..."
        lines = range(bisect_right(self._lines, span[0]), bisect_right(self._lines, span[1] - 1) + 1)
        where = ".".join(name for name, _ in self._where)
        self.found.append(Mutant(self.module, where, rule, what, *span, new, lines, self._where[-1][1]))

    def _named(self, node: ast.ClassDef | ast.FunctionDef) -> None:
        assert node.end_lineno is not None
        self._where.append((node.name, range(node.lineno, node.end_lineno + 1)))
        self.generic_visit(node)
        self._where.pop()

    visit_ClassDef = visit_FunctionDef = _named  # noqa: N815 - names of ast

    def generic_visit(self, node: ast.AST) -> None:
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                self._block(block)
        super().generic_visit(node)

    def _block(self, block: list[ast.stmt]) -> None:
        for statement, following in itertools.zip_longest(block, block[1:]):
            if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
                continue
            name = _called(statement.value)
            span = self._span(statement)
            if name in FLUSHES:
                self._flush(statement, following, span)
            elif name.startswith((*CHECKS, *CARES)):
                self._add(LEFT_OUT, statement, span, "pass")
            elif name == "acquire" and "lock" in ast.unparse(statement.value.func):
                self._add(UNLOCKED, statement, span, "pass")
                owner = ast.unparse(statement.value.func).removesuffix(".acquire")
                if following is None or ast.unparse(following) != f"{owner}.release()":  # at once, as it stands
                    self._add(EARLY, statement, span, f"{self._source(span)}; {owner}.release()")

    def _flush(self, statement: ast.Expr, following: ast.stmt | None, span: tuple[int, int]) -> None:
        self._add(DROPPED, statement, span, "pass")
        call = ast.unparse(statement)
        margin = "\n" + " " * statement.col_offset
        again = margin.join(("try:", f"    {call}", "except OSError:", f"    {call}"))
        self._add(AGAIN, statement, span, again)
        # What calls nothing, the flush may as well come after.
        if following is not None and any(isinstance(each, ast.Call) for each in ast.walk(following)):
            late = (span[0], self._span(following)[1])
            self._add(LATE, statement, late, f"{self._source(self._span(following))}{margin}{call}")

    def _source(self, span: tuple[int, int]) -> str:
        return self._bytes[span[0] : span[1]].decode()

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.body[-1], ast.Raise) and not node.orelse:
            test = node.test
            assert test.end_lineno is not None
            assert test.end_col_offset is not None
            start = self._lines[test.lineno - 1] + test.col_offset
            stop = self._lines[test.end_lineno - 1] + test.end_col_offset
            self._add(SKIPPED, test, (start, stop), "False")
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        caught = ast.unparse(node.type) if node.type is not None else "BaseException"
        if "OSError" in caught and any(isinstance(each, ast.Raise) for each in ast.walk(node)):
            start, _ = self._span(node.body[0])
            _, stop = self._span(node.body[-1])
            self._add(SWALLOWED, node.body[-1], (start, stop), "pass")
        self.generic_visit(node)


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def mutants() -> dict[str, Mutant]:
    """All mutants of `MODULES` by name, in the order of the source; those that are no bugs are left out."""
    found: dict[str, Mutant] = {}
    for module in MODULES:
        text = (SOURCE / f"{module}.py").read_text()
        walk = _Walk(module, text)
        walk.visit(ast.parse(text))
        for mutant in walk.found:
            name, number = mutant.name, 1
            while name in found:
                number += 1
                name = f"{mutant.name} ({number})"
            found[name] = mutant
    return {name: mutant for name, mutant in found.items() if name not in EQUIVALENT}


@contextmanager
def planted(mutant: Mutant | None) -> Iterator[str]:
    """A directory to import a landed from that has the bug; with None, one without. Every user may read it."""
    with tempfile.TemporaryDirectory(prefix="landed-planted-") as directory:
        os.chmod(directory, 0o755)  # programs of other users import it as well (test_sharing.py)
        shutil.copytree(SOURCE, Path(directory) / "landed")  # with what is compiled, which saves a second
        if mutant is not None:
            path = Path(directory) / "landed" / f"{mutant.module}.py"
            data = path.read_bytes()
            path.write_bytes(data[: mutant.start] + mutant.new.encode() + data[mutant.stop :])
            compile(path.read_bytes(), str(path), "exec")  # a bug that is no program proves nothing
        yield directory
