"""SIGKILL in every public write operation, behind each change that it makes to the disk: all of it is there or nothing.

What lands as one piece is there whole or not at all, what an earlier death left is there after each later one, and what
was acknowledged is there. The next process finds what this one found, does the operation again, and goes on.

`test_kill_at_every_call` has the operations on one whole file, `test_kill_the_hook` the hook's, `test_kill_workloads`
longer workloads.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import pytest
from injection import WORKERS, why_not
from lab import deaths, operations
from lab.deaths import Judge
from lab.operations import Operation, Store, each
from results import note

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_strace = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.fixture(scope="module", params=[*operations.NEEDS])
def module(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if operations.missing(name):
        pytest.skip(operations.missing(name))
    return name


@pytest.fixture(scope="module")
def pool(module: str) -> Iterator[ProcessPoolExecutor]:
    """Processes that import what the module needs, once."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads that would be there beside every fork
    with ProcessPoolExecutor(WORKERS, get_context("spawn")) as processes:
        yield processes


@needs_strace
@pytest.mark.timeout(600)
def test_kill_at_each_change(module: str, pool: ProcessPoolExecutor) -> None:
    names = pool.submit(operations.names, module).result()
    problems = {}
    for name, result in zip(names, pool.map(deaths.explore, [module] * len(names), names), strict=True):
        found = result.pop("problems")
        note("kills of operations", what=name, **result)
        if found:
            problems[name] = found
        assert result["states"] > 2, f"{name} changes nothing"
    assert problems == {}


@needs_strace
@pytest.mark.timeout(600)
def test_each_bug_is_seen(module: str, pool: ProcessPoolExecutor) -> None:
    found: dict[str, Future[Any]] = {
        bug: pool.submit(deaths.explore, module, name, bug)
        for bug, name in pool.submit(operations.bugs, module).result().items()
    }
    for bug, explored in found.items():
        problems = explored.result()["problems"]
        print(f"{bug}: {problems[0] if problems else 'NOT SEEN'}")
        assert problems, f"nobody sees it: {bug}"


TWO = Operation(Store(lambda _: {}, lambda _: None), lambda _: None)
ONE_BY_ONE = TWO._replace(piece=each)
BEFORE: dict[str, Any] = {"old": 1}
AFTER: dict[str, Any] = {"old": 1, "a": 1, "b": 1}


def told(found: dict[str, Any], **more: Any) -> dict[str, Any]:
    well = {"found": found, "second": found, "refused": "", "ended": AFTER, "went on": {**AFTER, "next": 1}}
    return {**well, **more}


REFUSING = TWO._replace(refuses_again="StaleWrite")
WRONG = {
    "in part": (TWO, told({"old": 1, "a": 1}), False),
    "otherwise": (TWO, told({"old": 2}), False),
    "nothing to do with": (TWO, told({}), False),
    "acknowledged": (TWO, told(BEFORE), True),
    "acknowledged, one of two": (ONE_BY_ONE, told({"old": 1, "a": 1}), True),
    "the next process finds": (TWO, told(AFTER, second=BEFORE), True),
    "cannot be done again": (TWO, told(BEFORE, refused="LockTimeout: held"), False),
    "raises nothing": (REFUSING, told(AFTER), True),
    "done again it ends with": (TWO, told(BEFORE, ended=BEFORE, **{"went on": {**BEFORE, "next": 1}}), False),
    "who goes on changes": (TWO, told(BEFORE, **{"went on": {"next": 1}}), False),
    "who goes on finds": (TWO, told(BEFORE, **{"went on": AFTER}), False),
}


@pytest.mark.parametrize("words", WRONG)
def test_the_judge_sees_what_is_wrong(words: str) -> None:
    operation, found, returned = WRONG[words]
    problems = Judge(operation, BEFORE, AFTER).problems(found, 1, returned=returned)
    assert any(words.partition(",")[0] in problem for problem in problems), problems


def test_the_judge_finds_nothing_wrong_where_nothing_is() -> None:
    for operation in (TWO, ONE_BY_ONE):
        judge = Judge(operation, BEFORE, AFTER)
        assert [judge.problems(told(BEFORE), 0, returned=False), judge.problems(told(AFTER), 1, returned=True)] == [
            [],
            [],
        ]
    assert Judge(ONE_BY_ONE, BEFORE, AFTER).problems(told({"old": 1, "a": 1}), 1, returned=False) == []
    assert Judge(REFUSING, BEFORE, AFTER).problems(told(AFTER, refused="StaleWrite: taken"), 1, returned=True) == []


def test_what_was_there_after_a_death_is_there_after_later_ones() -> None:
    judge = Judge(TWO, BEFORE, AFTER)
    assert judge.problems(told(AFTER), 3, returned=False) == []
    assert any("comes and goes" in one for one in judge.problems(told(BEFORE), 4, returned=False))
