"""LangGraph's own conformance package, whole: once as the saver is, once in the sync methods alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import Capability

from langgraph.checkpoint.landed import LandedSaver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CLAUSES = 81
"""Of the suite when this was written; a later one may have more."""


class InSync(LandedSaver):
    """The suite calls async methods only; this one answers each with its sync twin."""

    async def aget_tuple(self, *args: Any, **options: Any) -> Any:
        return self.get_tuple(*args, **options)

    async def alist(self, *args: Any, **options: Any) -> Any:
        for one in self.list(*args, **options):
            yield one

    async def aput(self, *args: Any, **options: Any) -> Any:
        return self.put(*args, **options)

    async def aput_writes(self, *args: Any, **options: Any) -> None:
        self.put_writes(*args, **options)

    async def adelete_thread(self, *args: Any, **options: Any) -> None:
        self.delete_thread(*args, **options)

    async def adelete_for_runs(self, *args: Any, **options: Any) -> None:
        self.delete_for_runs(*args, **options)

    async def acopy_thread(self, *args: Any, **options: Any) -> None:
        self.copy_thread(*args, **options)

    async def aprune(self, *args: Any, **options: Any) -> None:
        self.prune(*args, **options)


class Forgetful(LandedSaver):
    """A saver with a bug."""

    async def adelete_thread(self, thread_id: str) -> None:
        pass


def report_of(saver: type[LandedSaver], directory: Path) -> Any:
    fresh = iter(range(100))

    @checkpointer_test(name=saver.__name__)
    async def factory() -> AsyncIterator[LandedSaver]:
        async with saver(directory / str(next(fresh))) as made:
            yield made

    return asyncio.run(validate(factory))


@pytest.mark.parametrize("saver", [LandedSaver, InSync], ids=["async", "sync"])
def test_conformance(saver: type[LandedSaver], tmp_path: Path) -> None:
    report = report_of(saver, tmp_path)
    assert {name: result.failures for name, result in report.results.items() if result.failures} == {}
    assert all(result.detected and result.passed and not result.tests_skipped for result in report.results.values())
    assert report.results.keys() == {capability.value for capability in Capability}
    assert report.passed_all()
    assert sum(result.tests_passed for result in report.results.values()) >= CLAUSES


def test_the_suite_sees_a_bug(tmp_path: Path) -> None:
    report = report_of(Forgetful, tmp_path)
    assert not report.passed_all()
    assert [name for name, result in report.results.items() if not result.passed] == ["delete_thread"]
