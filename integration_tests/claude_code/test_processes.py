"""Death, twins, other programs and odd places, on the real Claude Code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING

import pytest
from claude import RECOMMENDED, SOON, Claude, finish, kill, until
from model import Model, text, use

import landed

if TYPE_CHECKING:
    from collections.abc import Callable

    Script = Callable[..., Model]

SUCCESS = "successfully"
DENIED = "Nothing was written."


def status(claude: Claude) -> dict[str, object]:
    return json.loads(claude.hook("status", "--json", check=False).stdout)


# An agent that dies blocks nobody.


@pytest.mark.parametrize("moment", ["while the tool is asked for", "while a hook runs"])
def test_killed_sessions_block_nobody(claude: Claude, script: Script, moment: str) -> None:
    path = claude.work / "plan.md"
    ran = claude.work / "ran"
    slow = {"type": "command", "command": f"touch {ran}; sleep 30", "timeout": 60}
    claude.hook("uninstall")
    claude.settings(
        **{"PreToolUse" if moment.startswith("while the") else "PostToolUse": [{"matcher": "Write", "hooks": [slow]}]}
    )
    claude.hook("install", "--scope", "project")
    write = use("Write", file_path=str(path), content="one\n")
    model = script(main=[[write]], other=[[use("Write", file_path=str(claude.work / "other.md"), content="x")]])
    process = claude.start(model.url)
    until(ran.exists)
    until(lambda: any(agent["holds"] for agent in status(claude)["agents"]))
    kill(process)
    process.communicate()
    before = monotonic()
    landed.write(path, "landed\n", expect=landed.ANY, timeout=SOON)
    assert monotonic() - before < SOON / 2, "nobody waits for the dead"
    (agent,) = status(claude)["agents"]
    assert not agent["runs"]
    assert not agent["holds"]


# Programs that use landed meet the hook at the same records.


def test_a_program_that_holds_a_file_for_long_is_named(claude: Claude, script: Script) -> None:
    path = claude.work / "plan.md"
    with landed.edit(path):
        model = script(main=[[use("Write", file_path=str(path), content="mine\n")]])
        claude.run(model.url)
    (denied,) = model.results()
    assert DENIED in denied
    assert "is being written by" in denied
    assert "pytest" in denied or "__main__" in denied, "the program is named"
    assert not path.exists()


def test_a_program_waits_for_an_agent_and_hears_who_it_was(claude: Claude, script: Script) -> None:
    path = claude.work / "plan.md"
    claude.hook("uninstall")
    ran, go = claude.work / "ran", claude.work / "go"
    slow = {"type": "command", "command": f"touch {ran}; while [ ! -e {go} ]; do sleep 0.05; done"}
    claude.settings(PreToolUse=[{"matcher": "Write", "hooks": [slow]}])
    claude.hook("install", "--scope", "project")
    model = script(main=[[use("Write", file_path=str(path), content="one\n")]])
    process = claude.start(model.url)
    until(lambda: ran.exists() and any(agent["holds"] for agent in status(claude)["agents"]))
    with pytest.raises(landed.LockTimeout, match="Claude Code session"):
        landed.write(path, "program\n", timeout=0.1)
    go.touch()
    with pytest.raises(landed.StaleWrite, match="Claude Code session"):
        landed.write(path, "program\n", timeout=SOON)
    finish(process)
    with landed.edit(path) as doc:
        doc.text += "program\n"
    assert path.read_text() == "one\nprogram\n"


# The same hook twice, the same session twice.


def test_two_installs_are_one_guard_and_the_doctor_says_so(claude: Claude, script: Script) -> None:
    claude.hook("install", "--scope", "user")
    path = claude.work / "plan.md"
    settings = claude.config / "settings.json"
    settings.write_text(settings.read_text().replace('"timeout": 15', '"timeout": 16'))  # else Claude Code runs it once
    model = script(
        main=[
            [
                use("Write", file_path=str(path), content="one\n"),
                use("Edit", file_path=str(path), old_string="one", new_string="two"),
            ],
            [use("Bash", command="echo three > plan.md")],
            [use("Write", file_path=str(path), content="four\n")],
        ]
    )
    claude.run(model.url)
    results = model.results()
    assert SUCCESS in results[0]
    assert SUCCESS in results[1]
    assert DENIED in results[3]
    assert path.read_text() == "three\n"
    doctor = claude.hook("doctor", "--claude", str(claude.program), check=False)
    assert doctor.returncode == 1
    assert "active more than once" in doctor.stdout


def test_a_session_that_runs_twice_is_two_agents(claude: Claude, script: Script) -> None:
    """Both resume it: what one has written since, the other has not seen, also when that one has ended.

    Nor has whoever resumes it then: Claude Code goes on from one of the two conversations.
    """
    path = claude.work / "plan.md"
    session = "6f0c6c4e-6a9b-4d0e-9a53-0a3c2a7e1b11"
    claude.run(script(main=[]).url, "SCRIPT:main", "--session-id", session)
    entered, leave = threading.Event(), threading.Event()

    def wait():
        entered.set()
        leave.wait(SOON)
        return [use("Write", file_path=str(path), content="left\n")]

    others = {name: [[use("Write", file_path=str(path), content=f"{name}\n")]] for name in ("right", "third")}
    model = script(left=[wait], **others)
    model.last_prompt_decides = True  # a resumed conversation names the script before as well
    left = claude.start(model.url, "SCRIPT:left", "--resume", session)
    entered.wait(SOON)
    claude.run(model.url, "SCRIPT:right", "--resume", session)
    leave.set()
    finish(left)
    claude.run(model.url, "SCRIPT:third", "--resume", session)
    assert DENIED in model.results("left")[-1]
    assert DENIED in model.results("third")[-1]
    assert path.read_text() == "right\n"


# Settings.


def test_malformed_settings_are_refused_and_left_alone(bare: Claude) -> None:
    path = bare.config / "settings.json"
    path.write_text('{"hooks": {"Stop": [}')
    ended = bare.hook("install", check=False)
    assert ended.returncode == 1
    assert "not JSON" in ended.stderr
    assert path.read_text() == '{"hooks": {"Stop": [}'
    assert bare.hook("doctor", check=False).returncode == 1


@pytest.mark.every_version
def test_the_doctor_says_what_this_version_does(claude: Claude, version: str) -> None:
    ended = claude.hook("doctor", "--json", "--claude", str(claude.program))
    checks = {check["name"]: check["status"] for check in json.loads(ended.stdout)["checks"]}
    new = claude.version >= tuple(map(int, RECOMMENDED.split(".")))
    assert checks == {"installed": "ok", "self-test": "ok", "Claude Code": "ok" if new else "warn", "records": "ok"}


def test_the_doctor_fails_loudly_when_the_interpreter_moved(claude: Claude) -> None:
    path = claude.work / ".claude" / "settings.json"
    path.write_text(path.read_text().replace(json.dumps(sys.executable), '"/gone/python"'))
    ended = claude.hook("doctor", "--claude", str(claude.program), check=False)
    assert ended.returncode == 1
    assert "/gone/python cannot be started" in ended.stdout


@pytest.mark.every_version
def test_a_hook_that_cannot_run_blocks_where_claude_code_can(claude: Claude, script: Script) -> None:
    path = claude.work / ".claude" / "settings.json"
    path.write_text(path.read_text().replace(json.dumps(sys.executable), '"/gone/python"'))
    target = claude.work / "plan.md"
    model = script(main=[[use("Write", file_path=str(target), content="one\n")]])
    claude.run(model.url)
    blocks = claude.version >= tuple(map(int, RECOMMENDED.split(".")))
    assert target.exists() is not blocks
    assert ("onFailure" in model.results()[0]) is blocks


def test_a_package_that_is_gone_locks_nobody_out(claude: Claude, script: Script) -> None:
    path = claude.work / ".claude" / "settings.json"
    document = json.loads(path.read_text())
    for groups in document["hooks"].values():
        groups[0]["hooks"][0]["args"][6:] = ["/gone"]
    path.write_text(json.dumps(document))
    target = claude.work / "plan.md"
    model = script(main=[[use("Write", file_path=str(target), content="one\n")]])
    events = claude.run(model.url)
    assert target.exists()
    assert "writes are not guarded" in json.dumps(events) or SUCCESS in model.results()[0]


def test_a_permission_prompt_is_not_skipped(claude: Claude, script: Script) -> None:
    target = claude.home / "outside.md"  # outside the project: Claude Code asks, and nobody is there to answer
    model = script(main=[[use("Write", file_path=str(target), content="one\n")]])
    claude.run(model.url, "SCRIPT:main", "--permission-mode", "default", tools="Read")
    assert SUCCESS not in model.results()[0]
    assert DENIED not in model.results()[0], "the hook has nothing against it"
    assert not target.exists()
    assert not any(agent["holds"] for agent in status(claude)["agents"])


# Places.


def test_spaces_unicode_links_and_another_directory(claude: Claude, script: Script) -> None:
    real = claude.work / "mit Leerzeichen \u00fc\U0001f600"
    real.mkdir()
    link = claude.work / "link"
    link.symlink_to(real)
    (real / "plan.md").write_text("somebody's\n")
    model = script(
        main=[
            [use("Write", file_path=str(link / "plan.md"), content="mine\n")],
            [use("Read", file_path=str(real / "plan.md"))],
            [use("Write", file_path=str(link / "plan.md"), content="mine\n")],
            [use("Bash", command=f"cd '{real}' && true")],
            [use("Write", file_path="plan.md", content="relative\n")],
        ]
    )
    claude.run(model.url)
    results = model.results()
    assert DENIED in results[0]
    assert SUCCESS in results[2]
    written = [row["path"] for row in json.loads(claude.hook("report", "--json", check=False).stdout)["writes"]]
    assert str(real / "plan.md") in written
    assert not any("/link/" in path for path in written)


def test_a_symlinked_project_and_its_worktree(claude: Claude, script: Script) -> None:
    """A session that came by a link and one that did not meet at a file; a worktree has files of its own."""
    claude.hook("uninstall")
    claude.hook("install", "--scope", "user")
    repository, tree, link = claude.work / "repo", claude.work / "tree \u00e9", claude.work / "link"
    repository.mkdir()
    (repository / "plan.md").write_text("committed\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(repository)]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"], ["worktree", "add", "-qb", "tree", str(tree)]):
        subprocess.run([*git, *words], check=True, env=claude.env)
    link.symlink_to(repository)
    model = script(
        linked=[
            [use("Read", file_path=str(link / "plan.md"))],
            [use("Edit", file_path=str(link / "plan.md"), old_string="committed", new_string="linked")],
        ],
        direct=[[use("Write", file_path=str(repository / "plan.md"), content="direct\n")]],
        tree=[
            [use("Read", file_path=str(tree / "plan.md"))],
            [use("Write", file_path=str(tree / "plan.md"), content="tree\n")],
        ],
    )
    claude.run(model.url, "SCRIPT:linked", cwd=link)
    claude.run(model.url, "SCRIPT:direct", cwd=repository)
    claude.run(model.url, "SCRIPT:tree", cwd=tree)
    assert SUCCESS in model.results("linked")[1]
    (denied,) = model.results("direct")
    assert DENIED in denied
    assert "Claude Code session" in denied, "the one that came by the link"
    assert SUCCESS in model.results("tree")[1]
    assert (repository / "plan.md").read_text() == "linked\n"
    assert (tree / "plan.md").read_text() == "tree\n"


def test_a_read_only_home_is_said_once_and_guarded(claude: Claude, script: Script) -> None:
    path = claude.work / "plan.md"
    path.write_text("somebody's\n")
    claude.env["LANDED_STATE_DIR"] = "/proc/landed"  # nothing can be made there
    claude.env["TMPDIR"] = str(claude.home)
    model = script(main=[[use("Write", file_path=str(path), content="mine\n")] for _ in range(2)])
    events = claude.run(model.url)
    assert all(DENIED in result for result in model.results())
    assert path.read_text() == "somebody's\n"
    made = next(claude.home.glob("landed-*"))
    assert made.stat().st_mode & 0o777 == 0o700
    assert sum("keeps its records in" in json.dumps(event) for event in events) == 1


# Workflows.

WORKFLOW = """\
export const meta = { name: 'race', description: 'two agents', phases: [{ title: 'work' }] }
return await parallel([() => agent('SCRIPT:one'), () => agent('SCRIPT:two')])
"""


def test_a_killed_workflow_is_reported_with_its_dead_owner(claude: Claude, script: Script) -> None:
    begun: list[str] = []
    ended = threading.Event()

    def never(name: str):
        def turn():
            begun.append(name)
            ended.wait(SOON)
            return [text("too late")]

        return turn

    path = claude.work / "plan.md"
    subagents = {
        name: [[use("Write", file_path=str(path), content=f"{name}\n")], never(name)] for name in ("one", "two")
    }
    model = script(main=[[use("Workflow", script=WORKFLOW)], never("main")], **subagents)
    process = claude.start(model.url)
    until(lambda: {"one", "two"} <= set(begun))
    assert not status(claude)["workflows"], "it runs"
    results = [model.results(name)[0] for name in ("one", "two")]
    assert sorted(SUCCESS in result for result in results) == [False, True], results
    kill(process)
    process.communicate()
    ended.set()
    (workflow,) = status(claude)["workflows"]
    assert len(workflow["pending"]) == len(workflow["started"]) == 2
    assert workflow["owner"] == {"pid": process.pid, "alive": False}
    audit = subprocess.run(
        [sys.executable, "-m", "landed", "audit", str(claude.work)],
        env={**os.environ, **claude.env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert audit.returncode == 1
    assert f"process {process.pid}, is dead" in audit.stdout
    assert "2 of 2 agents started and never ended" in audit.stdout
