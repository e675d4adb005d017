"""`landed import-sqlite` on databases of the real SqliteSaver: no program can tell what it made from what it read."""

from __future__ import annotations

import json
import operator
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from savers import LANDED, SQLITE, opened, thread

from landed import Journal
from landed.cli import main
from langgraph.checkpoint.landed import LandedSaver

OK, BAD_NEWS, CANNOT_TELL = 0, 1, 3


class State(TypedDict):
    turns: Annotated[list[Any], operator.add]
    last: Any


def graph(saver: Any) -> Any:
    def add(state: State) -> dict[str, Any]:
        return {"turns": [AIMessage("yes", id="1"), {"n": len(state["turns"]), 7: {1, 2}, "t": (1, 2)}]}

    def fail(state: State) -> dict[str, Any]:
        if state["last"] == "fail":
            raise ValueError("as asked")
        return {"last": b"bytes"}

    inner = StateGraph(State).add_node("fail", fail).add_edge(START, "fail").compile()
    outer = StateGraph(State).add_node("add", add).add_node("inner", inner).add_edge(START, "add")
    return outer.add_edge("add", "inner").compile(checkpointer=saver)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Threads with objects of LangChain's, a subgraph, a run that failed in the middle, and a fork."""
    with opened(SQLITE, tmp_path / "sqlite") as saver:
        built = graph(saver)
        for turn in range(3):
            built.invoke({"turns": [HumanMessage(f"turn {turn}", id=str(turn))], "last": None}, thread("t"))
        with pytest.raises(ValueError, match="as asked"):
            built.invoke({"turns": ["x"], "last": "fail"}, thread("failed"))
        past = list(built.get_state_history(thread("t")))[4]
        built.update_state(past.config, {"turns": ["another way"], "last": None}, as_node="add")
        built.invoke({"turns": [], "last": 1.5}, thread("a name/with \u202e \x00 anything"))
    return tmp_path / "sqlite" / "checkpoints.sqlite"


def listed(saver: Any, config: Any) -> list[Any]:
    return [
        (one.config, one.checkpoint, one.metadata, one.parent_config, one.pending_writes) for one in saver.list(config)
    ]


def assert_same(database: Path, directory: Path) -> None:
    with SqliteSaver.from_conn_string(str(database)) as old, LandedSaver(directory) as new:
        names = {one.config["configurable"]["thread_id"] for one in old.list(None)}
        assert len(names) == 3
        assert names == {one.config["configurable"]["thread_id"] for one in new.list(None)}
        for name in names:
            everything: Any = {"configurable": {"thread_id": name}}
            assert listed(old, everything) == listed(new, everything)
            assert old.get_tuple(thread(name)) == new.get_tuple(thread(name))
            for one in listed(old, everything):
                assert old.get_tuple(one[0]) == new.get_tuple(one[0])
            assert graph(old).get_state(thread(name)) == graph(new).get_state(thread(name))


