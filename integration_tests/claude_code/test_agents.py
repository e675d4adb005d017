"""What the hook promises, on the real Claude Code: nobody overwrites what they have not seen, no write gets lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from claude import Claude, finish_all, until
from model import Model, text, use

if TYPE_CHECKING:
    from collections.abc import Callable

    Script = Callable[..., Model]

SUCCESS = "successfully"
DENIED = "Nothing was written."
LARGE = "".join(f'{line}: a line of a megabyte, "\u00fc" and \\\n' for line in range(28_000))


def agent(name: str):
    return use("Agent", description=name, prompt=f"SCRIPT:{name}", subagent_type="general-purpose")


@pytest.mark.every_version
def test_of_three_subagents_one_writes_and_the_others_hear_of_it(claude: Claude, script: Script) -> None:
    path = claude.work / "plan.md"
    names = ["one", "two", "three"]
    subagents = {name: [[use("Write", file_path=str(path), content=f"{name}\n")]] for name in names}
    model = script(main=[[agent(name) for name in names]], **subagents)
    claude.run(model.url)
    results = {name: model.results(name)[0] for name in names}
    (winner,) = (name for name in names if SUCCESS in results[name])
    assert path.read_text() == f"{winner}\n"
    for name in names:
        if name != winner:
            assert DENIED in results[name]
            assert "general-purpose" in results[name], "who wrote it"
            assert "Read it, then redo the change" in results[name]


def test_without_the_hook_three_succeed_and_one_survives(bare: Claude, script: Script, version: str) -> None:
    path = bare.work / "plan.md"
    names = ["one", "two", "three"]
    subagents = {name: [[use("Write", file_path=str(path), content=f"{name}\n")]] for name in names}
    model = script(main=[[agent(name) for name in names]], **subagents)
    bare.run(model.url)
    assert [SUCCESS in model.results(name)[0] for name in names] == [True] * 3
    assert path.read_text() in {f"{name}\n" for name in names}


@pytest.mark.every_version
@pytest.mark.parametrize("more", ["", LARGE], ids=["small", "large"])
def test_own_batch_is_undisturbed(claude: Claude, script: Script, more: str) -> None:
    path = str(claude.work / "plan.md")
    model = script(
        main=[
            [
                use("Write", file_path=path, content=f"one\ntwo\n{more}"),
                use("Edit", file_path=path, old_string="one\n", new_string="uno\n"),
                use("Edit", file_path=path, old_string="two\n", new_string=""),
            ],
            [use("Edit", file_path=path, old_string="uno", new_string="first")],
            [use("Write", file_path=path, content=f"last\n{more}")],
            [agent("sub")],
        ],
        sub=[[use("Write", file_path=str(claude.work / "sub.md"), content=f"sub\n{more}")]],
    )
    claude.run(model.url)
    results = model.results()[:5] + model.results("sub")
    assert all(SUCCESS in result for result in results), results
    assert (claude.work / "plan.md").read_text() == f"last\n{more}"
    ours, of_sub = json.loads(claude.hook("report", "--json").stdout)["writes"]
    assert ours["state"] == of_sub["state"] == "on the disk"
    assert "general-purpose" in of_sub["agent"]
    assert "general-purpose" not in ours["agent"]
    assert "landed" not in model.heard(), "nothing is said where all is well"
    assert model.paths <= {"/", "/v1/messages"}, "nothing else is asked for"


@pytest.mark.every_version
def test_of_three_sessions_one_writes_and_the_others_after_reading(claude: Claude, script: Script) -> None:
    path = claude.work / "plan.md"
    names = ["one", "two", "three"]
    model = script(
        **{
            name: [
                [use("Write", file_path=str(path), content=f"{name}\n")],
                [use("Read", file_path=str(path))],
                [use("Write", file_path=str(path), content=f"all, {name}\n")],
            ]
            for name in names
        }
    )
    finish_all([claude.start(model.url, f"SCRIPT:{name}") for name in names])
    first = [name for name in names if SUCCESS in model.results(name)[0]]
    assert len(first) == 1, [model.results(name) for name in names]
    for name in names:
        result = model.results(name)[0]
        refused = "has not been read yet" in result  # by an older Claude Code itself, if it looked late enough
        assert name in first or refused or (DENIED in result and "Claude Code session" in result), result
    last = [name for name in names if SUCCESS in model.results(name)[2]]
    assert last, "who has read the current bytes may write"
    assert path.read_text() in {f"all, {name}\n" for name in last}


@pytest.mark.every_version
def test_an_unread_file_is_not_overwritten_and_a_read_one_is(claude: Claude, script: Script) -> None:
    path = claude.work / "plan.md"
    path.write_text("somebody's work\n")
    write = use("Write", file_path=str(path), content="mine\n")
    model = script(main=[[write], [use("Read", file_path=str(path))], [{**write, "id": "toolu_again"}]])
    claude.run(model.url)
    denied, _, written = model.results()
    assert DENIED in denied or "has not been read yet" in denied, "older ones say so themselves"
    assert SUCCESS in written
    assert path.read_text() == "mine\n"


CHECKOUT = (
    "git init -q; mv plan.md mine; echo zero > plan.md; git add plan.md; "
    "git -c user.name=a -c user.email=a@example.org commit -qm zero; cp mine plan.md; git checkout -q -- plan.md"
)


@pytest.mark.every_version
@pytest.mark.parametrize(
    "command",
    ["echo more >> plan.md", "sed -i s/one/1/ plan.md", "rm plan.md", CHECKOUT],
    ids=["redirect", "sed", "rm", "git checkout"],
)
def test_a_change_past_the_tools_is_named_and_not_overwritten(claude: Claude, script: Script, command: str) -> None:
    path = claude.work / "plan.md"
    model = script(
        main=[
            [use("Write", file_path=str(path), content="one\n")],
            [use("Bash", command=command)],
            [use("Write", file_path=str(path), content="two\n")],
        ]
    )
    claude.run(model.url)
    heard = model.heard()
    assert f"{path}{', which you wrote, is not there any more' if command[0] == 'r' else ' has changed since'}" in heard
    if command.startswith("rm"):
        assert path.read_text() == "two\n", "there is nothing to overwrite"
    else:
        assert "file tools" in heard
        assert SUCCESS not in model.results()[2]
        assert path.read_text() != "two\n"


def test_a_change_by_a_shell_in_the_background_is_named_and_not_overwritten(claude: Claude, script: Script) -> None:
    """It comes long after the tool that started it, and no event tells of it."""
    path, go = claude.work / "plan.md", claude.work / "go"
    path.write_text("one\n")

    before: list[str] = []

    def later():
        before.append(model.heard())
        go.touch()
        until(lambda: path.read_text() == "one\nlate\n")
        return [use("Bash", command="true")]

    wait = f"until [ -e {go} ]; do sleep 0.05; done; echo late >> plan.md"
    model = script(
        main=[
            [use("Read", file_path=str(path))],
            [use("Bash", command=wait, run_in_background=True)],
            [use("Bash", command="true")],
            later,
            [use("Edit", file_path=str(path), old_string="one", new_string="1")],
            [use("Read", file_path=str(path))],
            [use("Edit", file_path=str(path), old_string="one", new_string="1")],
        ]
    )
    claude.run(model.url)
    results = model.results()
    changed = f"{path} has changed since you read it"
    assert before, results
    assert changed not in before[0], "it had not changed yet"
    assert changed in model.heard().partition(DENIED)[0], "named at the next event"
    assert DENIED in results[4]
    assert "outside Claude Code's file tools" in results[4]
    assert SUCCESS in results[6]
    assert path.read_text() == "1\nlate\n"


def test_a_change_by_another_program_is_found_at_the_next_event(claude: Claude, script: Script) -> None:
    path = claude.work / "plan.md"

    def meanwhile():
        path.write_text("another program\n")
        return [use("Bash", command="true")]

    model = script(
        main=[
            [use("Write", file_path=str(path), content="one\n")],
            meanwhile,
            [use("Edit", file_path=str(path), old_string="another", new_string="any")],
        ]
    )
    claude.run(model.url)
    assert f"{path} has changed since you wrote it" in model.heard()
    assert DENIED in model.results()[2]
    assert path.read_text() == "another program\n"


VANISH = "rm -f {path}"
OTHER = "printf other > {path}"


@pytest.mark.parametrize(
    ("command", "said"),
    [(VANISH, "is not there"), ("truncate -s0 {path}", "is empty")],
    ids=["vanishes", "is emptied"],
)
def test_a_write_that_is_not_on_the_disk_is_said_at_once(
    claude: Claude, script: Script, command: str, said: str
) -> None:
    """Another hook runs beside ours; it does its harm before ours looks."""
    path = claude.work / "plan.md"
    claude.hook("uninstall")
    slow = {"type": "command", "command": "sleep 0.5"}
    claude.settings(PostToolUse=[{"matcher": "Write", "hooks": [slow]}])
    claude.hook("install", "--scope", "local")
    settings = claude.work / ".claude" / "settings.local.json"
    document = json.loads(settings.read_text())
    for group in document["hooks"]["PostToolUse"]:
        for hook in group["hooks"]:  # ours starts a moment after the harm is done
            harm = command.format(path=path)
            hook["args"] = ["-c", f'{harm}; exec "$0" "$@"', hook["command"], *hook["args"]]
            hook["command"] = "sh"
    settings.write_text(json.dumps(document))
    model = script(main=[[use("Write", file_path=str(path), content="one\n")]])
    claude.run(model.url)
    assert SUCCESS in model.results()[0]
    assert f"{path} {said}" in model.heard()
    assert "the write is not on the disk" in model.heard()


def test_a_formatter_is_no_alarm(claude: Claude, script: Script) -> None:
    path = claude.work / "plan.py"
    claude.hook("uninstall")
    claude.settings(
        PostToolUse=[
            {
                "matcher": "Write|Edit",
                "hooks": [{"type": "command", "command": f"sleep 0.2; printf 'x = 1\\n' > {path}"}],
            }
        ]
    )
    claude.hook("install", "--scope", "project")
    model = script(
        main=[
            [use("Write", file_path=str(path), content="x=1\n")],
            [use("Edit", file_path=str(path), old_string="x = 1", new_string="x = 1 ")],
            [use("Write", file_path=str(path), content="x=3\n")],
        ]
    )
    claude.run(model.url)
    results = model.results()
    assert all(SUCCESS in result for result in (results[0], results[2])), results
    assert DENIED not in model.heard()
    assert "by a hook as it seems" in model.heard()
    assert "+x = 1" in model.heard() or "It holds now:\nx = 1" in model.heard(), "what changed is shown"
    assert "not on the disk" not in model.heard()


def test_what_a_hook_may_have_done_is_not_overwritten_unseen(claude: Claude, script: Script) -> None:
    """Somebody writes while a formatter runs. Nothing says who it was, so it counts as seen only where it is shown."""
    short, long = claude.work / "short.py", claude.work / "long.py"
    claude.hook("uninstall")
    harm = f"sleep 0.2; echo 'their = 1' >> {short}; test ! -e {long} || seq 10000 > {long}"
    claude.settings(PostToolUse=[{"matcher": "Write", "hooks": [{"type": "command", "command": harm}]}])
    claude.hook("install", "--scope", "project")
    model = script(
        main=[
            [use("Write", file_path=str(short), content="x=1\n"), use("Write", file_path=str(long), content="x=1\n")],
            [use("Edit", file_path=str(long), old_string="9999", new_string="x=2")],
        ]
    )
    claude.run(model.url)
    assert "their = 1" in model.heard(), "what the agent did not write is before its eyes"
    assert f"{long} was rewritten after the write" in model.heard()
    assert DENIED in model.results()[2] or "has been modified since" in model.results()[2], model.results()
    assert long.read_text().endswith("9999\n10000\n")


def test_who_stops_hears_of_writes_that_are_gone_once(claude: Claude, script: Script) -> None:
    path, kept = claude.work / "plan.md", claude.work / "kept.md"

    def gone():
        path.unlink()
        return [text("I wrote it.")]

    model = script(
        main=[
            [
                use("Write", file_path=str(path), content="one\n"),
                use("Write", file_path=str(kept), content="one\n"),
            ],
            gone,
            [text("So be it.")],
        ]
    )
    claude.run(model.url)
    heard = model.heard()
    assert f"{path}: it is gone" in heard
    assert heard.count("Stop hook feedback") == 1
    assert str(kept) + ":" not in heard
    assert "1 of the files that you wrote" in heard


def test_a_subagent_that_stops_hears_it_too(claude: Claude, script: Script) -> None:
    path = claude.work / "plan.md"

    def gone():
        path.unlink()
        return [text("I wrote it.")]

    model = script(
        main=[[agent("sub")], [text("waiting")]],
        sub=[[use("Write", file_path=str(path), content="one\n")], gone, [use("Bash", command="true")]],
    )
    claude.run(model.url)
    assert f"{path}: it is gone" in model.heard("sub")
    assert model.heard("sub").count("top hook feedback") == 1


def test_a_notebook(claude: Claude, script: Script) -> None:
    path = claude.work / "n.ipynb"
    cell = {"cell_type": "code", "id": "c1", "metadata": {}, "source": "1+1", "outputs": [], "execution_count": None}
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    edit = {"notebook_path": str(path), "cell_id": "c1"}

    def meanwhile():
        path.write_text(path.read_text().replace("2+2", "5+5"))
        return [use("NotebookEdit", **edit, new_source="3+3")]

    model = script(
        main=[[use("Read", file_path=str(path))], [use("NotebookEdit", **edit, new_source="2+2")], meanwhile]
    )
    claude.run(model.url)
    assert "2+2" in model.results()[1]
    assert "3+3" not in path.read_text()
    assert "5+5" in path.read_text()
    (written,) = [row["path"] for row in json.loads(claude.hook("report", "--json", check=False).stdout)["writes"]]
    assert written == str(path)


@pytest.mark.every_version
def test_encodings(claude: Claude, script: Script) -> None:
    """Each file is written or edited once, and the check agrees with what Claude Code does to it: nothing is said."""
    new = {
        "lf": "one\ntwo\n",
        "crlf": "one\r\ntwo\r\n",
        "mixed": "one\r\ntwo\nthree",
        "empty": "",
        "bom": "\ufeffone\n",
        "odd": "nul \0 emoji \U0001f600 line\u2028separator",
    }
    old = {
        "over crlf": (b"one\r\ntwo\r\n", "new\n"),
        "over bom": (b"\xef\xbb\xbfone\n", "new\n"),
        "over utf16": ("\ufeffone\n".encode("utf-16-le"), "new\n"),
        "same": (b"new\n", "new\n"),
    }
    edits = {
        "edit crlf": (b"one\r\ntwo\r\n", "one", "1"),
        "edit mixed": (b"one\r\ntwo\r\nthree\n", "one", "1"),
        "edit blanks": (b"one\ntwo\n", "one", "1   "),
        "edit quotes": ("say \u201cone\u201d\n".encode(), 'say "one"', 'say "two"'),
        "edit tabs": (b"a:\n\tone\n\t\ttwo\n", "one", "1 & $1 $&"),
        "edit last line": (b"one\ntwo", "two", "2"),
        "edit bom": (b"\xef\xbb\xbfone\ntwo\n", "two", "2"),
        "edit utf16": ("\ufeffone\ntwo\n".encode("utf-16-le"), "two", "2"),
        "edit all": (b"one one\none\n", "one", "1"),
        "edit away": (b"one\ntwo\n", "one\n", ""),
    }
    for name, (data, *_) in {**old, **edits}.items():
        (claude.work / name).write_bytes(data)
    at = claude.work.joinpath
    model = script(
        main=[
            [use("Read", file_path=str(at(name))) for name in (*old, *edits)],
            [use("Write", file_path=str(at(name)), content=content) for name, content in new.items()]
            + [use("Write", file_path=str(at(name)), content=content) for name, (_, content) in old.items()]
            + [
                use(
                    "Edit", file_path=str(at(name)), old_string=before, new_string=after, replace_all=name == "edit all"
                )
                for name, (_, before, after) in edits.items()
            ],
            [use("Bash", command="true")],
        ]
    )
    claude.run(model.url)
    said = [line for line in model.heard().splitlines() if "hook" in line and str(claude.work) in line]
    assert not said
    report = json.loads(claude.hook("report", "--json").stdout)["writes"]
    written = {row["path"].rpartition("/")[2]: row["state"] for row in report}
    failed = {
        name
        for name, result in zip((*new, *old, *edits), model.results()[len(old) + len(edits) :], strict=False)
        if SUCCESS not in result
    }
    assert not failed, model.results()
    assert written == dict.fromkeys((*new, *old, *edits), "on the disk")
