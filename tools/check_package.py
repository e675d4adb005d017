"""Build every distribution and try each as its user gets it: alone, in an empty environment, from its wheel.

python tools/check_package.py DIR    DIR takes the builds and the environments
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

TRY = """\
import importlib, importlib.metadata, sys
distribution, *packages = sys.argv[1:]
for package in packages:
    importlib.import_module(package)
for entry_point in importlib.metadata.distribution(distribution).entry_points:
    entry_point.load()
"""


def uv(*args: str | Path) -> None:
    subprocess.run(["uv", *args, "--quiet"], cwd=ROOT, check=True)


def main(directory: Path) -> None:
    uv("build", "--all-packages", "--clear", "--out-dir", directory / "dist")  # the wheels come from the sdists
    wheels = sorted((directory / "dist").glob("*.whl"))
    # Our packages may need each other; they must then find these wheels and nothing that was published before.
    pins = directory / "pins.txt"
    pins.write_text("".join(f"{name_of(wheel)} @ {wheel.as_uri()}\n" for wheel in wheels), encoding="utf-8")
    for wheel in wheels:
        packages = check_contents(wheel)
        environment = directory / name_of(wheel)
        python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
        uv("venv", "--clear", "--python", sys.executable, environment)
        uv("pip", "install", "--python", python, "--constraints", pins, wheel)
        uv("pip", "check", "--python", python)
        subprocess.run([python, "-I", "-c", TRY, name_of(wheel), *packages], check=True)
        print(f"{wheel.name}: installs alone, imports {', '.join(packages)}")


def name_of(wheel: Path) -> str:
    return wheel.name.split("-")[0].replace("_", "-")


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
