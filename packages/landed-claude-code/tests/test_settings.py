"""Settings: ours go in and out, and everything else keeps its bytes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from landed.errors import Refused
from landed_claude_code.cli import main
from landed_claude_code.settings import EVENTS, entries, here, ours, parse, path_of, with_ours, without_ours

WANTED = entries("/usr/bin/python3", ["/lib"])
THEIRS = '{"matcher": "Write", "hooks": [{"type":"command", "command": "fmt \\u00e9 é"}]}'
TEXTS = [
    "{}",
    "{\n}\n",
    '{"model": "opus"}',
    '\ufeff{"model": "opus"}',
    '{\n  "model": "opus"\n}\n',
    '{\n\t"permissions": {"allow": []},\n\t"hooks": {\n\t\t"Stop": [' + THEIRS + "]\n\t}\n}",
    '{"hooks":{"PreToolUse":[' + THEIRS + "," + THEIRS + ']},"z":1e3}',
    '{\r\n    "hooks": {\r\n        "PostToolUse": [\r\n            ' + THEIRS + "\r\n        ]\r\n    }\r\n}\r\n",
    '{ "hooks" : { "PreToolUse" : [ ' + THEIRS + ' ] } , "é": [1, 2] }',
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_in_and_out_leaves_every_byte(text: str) -> None:
    put = with_ours(text, "settings.json", WANTED)
    found = ours(parse(put, ""))
    assert found == {event: group["hooks"] for event, group in WANTED.items()}
    assert with_ours(put, "", WANTED) == put, "a second time changes nothing"
    back = without_ours(put, "")
    if text.strip() == "{\n}":
        assert parse(back, "") == {}
    else:
        assert back == text
    assert text.count(THEIRS) == put.count(THEIRS)


def test_another_version_of_ours_is_replaced() -> None:
    old = with_ours(TEXTS[5], "", entries("/old/python", ["/old"]))
    new = with_ours(old, "", WANTED)
    assert "/old" not in new
    assert without_ours(new, "") == TEXTS[5]


def test_ours_among_others_goes_alone() -> None:
    group = json.loads(THEIRS)
    mixed = {"hooks": {"PreToolUse": [{**group, "hooks": [*group["hooks"], *WANTED["PreToolUse"]["hooks"]]}]}}
    assert parse(without_ours(json.dumps(mixed), ""), "") == {"hooks": {"PreToolUse": [group]}}


@pytest.mark.parametrize(
    "text",
    [
        '{"hooks": {"Stop": [}',
        "[]",
        '{"hooks": []}',
        '{"hooks": {"Stop": {}}}',
        '{"hooks": {"Stop": [1]}}',
        '{"hooks": {"Stop": [{"hooks": 1}]}}',
        '"x"',
        '{"x": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
)
def test_what_is_malformed_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        with_ours(text, "settings.json", WANTED)
    with pytest.raises(Refused):
        without_ours(text, "settings.json")


def test_a_hook_that_claude_code_would_not_run_is_none_of_ours() -> None:
    text = '{"hooks": {"Stop": [{"hooks": [1, {"command": 1, "args": 1}, {"args": [1]}]}]}}'
    assert without_ours(with_ours(text, "settings.json", WANTED), "settings.json") == text


@pytest.mark.parametrize("command", [["install"], ["install", "--dry-run"], ["uninstall"]], ids=" ".join)
def test_settings_that_are_no_text_are_refused(
    project: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (project / ".claude").mkdir()
    (project / ".claude" / "settings.json").write_bytes(b"\xff{}")
    assert main([*command, "--scope", "project"]) == 1
    assert "the settings are not UTF-8" in capsys.readouterr().err
    assert (project / ".claude" / "settings.json").read_bytes() == b"\xff{}"


def test_a_name_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(Refused, match="twice"):
        with_ours('{"hooks": {}, "hooks": {"Stop": [' + THEIRS + "]}}", "settings.json", WANTED)


def test_no_entry_asks_for_what_claude_code_would_run_for_everything() -> None:
    for event, matcher, timeout in EVENTS:
        (hook,) = WANTED[event]["hooks"]
        assert hook["args"][:5] == ["-I", "-S", "-X", "utf8", "-c"]
        assert 0 < timeout <= 15
        assert WANTED[event].get("matcher", "") == matcher
    assert WANTED["PreToolUse"]["hooks"][0]["onFailure"] == "block"


@pytest.fixture
def project(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(work)
    return work


def test_a_name_cannot_fool_the_terminal(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = work / "a\033[31mb"
    project.mkdir()
    monkeypatch.chdir(project)
    for words in (["install", "--dry-run"], ["install"], ["uninstall", "--dry-run"], ["uninstall"]):
        assert main([*words, "--scope", "project"] if words[0] == "install" else words) == 0
        shown = capsys.readouterr()
        assert "\033" not in shown.out + shown.err
        assert r"a\x1b[31mb" in shown.out + shown.err


@pytest.mark.parametrize("scope", ["user", "project", "local"])
def test_the_commands(project: Path, scope: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = path_of(scope, str(project))
    assert main(["install", "--scope", scope, "--dry-run"]) == 0
    assert not os.path.exists(path)
    shown = capsys.readouterr()
    assert "+  PreToolUse" in shown.out
    assert len(shown.out.splitlines()) < 20, "a line for each entry"
    assert f"nothing was written to {path}" in shown.err
    assert main(["install", "--scope", scope]) == 0
    assert f"installed in {path}" in capsys.readouterr().out
    first = Path(path).read_text("utf-8")
    assert ours(parse(first, path))["PreToolUse"][0]["command"] == here()[0]
    assert main(["install", "--scope", scope]) == 0
    assert "already in" in capsys.readouterr().out
    assert Path(path).read_text("utf-8") == first
    assert main(["uninstall", "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "-  PreToolUse" in shown.out
    assert f"nothing was written to {path}" in shown.err
    assert Path(path).read_text("utf-8") == first
    assert main(["uninstall"]) == 0
    assert not os.path.exists(os.path.dirname(path)), "nothing else is in the directory that was made for it"
    assert main(["uninstall"]) == 0
    assert "in none of the settings" in capsys.readouterr().out


def test_the_last_of_two_scopes_removes_the_directory(project: Path) -> None:
    for scope in ("project", "local"):
        assert main(["install", "--scope", scope]) == 0
    assert main(["uninstall"]) == 0
    assert not (project / ".claude").exists()


@pytest.mark.parametrize("other", ["nothing", "a file of somebody's", "the directory was there"])
def test_uninstalling_removes_no_more_than_was_made(project: Path, other: str) -> None:
    directory = project / ".claude"
    if other.startswith("the"):
        directory.mkdir()
    assert main(["install", "--scope", "project"]) == 0
    if other.startswith("a"):
        (directory / "CLAUDE.md").touch()
    assert main(["uninstall", "--dry-run"]) == 0
    assert (directory / "settings.json").exists()
    assert main(["uninstall"]) == 0
    assert not (directory / "settings.json").exists()
    assert directory.exists() is (other != "nothing")
    directory.mkdir(exist_ok=True)
    assert main(["uninstall"]) == 0
    assert directory.exists(), "it is somebody else's by now"
    assert not list(Path(os.environ["LANDED_STATE_DIR"]).glob("*made*")) or other.startswith("a")


def test_settings_that_were_there_and_empty_stay(project: Path) -> None:
    """They may be a link to where somebody keeps them."""
    kept, link = project / "kept.json", project / ".claude" / "settings.json"
    kept.write_text("{}\n")
    link.parent.mkdir()
    link.symlink_to(kept)
    assert main(["install", "--scope", "project"]) == 0
    assert main(["uninstall"]) == 0
    assert link.is_symlink()
    assert kept.read_text() == "{}\n"
    assert not list(Path(os.environ["LANDED_STATE_DIR"]).glob("*made*"))


def test_what_goes_wrong_is_said_in_its_own_name(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("landed-hook: ")
    assert "landed-hook install" in said, "what to do first"


def test_a_linked_settings_file_stays_a_link(project: Path, tmp_path: Path) -> None:
    dotfiles = tmp_path / "dotfiles.json"
    dotfiles.write_text(TEXTS[3])
    path = project / ".claude" / "settings.json"
    path.parent.mkdir()
    path.symlink_to(dotfiles)
    assert main(["install", "--scope", "project"]) == 0
    assert path.is_symlink()
    assert ours(parse(dotfiles.read_text(), ""))
    assert main(["uninstall", "--scope", "project"]) == 0
    assert dotfiles.read_text() == TEXTS[3]


def test_malformed_settings_stay_as_they_are(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / ".claude" / "settings.json"
    path.parent.mkdir()
    path.write_text("{oops")
    assert main(["install", "--scope", "project"]) == 1
    assert path.read_text() == "{oops"
    assert "Repair the file" in capsys.readouterr().err
