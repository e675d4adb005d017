"""A program that starts at every tool call imports landed: it takes no more than it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import landed

SOURCE = str(Path(landed.__file__).parent.parent)
HOT = ["landed", "landed.lock", "landed.publish", "landed.records", "landed.files", "landed.desk"]
EXPENSIVE = {
    "argparse", "asyncio", "collections", "concurrent", "contextlib", "ctypes", "dataclasses", "enum", "functools",
    "hashlib", "inspect", "json", "logging", "pathlib", "re", "shutil", "socket", "subprocess", "tempfile",
    "threading", "typing",
    "os", "stat",
}  # fmt: skip

LATER = {
    "landed.aside", "landed.audit", "landed.cli", "landed.editing", "landed.engines", "landed.holder",
    "landed.journal", "landed.log", "landed.remote", "landed.waiting",
}  # fmt: skip
"""Of landed itself, what a write that nobody disputes does not need."""

FIRST_WRITE = {
    "landed.artifact", "landed.digest", "landed.landing", "landed.memory", "landed.process", "landed.shelf",
    "landed.state", "landed.values",
}  # fmt: skip
"""Of landed itself, what the first write loads: a program may import landed long before it writes."""


def modules_after(code: str) -> set[str]:
    """What a bare interpreter has loaded once it ran `code`."""
    program = f"import sys; sys.path.insert(0, {SOURCE!r})\n{code}\nprint(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", program]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


BARE = modules_after("")


@pytest.mark.parametrize("module", HOT)
def test_importing_a_hot_module_loads_nothing_expensive(module: str) -> None:
    loaded = modules_after(f"import {module}") - BARE
    assert module in loaded
    assert not loaded & (EXPENSIVE | LATER)


def test_importing_the_files_loads_nothing_that_the_first_write_loads() -> None:
    assert not modules_after("import landed.files") & FIRST_WRITE


@pytest.mark.parametrize("module", HOT)
def test_importing_a_hot_module_stays_in_the_standard_library(module: str) -> None:
    loaded = modules_after(f"import {module}") - BARE
    tops = {name.partition(".")[0] for name in loaded} - {"landed"}
    assert tops <= sys.stdlib_module_names
    assert len(loaded) < 22, loaded


def test_import_landed_alone_loads_no_module_of_it() -> None:
    assert {name for name in modules_after("import landed") if name.startswith("landed")} == {"landed"}


def test_the_first_write_needs_hashes_and_little_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANDED_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()  # how to make it, and where it then is, is asked once
    code = "import landed.files\n"
    body = code + (
        f"path = {str(tmp_path / 'a')!r}\n"
        "landed.files.write(path, b'x')\n"
        "landed.files.write(path, landed.files.read(path).data + b'y')"
    )
    assert modules_after(body) - modules_after(code) <= {"_sha2", "_sha256", "zlib", *FIRST_WRITE}
    assert (tmp_path / "a").read_bytes() == b"xy"


def test_this_test_sees_an_import() -> None:
    assert "json" in modules_after("import landed, json") - BARE
