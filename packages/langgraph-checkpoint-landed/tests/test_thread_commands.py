"""What the package adds to the command `landed`: what it prints, and with which exit code."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

import landed
from landed._fs import FileOps
from landed.cli import main
from langgraph.checkpoint.landed import LandedSaver
from langgraph.checkpoint.landed.cli.looking import Checkpoint
from langgraph.checkpoint.landed.cli.thread import forks, tree

OK, BAD_NEWS, USAGE, CANNOT_TELL = 0, 1, 2, 3


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def config(thread: str, ns: str = "", checkpoint_id: str | None = None) -> Any:
    chosen = {} if checkpoint_id is None else {"checkpoint_id": checkpoint_id}
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, **chosen}}


def put(saver: LandedSaver, on: Any, step: int, text: str = "") -> Any:
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"text": text}
    version = saver.get_next_version(None, None)
    checkpoint["channel_versions"] = {"text": version}
    return saver.put(on, checkpoint, {"source": "loop", "step": step, "parents": {}}, {"text": version})


def grow(saver: LandedSaver, thread: str, steps: int, text: str = "") -> list[Any]:
    configs = [config(thread)]
    for step in range(steps):
        configs.append(put(saver, configs[-1], step, text))
    return configs[1:]


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A thread with a fork and a subgraph, a long one, and one with a name that could fool a terminal."""
    with LandedSaver(tmp_path / "threads", on_conflict="fork") as saver:
        first = grow(saver, "t", 3)
        saver.put_writes(first[-1], [("text", "x"), ("other", "y")], "task")
        put(saver, first[0], 10)
        put(saver, config("t", "child:1"), 0)
        grow(saver, "long", 30, "many words " * 500)
        grow(saver, "../a\n\033[31m", 1)
    return tmp_path / "threads"


@pytest.mark.parametrize("words", [["--help"], ["threads", "."], ["thread", ".", "t"], ["prune-threads", "--help"]])
def test_nobody_waits_for_langgraph_to_be_told_of_threads(stored: Path, words: list[str]) -> None:
    """It takes a second to import."""
    code = (
        f"import sys; from contextlib import suppress; from landed.cli import main\n"
        f"with suppress(SystemExit): main({words!r})\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=stored, capture_output=True, text=True, timeout=60, check=True
    )
    assert told.stdout
    assert "langgraph.checkpoint.landed.cli.threads" in told.stderr.split()
    assert not {"langchain_core", "langgraph.checkpoint.base"} & set(told.stderr.split())


def test_threads(run: Any, stored: Path) -> None:
    code, out, _ = run("threads", stored)
    assert code == OK
    assert re.search(r"^long +\d+ +30 +[-\d]{10} \d\d:\d\d:\d\d UTC  .*pid " + str(os.getpid()), out, re.MULTILINE)
    assert r"../a\n\x1b[31m" in out
    assert "\033" not in out
    assert out.splitlines()[-1].startswith(f"{stored}: 3 threads, 36 checkpoints, ")
    code, out, _ = run("threads", stored, "--json")
    threads = json.loads(out)["threads"]
    assert [row["thread"] for row in threads] == ["../a\n\033[31m", "long", "t"], "the one changed last comes first"
    assert threads[2].keys() == {"thread", "size", "namespaces", "checkpoints", "last", "error"}
    assert (threads[2]["namespaces"], threads[2]["checkpoints"], threads[2]["error"]) == (2, 5, None)
    assert threads[2]["last"].keys() == {"id", "at", "writer"}
    # The size is what is used of the disk, not what a copy of the files may take.
    used = sum(landed.Journal(path.parent).size for path in stored.rglob("name"))
    on_disk = sum(path.stat().st_blocks * 512 for path in stored.rglob("*.seg"))
    assert sum(row["size"] for row in threads) == used <= on_disk


def test_thread(run: Any, stored: Path) -> None:
    code, out, _ = run("thread", stored, "t")
    assert code == OK
    lines = [line.split("  ")[0].rstrip() for line in out.splitlines()]
    root = lines[lines.index("the graph: 4 checkpoints, 1 fork") + 2 :][:4]
    drawn = [re.sub(r"[0-9a-f-]{36}", "ID", line) for line in root]
    assert drawn == ["* ID", "|-* ID", "| * ID", "* ID (latest)"]
    assert len(re.findall(r" \d\d:\d\d:\d\d UTC  \S", out)) == 5
    assert "child:1: 1 checkpoint, 0 forks" in lines
    code, _, err = run("thread", stored, "t", "--namespace", "mistyped")
    assert (code, "no namespace 'mistyped'" in err) == (BAD_NEWS, True)
    code, out, _ = run("thread", stored, "t", "--json", "--namespace", "")
    document = json.loads(out)
    (namespace,) = document["namespaces"]
    assert (namespace["count"], namespace["forks"]) == (4, 1)
    first, second, third, last = namespace["checkpoints"]
    assert [one["parent"] for one in (first, second, third, last)] == [None, first["id"], second["id"], first["id"]]
    assert (third["writes"], third["source"], third["step"]) == (2, "loop", 2)
    assert namespace["latest"] == last["id"]
    code, out, _ = run("thread", stored, "long", "--last", "2", "--json")
    assert [one["step"] for one in json.loads(out)["namespaces"][0]["checkpoints"]] == [28, 29]


