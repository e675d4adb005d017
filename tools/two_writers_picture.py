"""Draw what happens when two writers meet, without landed and with it: ``python tools/two_writers_picture.py``.

It writes docs/pictures/two_writers.svg, which README.md shows. The picture follows the reader's scheme, light or dark.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "two_writers.svg"
STYLE = """
svg{--ink:#1b1f24;--soft:#57606a;--line:#afb8c1;--good:#116329;--bad:#b3121d;--card:#f6f8fa}
@media(prefers-color-scheme:dark){svg{--ink:#e6edf3;--soft:#9da7b3;--line:#586069;--good:#56d364;--bad:#ff7b72;--card:#161b22}}
text{font:14px system-ui,sans-serif;fill:var(--ink)}.head{font-weight:600;font-size:16px}.soft{fill:var(--soft)}
.good{fill:var(--good)}.bad{fill:var(--bad)}rect{fill:var(--card);stroke:var(--line)}
circle{fill:var(--card);stroke:var(--line);stroke-width:2}
path{stroke:var(--line);stroke-width:2;fill:none}
"""
WITHOUT = [
    ("A", "reads version 1", ""),
    ("B", "reads version 1", ""),
    ("A", "writes: success", ""),
    ("B", "writes: success", "bad"),
]
WITH = [
    ("A", "reads version 1", ""),
    ("B", "reads version 1", ""),
    ("A", "writes version 2: verified", "good"),
    ("B", "StaleWrite: A wrote version 2", "good"),
]
WIDTH, HEIGHT, STEP, TOP = 720, 260, 36, 74
TITLE = "Two writers of one file. Without landed both succeed and A's bytes are gone; with it B is told to read again."


def side(left: int, heading: str, steps: list[tuple[str, str, str]], end: str, kind: str) -> list[str]:
    parts = [
        f'<rect x="{left}" y="8" width="344" height="{HEIGHT - 16}" rx="8"/>',
        f'<text class="head" x="{left + 16}" y="36">{escape(heading)}</text>',
        f'<path d="M{left + 28} {TOP - 16}V{TOP + STEP * len(steps) - 18}"/>',
    ]
    for number, (who, what, word) in enumerate(steps):
        y = TOP + STEP * number
        parts += [
            f'<circle cx="{left + 28}" cy="{y - 5}" r="11"/>',
            f'<text x="{left + 28}" y="{y}" text-anchor="middle">{who}</text>',
            f'<text class="{word}" x="{left + 52}" y="{y}">{escape(what)}</text>',
        ]
    return [*parts, f'<text class="head {kind}" x="{left + 16}" y="{HEIGHT - 26}">{escape(end)}</text>']


def picture() -> str:
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(TITLE)}</title><style>{STYLE}</style>",
        *side(8, "without landed", WITHOUT, "what A was told is stored is gone", "bad"),
        *side(368, "with landed", WITH, "B reads again, and both are there", "good"),
        "</svg>\n",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    if "--check" not in sys.argv:
        PICTURE.write_text(picture(), encoding="utf-8")
    elif PICTURE.read_text(encoding="utf-8") != picture():
        sys.exit("two_writers.svg is not what it would be: python tools/two_writers_picture.py")
