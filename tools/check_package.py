"""Build every distribution and try each as its user gets it: from its wheel, in an environment of its own.

python tools/check_package.py DIR    DIR takes the builds and the environments

Each is installed twice, with the oldest versions that it allows and with the newest. It must bring no framework but its
own, and the code in its README must run. Then each extra of `landed` must lead to what it is named after.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RUN_PAGE = ROOT / "integration_tests" / "docs" / "blocks.py"
FRAMEWORKS = frozenset({"crewai", "langgraph", "langgraph-checkpoint", "langchain-core", "psycopg", "obstore"})
"""Distributions that nobody shall get who did not ask for them."""

TRY = """\
import importlib, importlib.metadata, sys
distribution, *packages = sys.argv[1:]
for package in packages:
    importlib.import_module(package)
for entry_point in importlib.metadata.distribution(distribution).entry_points:
    entry_point.load()
"""


class Distribution(NamedTuple):
    """What is expected of a distribution.

    Attributes:
        folder: its sources, with its README.
        brings: the frameworks that it needs.
        extra: of `landed`, that leads to it.
        example: what else its README's code needs: with the oldest versions, and with the newest.
    """

    folder: str
    brings: frozenset[str] = frozenset()
    extra: str | None = None
    example: tuple[str, ...] = ()


DISTRIBUTIONS = {
    "landed": Distribution("shared_core"),
    "crewai-landed": Distribution("packages/crewai-landed", frozenset({"crewai"}), "crewai"),
    "landed-claude-code": Distribution("packages/landed-claude-code", extra="claude-code"),
    "langgraph-checkpoint-landed": Distribution(
        "packages/langgraph-checkpoint-landed",
        # The interface of savers stands on langchain-core.
        frozenset({"langgraph-checkpoint", "langchain-core"}),
        "langgraph",
        ("langgraph>=0.6.7",),
    ),
}
ENGINES = {"postgres": ("psycopg", "landed.postgres"), "object-store": ("obstore", "landed.objects")}
"""The extras of `landed` that are no distribution of ours: what each brings, and what needs it."""


def uv(*args: str | Path) -> str:
    ran = subprocess.run(["uv", *args, "--quiet"], cwd=ROOT, check=False, capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(f"uv {' '.join(map(str, args))}\n{ran.stdout}{ran.stderr}")
    return ran.stdout


def main(directory: Path) -> None:
    uv("build", "--all-packages", "--clear", "--out-dir", directory / "dist")  # the wheels come from the sdists
    wheels = {name_of(wheel): wheel for wheel in sorted((directory / "dist").glob("*.whl"))}
    if set(wheels) != set(DISTRIBUTIONS):
        sys.exit(f"built {sorted(wheels)}, expected {sorted(DISTRIBUTIONS)}")
    # Our packages may need each other; they must then find these wheels and nothing that was published before.
    pins = directory / "pins.txt"
    pins.write_text("".join(f"{name} @ {wheel.as_uri()}\n" for name, wheel in wheels.items()), encoding="utf-8")
    for name, wheel in wheels.items():
        for resolution in ("lowest-direct", "highest"):
            check_distribution(name, wheel, resolution, pins, directory)
    for extra, (engine, package) in ENGINES.items():
        python = install(directory / f"extra-{extra}", [f"landed[{extra}]"], "lowest-direct", pins)
        check_brought(f"landed[{extra}]", python, frozenset({engine}))
        subprocess.run([python, "-I", "-c", f"import {package}"], check=True)
        print(f"landed[{extra}]: brings {engine}", flush=True)
    for name, distribution in DISTRIBUTIONS.items():
        if distribution.extra is not None:
            check_extra(f"landed[{distribution.extra}]", name, pins)


def name_of(wheel: Path) -> str:
    return wheel.name.split("-")[0].replace("_", "-")


def check_distribution(name: str, wheel: Path, resolution: str, pins: Path, directory: Path) -> None:
    """Install it alone, look at what it brought, then run its README."""
    distribution = DISTRIBUTIONS[name]
    packages = check_contents(wheel)
    environment = directory / f"{name}-{resolution}"
    # By its own requirements alone: what `pins` says of the others is all that is known of them.
    python = install(environment, [str(wheel)], resolution, pins)
    check_brought(f"{name} ({resolution})", python, distribution.brings)
    subprocess.run([python, "-I", "-c", TRY, name, *packages], check=True)
    if distribution.example:
        python = install(environment, [str(wheel), *distribution.example], resolution, pins)
    run_readme(ROOT / distribution.folder / "README.md", python, directory / f"{name}-{resolution}-example")
    print(f"{wheel.name} ({resolution}): alone, imports {', '.join(packages)}, its README runs", flush=True)


def install(environment: Path, requirements: list[str], resolution: str, pins: Path) -> Path:
    """Make an environment that holds the requirements and nothing else; return its Python."""
    python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    uv("venv", "--clear", "--python", sys.executable, environment)
    uv("pip", "install", "--python", python, "--resolution", resolution, "--constraints", pins, *requirements)
    uv("pip", "check", "--python", python)
    return python


def check_brought(what: str, python: Path, expected: frozenset[str]) -> None:
    """Check that the environment holds the frameworks that are expected, and no other."""
    held = {package["name"] for package in json.loads(uv("pip", "list", "--python", python, "--format", "json"))}
    if held & FRAMEWORKS != expected:
        sys.exit(f"{what} brings {sorted(held & FRAMEWORKS)}, expected {sorted(expected)}")


def run_readme(page: Path, python: Path, directory: Path) -> None:
    """Run the code of a README in an empty directory, with records of its own."""
    directory.mkdir()
    env = {key: value for key, value in os.environ.items() if not key.startswith(("LANDED_", "PYTHON"))}
    env |= {"HOME": str(directory), "LANDED_STATE_DIR": str(directory / "state"), "CREWAI_DISABLE_TELEMETRY": "true"}
    work = directory / "work"
    work.mkdir()
    subprocess.run([python, RUN_PAGE, page], cwd=work, env=env, stdin=subprocess.DEVNULL, check=True, timeout=300)


def check_extra(requirement: str, name: str, pins: Path) -> None:
    """Check that an extra leads to its distribution, and to no framework of another."""
    source = pins.with_name("extra.in")
    source.write_text(requirement + "\n", encoding="utf-8")
    lines = uv("pip", "compile", "--python", sys.executable, "--constraints", pins, "--no-header", source).splitlines()
    found = {
        line.split("==")[0].split(" @ ")[0].split("[")[0] for line in lines if line and not line.startswith((" ", "#"))
    }
    if name not in found or found & FRAMEWORKS != DISTRIBUTIONS[name].brings:
        sys.exit(f"{requirement} leads to {sorted(found)}")
    print(f"{requirement}: leads to {name}", flush=True)


def check_contents(wheel: Path) -> list[str]:
    """Check that the wheel holds its licence and its types; return the packages in it."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        licences = [archive.read(name) for name in names if name.endswith(".dist-info/licenses/LICENSE")]
    if licences != [(ROOT / "LICENSE").read_bytes()]:
        sys.exit(f"{wheel.name}: the licence is missing, or is not the one in LICENSE")
    packages = [name.removesuffix("/py.typed").replace("/", ".") for name in names if name.endswith("/py.typed")]
    if not packages:
        sys.exit(f"{wheel.name}: no package with a py.typed")
    return packages


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve())
