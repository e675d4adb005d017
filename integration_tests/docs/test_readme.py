"""What the READMEs show runs, and each guarantee that they name a test for has that test."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import blocks_of, check_page, untypable

ROOT = Path(__file__).resolve().parents[2]
READMES = [ROOT / "README.md", *sorted(ROOT.glob("shared_core/README.md")), *sorted(ROOT.glob("packages/*/README.md"))]
TEST = re.compile(r"`((?:[\w-]+/)+(test_\w+\.py)(?:::(\w+))?)`")
NAMED = re.compile(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)")
"""A page of the documentation by its name in the menu, or a section of the README."""
MARKS = re.compile(r"applymarker\(pytest\.mark\.xfail")
"""How a test says while it runs that a case is known to fail."""
TABLE = "## Each guarantee and the test that shows it"
OPEN = "(open)"
"""What a row says whose tests have cases that are known to fail."""


@pytest.mark.parametrize("name", [str(page.relative_to(ROOT)) for page in READMES])
def test_examples_run(name: str, tmp_path: Path) -> None:
    page = ROOT / name
    assert any(block.language == "python" for block in blocks_of(page)), "a README shows how it is used"
    assert untypable(page) == []
    check_page(page, tmp_path)


def test_the_hook_shows_its_guarantees() -> None:
    pytest.importorskip("landed_claude_code", reason="the hook's tests need it")
    text = (ROOT / "packages" / "landed-claude-code" / "README.md").read_text(encoding="utf-8")
    named = {match[1] for match in TEST.finditer(text)}
    assert len(named) > 30
    assert sorted(named - collected(named).keys()) == []


def test_crewai_landed_shows_its_guarantees() -> None:
    pytest.importorskip("crewai_landed", reason="its tests need it")
    text = (ROOT / "packages" / "crewai-landed" / "README.md").read_text(encoding="utf-8")
    named = {match[1] for match in TEST.finditer(text)}
    assert len(named) > 15
    assert sorted(named - collected(named).keys()) == []


def test_the_first_example_is_short() -> None:
    example = next(block for block in blocks_of(ROOT / "README.md") if block.language == "python")
    assert len(example.source.splitlines()) <= 20


def test_every_guarantee_has_its_test() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition(TABLE)[2].partition("\n## ")[0]
    rows = [row for row in section.splitlines() if row.startswith("|")][2:]
    assert len(rows) > 10
    assert not [row for row in rows if not TEST.search(row)]
    tests = collected({match[1] for match in TEST.finditer(text)})
    assert sorted({match[1] for match in TEST.finditer(text)} - tests.keys()) == []
    # A test with cases that are known to fail shows less than its row says, and the row has to admit it.
    failing = {row for row in rows if any(tests[match[1]] for match in TEST.finditer(row))}
    assert sorted(failing) == [row for row in sorted(rows) if OPEN in row]


def test_links_lead_somewhere() -> None:
    for page in READMES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page}: {target}"


def test_what_a_package_index_shows_links_to_nothing_beside_it() -> None:
    """The README of a distribution is read where the repository is not."""
    links = re.compile(r"\]\((?!https://|#)([^)]+)\)")
    shipped = {page: links.findall(page.read_text(encoding="utf-8")) for page in READMES if page.parent != ROOT}
    assert len(shipped) > 3
    assert {page: found for page, found in shipped.items() if found} == {}


def test_a_page_that_a_package_index_shows_by_name_has_that_name() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    here = (ROOT / "README.md").read_text(encoding="utf-8")
    shipped = (" ".join(page.read_text(encoding="utf-8").split()) for page in READMES if page.parent != ROOT)
    named = {name for text in shipped for name in NAMED.findall(text)}
    assert len(named) > 5
    assert sorted(name for name in named if f"- {name}: " not in menu and f"## {name}\n" not in here) == []


def test_the_picture_is_what_its_tool_draws() -> None:
    command = [sys.executable, "tools/two_writers_picture.py", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    assert "docs/pictures/two_writers.svg" in (ROOT / "README.md").read_text(encoding="utf-8")


COLLECT = """
import json, pytest, sys

class Collector:
    def pytest_collection_modifyitems(self, items):
        for item in items:
            known = any(not mark.args or mark.args[0] for mark in item.iter_markers("xfail"))
            print("\\0" + json.dumps([item.nodeid, known]))

sys.exit(pytest.main(["--collect-only", "-qq", "-o", "addopts=", *sys.argv[1:]], plugins=[Collector()]))
"""


def collected(named: set[str], root: Path = ROOT) -> dict[str, bool]:
    """Of the files and tests in `named`, those that pytest finds, and whether cases of them are known to fail."""
    files = sorted({test.partition("::")[0] for test in named})
    ran = subprocess.run(
        [sys.executable, "-c", COLLECT, *files], cwd=root, capture_output=True, text=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found: dict[str, bool] = {}
    for line in ran.stdout.splitlines():
        if line.startswith("\0"):
            test, known = json.loads(line[1:])
            file = test.partition("::")[0]
            marks_while_running = MARKS.search((root / file).read_text(encoding="utf-8")) is not None
            for name in (file, test.partition("[")[0]):
                found[name] = found.get(name, False) or known or marks_while_running
    return found


# The check itself: it tells what is there from what is not, and what holds from what is known not to.


def test_a_test_that_is_not_there_is_missed(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("def test_there(): ...\n")
    assert collected({"test_a.py::test_gone"}, tmp_path) == {"test_a.py": False, "test_a.py::test_there": False}


def test_a_test_that_is_known_to_fail_in_part_shows(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('case', [1, pytest.param(2, marks=pytest.mark.xfail(strict=True, reason='a bug'))])\n"
        "def test_part(case): ...\n"
        "@pytest.mark.xfail(False, reason='not here')\n"
        "def test_elsewhere(): ...\n"
    )
    (tmp_path / "test_b.py").write_text(
        "import pytest\ndef test_b(request): request.applymarker(pytest.mark.xfail(reason='a bug'))\n"
    )
    tests = collected({"test_a.py", "test_b.py"}, tmp_path)
    assert tests["test_a.py::test_part"]
    assert not tests["test_a.py::test_elsewhere"]
    assert tests["test_b.py::test_b"]


def test_the_table_of_what_survives_is_the_one_of_its_page() -> None:
    begin, end = "<!-- survival: python -m lab.survival -->", "<!-- end of survival -->"
    pages = [ROOT / "README.md", ROOT / "docs" / "explanation" / "what-survives-what.md"]
    tables = [page.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0].strip() for page in pages]
    assert tables[0].startswith("| store |")
    assert tables[0] == tables[1]
