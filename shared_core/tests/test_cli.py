"""The command, as a process: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import landed
from landed import _fs
from landed.artifact import Artifact
from landed.cli import COMMANDS, build_parser, main, output

OK, BAD_NEWS, USAGE, CANNOT_TELL = 0, 1, 2, 3


class Result:
    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.raw = out
        self.out = out.decode(errors="replace")
        self.err = err.decode()

    @property
    def document(self) -> dict:
        return json.loads(self.out)


def run(*words: object, stdin: bytes = b"", cwd: Path | None = None, module: str = "landed", **environ: str) -> Result:
    ended = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env={**os.environ, **environ},
        timeout=60,
        check=False,
    )
    return Result(ended.returncode, ended.stdout, ended.stderr)


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
    assert "Nothing was written" in ended.err
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


# status, log


def test_status_of_quiet_files(work):
    assert "0 files known" in run("status", cwd=work).out
    version = str(landed.write(work / "a", b"one").version)
    ended = run("status", cwd=work)
    assert (ended.code, "none is held" in ended.out) == (OK, True)
    assert version in run("status", work / "a").out
    assert run("status", work / "missing").code == OK


def test_status_says_who_holds_what(work):
    landed.write(work / "a", b"one")
    with landed.edit(work / "a"):
        ended = run("status", "--json", work)
        table = run("status", work).out
    (file,) = ended.document["files"]
    assert (file["path"], file["state"], file["holder"]["owner"]["pid"]) == (str(work / "a"), "held", os.getpid())
    assert "held" in table
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


def test_log(work):
    first = landed.write(work / "a", b"one")
    (work / "a").write_bytes(b"from outside")
    second = landed.write(work / "a", b"two", expect=landed.ANY)
    killed_writer(work / "a")
    landed.verify(work / "a")
    (work / "a").write_bytes(b"from outside again")
    lines = run("log", "--json", work / "a").document["lines"]
    assert [line["outcome"] for line in lines] == ["landed", "outside", "landed", "not landed", "outside"]
    assert [line["version"] for line in lines][:3] == [first.version, second.replaced, second.version]
    assert lines[2]["write"]["base"] == second.replaced
    table = run("log", work / "a").out.splitlines()
    assert len(table) == 1 + len(lines)
    assert table[0].split() == ["TIME", "OUTCOME", "VERSION", "OVER", "BYTES", "OWNER"]
    assert len(run("log", "--last", 2, work / "a").out.splitlines()) == 3


def test_log_of_a_directory(work):
    landed.write(work / "a", b"one")
    time.sleep(0.002)  # the log's clock ticks in milliseconds
    landed.write(work / "b", b"two")
    assert [line["path"] for line in run("log", "--json", work).document["lines"]] == [str(work / "a"), str(work / "b")]
    assert "nothing" in run("log", work / "c").out


def test_log_of_a_write_that_is_begun(work):
    killed_writer(work / "a", at="link")
    assert [line["outcome"] for line in run("log", "--json", work / "a").document["lines"]] == ["begun"]


def test_log_of_a_file_that_was_deleted_and_came_back(work):
    landed.write(work / "a", b"one")
    landed.delete(work / "a")
    landed.write(work / "a", b"two")
    lines = run("log", "--json", work / "a").document["lines"]
    assert [line["outcome"] for line in lines] == ["landed", "landed", "landed"]


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
    assert missing.code == BAD_NEWS


def test_doctor_fails_where_locks_do_not_exclude(work, monkeypatch, capsys):
    monkeypatch.setattr("landed._fs.FileOps.flock", lambda *_, **__: None)
    assert main(["doctor", str(work)]) == BAD_NEWS
    assert "cannot keep its promise" in capsys.readouterr().out


# What all commands have.


JOURNAL = [f"journal {command}" for command in ("inspect", "verify", "compact", "salvage")]


@pytest.mark.parametrize("command", [*(name for name in COMMANDS if name != "journal"), *JOURNAL])
def test_help_and_json_everywhere(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--help"])
    assert end.value.code == 0
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize("module", ["landed", "landed.cli"])
def test_as_a_module(module):
    ended = run("--version", module=module)
    assert (ended.code, ended.out) == (OK, f"landed {landed.__version__}\n")


def test_one_command_does_not_import_the_others():
    code = "import sys; from landed.cli import build_parser; build_parser('cat'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "landed.cli.cat" in loaded.split()
    assert not {"landed.cli.doctor", "importlib.metadata", "subprocess"} & set(loaded.split())


def plugin(directory: Path, body: str) -> str:
    (directory / "greeting_landed.py").write_text(body)
    metadata = directory / "greeting_landed-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting-landed\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[landed.commands]\ngreet = greeting_landed\ncat = greeting_landed\n"
        "[landed.audits]\ngreetings = greeting_landed:audit\n"
    )
    return str(directory)


def test_another_package_adds_a_command(tmp_path):
    path = plugin(
        tmp_path,
        "from landed.cli import output\n"
        "def add_parser(subparsers):\n"
        "    output.add_command(subparsers, 'greet', 'say hello', 'Say hello.').set_defaults(run=run)\n"
        "def run(args):\n"
        "    print('hello')\n"
        "    return 0\n",
    )
    assert run("greet", PYTHONPATH=path).out == "hello\n"
    assert "say hello" in run("--help", PYTHONPATH=path).out


def test_a_broken_package_does_not_break_the_command(tmp_path):
    path = plugin(tmp_path, "raise RuntimeError('out of order')\n")
    ended = run("--help", PYTHONPATH=path)
    assert (ended.code, "out of order" in ended.err) == (OK, True)
    assert "doctor" in ended.out


def test_another_package_adds_to_the_audit(tmp_path, work):
    path = plugin(
        tmp_path,
        "from landed.audit import INTACT, LOST, Finding\n"
        "def audit(under, *, level):\n"
        "    yield Finding(INTACT, under, 'here', hint=level)\n"
        "    yield Finding(LOST, 'greeting', 'gone', hint='Greet again.')\n",
    )
    landed.write(work / "a", b"one")
    ended = run("audit", work, PYTHONPATH=path)
    assert (ended.code, "lost: greeting\n    gone\n    next: Greet again.\n" in ended.out) == (BAD_NEWS, True)
    assert "1 file and 2 of other packages in" in ended.out
    document = run("audit", "--json", "--level", "device", work / "a", PYTHONPATH=path).document
    assert document["counts"]["lost"] == 1
    assert [(one["path"], one["hint"]) for one in document["findings"][1:]] == [
        (str(work / "a"), "device"),
        ("greeting", "Greet again."),
    ]
    assert run("audit", "--json", cwd=work, PYTHONPATH=path).document["findings"][1]["path"] == ""


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "raise RuntimeError('out of order')\n",
            "greetings (greeting_landed:audit) failed: RuntimeError",
        ),
        (
            "def audit(under, *, level):\n    yield from ()\n    raise OSError('out of order')\n",
            "OSError: out of order",
        ),
        (
            "import landed\ndef audit(under, *, level):\n    raise landed.Corrupt('out of order', path='greeting')\n",
            "unreadable: greeting\n    out of order",
        ),
    ],
    ids=["loading", "looking", "an error of landed"],
)
def test_an_audit_that_a_package_cannot_do_is_told_and_the_rest_is_done(tmp_path, work, body, words):
    path = plugin(tmp_path, body)
    landed.write(work / "a", b"one")
    ended = run("audit", work, PYTHONPATH=path)
    assert (ended.code, words in ended.out, "1 intact" in ended.out) == (CANNOT_TELL, True, True), ended.out
    (work / "a").unlink()
    assert run("audit", work, PYTHONPATH=path).code == BAD_NEWS


def on_a_terminal(*words: object, **environ: str) -> str:
    """What a run writes to a terminal."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "landed", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            env={**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, "TERM": "xterm", **environ},
        )
        os.close(theirs)
        text = b""
        while True:
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # the terminal's other end is closed
                chunk = b""
            if not chunk:
                break
            text += chunk
        process.wait(60)
    finally:
        os.close(ours)
    return text.decode()


