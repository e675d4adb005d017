"""For each guarantee that whole runs and kills show, a bug that breaks it, and the test that has to see it.

Those of single calls are in `packages/crewai-landed/tests`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bugs
import pytest
import test_checkpoint_losses
import test_flow_losses
import test_kickoffs
import test_memory_losses

import crewai_landed

README = Path(__file__).parents[2] / "packages" / "crewai-landed" / "README.md"
TABLE: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[..., None], dict[str, Any]]] = [
    (
        bugs.an_update_is_a_deletion_and_a_save,
        test_memory_losses.test_sigkill_during_an_update,
        {"script": lambda *_: None},  # what CrewAI's store does meanwhile
    ),
    (bugs.scopes_are_no_paths, test_memory_losses.test_deletion_takes_what_it_names, {}),
    (bugs.saves_compare_nothing, test_flow_losses.test_four_processes_on_one_flow_id, {}),
    (
        bugs.nobody_takes_the_feedback,
        test_flow_losses.test_two_processes_resume_one_feedback,
        {"persisted": False},
    ),
    (bugs.checkpoints_are_written_in_place, test_checkpoint_losses.test_sigkill_during_a_checkpoint, {}),
    (bugs.install_forgets_flows, test_kickoffs.test_uninstall, {}),
]


@pytest.fixture
def planted(request: pytest.FixtureRequest, workers: list[Any]) -> Iterator[None]:
    """The bug is in this process and in the workers."""
    bug = request.param
    with pytest.MonkeyPatch.context() as patch:
        bug(patch)
        for worker in workers:
            worker("plant", bug.__name__)
        yield
        for worker in workers:
            worker("mend")
    crewai_landed.uninstall()  # which a test that fails may leave out


@pytest.mark.parametrize(
    ("planted", "test", "arguments"), TABLE, indirect=["planted"], ids=[bug.__name__ for bug, *_ in TABLE]
)
@pytest.mark.usefixtures("planted")
def test_a_planted_bug_is_seen(
    request: pytest.FixtureRequest, test: Callable[..., None], arguments: dict[str, Any]
) -> None:
    wanted = inspect.signature(test).parameters
    given = {name: arguments[name] if name in arguments else request.getfixturevalue(name) for name in wanted}
    with pytest.raises((AssertionError, ValueError)):
        test(**given)


def test_each_guarantee_of_the_readme_has_one() -> None:
    seen = {f"{test.__module__}.py::{test.__name__}" for _, test, _ in TABLE}
    lines = README.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|") and "integration_tests/crewai/" in line]
    assert len(rows) > 3
    for row in rows:
        named = re.findall(r"integration_tests/crewai/(test_\w+\.py(?:::\w+)?)", row)
        assert any(test.startswith(name) for test in seen for name in named), row
