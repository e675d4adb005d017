"""The command as a program among others: its help, its plugins, the terminal, and the pages that tell of it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import BAD_NEWS, CANNOT_TELL, OK, on_a_terminal, run

import landed
from landed import audit
from landed.cli import COMMANDS, build_parser, main, output

JOURNAL = [f"journal {command}" for command in ("inspect", "verify", "compact", "salvage")]


@pytest.mark.parametrize("command", [*(name for name in COMMANDS if name != "journal"), *JOURNAL])
def test_help_and_json_everywhere(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--help"])
    assert end.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_as_a_module():
    ended = run("--version")
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
        "[landed.reports]\ngreetings = greeting_landed:events\n"
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
            "return [Event(LANDED, 'alice', 'sent %d' % len(list(records(journal))))]",
            ("alice", "sent 1"),
        ),
        ("return None", ()),
        ("raise OSError('out of order')", ("greetings", "cannot tell who put what: OSError: out of order")),
    ],
    ids=["its own", "of another", "failing"],
)
def test_another_package_tells_of_its_journals(tmp_path, work, body, words):
    head = "from landed.inspection import records\nfrom landed.report.model import LANDED, Event\n"
    path = plugin(tmp_path, f"{head}def events(journal):\n    {body}\n")
    with landed.Journal(work / "inbox") as journal:
        journal.append([b"hello"])
    ended = run("report", work, "--json", "--output", tmp_path / "page.html", PYTHONPATH=path)
    (told,) = ended.document["sections"][0]["timelines"]
    assert told["verdict"] == "good"
    shown = [text for event in told["events"] for text in (event["who"], event["what"])]
    assert set(words) <= {*shown, *(text for fact in told["facts"] for text in fact)}
    assert ("alice" in shown, len(told["events"])) == (("alice" in words), 1 + ("alice" in words))


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
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((30, 24)))
    list(output.progress(["x"], "audit"))
    assert max(map(len, capsys.readouterr().err.split("\r\033[K"))) == 29, "a second line would stay there"


def test_a_name_cannot_fool_the_terminal(work):
    name = work / "a\n\033[31mb\udcff"
    landed.write(name, b"one")
    name.unlink()
    ended = run("audit", work)
    assert ended.code == BAD_NEWS
    assert "\033" not in ended.out
    assert r"a\n\x1b[31mb\udcff" in ended.out
    assert run("audit", "--json", work, PYTHONIOENCODING="ascii").document["findings"][0]["path"] == str(name)
    ended = run("verify", name)
    assert (ended.code, "\033" in ended.err, r"a\n\x1b[31mb\udcff: it is not" in ended.err) == (BAD_NEWS, False, True)


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
@pytest.mark.parametrize("name", ["a b", "'$(false)`", "a'\\\n\033[31mé\udcff1"])
def test_a_command_that_is_told_can_be_given_to_a_shell(name):
    words = ["log", f"/data/{name}"]
    told = audit.command(*words)
    assert output.shown(told) == told
    printed = subprocess.run(
        ["bash", "-c", f"landed() {{ printf '%s\\0' \"$@\"; }}; {told}"], capture_output=True, check=True
    ).stdout
    assert [os.fsdecode(word) for word in printed.split(b"\0")[:-1]] == words


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


def test_the_output_cannot_be_written(work):
    landed.write(work / "a", b"one")
    for words in (["cat", work / "a"], ["audit", work, "--json"], ["cat", work / "none", "--json"]):
        with open("/dev/full", "wb") as full:
            ended = subprocess.run(
                [sys.executable, "-m", "landed", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert ended.stderr.endswith("No space left on device\n")
        assert "Traceback" not in ended.stderr
        assert ended.returncode == output.CANNOT_TELL


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_output(work, closed):
    landed.write(work / "a", b"one")
    command = f"exec {shlex.quote(sys.executable)} -m landed verify {shlex.quote(str(work / 'a'))} {closed}"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert ended.returncode == output.OK, ended.stderr
    assert ended.stderr == ""
    assert ended.stdout == "" or closed == "2>&-"


def test_closed_input_is_no_empty_input(work):
    command = f"exec {shlex.quote(sys.executable)} -m landed write {shlex.quote(str(work / 'a'))} <&-"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert ended.returncode == output.USAGE
    assert ended.stderr == "landed: standard input: Bad file descriptor\n"
    assert not (work / "a").exists()


def test_interrupted_while_a_command_is_imported(monkeypatch, capsys):
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("importlib.import_module", interrupt)
    assert main(["verify", "a"]) == output.INTERRUPTED
    assert capsys.readouterr().err == "landed: interrupted\n"


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
