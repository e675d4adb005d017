"""Every code block of the documentation runs, and prints what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from blocks import blocks_of, check_page, has_code, untypable

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if has_code(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_page(page: Path, tmp_path: Path) -> None:
    check_page(page, tmp_path)


def test_what_is_to_be_typed_can_be() -> None:
    tutorials = [page for page in PAGES if "Type the blocks below" in page.read_text(encoding="utf-8")]
    assert len(tutorials) >= 4
    # One how-to shows a program: an event loop runs until it has ended.
    howtos = [page for page in PAGES if page.parent.name == "how-to" and page.stem != "use-from-asyncio"]
    assert not [line for page in [*tutorials, *howtos] for line in untypable(page)]


def test_no_block_is_overlooked() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        opened = [line for line in page.read_text(encoding="utf-8").splitlines() if line.lstrip().startswith("```")]
        named = [line for line in opened if line.strip() != "```"]
        assert len(opened) % 2 == 0, f"{page}: a fence is not closed"
        assert len(blocks_of(page)) == len(named), page


def test_every_test_that_a_page_names_is_there() -> None:
    named = re.compile(r"(?:shared_core/tests|packages/[\w-]+/tests|integration_tests)/[\w/]+\.py")
    pages = {page: named.findall(page.read_text(encoding="utf-8")) for page in (ROOT / "docs").rglob("*.md")}
    assert any(pages.values())
    assert not [
        f"{page.name}: {path}" for page, paths in pages.items() for path in paths if not (ROOT / path).is_file()
    ]


# The check itself: a page that does not hold must fail.


def failing(text: str, tmp_path: Path) -> str:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError) as caught:
        check_page(page, tmp_path)
    return str(caught.value)


def test_a_block_that_raises_fails_with_its_line(tmp_path: Path) -> None:
    assert 'page.md", line 4' in failing("# Page\n\n```python\n1 / 0\n```\n", tmp_path)


def test_other_output_than_shown_fails(tmp_path: Path) -> None:
    said = failing("```python\nprint('one')\nprint('two')\n```\n\nprints\n\n```text\none\n...three\n```\n", tmp_path)
    assert "page.md:9" in said
    assert "two" in said


def test_other_output_of_a_command_than_shown_fails(tmp_path: Path) -> None:
    assert "page.md:4" in failing("```console\n$ echo one\none\n$ echo two\nthree\n```\n", tmp_path)


def test_a_command_that_fails_stops_the_page(tmp_path: Path) -> None:
    assert "status 3" in failing("```console\n$ exit 3\n```\n", tmp_path)


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("for x in []:\n    pass\nprint()\n", 6),  # no empty line behind the loop
        ("def f():\n    x = 1\n\n    return x\n", 6),  # an empty line inside the function
    ],
)
def test_what_the_prompt_would_refuse_is_seen(code: str, line: int, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n```python\n{code}```\n")
    assert untypable(page) == [f"page.md:{line}"]


def test_blocks_share_a_namespace_and_dots_stand_for_what_differs(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nx = 1\n```\n\n- in a list\n\n    ```python\n    print(x, object())\n    ```\n\n"
        "    ```text\n    1 <object ...>\n    ```\n\n```console\n$ false; echo $?\n1\n```\n\n```sh\nexit 9\n```\n"
    )
    check_page(page, tmp_path)


def test_a_page_that_needs_what_is_not_installed_is_skipped_and_says_so(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- needs: landed -->\n<!-- needs: no_such_package -->\n\n```python\n1 / 0\n```\n")
    with pytest.raises(pytest.skip.Exception, match=r"page\.md needs no_such_package"):
        check_page(page, tmp_path)
