"""What the READMEs show runs, and each guarantee that they name a test for has that test."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import blocks_of, check_page

ROOT = Path(__file__).resolve().parents[2]
READMES = [ROOT / "README.md", *sorted(ROOT.glob("shared_core/README.md")), *sorted(ROOT.glob("packages/*/README.md"))]
TEST = re.compile(r"`((?:\w+/)+(test_\w+\.py)(?:::(\w+))?)`")
TABLE = "## Each guarantee and the test that shows it"


BROKEN = {
    "shared_core/README.md": "its example reads a plan.md that nothing has written",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.xfail(strict=True, reason=BROKEN[name])) if name in BROKEN else name
        for name in (str(page.relative_to(ROOT)) for page in READMES)
    ],
)
def test_examples_run(name: str, tmp_path: Path) -> None:
    page = ROOT / name
    assert any(block.language == "python" for block in blocks_of(page)), "a README shows how it is used"
    check_page(page, tmp_path)


def test_the_first_example_is_short() -> None:
    example = next(block for block in blocks_of(ROOT / "README.md") if block.language == "python")
    assert len(example.source.splitlines()) <= 20


def test_every_guarantee_has_its_test() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition(TABLE)[2].partition("\n## ")[0]
    rows = [row for row in section.splitlines() if row.startswith("|")][2:]
    assert len(rows) > 10
    assert not [row for row in rows if not TEST.search(row)]
    named = {match[1] for match in TEST.finditer(text)}
    assert sorted(named - collected(named)) == []


def test_links_lead_somewhere() -> None:
    for page in READMES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page}: {target}"


def collected(named: set[str]) -> set[str]:
    """The files among `named` in which pytest finds tests, and the tests among `named` that it finds."""
    files = sorted({test.partition("::")[0] for test in named})
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "--no-header", "-o", "addopts=", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert listed.returncode == 0, listed.stdout + listed.stderr
    tests = {line.partition("[")[0] for line in listed.stdout.splitlines() if "::" in line}
    return tests | {test.partition("::")[0] for test in tests}


def test_a_test_that_is_not_there_is_missed() -> None:
    here = f"integration_tests/docs/{Path(__file__).name}"
    named = {f"{here}::test_examples_run", f"{here}::test_that_nobody_wrote"}
    assert named - collected(named) == {f"{here}::test_that_nobody_wrote"}
