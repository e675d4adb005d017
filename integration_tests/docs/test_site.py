"""The documentation, built and opened from the disk: without a server, and without asking any other host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

import landed

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("LANDED_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE = 60_000
"""Milliseconds that a page may take on a busy machine."""

pytest.importorskip("mkdocs", reason="needs MkDocs: `tox -e docs` runs this")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright to drive a browser")
if CHROMIUM is None:
    pytest.skip("needs a Chromium (the Debian package chromium, or LANDED_CHROMIUM)", allow_module_level=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(built)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=True,
        timeout=200,
    )
    return built


@pytest.fixture
def page() -> Any:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.set_default_timeout(PATIENCE)
        yield opened
        browser.close()


def test_search_finds_a_page_from_the_disk(site: Path, page: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "how-to" / "audit.html").as_uri())
    page.locator("input.md-search__input").click()
    page.locator("input.md-search__input").press_sequentially("landed.errors.OutcomeUnknown")  # as a traceback says it
    found = page.locator(".md-search-result__item a").first
    found.wait_for()
    assert page.locator(".md-search-result__meta").inner_text() != "No matching documents"
    found.click()
    page.wait_for_url(lambda url: "audit.html" not in url)
    page.locator("article").wait_for()
    assert "OutcomeUnknown" in page.locator("article").inner_text()
    assert [url for url in asked if not url.startswith(("file:", "about:", "data:"))] == []


def public_in_crewai_landed() -> list[str]:
    """Its public names, without CrewAI, which is not installed where the site is built."""
    source = (ROOT / "packages" / "crewai-landed" / "src" / "crewai_landed" / "__init__.py").read_text(encoding="utf-8")
    return re.findall(r"(?m)^    from crewai_landed\.\w+ import (\w+) as \1$", source)


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    listed = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode()
    described = {line.split()[0].rpartition(".")[2] for line in listed.splitlines()}
    public = {*landed.__all__, "LandedSaver", *public_in_crewai_landed()}
    assert {"LandedStorage", "LandedSaver", "Receipt"} <= public
    assert sorted(public - described - {"__version__", "aio"}) == []


def test_links_lead_to_pages(site: Path, page: Any) -> None:
    page.goto((site / "index.html").as_uri())
    page.locator("article a", has_text="Your first write").first.click()
    page.wait_for_url("**/tutorial/first-write.html")
    assert page.locator("h1").inner_text().startswith("Your first write")
