"""Importing the package is cheap: crewai and numpy are imported when a class is first used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import crewai_landed


def test_import_does_not_import_crewai() -> None:
    program = (
        "import sys, crewai_landed; print([name for name in ('crewai', 'numpy', 'pydantic') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = crewai_landed.Nothing


def test_every_name_is_there() -> None:
    for name in crewai_landed.__all__:
        assert getattr(crewai_landed, name) is not None
