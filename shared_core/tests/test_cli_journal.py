"""``landed journal``, as a process: what it prints, with which exit code, and what it leaves alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command_line import BAD_NEWS, CANNOT_TELL, OK, USAGE, on_a_terminal, run

import landed
from landed.cli import output

pytestmark = pytest.mark.usefixtures("small_segments")

FIRST = "0000000001-0000000001.seg"


@pytest.fixture
def journal(work: Path) -> Path:
    """Thirty batches in several segments."""
    with landed.Journal(work / "j") as opened:
        for number in range(30):
            opened.append([landed.Record(b"x" * 300, key=b"key %d" % number, kind=7), b"y"])
    return work / "j"


def damage(journal: Path, offset: int = 600) -> None:
    path = journal / FIRST
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# inspect


def test_inspect(journal):
    before = contents(journal)
    ended = run("journal", "inspect", journal)
    assert (ended.code, ended.err) == (OK, "")
    lines = ended.out.splitlines()
    assert lines[0].split() == [
        *("SEGMENT", "SIZE", "USED", "FRAMES", "RECORDS", "SEQUENCE", "STATE", "BOOT", "FLUSHED", "TAIL")
    ]
    segments = sorted(journal.glob("*.seg"))
    assert [line.split()[0] for line in lines[1:-1]] == [path.name for path in segments]
    assert [line.split()[6] for line in lines[1:-1]] == ["sealed"] * (len(segments) - 1) + ["newest"]
    assert lines[1].split()[5].startswith("1-")
    assert lines[-1].endswith("60 records, tail 60")
    assert contents(journal) == before


def test_inspect_as_json(journal):
    document = run("journal", "inspect", journal, "--json").document
    assert set(document) == {
        *("path", "ok", "tail", "segments", "damage", "lock", "claim", "suspect", "leftovers", "replaced"),
    }
    assert (document["ok"], document["tail"], document["lock"]) == (True, 60, {"held": False, "holder": None})
    assert sum(segment["records"] for segment in document["segments"]) == 60
    assert [segment["this_boot"] for segment in document["segments"]] == [True] * len(document["segments"])


def test_inspect_lists_records(journal):
    ended = run("journal", "inspect", journal, "--records", "--from", "58", "--limit", "2")
    table = ended.out.partition("\n\n")[2].splitlines()
    assert [line.split(maxsplit=3) for line in table] == [
        ["SEQUENCE", "KIND", "SIZE", "KEY"],
        ["58", "0", "1", "-"],
        ["59", "7", "300", "key 29"],
    ]
    document = run("journal", "inspect", journal, "--records", "--json", "--limit", "1").document
    assert document["records"] == [{"sequence": 1, "kind": 7, "key": "key 0", "size": 300, "segment": FIRST}]


def test_inspect_shows_who_is_there_and_what_was_left(journal, programs):
    source = """
import landed, sys
with landed.Journal(sys.argv[1]) as journal:
    journal.claim()
    print("ready", flush=True)
    input()