def test_colour_on_a_terminal_unless_unwanted(work):
    landed.write(work / "a", b"one")
    (work / "a").unlink()
    assert "\033[31;1mlost\033[0m" in on_a_terminal("audit", work)
    assert "\033[" not in on_a_terminal("audit", work, NO_COLOR="1")
    assert "\033[" not in run("audit", work).out


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch, capsys):
    monkeypatch.setattr(output, "LINE_EVERY", 0.0)
    monkeypatch.setattr(output, "BAR_EVERY", 0.0)
    assert list(output.progress(["x", "y"], "audit")) == ["x", "y"]
    assert capsys.readouterr().err == "audit: 0 of 2\naudit: 1 of 2, 0 s left\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert list(output.progress(["x", "y"], "audit")) == ["x", "y"]
    shown = capsys.readouterr().err
    assert "###" in shown
    assert shown.endswith("\r\033[K")


def test_a_name_cannot_fool_the_terminal(work):
    name = work / "a\n\033[31mb\udcff"
    landed.write(name, b"one")
    name.unlink()
    ended = run("audit", work)
    assert ended.code == BAD_NEWS
    assert "\033" not in ended.out
    assert r"a\n\x1b[31mb\udcff" in ended.out
    assert run("audit", "--json", work, PYTHONIOENCODING="ascii").document["findings"][0]["path"] == str(name)


def test_nobody_reads_the_output_to_its_end(work):
    landed.write(work / "a", bytes(1 << 20))
    process = subprocess.Popen(
        [sys.executable, "-m", "landed", "cat", str(work / "a")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == output.BROKEN_PIPE


def test_the_reference_is_what_the_program_says():
    tool = Path(__file__).resolve().parents[2] / "tools" / "cli_reference.py"
    if not tool.exists():
        pytest.skip("the docs are not beside these sources")
    checked = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stderr


def test_the_parser_of_one_command_is_that_of_all():
    for command in COMMANDS:
        one, every = build_parser(command), build_parser(added=False)
        words = {"journal": ["journal", "inspect", "x"], "copy": ["copy", "x", "y"]}.get(command, [command, "x"])
        assert vars(one.parse_args(words)) == vars(every.parse_args(words))