def test_what_is_encrypted_is_not_shown_and_does_not_stop_it(run: Any, tmp_path: Path) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    with LandedSaver(tmp_path, serde=serde) as saver:
        grow(saver, "t", 2)
    code, out, _ = run("thread", tmp_path, "t", "--json")
    assert code == OK
    assert [one["source"] for one in json.loads(out)["namespaces"][0]["checkpoints"]] == [None, None]
    assert run("threads", tmp_path)[0] == OK


def damage(stored: Path, thread: bytes) -> None:
    (name,) = (path for path in stored.rglob("name") if path.read_bytes() == thread)
    segment = min(name.parent.glob("*.seg"))
    data = bytearray(segment.read_bytes())
    data[150] ^= 1
    segment.write_bytes(data)


def test_a_damaged_thread_is_told_and_the_others_are_listed(run: Any, stored: Path) -> None:
    damage(stored, b"t")
    code, out, _ = run("threads", stored)
    assert (code, out.count("damaged: ")) == (BAD_NEWS, 1)
    assert "3 threads" in out
    assert sum(row["error"] is None for row in json.loads(run("threads", stored, "--json")[1])["threads"]) == 2


def test_prune(run: Any, stored: Path) -> None:
    code, out, _ = run("prune-threads", stored, "long", "--json")
    (one,) = json.loads(out)["threads"]
    assert (code, one["thread"]) == (OK, "long")
    assert one["after"] < one["before"] / 2
    with LandedSaver(stored) as saver:
        (kept,) = saver.list(config("long"))
        assert kept.metadata["step"] == 29
        assert len(list(saver.list(config("t")))) == 4, "no other thread"
    code, out, _ = run("prune-threads", stored, "--all", "--delete")
    assert code == OK
    assert "3 threads deleted" in out
    assert "0 threads" in run("threads", stored)[1]


def test_a_damaged_thread_stops_no_other_from_being_pruned_and_goes_with_delete(run: Any, stored: Path) -> None:
    damage(stored, b"long")
    for words in (("--all",), ("--older-than", "0", "--delete")):
        code, out, _ = run("prune-threads", stored, *words, "--json")
        pruned = {one["thread"]: one["error"] for one in json.loads(out)["threads"]}
        assert (code, len(pruned), pruned["long"]["type"]) == (BAD_NEWS, 3, "Corrupt"), words
        assert sum(error is None for error in pruned.values()) == 2
    code, out, _ = run("prune-threads", stored, "long")
    assert (code, "damaged: long: " in out) == (BAD_NEWS, True)
    code, out, _ = run("prune-threads", stored, "long", "--delete")
    assert (code, "1 thread deleted" in out) == (OK, True)
    assert json.loads(run("threads", stored, "--json")[1])["threads"] == []


def test_what_another_program_keeps_in_the_directory_is_no_damaged_thread_and_stays(run: Any, stored: Path) -> None:
    with landed.Journals(stored) as journals:
        journals.open("memory").append([landed.Record(b"\x02\x00\x00\x00", kind=1)])
    code, out, _ = run("threads", stored)
    assert (code, "no thread: memory: " in out, "damaged" in out) == (OK, True, False)
    document = json.loads(run("threads", stored, "--json")[1])
    assert (len(document["threads"]), document["others"]) == (3, ["memory"])
    for words in (("thread", stored, "memory"), ("prune-threads", stored, "t", "memory", "--delete")):
        code, _, err = run(*words)
        assert (code, "'memory' is no LangGraph thread" in err) == (BAD_NEWS, True)
    with LandedSaver(stored) as saver, pytest.raises(landed.Corrupt, match="another program's"):
        saver.get_tuple(config("memory"))
    assert "3 threads deleted" in run("prune-threads", stored, "--all", "--delete")[1]
    assert json.loads(run("threads", stored, "--json")[1])["others"] == ["memory"]


