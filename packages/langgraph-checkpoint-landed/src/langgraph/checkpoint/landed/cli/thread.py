"""``landed thread``: the history of one thread, as a tree with its forks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from landed.audit import clock
from landed.cli import output
from landed.errors import Corrupt, Refused
from langgraph.checkpoint.landed.cli.looking import (
    DIRECTORY,
    Checkpoint,
    checkpoints,
    no_such_thread,
    no_thread,
    threads_in,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from langgraph.checkpoint.landed.history import History

DESCRIPTION = """\
Show the checkpoints of a LangGraph thread, the oldest first: where each came from, how many writes are
pending for it, and which process put it when. Where two share a parent, the branch that does not lead
to the latest is indented below it. It changes nothing; graphs may run meanwhile.
"""


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not name its type
    """Add the command."""
    parser = output.add_command(subparsers, "thread", "the history of a LangGraph thread, with its forks", DESCRIPTION)
    parser.add_argument("directory", metavar="DIR", help=DIRECTORY)
    parser.add_argument("thread", metavar="THREAD", help="its thread_id")
    parser.add_argument("--namespace", metavar="NS", help="only this checkpoint_ns; '' for the graph itself")
    parser.add_argument(
        "--last", metavar="COUNT", type=output.positive, help="only the last COUNT checkpoints of each namespace"
    )
    parser.set_defaults(run=run, looks=True)


def run(args: argparse.Namespace) -> int:
    """Show."""
    threads = threads_in(args.directory)
    last = args.last

    def look(history: History) -> tuple[int, dict[str, list[Checkpoint]]]:
        found = {
            ns: checkpoints(history, ns, namespace)
            for ns, namespace in sorted(history.namespaces.items())
            if args.namespace in {None, ns}
        }
        return history.journal.size, found

    try:
        seen = threads.look(args.thread, look, None)
    except Corrupt:
        if threads.is_thread(args.thread):
            raise
        raise no_thread(threads, args.thread) from None
    if seen is None:
        raise no_such_thread(threads, args.thread)
    size, found = seen
    if not found and args.namespace is not None:
        hint = "Without --namespace all that are there are shown."
        what = f"thread {args.thread!r} has no namespace {args.namespace!r}"
        raise Refused(what, path=threads.journals.path, step="look", hint=hint)
    shown = {ns: some if last is None else some[len(some) - last :] for ns, some in found.items()}
    if args.json:
        namespaces = [_document(ns, found[ns], some) for ns, some in shown.items()]
        output.emit({"path": threads.journals.path, "thread": args.thread, "size": size, "namespaces": namespaces})
        return output.OK
    for ns, some in shown.items():
        print(f"{output.shown(ns) or 'the graph'}: {_counted(found[ns])}")
        output.table(list(_rows(some)), ("CHECKPOINT", "SOURCE", "STEP", "WRITES", "PUT", "BY"))
        print()
    print(f"{output.shown(args.thread)}: {output.count(len(found), 'namespace')}, {output.count(size, 'byte')}")
    return output.OK


def forks(some: list[Checkpoint]) -> int:
    """How many checkpoints share their parent with an older one."""
    parents = [each.parent for each in some if each.parent is not None]
    return len(parents) - len(set(parents))


def tree(some: list[Checkpoint]) -> Iterator[tuple[str, Checkpoint]]:
    """The checkpoints with what is drawn in front of each: the line to the latest at the margin, forks beside it."""
    known = {each.id: each for each in some}
    children: dict[str | None, list[Checkpoint]] = {}
    for each in some:
        children.setdefault(each.parent if each.parent in known else None, []).append(each)
    furthest = {each.id: each.id for each in some}
    for each in reversed(some):  # children before their parents, whose ids are lower
        if each.parent in known:
            furthest[each.parent] = max(furthest[each.parent], furthest[each.id])
    done: set[str] = set()
    # What is still to be drawn, the next one last: its prefix, the mark in front of it, and where its line goes on.
    waiting = [("", "* ", each) for each in reversed(children.get(None, []))]
    while waiting:
        prefix, mark, each = waiting.pop()
        if each.id in done:
            continue  # a checkpoint that was put again under one that came after it
        done.add(each.id)
        yield prefix + mark, each
        inner = prefix if mark == "* " else f"{prefix}| "
        below = sorted(children.get(each.id, []), key=lambda child: furthest[child.id])
        waiting += [(inner, "* ", main) for main in below[-1:]]
        waiting += [(inner, "|-* ", branch) for branch in reversed(below[:-1])]
    yield from (("? ", each) for each in some if each.id not in done)


def _rows(some: list[Checkpoint]) -> Iterator[tuple[str, ...]]:
    latest = some[-1].id if some else ""
    for drawn, each in tree(some):
        yield (
            drawn + output.shown(each.id) + (" (latest)" if each.id == latest else ""),
            output.shown(str(each.source or "-")),
            "-" if each.step is None else str(each.step),
            str(each.writes),
            clock(each.time),
            output.shown(each.writer),
        )


def _counted(some: list[Checkpoint]) -> str:
    return f"{output.count(len(some), 'checkpoint')}, {output.count(forks(some), 'fork')}"


def _document(ns: str, every: list[Checkpoint], some: list[Checkpoint]) -> dict[str, Any]:
    return {
        "namespace": ns,
        "count": len(every),
        "forks": forks(every),
        "latest": every[-1].id if every else None,
        "checkpoints": [_checkpoint(each) for each in some],
    }


def _checkpoint(each: Checkpoint) -> dict[str, Any]:
    return {
        "id": each.id,
        "parent": each.parent,
        "source": each.source,
        "step": each.step,
        "writes": each.writes,
        "at": output.stamp(each.time),
        "writer": each.writer,
    }
