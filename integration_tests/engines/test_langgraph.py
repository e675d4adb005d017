"""LandedSaver on the engines beyond one machine: LangGraph's conformance package, conflicts, and what a put costs."""

from __future__ import annotations

import asyncio
import itertools
import operator
import threading
from typing import TYPE_CHECKING, Annotated, Any

import pytest

pytest.importorskip("langgraph.checkpoint.landed", reason="langgraph-checkpoint-landed is not installed")
pytest.importorskip("langgraph.checkpoint.conformance", reason="langgraph-checkpoint-conformance is not installed")

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from landed.errors import NotLanded, StaleWrite
from langgraph.checkpoint.landed import LandedSaver, conflicts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class State(TypedDict):
    """A list that grows by a word for each call."""

    words: Annotated[list[str], operator.add]


@pytest.fixture(params=["postgres", "s3", "azure", "google"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


def graph_on(saver: LandedSaver, meanwhile: Any = None) -> Any:
    def say(state: State) -> dict[str, list[str]]:
        if meanwhile is not None:
            meanwhile()
        return {"words": ["more"]}

    builder = StateGraph(State)
    builder.add_node("say", say)
    builder.add_edge(START, "say")
    return builder.compile(checkpointer=saver)


CONFIG: Any = {"configurable": {"thread_id": "one thread"}}


def test_conformance(url: str) -> None:
    fresh = itertools.count()

    @checkpointer_test(name="LandedSaver")
    async def factory() -> AsyncIterator[LandedSaver]:
        async with LandedSaver(f"{url}/{next(fresh)}") as saver:
            yield saver

    report = asyncio.run(validate(factory))
    assert {name: result.failures for name, result in report.results.items() if result.failures} == {}
    assert all(result.detected and result.passed and not result.tests_skipped for result in report.results.values())


def test_of_two_runs_on_one_head_exactly_one_lands(url: str) -> None:
    mine, theirs = LandedSaver(url), LandedSaver(url)
    graph_on(mine).invoke({"words": ["first"]}, CONFIG, durability="sync")

    def meanwhile() -> None:
        graph_on(theirs).invoke({"words": ["theirs"]}, CONFIG, durability="sync")

    with pytest.raises(StaleWrite):
        graph_on(mine, meanwhile).invoke({"words": ["mine"]}, CONFIG, durability="sync")
    words = graph_on(mine).get_state(CONFIG).values["words"]
    assert words.count("theirs") == 1
    assert "mine" not in words or words.index("mine") < words.index("theirs")


def test_a_planted_bug_is_seen(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks whether the head is still the one that a run was built on."""
    monkeypatch.setattr(conflicts, "check", lambda *_, **__: None)
    with pytest.raises(pytest.fail.Exception, match="StaleWrite"):
        test_of_two_runs_on_one_head_exactly_one_lands(url)


def test_acknowledged_updates_survive_a_race(url: str) -> None:
    acknowledged: list[str] = []

    def work(name: str) -> None:
        graph = graph_on(LandedSaver(url))
        for turn in range(4):
            word = f"{name}{turn}"
            for _ in range(200):
                try:
                    graph.invoke({"words": [word]}, CONFIG, durability="sync")
                except NotLanded:
                    continue
                acknowledged.append(word)
                break

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    words = graph_on(LandedSaver(url)).get_state(CONFIG).values["words"]
    assert len(acknowledged) == 12
    for word in acknowledged:
        assert word in words


def test_a_deleted_thread_is_empty_for_everybody(url: str) -> None:
    mine, theirs = LandedSaver(url), LandedSaver(url)
    graph_on(mine).invoke({"words": ["first"]}, CONFIG)
    assert theirs.get_tuple(CONFIG) is not None
    mine.delete_thread("one thread")
    assert theirs.get_tuple(CONFIG) is None
    assert mine.get_tuple(CONFIG) is None
    graph_on(theirs).invoke({"words": ["anew"]}, CONFIG)
    assert graph_on(mine).get_state(CONFIG).values["words"] == ["anew", "more"]


def test_whole_runs_one_after_the_other(url: str) -> None:
    done: list[str] = []

    def work(name: str) -> None:
        saver = LandedSaver(url)
        for _ in range(3):
            with saver.thread_lock("one thread"):
                graph_on(saver).invoke({"words": [name]}, CONFIG, durability="sync")
                done.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    words = graph_on(LandedSaver(url)).get_state(CONFIG).values["words"]
    assert [word for word in words if word != "more"] == done
    assert len(done) == 6


def test_what_a_put_and_a_cold_start_cost_in_requests(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from clients import Counted

    from landed.objects import probe, store

    clients: list[Counted] = []

    def counted(*args: Any, **options: Any) -> Counted:
        clients.append(Counted(from_url(*args, **options)))
        return clients[-1]

    from_url = store.from_url
    monkeypatch.setattr(store, "from_url", counted)
    saver = LandedSaver(s3_url)
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    for step in range(300):
        checkpoint = empty_checkpoint()
        version = f"{step + 1:032}.0"
        checkpoint["id"] = str(uuid6(clock_seq=step))
        checkpoint["channel_values"] = {"words": ["word"] * 20, "step": step}
        checkpoint["channel_versions"] = {"words": "1", "step": version}
        if step == 1:
            clients[0].requests.clear()  # until here the journal was made
        config = saver.put(config, checkpoint, {"source": "loop", "step": step}, {"words": "1", "step": version})
    for request in ("get", "put"):
        assert 299 <= clients[0].requests.count(request) < 1.1 * 299  # some make a segment, and read it back
    assert set(clients[0].requests) == {"put", "get"}
    probe._proved.clear()
    found = LandedSaver(s3_url).get_tuple({"configurable": {"thread_id": "t"}})
    assert found is not None
    assert found.checkpoint["channel_values"] == {"words": ["word"] * 20, "step": 299}
    assert len(clients[1].requests) <= 4
