"""``landed-hook status`` and ``report``: who holds what, who wrote what, what was denied, what is left of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from landed.artifact import Artifact
from landed.audit import clock
from landed.cli import output
from landed.errors import LandedError, Refused
from landed_claude_code import ledger as ledgers
from landed_claude_code import workflows

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from landed.lease import Lease
    from landed_claude_code.ledger import Fact, Known, Ledger

STATUS: Final = """\
Show, for each agent that the hook knows: whether it runs, what it may be writing now, what it wrote,
and what it was denied and why; and the workflows whose session ended before their agents did.
Exits with 1 when there is such a workflow.
"""
REPORT: Final = """\
Show what one session really wrote, each file held against the disk now.

  on the disk    the file holds what the agent wrote last
  continued      somebody who uses landed wrote it since
  changed        something else put other bytes there since
  gone           there is no file any more

Exits with 1 when something is gone or changed. SESSION is the beginning of a session's id; without it,
the session that acted last.
"""
NO_SESSION: Final = "Start Claude Code; if the hook is not in its settings yet, `landed-hook install` puts it there."
"""What to do before there is anything to show."""
SHOWN: Final = 10
"""Writes and denials of one agent that are listed; ``--json`` has them all."""
ON_DISK, CONTINUED, CHANGED, GONE = "on the disk", "continued", "changed", "gone"
COLOUR: Final = {ON_DISK: "good", CONTINUED: "good", CHANGED: "doubt", GONE: "bad"}


def add_parsers(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add both commands."""
    parser = output.add_command(subparsers, "status", "who holds what, who wrote what, what was denied", STATUS)
    parser.set_defaults(run=status)
    parser = output.add_command(subparsers, "report", "what a session wrote, against the disk", REPORT)
    parser.add_argument("session", metavar="SESSION", nargs="?", default="", help="the beginning of its id")
    parser.set_defaults(run=report)


def all_ledgers() -> Iterator[Ledger]:
    """Every agent's ledger, the one that was added to last first."""
    top = ledgers.agents_directory()
    paths = [
        os.path.join(session.path, name)
        for session in (os.scandir(top) if os.path.isdir(top) else ())
        if session.is_dir()
        for name in os.listdir(session.path)
        if name.endswith(ledgers.SUFFIX)
    ]
    for path in sorted(paths, key=os.path.getmtime, reverse=True):
        yield ledgers.read(path)


def status(args: argparse.Namespace) -> int:
    """Show how things stand."""
    shown_at = output.stamp if args.json else clock
    agents = [_standing(ledger, shown_at) for ledger in output.progress(list(all_ledgers()), "status")]
    frozen = list(workflows.frozen())
    if args.json:
        output.emit({"agents": agents, "workflows": [workflow.document() for workflow in frozen]})
    else:
        _print_status(agents)
        for workflow in frozen:
            print(f"{output.coloured('frozen', 'bad')}: {output.shown(workflow.path)}\n    {workflow.words()}")
    return output.BAD_NEWS if frozen else output.OK


def _standing(ledger: Ledger, shown_at: Callable[[float], str]) -> dict[str, Any]:
    alive = any(owner.alive() is not False for owner in ledger.processes[-1:])

    def fact(one: Fact) -> dict[str, Any]:
        return {"path": one.path, "at": shown_at(one.at), "detail": one.detail, "sha256": one.digest or None}

    held = [(path, lease) for path, known in ledger.known.items() if known.open and (lease := _lease(ledger, path))]
    wrote = [known.wrote for known in ledger.known.values() if known.wrote is not None]
    return {
        "agent": str(ledger.agent),
        "session": ledger.agent.session,
        "id": ledger.agent.id or None,
        "runs": alive,
        "directory": ledger.agent.directory,
        "holds": [
            {"path": path, "since": shown_at(lease.since), "until": shown_at(lease.until)} for path, lease in held
        ],
        "wrote": [fact(one) for one in sorted(wrote, key=lambda one: one.at)],
        "denied": [fact(story) for story in ledger.stories if story.kind == ledgers.DENIED],
        "lost": [fact(story) for story in ledger.stories if story.kind == ledgers.LOST],
    }