"""
    owner = programs.start(source, journal)
    assert owner.hear() == "ready"
    (journal / "suspect").touch()
    (journal / ".landed-0123456789ab.tmp").touch()
    (journal / ".compacting-0123456789ab").touch()
    ended = run("journal", "inspect", journal)
    owner.say()
    owner.finish()
    assert f"owned by python3 (pid {owner.pid} on" in ended.out
    assert "suspect: a flush failed" in ended.out
    assert "temp file: .landed-0123456789ab.tmp" in ended.out
    assert "temp file: .compacting-0123456789ab" in ended.out
    document = run("journal", "inspect", journal, "--json").document
    assert (document["claim"]["held"], document["suspect"], len(document["leftovers"])) == (False, True, 2)


# verify


def test_verify_a_whole_journal(journal):
    before = contents(journal)
    for level in ("read", "device"):
        ended = run("journal", "verify", journal, "--level", level)
        assert (ended.code, ended.err) == (OK, "")
        assert ended.out.startswith(f"{journal}: whole, ")
    assert contents(journal) == before


def test_verify_a_damaged_journal(journal):
    damage(journal)
    ended = run("journal", "verify", journal)
    assert ended.code == BAD_NEWS
    assert f"damaged: {FIRST}: offset " in ended.out
    assert f"{journal}: damaged" in ended.out
    assert f"landed journal salvage {journal} OUT" in ended.err
    document = run("journal", "verify", journal, "--json").document
    assert document["ok"] is False
    (found,) = document["damage"]
    assert found["segment"] == FIRST
    assert found["offset"] <= 600 < found["offset"] + found["size"]
    assert run("journal", "inspect", journal).code == BAD_NEWS


def test_verify_tells_a_crash_tail_from_damage(journal):
    newest = max(journal.glob("*.seg"))
    data = newest.read_bytes()
    at = data.rindex(b"LFR1")
    newest.write_bytes(data[:at] + b"half" + bytes(len(data) - at - 4))
    (journal / "suspect").touch()  # so that this boot's pages prove nothing
    ended = run("journal", "verify", journal)
    assert ended.code == OK
    assert f"crash tail: {newest.name}: offset {at} to {at + 4}: " in ended.out
    assert "never acknowledged" in ended.out
    (segment,) = [one for one in run("journal", "verify", journal, "--json").document["segments"] if one["tail"]]
    assert segment["tail"] == {"segment": newest.name, "offset": at, "size": 4, "kind": "crash"}


def test_no_journal(work):
    for command in ("inspect", "verify", "compact"):
        ended = run("journal", command, work, "--json")
        assert (ended.code, ended.document["error"]["type"]) == (BAD_NEWS, "Refused")
        ended = run("journal", command, work / "missing")
        assert (ended.code, "Name a journal's directory" in ended.err) == (BAD_NEWS, True)
    assert run("journal", "salvage", work, work / "out").code == BAD_NEWS
    assert os.listdir(work) == []
    (work / "file").touch()
    for command in ("inspect", "verify", "compact"):
        ended = run("journal", command, work / "file")
        assert (ended.code, "it is no directory" in ended.err) == (BAD_NEWS, True)


@pytest.mark.parametrize("words", [(), ("bogus",), ("inspect",), ("salvage", "a"), ("inspect", "a", "--limit", "-1")])
def test_usage(words, work):
    ended = run("journal", *words, cwd=work)
    assert (ended.code, "usage: landed journal" in ended.err) == (USAGE, True)
    assert os.listdir(work) == []


# compact


def test_compact(journal):
    ended = run("journal", "compact", journal)
    assert (ended.code, ended.err) == (OK, "")
    with landed.Journal(journal) as opened:
        assert ended.out.endswith(f" to {opened.size} bytes, 60 records merged\n")
        assert [entry.sequence for entry in opened.read()] == list(range(1, 61))
        assert opened.append([b"more"]).first == 61
    assert run("journal", "verify", journal).code == OK


def test_compact_as_json(journal):
    before = landed.Journal(journal).size
    document = run("journal", "compact", journal, "--json").document
    after = landed.Journal(journal).size
    assert document == {"path": str(journal), "before": before, "after": after, "records": 60}


def test_compact_a_journal_of_one_segment(work):
    with landed.Journal(work / "j") as opened:
        opened.append([b"one"])
    for _ in range(2):
        assert run("journal", "compact", work / "j").code == OK


def test_compact_is_refused_while_another_owns_it(journal):
    with landed.Journal(journal) as opened:
        opened.claim()
        before = contents(journal)
        ended = run("journal", "compact", journal, "--json")
        assert (ended.code, ended.document["error"]["type"]) == (BAD_NEWS, "Claimed")
        assert f"pid {os.getpid()}" in ended.err
        assert {name: data for name, data in contents(journal).items() if name.endswith(".seg")} == {
            name: data for name, data in before.items() if name.endswith(".seg")
        }
        assert run("journal", "verify", journal).code == OK


def test_compact_refuses_a_damaged_journal(journal):
    damage(journal)
    before = {name: data for name, data in contents(journal).items() if name == FIRST}
    ended = run("journal", "compact", journal)
    assert ended.code == CANNOT_TELL
    assert "landed journal salvage" in ended.err
    assert {name: data for name, data in contents(journal).items() if name == FIRST} == before


# salvage


def test_salvage(journal, work):
    damage(journal)
    before = contents(journal)
    ended = run("journal", "salvage", journal, work / "out")
    assert ended.code == BAD_NEWS
    assert f"skipped: {FIRST}: offset " in ended.out
    assert "sequence numbers 3 to 4 are missing" in ended.out
    assert contents(journal) == before
    assert run("journal", "verify", work / "out").code == OK
    with landed.Journal(work / "out") as opened:
        assert [entry.sequence for entry in opened.read()] == [1, 2, *range(5, 61)]
    assert run("journal", "salvage", journal, work / "out").code == BAD_NEWS
    assert run("journal", "salvage", journal, journal / "out").code == BAD_NEWS
    assert contents(journal) == before


def test_salvage_as_json(journal, work):
    (journal / FIRST).unlink()
    ended = run("journal", "salvage", journal, work / "out", "--json")
    document = ended.document
    assert ended.code == BAD_NEWS
    assert (document["path"], document["tail"], document["next"]) == (str(work / "out"), 60, 61)
    (skipped,) = document["skipped"]
    assert (skipped["segment"], skipped["size"], skipped["after"]) == (FIRST, 0, 0)
    with landed.Journal(work / "out") as opened:
        assert next(iter(opened.read())).sequence == skipped["before"]


def test_salvage_of_a_whole_journal(journal, work):
    ended = run("journal", "salvage", journal, work / "out")
    assert (ended.code, ended.err) == (OK, "")
    assert ended.out == f"{work / 'out'}: 30 frames copied, tail 60; goes on at 61\n"


# audit


def test_audit_covers_journals(journal, work):
    landed.write(work / "a", b"one")
    ended = run("audit", work)
    assert (ended.code, ended.out.splitlines()[-1]) == (OK, f"1 file and 1 journal in {work}: 2 intact")
    damage(journal)
    ended = run("audit", work)
    assert ended.code == BAD_NEWS
    assert f"damaged journal: {journal}\n    {FIRST}: offset " in ended.out
    assert f"landed journal salvage {journal} OUT" in ended.out
    assert ended.out.splitlines()[-1] == f"1 file and 1 journal in {work}: 1 intact, 1 damaged journal"
    document = run("audit", journal, "--json").document
    assert (document["ok"], document["counts"]["damaged journal"]) == (False, 1)
    assert run("audit", journal / "..").code == BAD_NEWS
    assert run("audit").code == OK  # without a directory, whole files alone


# Progress.


def test_progress_in_bytes(journal, monkeypatch, capsys):
    monkeypatch.setattr(output, "LINE_EVERY", 0.0)
    with output.Meter("verify", output.MIB) as meter:
        meter.at(0, 3 << 20)
        meter.at(3 << 19, 3 << 20)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "verify: 0.0 of 3.0 MiB"
    assert second.startswith("verify: 1.5 of 3.0 MiB, ")


def test_a_terminal_sees_no_leftover_bar(journal):
    shown = on_a_terminal("journal", "verify", journal)
    assert "\033[32mwhole\033[0m" in shown
