"""One version for every distribution.

python tools/version.py          check that they all agree, and print the version
python tools/version.py 0.2.0    set it everywhere: project versions, `__version__`, and the pins between our packages
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def find(root: Path) -> list[tuple[Path, int, int]]:
    """Every place that holds the version, as (file, start, end), in the order of the files' text."""
    projects = [root / "shared_core" / "pyproject.toml", *sorted(root.glob("packages/*/pyproject.toml"))]
    names = "|".join(name for path in projects for name in re.findall(r'(?m)^name = "(.+)"$', read(path)))
    in_project = rf"""(?m)^version = "(?P<version>.+)"$|["'](?:{names})(?:\[[^]]*\])?\s*[=~>]=\s*(?P<pin>[^,;"'\s]+)"""
    in_module = r'(?m)^__version__\b.* = "(?P<version>.+)"$'
    in_plugin = r'"version": "(?P<version>.+)"'
    plugins = sorted(root.glob("packages/*/plugin/.claude-plugin/plugin.json"))
    modules = [path for project in projects for path in sorted(project.parent.glob("src/**/__init__.py"))]
    return [
        (path, *match.span(match.lastgroup or 0))
        for pattern, paths in ((in_project, projects), (in_module, modules), (in_plugin, plugins))
        for path in paths
        for match in re.finditer(pattern, read(path))
    ]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def main(new: str | None = None) -> int:
    places = find(ROOT)
    if new is not None:
        if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", new):
            print(f"{new!r} is not a version such as 0.2.0 or 0.2.0rc1", file=sys.stderr)
            return 2
        for path, start, end in reversed(places):  # from the back, so that the earlier positions stay true
            text = read(path)
            path.write_text(text[:start] + new + text[end:], encoding="utf-8")
        places = find(ROOT)
    versions = {read(path)[start:end] for path, start, end in places}
    if len(versions) == 1:
        print(*versions)
        return 0
    for path, start, end in places:
        text = read(path)
        print(f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, start) + 1}: {text[start:end]}", file=sys.stderr)
    print("the versions differ; python tools/version.py X.Y.Z sets them all", file=sys.stderr)
    return 1


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