def _lease(ledger: Ledger, path: str) -> Lease | None:
    """The lease that an agent has on `path` now."""
    try:
        lease = Artifact(path).shelf.load().lease
    except LandedError:
        return None
    ledger.owner = lease.owner if lease is not None else ledger.owner
    return lease if lease is not None and not lease.over and lease.agent == ledger.word else None


def _print_status(agents: list[dict[str, Any]]) -> None:
    if not agents:
        print("the hook has seen no agent yet")
        output.note(NO_SESSION)
        return
    rows = [
        (
            agent["agent"],
            "runs" if agent["runs"] else "ended",
            *(str(len(agent[what])) for what in ("holds", "wrote", "denied", "lost")),
        )
        for agent in agents
    ]
    output.table(rows, ("AGENT", "STATE", "HOLDS", "WROTE", "DENIED", "LOST"))
    for agent in agents:
        for held in agent["holds"]:
            print(f"{agent['agent']} may be writing {output.shown(held['path'])} since {held['since']}")
        for wrote in agent["wrote"][-SHOWN:]:
            print(f"{agent['agent']} wrote {output.shown(wrote['path'])} at {wrote['at']}")
        if len(agent["wrote"]) > SHOWN:
            print(f"{agent['agent']} wrote {len(agent['wrote']) - SHOWN} more: landed-hook report {agent['session']}")
        for denied in agent["denied"][-SHOWN:]:
            print(f"{agent['agent']} was denied at {denied['at']}: {output.shown(denied['detail'])}")
        for lost in agent["lost"]:
            print(f"{agent['agent']} was told at {lost['at']}: {output.shown(lost['detail'].removeprefix('- '))}")


def report(args: argparse.Namespace) -> int:
    """Show what a session wrote."""
    found = [ledger for ledger in all_ledgers() if ledger.agent.session.startswith(args.session)]
    if not found:
        if args.session:
            what, hint = (
                f"the hook knows no session {args.session!r}",
                "`landed-hook status` lists those that it knows.",
            )
        else:
            what, hint = "the hook has seen no session yet", NO_SESSION
        raise Refused(what, step="report", hint=hint)
    session = found[0].agent.session
    rows: list[dict[str, Any]] = [
        {"agent": str(ledger.agent), "path": path, "at": known.wrote.at, **_against_the_disk(path, known)}
        for ledger in found
        if ledger.agent.session == session
        for path, known in ledger.known.items()
        if known.wrote is not None
    ]
    rows.sort(key=lambda row: row["at"])
    if args.json:
        output.emit({"session": session, "writes": [{**row, "at": output.stamp(row["at"])} for row in rows]})
    elif not rows:
        print(f"session {session} has written nothing")
    else:
        header = ("STATE", "WROTE", "AGENT", "FILE")
        output.table(
            [(row["state"], clock(row["at"]), row["agent"], output.shown(row["path"])) for row in rows], header
        )
        for path, by in dict.fromkeys((row["path"], row["by"]) for row in rows if row["by"]):
            print(f"{output.shown(path)}: {by}")
    return output.BAD_NEWS if any(row["state"] in {GONE, CHANGED} for row in rows) else output.OK


def _against_the_disk(path: str, known: Known) -> dict[str, str]:
    wrote = known.wrote
    assert wrote is not None  # noqa: S101 - the caller looked
    try:
        artifact = Artifact(path)
        sight, last = artifact.look(), artifact.shelf.load().landed
    except LandedError as error:
        return {"state": CHANGED, "by": error.what}
    if sight is not None and sight.digest == wrote.digest:
        return {"state": ON_DISK, "by": ""}
    if last is not None and last.version != wrote.detail and last.digest == (sight.digest if sight else ""):
        return {"state": CONTINUED, "by": f"by {last.owner.program} at {clock(last.at)}"}
    if sight is None:
        return {"state": GONE, "by": "something outside Claude Code's file tools removed it"}
    return {
        "state": CHANGED,
        "by": f"{len(sight.data)} bytes, last changed {clock(sight.status.st_mtime)}, by something else",
    }