def test_what_it_made_reads_as_what_it_read(database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = database.read_bytes()
    assert main(["import-sqlite", str(database), str(tmp_path / "landed")]) == OK
    assert "copied 3 threads" in capsys.readouterr().out
    assert database.read_bytes() == before
    assert_same(database, tmp_path / "landed")


def test_it_says_how_far_it_is_in_all_threads(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("landed.cli.output.LINE_EVERY", 0.0)
    assert main(["import-sqlite", str(database), str(tmp_path / "landed")]) == OK
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 10
    for number, line in enumerate(lines, 1):
        assert line.startswith(f"checkpoints: {number} of {len(lines)}, ")


def test_runs_go_on(database: Path, tmp_path: Path) -> None:
    assert main(["import-sqlite", str(database), str(tmp_path / "landed")]) == OK
    with opened(LANDED, tmp_path / "landed") as saver:
        before = len(graph(saver).get_state(thread("t")).values["turns"])
        after = graph(saver).invoke({"turns": ["more"], "last": None}, thread("t"))
        assert len(after["turns"]) > before


def test_a_copy_that_was_broken_off_goes_on(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put, puts = LandedSaver.put, []

    def broken(self: LandedSaver, *arguments: Any) -> Any:
        puts.append(arguments)
        if len(puts) == 8:
            raise KeyboardInterrupt
        return put(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(LandedSaver, "put", broken)
        assert main(["import-sqlite", str(database), str(tmp_path / "landed")]) == 130
    capsys.readouterr()
    assert main(["import-sqlite", str(database), str(tmp_path / "landed")]) == OK
    assert "7 of them by an earlier copy" in capsys.readouterr().out
    assert_same(database, tmp_path / "landed")
    monkeypatch.chdir(tmp_path)
    assert main(["import-sqlite", str(database), "landed", "--json"]) == OK
    document = json.loads(capsys.readouterr().out)
    assert Path(document["path"]) == tmp_path / "landed"
    assert all(one["there_before"] == one["checkpoints"] for one in document["threads"])


def test_what_is_written_meanwhile_is_not_seen(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put = LandedSaver.put

    def while_a_run_goes_on(self: LandedSaver, *arguments: Any) -> Any:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("DELETE FROM checkpoints WHERE thread_id = 't'")
            connection.commit()
        return put(self, *arguments)

    before = database.with_name("before")
    before.write_bytes(database.read_bytes())
    monkeypatch.setattr(LandedSaver, "put", while_a_run_goes_on)
    assert main(["import-sqlite", str(database), str(tmp_path / "landed")]) == OK
    assert "copied 3 threads" in capsys.readouterr().out
    assert_same(before, tmp_path / "landed")


def test_a_thread_that_went_on_is_not_overwritten(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import-sqlite", str(database), str(tmp_path / "landed")]) == OK
    with opened(LANDED, tmp_path / "landed") as saver:
        graph(saver).invoke({"turns": ["more"], "last": None}, thread("t"))
        before = listed(saver, {"configurable": {"thread_id": "t"}})
    assert main(["import-sqlite", str(database), str(tmp_path / "landed")]) == BAD_NEWS
    assert "checkpoints that the database lacks" in capsys.readouterr().err
    with opened(LANDED, tmp_path / "landed") as saver:
        assert listed(saver, {"configurable": {"thread_id": "t"}}) == before


def test_a_difference_is_seen(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A put that stores something else is caught by the comparison."""
    put = LandedSaver.put

    def changed(self: LandedSaver, config: Any, checkpoint: Any, metadata: Any, versions: Any) -> Any:
        return put(self, config, checkpoint, {**metadata, "step": 99}, versions)

    monkeypatch.setattr(LandedSaver, "put", changed)
    assert main(["import-sqlite", str(database), str(tmp_path / "landed")]) == 3


def test_no_class_is_made_into_an_object(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(HumanMessage, "__init__", lambda *_, **__: made.append(1))
    assert main(["import-sqlite", str(database), str(tmp_path / "landed")]) == OK
    assert not made


def test_what_is_no_such_database_is_refused(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import-sqlite", str(tmp_path / "none"), str(tmp_path / "landed")]) == BAD_NEWS
    (tmp_path / "loop").symlink_to("loop")  # as a directory that cannot be entered: it cannot be told what is there
    assert main(["import-sqlite", str(tmp_path / "loop"), str(tmp_path / "landed")]) == BAD_NEWS
    assert "Too many levels of symbolic links" in capsys.readouterr().err
    (tmp_path / "text").write_text("no database at all, and long enough to be looked at")
    assert main(["import-sqlite", str(tmp_path / "text"), str(tmp_path / "landed")]) == BAD_NEWS
    assert "Name the SqliteSaver's database." in capsys.readouterr().err
    with sqlite3.connect(tmp_path / "other") as other:
        other.execute("CREATE TABLE notes (text)")
    other.close()
    assert main(["import-sqlite", str(tmp_path / "other"), str(tmp_path / "landed")]) == BAD_NEWS
    assert "not a database of SqliteSaver" in capsys.readouterr().err
    (tmp_path / "cut").write_bytes(database.read_bytes()[:5000])  # it may well be one; the same holds for a lock
    assert main(["import-sqlite", str(tmp_path / "cut"), str(tmp_path / "landed")]) == BAD_NEWS
    assert "it cannot be read: database disk image is malformed" in capsys.readouterr().err
    assert not (tmp_path / "landed").exists()


def test_it_puts_nothing_into_the_directory_of_a_journal(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Journal(tmp_path / "journal") as journal:
        journal.append([b"one"])
    before = sorted(path.name for path in (tmp_path / "journal").iterdir())
    assert main(["import-sqlite", str(database), str(tmp_path / "journal")]) == BAD_NEWS
    assert "one journal is kept here, and not many" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "journal").iterdir()) == before


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DROP TABLE writes", "it cannot be read: no such table"),
        ("UPDATE checkpoints SET checkpoint = x'ff00'", "is none"),
        ("UPDATE checkpoints SET checkpoint = x'81'", "does not read"),
        ("UPDATE checkpoints SET checkpoint = NULL", "does not read"),
        ("UPDATE checkpoints SET metadata = '{'", "does not read"),
        ("UPDATE writes SET value = x'81'", "does not read"),
    ],
    ids=str,
)
def test_a_damaged_database_is_told(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str, said: str
) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(damage)
        connection.commit()
    assert main(["import-sqlite", str(database), str(tmp_path / "landed")]) == CANNOT_TELL
    assert said in capsys.readouterr().err
