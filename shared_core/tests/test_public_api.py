"""The names that a user imports, and that they are typed."""

from __future__ import annotations

import importlib
import inspect
import pickle
import re
from pathlib import Path

import pytest

import landed
from landed import aio

ROOT = Path(landed.__file__).parent
OPERATIONS = ["read", "write", "edit", "delete", "verify"]


def test_the_package_is_typed() -> None:
    assert (ROOT / "py.typed").is_file()


@pytest.mark.parametrize("name", landed.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(landed, name)
    if name not in {"__version__", "ABSENT", "ANY", "SEEN"}:
        assert inspect.getdoc(value)
    assert name in dir(landed)


def test_type_checkers_see_the_same_names() -> None:
    """The lazy table and the imports for type checkers are two lists of one thing."""
    source = (ROOT / "__init__.py").read_text()
    shown = set(re.findall(r"^    from landed(?:\.\w+)? import (\w+) as \1$", source, re.MULTILINE))
    assert shown == set(landed.__all__) - {"__version__"}


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = landed.nothing  # type: ignore[attr-defined]


def test_star_import() -> None:
    namespace: dict[str, object] = {}
    exec("from landed import *", namespace)
    assert set(landed.__all__) <= set(namespace)


def test_the_functions_are_those_of_one_program() -> None:
    (program,) = {getattr(landed, name).__self__ for name in OPERATIONS}
    assert isinstance(program, landed.Files)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_asynchronous_twin_takes_the_same_arguments(name: str) -> None:
    plain, twin = inspect.signature(getattr(landed, name)), inspect.signature(getattr(aio, name))
    assert [(each.name, each.kind, each.default) for each in plain.parameters.values()] == [
        (each.name, each.kind, each.default) for each in twin.parameters.values()
    ]


def test_options_are_named() -> None:
    for name in OPERATIONS:
        kinds = [each.kind for each in inspect.signature(getattr(landed, name)).parameters.values()]
        assert kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) == (2 if name == "write" else 1)


def test_every_module_is_annotated_and_described() -> None:
    for path in sorted(ROOT.glob("*.py")):
        name = "landed" if path.stem == "__init__" else f"landed.{path.stem}"
        if path.stem.startswith("__") and path.stem != "__init__":
            continue
        module = importlib.import_module(name)
        assert module.__doc__, name
        for function_name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == name and not function_name.startswith("_"):
                stands_in = path.stem.startswith("_") and path.stem != "__init__"  # for calls of the os module
                assert function.__doc__ or stands_in, f"{name}.{function_name}"
                assert "return" in function.__annotations__, f"{name}.{function_name}"


def test_the_example_of_the_docstring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.md").write_text("todo")
    example = inspect.cleandoc(str(landed.__doc__).split("\n\n")[1])
    exec(example, {"landed": landed, "new_bytes": b"still todo"})
    assert (tmp_path / "plan.md").read_text() == "still done"
    pickle.dumps(landed.read("plan.md"))