def test_looking_needs_no_more_than_reading(run: Any, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(stored, b"long")
    seen = [run("threads", stored), run("thread", stored, "t"), run("thread", stored, "long")]
    grant = FileOps.open

    def read_only(fs: FileOps, path: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, "Read-only file system", path)
        return grant(fs, path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(FileOps, "open", read_only)
    assert [run("threads", stored), run("thread", stored, "t"), run("thread", stored, "long")] == seen
    code, _, err = run("prune-threads", stored, "t")
    assert (code, "Read-only" in err, "Mount it for writing" in err) == (BAD_NEWS, True, True)


def test_prune_by_age(run: Any, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads(run("prune-threads", stored, "--older-than", "1", "--delete", "--json")[1])["threads"] == []
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert len(json.loads(run("prune-threads", stored, "--older-than", "1", "--delete", "--json")[1])["threads"]) == 3


def test_which_arguments_are_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["prune-threads"])
    assert capsys.readouterr().err.endswith("required: DIR\n"), "a thread need not be named"


def test_what_is_not_there(run: Any, stored: Path, tmp_path: Path) -> None:
    missing = tmp_path / "no"
    for words in (("threads", missing), ("thread", missing, "t"), ("prune-threads", missing, "t")):
        code, _, err = run(*words)
        assert (code, "there is no such directory" in err) == (BAD_NEWS, True)
    assert not missing.exists()
    assert "there is no thread 'x'" in run("thread", stored, "x")[2]
    code, _, err = run("prune-threads", stored, "long", "x")
    assert (code, "there is no thread 'x'" in err) == (BAD_NEWS, True)
    assert run("prune-threads", stored)[0] == USAGE
    code, _, err = run("prune-threads", stored, "long", "--all", "--delete")
    assert (code, "not both" in err) == (USAGE, True)
    with LandedSaver(stored) as saver:
        assert len(list(saver.list(config("long")))) == 30, "nothing was changed"
    for words in (("threads", ""), ("thread", "", "t"), ("prune-threads", "", "--all"), ("import-sqlite", "", missing)):
        code, _, err = run(*words)
        assert (code, err.startswith("landed: '':")) == (BAD_NEWS, True), "of a variable that is not set"


# The tree.


@pytest.mark.parametrize(
    "words", [("threads",), ("thread", "t"), ("prune-threads", "--all")], ids=lambda words: words[0]
)
def test_a_directory_that_no_saver_was_given(run: Any, tmp_path: Path, words: tuple[str, ...]) -> None:
    command, *rest = words
    with landed.Journal(tmp_path / "journal") as journal:
        journal.append([b"one"])
    (tmp_path / "file").write_bytes(b"")
    for name, said in (("journal", "one journal is kept here"), ("file", "no directory"), ("none", "no such")):
        code, out, err = run(command, tmp_path / name, *rest)
        assert (code, out, said in err) == (BAD_NEWS, "", True), err
    assert run(command, tmp_path / ("x" * 300), *rest)[0] == CANNOT_TELL
    assert sorted(os.listdir(tmp_path / "journal")) == ["0000000001-0000000001.seg", "lock"]
    with pytest.raises(landed.Refused, match="one journal is kept here"):
        LandedSaver(tmp_path / "journal")


def checkpoints(parents: list[int | None]) -> list[Checkpoint]:
    number = count()
    return [Checkpoint(f"{next(number):03}", None if p is None else f"{p:03}", "loop", 0, 0, 0.0, "") for p in parents]


def drawn(parents: list[int | None]) -> list[str]:
    return [mark + str(int(each.id)) for mark, each in tree(checkpoints(parents))]


def test_a_line_is_a_line() -> None:
    assert drawn([None, 0, 1]) == ["* 0", "* 1", "* 2"]
    assert drawn([]) == []


def test_the_line_to_the_latest_is_at_the_margin() -> None:
    assert drawn([None, 0, 1, 0, 3, 1]) == ["* 0", "|-* 3", "| * 4", "* 1", "|-* 2", "* 5"]
    assert drawn([None, 0, 0, 0]) == ["* 0", "|-* 1", "|-* 2", "* 3"]
    assert drawn([None, 0, 1, 1, 0]) == ["* 0", "|-* 1", "| |-* 2", "| * 3", "* 4"]


def test_several_beginnings_and_a_circle() -> None:
    assert drawn([None, 9, 1, None]) == ["* 0", "* 1", "* 2", "* 3"]
    assert drawn([1, 0, None]) == ["* 2", "? 0", "? 1"]


def test_any_tree_shows_each_checkpoint_once() -> None:
    chance = random.Random(1)
    for _ in range(200):
        parents = [None if not n else chance.choice([None, *range(n)]) for n in range(chance.randint(1, 40))]
        some = checkpoints(parents)
        assert sorted(each.id for _, each in tree(some)) == [each.id for each in some]
    assert forks(checkpoints([None, 0, 0, 1, 1])) == 2


def test_a_very_long_line_does_not_recurse() -> None:
    parents = [None, *range(20_000)]
    assert len(drawn(parents)) == 20_001
    assert len(drawn([None, *(max(0, n - 1 - n % 2) for n in range(5_000))])) == 5_001


def test_the_reference_is_what_the_program_says() -> None:
    tool = Path(__file__).resolve().parents[3] / "tools" / "cli_reference.py"
    if not tool.exists():
        pytest.skip("the docs are not beside these sources")
    checked = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "left as it is" not in checked.stderr  # some releases of LangChain warn there as well
