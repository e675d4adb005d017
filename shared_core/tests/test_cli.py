"""The command, as a process: what it prints, where, and with which exit code."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import BAD_NEWS, CANNOT_TELL, OK, USAGE, run

import landed
from landed import _fs, records
from landed.artifact import Artifact
from landed.cli import main


def killed_writer(path: Path, *, at: str = "rename") -> None:
    code = f"""
import os, signal, landed
from landed import _fs
class Dies(_fs.FileOps):
    def {at}(self, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)
landed.Files(Dies()).write({str(path)!r}, b"never", expect=landed.ANY)
"""
    ended = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL


# write


def test_write_from_standard_input(work):
    ended = run("write", work / "a", stdin=b"\x00bytes\r\n")
    assert (ended.code, ended.err) == (OK, "")
    assert (work / "a").read_bytes() == b"\x00bytes\r\n"
    assert str(work / "a") in ended.out
    assert "a new file" in ended.out


def test_write_from_a_file_as_json(work):
    (work / "source").write_bytes(b"one")
    ended = run("write", work / "a", work / "source", "--verify", "device", "--json")
    assert ended.code == OK
    document = ended.document
    assert set(document) == {"path", "version", "sha256", "size", "verified", "seconds", "replaced", "settled"}
    assert (document["size"], document["verified"], document["replaced"]) == (3, "device", None)
    assert landed.read(work / "a").version == document["version"]


def test_write_does_not_replace_what_was_not_named(work):
    first = landed.write(work / "a", b"one")
    ended = run("write", work / "a", stdin=b"two")
    assert ended.code == BAD_NEWS
    assert (work / "a").read_bytes() == b"one"
    assert "Nothing was changed." in ended.err
    assert f"--expect {first.version}" in ended.err
    assert run("write", work / "a", "--expect", first.version, stdin=b"two").code == OK
    assert run("write", work / "a", "--expect", first.version, stdin=b"three").code == BAD_NEWS
    assert run("write", work / "a", "--expect", "any", stdin=b"four").code == OK
    assert (work / "a").read_bytes() == b"four"


def test_write_an_error_as_json(work):
    landed.write(work / "a", b"one")
    ended = run("write", work / "a", "--json", stdin=b"two")
    assert ended.code == BAD_NEWS
    error = ended.document["error"]
    assert set(error) == {"type", "message", "path", "step", "errno", "expected", "found", "outcome", "hint"}
    assert (error["type"], error["outcome"]) == ("StaleWrite", "not_written")
    assert error["message"] in ended.err


def test_write_to_a_held_file(work):
    with landed.edit(work / "a"):
        ended = run("write", work / "a", "--timeout", "0.05", stdin=b"two")
    assert ended.code == BAD_NEWS
    assert f"pid {os.getpid()}" in ended.err


def test_write_from_a_file_that_is_not_there(work):
    ended = run("write", work / "a", work / "missing", stdin=b"two")
    assert (ended.code, "missing" in ended.err) == (USAGE, True)
    assert not (work / "a").exists()


@pytest.mark.parametrize(
    "words", [(), ("bogus",), ("write",), ("write", "a", "--timeout", "-1"), ("audit", "--level", "x")]
)
def test_usage(words, work):
    ended = run(*words, cwd=work)
    assert ended.code == USAGE
    assert "usage: landed" in ended.err
    assert os.listdir(work) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("log", "--last", "x"), "'x' is not a number"),
        (("write", "a", "--timeout", "x"), "x is not a number of seconds"),
        (("journal", "inspect", "a", "--limit", "x"), "'x' is not a number"),
        (("journal", "inspect", "a", "--from", "-1"), "-1 is less than 0"),
    ],
)
def test_usage_says_what_is_no_number(words, said, work):
    ended = run(*words, cwd=work)
    assert (ended.code, said in ended.err) == (USAGE, True)


def test_without_a_command_it_lists_them(work):
    assert "    journal  " in run(cwd=work).err


def test_a_command_of_a_package_that_is_missing_says_what_brings_it(work, monkeypatch, capsys):
    monkeypatch.setattr("landed.cli._entry_points", list)
    assert main(["import-sqlite", "a.sqlite", str(work)]) == USAGE
    assert 'pip install "landed[langgraph]"' in capsys.readouterr().err


def test_write_whose_outcome_is_unknown(work, monkeypatch, capsys):
    def sync(directory: _fs.Directory) -> None:
        if (work / "a").exists():
            raise OSError(5, "Input/output error")
        flush(directory)

    flush = _fs.Directory.sync
    (work / "source").write_bytes(b"one")
    monkeypatch.setattr(_fs.Directory, "sync", sync)
    assert main(["write", str(work / "a"), str(work / "source")]) == CANNOT_TELL
    assert "unknown" in capsys.readouterr().err


# cat, verify


def test_cat(work):
    landed.write(work / "a", b"\xff\x00")
    ended = run("cat", work / "a")
    assert (ended.code, ended.raw, ended.err) == (OK, b"\xff\x00", "")


def test_cat_gives_the_bytes_and_warns_of_a_change(work):
    receipt = landed.write(work / "a", b"one")
    (work / "a").write_bytes(b"others\n")
    ended = run("cat", work / "a")
    assert (ended.code, ended.out) == (OK, "others\n")
    assert f"{receipt.version}+" in ended.err


def test_cat_as_json(work):
    landed.write(work / "a", "ü")
    landed.write(work / "b", b"\xff")
    text, raw = run("cat", "--json", work / "a").document, run("cat", "--json", work / "b").document
    assert set(text) == {"path", "version", "sha256", "size", "origin", "writer", "text", "base64"}
    assert (text["text"], text["base64"], raw["text"], raw["base64"]) == ("ü", None, None, "/w==")


def test_cat_what_is_not_there(work):
    ended = run("cat", work / "a")
    assert (ended.code, ended.out) == (BAD_NEWS, "")
    assert "No such file" in ended.err


def test_verify(work):
    landed.write(work / "a", b"one")
    landed.write(work / "b", b"one")
    assert run("verify", work / "a", work / "b", "--level", "device").code == OK
    (work / "b").write_bytes(b"two")
    ended = run("verify", work / "a", work / "b", "--json")
    assert ended.code == BAD_NEWS
    assert [file["ok"] for file in ended.document["files"]] == [True, False]
    assert ended.document["files"][1]["error"]["type"] == "VerifyFailed"


def test_verify_names_each_file_and_goes_on_behind_one_that_is_not_whole(work):
    for name in "abc":
        landed.write(work / name, b"one")
    (work / "a").write_bytes(b"two")
    words = ("verify", work / "a", work, work / "b", work / "c" / "d", work / "c")
    plain = run(*words)
    assert plain.code == BAD_NEWS
    assert [line.partition(": ")[0] for line in plain.out.splitlines()] == [str(work / "b"), str(work / "c")]
    wrong = [str(work / "a"), str(work), str(work / "c" / "d")]
    assert [line.split(": ")[:2] for line in plain.err.splitlines()] == [["landed", path] for path in wrong]
    ended = run(*words, "--json")
    assert ended.code == BAD_NEWS
    assert [(file["path"], file["ok"]) for file in ended.document["files"]] == [
        (str(path), str(path) not in wrong) for path in words[1:]
    ]


def test_verify_says_what_to_do_about_a_file_that_is_not_there(work):
    landed.write(work / "a", b"one")
    (work / "a").unlink()
    assert "It is gone: write it again" in run("verify", work / "a").err
    assert "Check the path." in run("verify", work / "never").err


# status, log


def test_status_of_quiet_files(work):
    assert "0 files known" in run("status", cwd=work).out
    version = str(landed.write(work / "a", b"one").version)
    ended = run("status", cwd=work)
    assert (ended.code, "none is held" in ended.out) == (OK, True)
    assert version in run("status", work / "a").out


def test_status_of_what_is_not_there_and_was_never_written(work):
    """All would seem well with a mistyped path."""
    ended = run("status", work / "missing")
    assert (ended.code, "Check the path." in ended.err) == (BAD_NEWS, True)
    with landed.edit(work / "missing"):
        assert "held" in run("status", work / "missing").out


def test_status_says_who_holds_what(work):
    landed.write(work / "a", b"one")
    with landed.edit(work / "a"):
        ended = run("status", "--json", work)
        table = run("status", work, TZ="IST-5:30").out
    (file,) = ended.document["files"]
    assert (file["path"], file["state"], file["holder"]["owner"]["pid"]) == (str(work / "a"), "held", os.getpid())
    since = file["holder"]["since"].partition(".")[0].replace("T", " ")
    assert f"held   {since} UTC  " in table
    assert f"pid {os.getpid()}" in table
    assert run("status", "--json", work).document == {"known": 1, "files": []}


def test_status_of_a_dead_writer_leads_to_its_end(work):
    landed.write(work / "a", b"one")
    killed_writer(work / "a")
    ended = run("status", work)
    assert ended.code == BAD_NEWS
    assert "aborted" in ended.out
    assert f"landed verify {work / 'a'}" in ended.err
    verified = run("verify", work / "a")
    assert (verified.code, "aborted" in verified.err) == (OK, True)
    assert run("status", work).code == OK


def test_log(work, monkeypatch):
    first = landed.write(work / "a", b"one")
    (work / "a").write_bytes(b"from outside")
    with monkeypatch.context() as clock:
        clock.setattr(records, "time", lambda: 1e9)  # set back: the order is the log's all the same
        second = landed.write(work / "a", b"two", expect=landed.ANY)
    killed_writer(work / "a")
    landed.verify(work / "a")
    (work / "a").write_bytes(b"from outside again")
    assert "by something that does not use landed" in run("status", work / "a").out
    lines = run("log", "--json", work / "a").document["lines"]
    assert [line["outcome"] for line in lines] == ["landed", "outside", "landed", "not landed", "outside"]
    assert [line["version"] for line in lines][:3] == [first.version, second.replaced, second.version]
    assert lines[2]["write"]["base"] == second.replaced
    table = run("log", work / "a", TZ="IST-5:30").out.splitlines()
    assert len(table) == 1 + len(lines)
    assert (table[3].split("  ")[0], lines[2]["at"]) == ("2001-09-09 01:46:40 UTC", "2001-09-09T01:46:40.000Z")
    assert table[0].split() == ["TIME", "OUTCOME", "VERSION", "OVER", "BYTES", "OWNER"]
    assert len(run("log", "--last", 2, work / "a").out.splitlines()) == 3


def test_log_of_a_directory(work):
    landed.write(work / "a", b"one")
    time.sleep(0.002)  # the log's clock ticks in milliseconds
    landed.write(work / "b", b"two")
    assert [line["path"] for line in run("log", "--json", work).document["lines"]] == [str(work / "a"), str(work / "b")]
    (work / "c").write_bytes(b"by hand")
    assert "nothing" in run("log", work / "c").out


def test_log_has_no_last_none_of_its_lines(work):
    landed.write(work / "a", b"one")
    ended = run("log", "--last", "0", work)
    assert ended.code == USAGE
    assert "0 is less than 1" in ended.err


def test_log_of_a_write_that_is_begun(work):
    killed_writer(work / "a", at="link")
    assert [line["outcome"] for line in run("log", "--json", work / "a").document["lines"]] == ["begun"]


def test_log_of_a_file_that_was_deleted_and_came_back(work):
    landed.write(work / "a", b"one")
    landed.delete(work / "a")
    landed.write(work / "a", b"two")
    lines = run("log", "--json", work / "a").document["lines"]
    assert [line["outcome"] for line in lines] == ["landed", "landed", "landed"]


# a path that leads nowhere


def test_a_file_that_took_the_place_of_a_directory_is_no_doubt(work):
    landed.write(work / "a" / "b", b"one")
    shutil.rmtree(work / "a")
    (work / "a").write_bytes(b"in its place")
    for command in ("verify", "cat", "status", "audit"):
        ended = run(command, work / "a" / "b")
        assert (ended.code, str(work / "a" / "b") in ended.err + ended.out) == (BAD_NEWS, True), (command, ended.err)


@pytest.mark.parametrize(
    "words",
    [
        *(("journal", name) for name in ("inspect", "verify", "compact")),
        *((name,) for name in ("init", "doctor", "cat", "write", "verify", "audit", "status", "log", "report")),
    ],
    ids=" ".join,
)
def test_a_variable_that_is_not_set_is_not_the_working_directory(work, words):
    ended = run(*words, "", cwd=work)
    assert (ended.code, ended.out) == (BAD_NEWS, "")
    assert "is not empty" in ended.err
    assert os.listdir(work) == []


def test_a_copy_to_or_from_nowhere_makes_nothing(work):
    with landed.Journal(work / "journal") as journal:
        journal.append([b"one"])
    for words in (("", "other"), ("journal", "")):
        ended = run("copy", *words, cwd=work)
        assert (ended.code, "is not empty" in ended.err) == (BAD_NEWS, True)
    assert os.listdir(work) == ["journal"]
    for kind in (landed.Journal, landed.Journals):
        with pytest.raises(landed.Refused):
            kind("")


@pytest.mark.parametrize("command", ["audit", "log", "report", "status"])
def test_a_path_that_is_not_there_is_not_well(work, command):
    ended = run(command, work / "mistyped", "--json")
    assert ended.code == BAD_NEWS
    assert ended.document["error"]["path"] == str(work / "mistyped")
    assert "landed has no record of it" in ended.err
    assert ended.err.endswith("Check the path.\n")
    assert not (work / "landed-report.html").exists()


@pytest.mark.parametrize("command", ["audit", "report"])
def test_a_path_that_is_gone_with_what_landed_wrote_is_told_of(work, command):
    landed.write(work / "gone" / "a", b"one")
    shutil.rmtree(work / "gone")
    ended = run(command, work / "gone", cwd=work)
    assert ended.code == BAD_NEWS
    assert "Check the path" not in ended.err
    assert ended.out


# audit


def test_audit_says_what_is_lost_and_what_to_do(work):
    landed.write(work / "kept", b"one")
    assert run("audit", cwd=work).code == OK
    landed.write(work / "a", b"one")
    (work / "a").unlink()
    ended = run("audit", work)
    assert ended.code == BAD_NEWS
    assert f"lost: {work / 'a'}" in ended.out
    assert "next: `landed log" in ended.out
    assert ended.out.splitlines()[-1] == f"2 files in {work}: 1 intact, 1 lost"
    document = run("audit", "--json", work).document
    assert document["ok"] is False
    assert document["counts"]["lost"] == 1
    assert {finding["verdict"] for finding in document["findings"]} == {"intact", "lost"}


@pytest.mark.parametrize(
    "harm", [lambda path: path.write_bytes(b"others"), killed_writer], ids=["bypassed", "unfinished"]
)
def test_audit_exits_with_bad_news(work, harm):
    landed.write(work / "a", b"one")
    harm(work / "a")
    assert run("audit", work).code == BAD_NEWS
    assert run("audit", work / "a").code == BAD_NEWS


def test_audit_exits_in_doubt_over_a_damaged_record(work):
    landed.write(work / "a", b"one")
    Path(Artifact(work / "a").shelf.record_path).write_bytes(b"garbled")
    ended = run("audit")
    assert ended.code == CANNOT_TELL
    assert "damaged record" in ended.out
    landed.write(work / "b", b"one")
    (work / "b").unlink()
    assert run("audit").code == BAD_NEWS


# init, doctor


def test_init(work):
    landed.write(work / "a", b"one")
    ended = run("init", "--json", work)
    assert ended.code == OK
    assert ended.document == {
        "root": str(work / ".landed"),
        "directory": str(work),
        "mode": f"{work.stat().st_mode & 0o777:04o}",
        "created": True,
        "carried": [str(work / "a")],
    }
    again = run("init", work)
    assert (again.code, "already" in again.out) == (OK, True)
    (work / "d").mkdir()
    inside = run("init", work / "d")
    assert (inside.code, "There is nothing to do" in inside.err) == (BAD_NEWS, True)
    assert run("audit", work).code == OK


def test_doctor(work):
    ended = run("doctor", "--json", work)
    assert ended.code == OK, ended.out
    assert ended.document["ok"] is True
    assert {check["name"] for check in ended.document["checks"]} >= {"put if absent", "noticed: rename lost"}
    plain = run("doctor", work)
    assert (plain.code, "can keep its promise here" in plain.out) == (OK, True)
    missing = run("doctor", work / "missing")
    assert (missing.code, missing.out) == (BAD_NEWS, "")


def test_doctor_fails_where_locks_do_not_exclude(work, monkeypatch, capsys):
    monkeypatch.setattr("landed._fs.LOCAL.flock", lambda *_, **__: None)
    assert main(["doctor", str(work)]) == BAD_NEWS
    assert "cannot keep its promise" in capsys.readouterr().out


# What all commands have.
