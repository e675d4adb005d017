"""Workflows that say `started` for ever: their session died, and Claude Code puts no word of that into their journal.

A workflow's journal, ``projects/<project>/<session>/subagents/workflows/wf_*/journal.jsonl`` in Claude Code's
directory, has a line when an agent starts and one with its result. Where the second is missing and no process runs the
session any more, nothing will come. What is read here is not documented; where it looks different, nothing is reported.
"""

from __future__ import annotations

import glob
import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from landed.audit import IN_PROGRESS, INTACT, LOST, Finding
from landed.inventory import within
from landed.process import Owner, me, start_token
from landed_claude_code import ledger as ledgers
from landed_claude_code.settings import claude_directory

if TYPE_CHECKING:
    from collections.abc import Iterator


class Workflow:
    """One workflow's journal.

    Attributes:
        path: the journal.
        session: the session that ran it.
        directory: where that session worked; "" where nothing says so.
        started: agents that were started, by id.
        pending: those without a result.
        owner: the process that ran the session last, as far as something says so.
        alive: whether that process runs; None when it cannot be told.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.session = path.split(os.sep)[-5]
        self.started, self.pending = _agents(path)
        self.directory = ""
        self.owner: Owner | None = None
        self.alive: bool | None = None

    @property
    def is_frozen(self) -> bool:
        return bool(self.pending) and self.alive is False

    def words(self) -> str:
        """What there is to say about it."""
        who = f"process {self.owner.pid}" if self.owner is not None else "a process that nothing names"
        agents = ", ".join(sorted(self.pending))
        return (
            f"{len(self.pending)} of {len(self.started)} agents started and never ended ({agents}): session "
            f"{self.session}, {who}, is dead"
        )

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "journal": self.path,
            "session": self.session,
            "directory": self.directory or None,
            "started": sorted(self.started),
            "pending": sorted(self.pending),
            "owner": {"pid": self.owner.pid if self.owner else None, "alive": self.alive},
        }


def journals() -> Iterator[Workflow]:
    """Every workflow of this user."""
    home = claude_directory()
    runs = _sessions(home)
    pattern = os.path.join(glob.escape(home), "projects", "*", "*", "subagents", "workflows", "wf_*", "journal.jsonl")
    for path in sorted(glob.glob(pattern)):
        workflow = Workflow(path)
        _find_owner(workflow, runs)
        yield workflow


def frozen() -> Iterator[Workflow]:
    """Those that will never end."""
    return (workflow for workflow in journals() if workflow.is_frozen)


def audit(under: str, *, level: str) -> Iterator[Finding]:  # noqa: ARG001 - a journal is read in one way
    """For ``landed audit``: a workflow with agents that never ended is lost work.

    Args:
        under: only sessions that worked in or below this directory; "" for all.
        level: ignored.
    """
    for workflow in journals():
        if not within(workflow.directory, under):
            continue
        if not workflow.pending:
            yield Finding(INTACT, workflow.path, f"a workflow whose {len(workflow.started)} agents all ended")
        elif workflow.is_frozen:
            hint = f"`landed-hook report {workflow.session}` shows what its agents wrote."
            yield Finding(LOST, workflow.path, workflow.words(), hint=hint)
        else:
            yield Finding(IN_PROGRESS, workflow.path, f"{len(workflow.pending)} of its agents are at work")


def _agents(path: str) -> tuple[set[str], set[str]]:
    started: set[str] = set()
    ended: set[str] = set()
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # cut short by the death that this looks for
            agent = event.get("agentId") or event.get("key") if isinstance(event, dict) else None
            if isinstance(agent, str):
                (started if event.get("type") == "started" else ended).add(agent)
    return started, started - ended


class _Session(NamedTuple):
    """What Claude Code's own list of those that run says of a session."""

    owner: Owner
    directory: str
    alive: bool | None


def _sessions(home: str) -> dict[str, _Session]:
    found: dict[str, _Session] = {}
    for path in glob.glob(os.path.join(glob.escape(home), "sessions", "*.json")):
        try:
            with open(path, encoding="utf-8") as file:
                entry = json.load(file)
            pid, started = int(entry["pid"]), str(entry.get("procStart") or "")
            session, directory = str(entry["sessionId"]), str(entry.get("cwd") or "")
        except (OSError, ValueError, KeyError, TypeError):
            continue
        now = start_token(pid)
        alive = None if now == "-" else bool(now) and (not started or now.endswith(f".{started}"))
        owner = Owner(pid, started, me().host, f"Claude Code session {session[:8]}")
        if session not in found or alive:
            found[session] = _Session(owner, directory, alive)
    return found


def _find_owner(workflow: Workflow, sessions: dict[str, _Session]) -> None:
    """From Claude Code's list, and from our ledger, which says also in which namespace the process is."""
    ledger = ledgers.read(ledgers.path_of(workflow.session, "", ledgers.agents_directory()))
    last = ledger.processes[-1] if ledger.processes else None
    session = sessions.get(workflow.session)
    workflow.directory = session.directory if session is not None else ledger.agent.directory
    if session is not None and not (last is not None and _same(last, session.owner)):
        workflow.owner, workflow.alive = session.owner, session.alive
    elif last is not None:
        workflow.owner, workflow.alive = last, last.alive()
    else:
        workflow.alive = False  # a session that runs is in the list


def _same(recorded: Owner, listed: Owner) -> bool:
    """Whether our ledger and Claude Code's list, which knows the ticks of a start alone, mean one process."""
    return recorded.pid == listed.pid and recorded.started.rpartition(".")[2] == listed.started
