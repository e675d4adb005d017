"""From engine to engine and back: the same records under the same numbers, and threads that go on."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from landed.cli import main
from landed.journal import Journal
from landed.journals import Journals


def records(place: str | Path) -> list[tuple[int, bytes]]:
    return [(entry.sequence, entry.data) for entry in Journal(place).read()]


def copy(source: str | Path, target: str | Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["copy", str(source), str(target), "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_a_journal_around_all_engines(
    tmp_path: Path, postgres_url: str, s3_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(tmp_path / "first")
    for number in range(300):
        journal.append([b"%d" % number, b"x" * number])
    journal.compact(lambda entry: entry.sequence % 3 != 0)
    places = [tmp_path / "first", postgres_url, s3_url, tmp_path / "last"]
    for source, target in itertools.pairwise(places):
        assert copy(source, target, capsys)["kind"] == "journal"
    assert records(places[-1]) == records(places[0])
    assert Journal(places[-1]).tail == 600
    assert copy(postgres_url, tmp_path / "last", capsys)["batches"] == 0


@pytest.mark.parametrize("engine", ["postgres", "s3"])
def test_of_an_address_that_is_a_journal_and_a_root_both_are_copied(
    request: pytest.FixtureRequest, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url: str = request.getfixturevalue(f"{engine}_url")
    both = f"{url}-copied"
    Journal(url).append([b"alone"])
    Journals(url).open("a").append([b"of many"])
    assert copy(url, both, capsys)["journals"] == 2
    assert [data for _, data in records(both)] == [b"alone"]
    assert [entry.data for entry in Journals(both).open("a").read()] == [b"of many"]


@pytest.mark.parametrize("engine", ["postgres", "s3"])
def test_threads_go_on_where_they_were_copied_to(
    tmp_path: Path, request: pytest.FixtureRequest, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("langgraph.checkpoint.landed", reason="langgraph-checkpoint-landed is not installed")
    from test_langgraph import CONFIG, graph_on

    from langgraph.checkpoint.landed import LandedSaver

    url: str = request.getfixturevalue(f"{engine}_url")
    here = LandedSaver(tmp_path / "threads")
    for word in ("one", "two", "three"):
        graph_on(here).invoke({"words": [word]}, CONFIG)
    assert copy(tmp_path / "threads", url, capsys)["kind"] == "collection"
    there = LandedSaver(url)
    assert [each.checkpoint for each in there.list(CONFIG)] == [each.checkpoint for each in here.list(CONFIG)]
    graph_on(there).invoke({"words": ["four"]}, CONFIG)
    words = graph_on(LandedSaver(url)).get_state(CONFIG).values["words"]
    assert words == ["one", "more", "two", "more", "three", "more", "four", "more"]
    copy(url, tmp_path / "back", capsys)
    assert graph_on(LandedSaver(tmp_path / "back")).get_state(CONFIG).values["words"] == words


@pytest.mark.parametrize("memory", [True, False], ids=["memory and flows", "flows alone"])
@pytest.mark.parametrize("engine", ["postgres", "s3"])
def test_a_crews_whole_state_goes_there_and_back(
    tmp_path: Path, request: pytest.FixtureRequest, engine: str, memory: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    url: str = request.getfixturevalue(f"{engine}_url")
    if memory:
        Journals(tmp_path / "crew").open("memory").append([b"a memory"])
    for flow in ("one", "two"):
        Journals(tmp_path / "crew" / "flows").open(flow).append([flow.encode()])
    assert copy(tmp_path / "crew", url, capsys)["journals"] == 2 + memory
    assert copy(url, tmp_path / "back", capsys)["batches"] == 2 + memory
    assert copy(url, tmp_path / "back", capsys)["batches"] == 0
    for name in ("one", "two"):
        (entry,) = Journals(tmp_path / "back" / "flows").open(name).read()
        assert entry.data == name.encode()
    if memory:
        (entry,) = Journals(tmp_path / "back").open("memory").read()
        assert entry.data == b"a memory"


def test_no_command_repeats_a_password(tmp_path: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("langgraph.checkpoint.sqlite", reason="langgraph-checkpoint-sqlite is not installed")
    from langgraph.checkpoint.sqlite import SqliteSaver
    from test_langgraph import graph_on

    secret = postgres_url.replace("landed@", "landed:s3cret@")
    Journal(tmp_path / "journal").append([b"one"])
    with SqliteSaver.from_conn_string(str(tmp_path / "database")) as saver:
        graph_on(saver).invoke({"words": ["one"]}, {"configurable": {"thread_id": "1"}})
    journal, source, file, threads = str(tmp_path / "journal"), str(tmp_path / "source"), f"{secret}/f", f"{secret}/t"
    Path(source).write_text("one")
    told = []
    for expected, command in (
        (0, ("copy", journal, secret)),
        (0, ("copy", secret, str(tmp_path / "back"))),
        (1, ("copy", f"{secret}/nothing", str(tmp_path / "back"))),
        (1, ("copy", journal, f"{secret}?unsafe=perhaps")),
        (0, ("write", file, source)),
        (1, ("write", file, source)),
        (0, ("cat", file)),
        (0, ("verify", file)),
        (0, ("import-sqlite", str(tmp_path / "database"), threads)),
        (0, ("import-sqlite", str(tmp_path / "database"), threads, "--json")),
        (0, ("threads", threads)),
        (0, ("thread", threads, "1")),
        (0, ("prune-threads", threads, "--all")),
        (1, ("doctor", secret)),
        (1, ("audit", secret)),
        (1, ("journal", "verify", secret)),
    ):
        assert (command, main(command)) == (command, expected)
        told.append("".join(capsys.readouterr()))
    assert [each for each in told if "s3cret" in each] == []
    assert all(told)
