"""The report, as a browser shows it: light and dark, on a phone and on a desk, without a script, and on paper.

The pictures stay in the test's directory under `pages`, for who wants to look.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

import landed
from landed.cli import main
from landed.report.model import BAD, GOOD, KINDS, Event, Report, Section, Timeline
from landed.report.page import render

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("LANDED_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
PAPERS = {"light": (255, 255, 255), "dark": (13, 17, 23)}


@pytest.fixture(scope="module")
def browser() -> Any:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright to drive a browser")
    if CHROMIUM is None:
        pytest.skip("needs a Chromium (the Debian package chromium, or LANDED_CHROMIUM)")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a directory with what is kept, lost and refused, and with long and hostile names."""
    monkeypatch.setenv("LANDED_STATE_DIR", str(tmp_path / "state"))
    work = tmp_path / "work"
    work.mkdir()
    for name in ("plan.md", "x" * 200, "<script>document.title='hit'</script>".replace("/", "_"), "gone.md"):
        landed.write(work / name, "one")
        with pytest.raises(landed.StaleWrite):
            landed.write(work / name, "two", expect="9-abc")
    (work / "gone.md").unlink()
    with landed.Journal(work / "events") as journal:
        journal.append([b"one"])
    assert main(["report", str(work), "--output", str(tmp_path / "page.html")]) == 1
    return tmp_path / "page.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_a_picture(browser: Any, page: Path, tmp_path: Path, scheme: str, width: int) -> None:
    shown = opened(browser, page, scheme, width)
    assert "hit" not in shown.title()
    looked_at(shown, tmp_path / "pages" / f"{scheme}-{width}.png", PAPERS[scheme])
    shown.close()


@pytest.fixture(scope="module")
def demo_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of one incident, as `make demo` replays it."""
    made = tmp_path_factory.mktemp("demo") / "demo.html"
    command = [sys.executable, "-m", "demo", "half_a_batch", "--report", str(made), "--directory", str(made.parent)]
    ran = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=200, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return made


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 400)])
def test_a_picture_of_the_demo(browser: Any, demo_page: Path, tmp_path: Path, scheme: str, width: int) -> None:
    shown = opened(browser, demo_page, scheme, width)
    stock, with_landed = (shown.locator("article").nth(side).bounding_box() for side in (0, 1))
    assert (stock["y"] == with_landed["y"]) == (width == 1280), "side by side, or on a phone one below the other"
    looked_at(shown, tmp_path / "pages" / f"demo-{scheme}-{width}.png", PAPERS[scheme])
    shown.close()


def opened(browser: Any, page: Path, scheme: str, width: int) -> Any:
    """A page, which asks for nothing else and is not wider than its window."""
    shown = browser.new_page(viewport={"width": width, "height": 300}, color_scheme=scheme, java_script_enabled=True)
    asked: list[str] = []
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(page.as_uri())
    assert asked == [page.as_uri()], "no other resource is asked for"
    assert shown.evaluate("document.documentElement.scrollWidth") <= width, "nothing is wider than the window"
    return shown


def looked_at(shown: Any, picture: Path, paper: tuple[int, int, int]) -> None:
    """Take the picture, which shows something on paper of this colour."""
    shown.screenshot(path=picture)
    pixels = pixels_of(picture.read_bytes())
    assert pixels[0] == paper
    assert len(set(pixels)) > 20, "it is not blank"
    assert sum(pixel != paper for pixel in pixels) / len(pixels) > 0.02, "and not nearly"


def test_keyboard_and_contrast(browser: Any, tmp_path: Path) -> None:
    events = [Event(kind, "who", "what", 1.0) for kind in KINDS]
    lines = [Timeline("kept", GOOD, "said", events), Timeline("not kept", BAD, "said", events)]
    made = tmp_path / "kinds.html"
    made.write_text(render(Report("All kinds", "", 1.0, [Section("all", "", lines, {GOOD: 1, BAD: 1})])))
    for scheme in PAPERS:
        shown = browser.new_page(color_scheme=scheme)
        shown.goto(made.as_uri())
        shown.keyboard.press("Tab")
        assert shown.evaluate("document.activeElement.tagName") == "SUMMARY"
        shown.keyboard.press("Enter")
        assert shown.locator("details[open]").count() == 1
        assert shown.locator("details[open] tbody tr").count() == len(KINDS)
        colours = shown.evaluate(
            "[...document.querySelectorAll('h3, .verdict strong, .who, td b, .note, dt, summary')]"
            ".map(each => [getComputedStyle(each).color, getComputedStyle(document.querySelector('article'))"
            ".backgroundColor])"
        )
        assert len(colours) > 10
        for ink, paper in colours:
            assert contrast(rgb(ink), rgb(paper)) >= 4.5, (scheme, ink, paper)
        shown.close()


def test_on_paper_every_event_is_there(browser: Any, page: Path) -> None:
    shown = browser.new_page()
    shown.goto(page.as_uri())
    shown.emulate_media(media="print")
    assert shown.locator("details").count() > 2
    assert all(shown.locator("tbody tr").nth(at).bounding_box()["height"] > 5 for at in range(3))
    assert shown.pdf()[:4] == b"%PDF"
    shown.close()


def rgb(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.strip("rgba()").split(",")[:3])


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """The ratio of WCAG 2."""
    darker, lighter = sorted(map(_luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: tuple[int, ...]) -> float:
    linear = [c / 12.92 if (c := part / 255) <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def pixels_of(png: bytes) -> list[tuple[int, ...]]:
    """The pixels of every eighth row of a PNG with three or four bytes each and no interlacing."""
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    assert depth == 8
    size = {2: 3, 6: 4}[kind]
    at, data = 8, b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += length + 12
    raw, stride = zlib.decompress(data), width * size
    above, found = bytearray(stride), []
    for row in range(height):
        line = _unfiltered(
            raw[row * (stride + 1)], bytearray(raw[row * (stride + 1) + 1 : (row + 1) * (stride + 1)]), above, size
        )
        if row % 8 == 0:
            found += [tuple(line[x : x + 3]) for x in range(0, stride, size)]
        above = line
    return found


def _unfiltered(kind: int, line: bytearray, above: bytearray, size: int) -> bytearray:
    for at in range(len(line)):
        left = line[at - size] if at >= size else 0
        corner = above[at - size] if at >= size else 0
        line[at] = (
            line[at] + (0, left, above[at], (left + above[at]) // 2, _paeth(left, above[at], corner))[kind]
        ) & 255
    return line


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    return min((left, up, corner), key=lambda each: abs(guess - each))
