"""What a model is told, in words that are the same when the same call comes again."""

from __future__ import annotations

from time import gmtime, strftime

from landed_claude_code.ledger import SEEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.artifact import Sight
    from landed.desk import Desk
    from landed.errors import LockTimeout
    from landed.process import Owner
    from landed.records import Record
    from landed_claude_code.ledger import Fact, Known

FOUND_IN: Final = 20
"""Files that one message names."""
WRONG: Final = {
    "missing": "is not there.",
    "empty": "is empty.",
    "old": "holds the bytes that it held before.",
    "unasked": "was written over, and you had not read it: another hook changed the path, or this one was not asked. "
    "What it held is gone from the disk: tell whoever needs it.",
}
NEXT: Final = "Read it, and write it again if that is still right."


def unseen(desk: Desk, known: Known) -> str:
    """Why a write is denied."""
    who = writer(desk.record, desk.sight)
    seen = known.seen
    if seen is None:
        since = f"{desk.path} exists, and you have not read it"
    else:
        word = "read" if seen.kind == SEEN else "wrote"
        since = f"{desk.path} has changed since you {word} it at {clock(seen.at)}"
    return f"Nothing was written. {since}: it holds what {who}. Read it, then redo the change on what it holds now."


def misread(path: str, *, shown_nothing: bool) -> str:
    """Why a Read of a file does not count."""
    if shown_nothing:
        return (
            f"{path} was not shown, as Claude Code knows its time; but nothing says that it still holds what you saw. "
            "Read it with another limit, which shows it, before writing it."
        )
    return (
        f"{path} changed while it was read: it holds other bytes now than the ones shown. "
        "Read it again before writing it."
    )


def changed(path: str, seen: Fact, record: Record, sight: Sight | None) -> str:
    """What became of a file that the agent knew."""
    word = "read" if seen.kind == SEEN else "wrote"
    if sight is None:
        return f"{path}, which you {word}, is not there any more."
    return f"{path} has changed since you {word} it: it holds what {writer(record, sight)}. Read it before writing it."


def writer(record: Record, sight: Sight | None) -> str:
    """Who put there what stands there."""
    last = record.landed
    if sight is not None and last is not None and last.digest == sight.digest:
        return f"{last.owner.program} wrote at {clock(last.at)} (version {last.version})"
    if sight is None:
        return "something outside Claude Code's file tools left: no file"
    return (
        f"something outside Claude Code's file tools (a shell command, another program, a person) put there, "
        f"last at {clock(sight.status.st_mtime)}"
    )


def without_time(busy: LockTimeout) -> str:
    """Who, without for how long: the same words for the same refusal."""
    return (busy.holder or "a program that does not say who it is").rpartition(", for ")[0] or "another program"


def overwrote(path: str, owner: Owner, version: str, at: float) -> str:
    """What a write replaced that nobody had asked it to."""
    return (
        f"This write replaced bytes that {owner.program} had written to {path} at {clock(at)} (version {version}), "
        "after the write was asked for and before it was done. They are gone from the disk: tell whoever needs them."
    )


def listed(lines: list[str]) -> str:
    """The first of them, and how many there are besides."""
    more = len(lines) - FOUND_IN
    return "\n".join([*lines[:FOUND_IN], *([f"... and {more} more"] if more > 0 else [])])


def clock(at: float) -> str:
    """The time of day, in UTC as the commands show it."""
    return strftime("%H:%M:%S UTC", gmtime(at))
