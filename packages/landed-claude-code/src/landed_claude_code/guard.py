"""The decisions: who may write, what must be said, and who may not stop yet.

They rest on digests alone. A file that still holds what an agent has seen is never denied to it, whatever its times
say; one that holds anything else is, whoever changed it.
"""

from __future__ import annotations

from time import localtime, strftime, time

from landed import _fs
from landed._fs import posix
from landed.artifact import Artifact
from landed.desk import Desk
from landed.digest import sha256
from landed.errors import LandedError, LockTimeout, NotLanded, Refused
from landed.state import resolve
from landed_claude_code.adapter import (
    AFTER,
    ASKING,
    BEFORE,
    END,
    FAILED,
    PROMPT,
    READ,
    SETTLE,
    START,
    STOP,
    Answer,
    Call,
)
from landed_claude_code.ledger import (
    ASKED,
    DENIED,
    DIGEST_LATER,
    ENDED,
    FITS,
    LOST,
    ODD,
    SEEN,
    TOLD,
    WROTE,
    Fact,
    Known,
    Ledger,
    identity,
    stat_before,
    stat_of,
    tick,
)
from landed_claude_code.wire import standing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from landed.artifact import Sight
    from landed.process import Owner
    from landed.records import Record

PATIENCE: Final = 5.0
"""Seconds to wait for another agent or program before the tool is denied: most writes take a tenth of one."""
BOUND: Final = 120.0
"""Seconds that a lease lasts at most."""
WHILE_ASKING: Final = 600.0
"""Seconds that it lasts while a person is asked."""
WINDOW: Final = 5.0
"""Seconds that it lasts after the tool: until the other hooks are done, which PostToolBatch says sooner."""
FOUND_IN: Final = 20
"""Files that one message names."""
RESTED: Final = 10_000_000_000
"""Nanoseconds for which a file must have been as it is to be what a Read has read, if that cannot be found in it."""


def answer(call: Call, ledger: Ledger) -> Answer:
    """Decide.

    Raises:
        LandedError: nothing could be decided.
        OSError: likewise.
    """
    if call.operation == READ:
        return _read(call, ledger) if call.phase == AFTER else Answer()
    decide = {
        BEFORE: _before,
        ASKING: _longer,
        AFTER: _after,
        FAILED: _failed,
        SETTLE: _settle,
        STOP: _stop,
        PROMPT: _prompt,
        START: _gone,
        END: _gone,
    }
    return decide[call.phase](call, ledger)


# Before the tool.


def _before(call: Call, ledger: Ledger) -> Answer:
    path = call.paths[0]
    if ledger.owner.alive() is False:
        return Answer(deny="Claude Code has ended; nothing was written.")  # a hook that outlived it
    _end(ledger, [path for path, known in ledger.load().known.items() if _is_over(known, call.id)])
    try:
        with Desk(path, word_of(ledger), timeout=PATIENCE, keeps=False) as desk:
            known = _with_digest(ledger.load(), desk)
            digest = desk.sight.digest if desk.sight is not None else ""
            if desk.sight is not None and not _has_seen(known, digest):
                reason = _unseen(desk, known)
                ledger.add(Fact(DENIED, desk.path, digest=digest, call=call.id, detail=reason))
                return Answer(deny=reason)
            version = desk.record.landed.version if desk.record.landed is not None else ""
            made = int(known.asked.stat or 0) if known.open and known.asked is not None else 0  # earlier in this batch
            stat = str(max(made, _missing(_fs.parent_of(desk.path))))
            # First the ledger: by it the lease is ended, should this process be killed as soon as it is granted.
            ledger.add(Fact(ASKED, desk.path, digest=digest, call=call.id, stat=stat, detail=version))
            desk.lend(call.id, ledger.owner, BOUND)
    except LockTimeout as busy:
        reason = (
            f"Nothing was written. {path} is being written by {_without_time(busy)}. "
            "Wait a moment, read the file, then redo the change on what it holds then."
        )
        ledger.add(Fact(DENIED, resolve(path), call=call.id, detail=reason))
        return Answer(deny=reason)
    except Refused:
        return Answer()  # a directory, a device: the tool itself says what it thinks of that
    return Answer()


def _is_over(known: Known, call: str) -> bool:
    """Whether an earlier call never ran, as an agent's tools that write run one after the other: somebody said no."""
    asked = known.asked
    if not known.open or asked is None or asked.call == call:
        return False
    return all(fact is None or fact.call != asked.call for fact in (known.wrote, known.fits, known.odd))


def _missing(directory: str) -> int:
    """How many directories the tool has to make first."""
    count = 0
    while not posix.access(directory, posix.F_OK):
        directory = _fs.parent_of(directory)
        count += 1
    return count


def _has_seen(known: Known, digest: str) -> bool:
    return known.seen is not None and known.seen.digest == digest


def _unseen(desk: Desk, known: Known) -> str:
    """Why not, in words that are the same when the same call comes again."""
    who = _writer(desk.record, desk.sight)
    seen = known.seen
    if seen is None:
        since = f"{desk.path} exists, and you have not read it"
    else:
        word = "read" if seen.kind == SEEN else "wrote"
        since = f"{desk.path} has changed since you {word} it at {_clock(seen.at)}"
    return f"Nothing was written. {since}: it holds what {who}. Read it, then redo the change on what it holds now."


def _writer(record: Record, sight: Sight | None) -> str:
    """Who put there what stands there."""
    last = record.landed
    if sight is not None and last is not None and last.digest == sight.digest:
        return f"{last.owner.program} wrote at {_clock(last.at)} (version {last.version})"
    if sight is None:
        return "something outside Claude Code's file tools left: no file"
    return (
        f"something outside Claude Code's file tools (a shell command, another program, a person) put there, "
        f"last at {_clock(sight.status.st_mtime)}"
    )


def _without_time(busy: LockTimeout) -> str:
    """Who, without for how long: the same words for the same refusal."""
    return (busy.holder or "a program that does not say who it is").rpartition(", for ")[0] or "another program"


def _longer(call: Call, ledger: Ledger) -> Answer:
    with Desk(call.paths[0], word_of(ledger), timeout=PATIENCE, patient=False) as desk:
        lease = desk.lease
        if lease is not None and lease.agent == word_of(ledger):
            desk.lend(lease.call, ledger.owner, WHILE_ASKING)
    return Answer()


# After it.


def _read(call: Call, ledger: Ledger) -> Answer:
    """The agent has seen what stands there, if that is what it was shown."""
    from landed_claude_code import expected

    shown = expected.Shown(call.response)
    try:
        artifact = Artifact(call.paths[0], keeps=False)
        sight = artifact.look(each=shown.take)
        if sight is None:
            return Answer()
        stat = stat_of(sight.status)
        # The hook may start long after the tool read; but no Read is older than what has stood there for so long.
        rested = stat_of(sight.status, RESTED) != ""
        stands = shown.found or rested or expected.shows(call.response, sight.data) is not False
    except (Refused, NotLanded):
        return Answer()  # a directory, a device, a file that we may not read, or that changes all the time
    known = ledger.load().of(artifact.path)
    if not stands:
        return Answer(
            tell=f"{artifact.path} changed while it was read: it holds other bytes now than the ones shown. "
            "Read it again before writing it."
        )
    if not _has_seen(known, sight.digest) or known.told is not None or (stat and known.seen and not known.seen.stat):
        ledger.add(Fact(SEEN, artifact.path, digest=sight.digest, call=call.id, stat=stat))
    return Answer()


def _after(call: Call, ledger: Ledger) -> Answer:
    now = tick()
    try:
        with Desk(call.paths[0], word_of(ledger), timeout=PATIENCE, patient=False, known=standing()) as desk:
            known = ledger.load().of(desk.path)
            if any(fact is not None and fact.call == call.id != "" for fact in (known.wrote, known.fits)):
                return Answer()  # another copy of this hook was here
            return _verdict(call, ledger, desk, known, now)
    except Refused:
        return Answer()


def _verdict(call: Call, ledger: Ledger, desk: Desk, known: Known, now: int) -> Answer:
    from landed_claude_code import expected

    sight = desk.sight
    asked = known.asked if known.asked is not None and known.asked.call == call.id else None

    def unchanged() -> bool:
        return asked is not None and asked.digest == (sight.digest if sight is not None else "")

    found = expected.compare(call.operation, call.response, sight.data if sight is not None else None, unchanged)
    if found == expected.HELD_BACK:
        desk.give_back()
        ledger.add(Fact(ENDED, desk.path, call=call.id))
        return Answer()
    if found == expected.SAME and sight is not None:
        before = desk.record.landed
        stat = stat_before(sight.status, now) if asked is not None and len(sight.data) > DIGEST_LATER else ""
        if stat:
            ledger.add(Fact(FITS, desk.path, call=call.id, stat=stat))
            desk.shorten(time() + WINDOW)
        else:
            _landed(ledger, desk, call.id, until=time() + WINDOW)
            ledger.keep_copy(desk.path, sight.data)
        if asked is not None and before is not None and before.version != asked.detail:
            return Answer(deny=_overwrote(desk.path, before.owner, before.version, before.at))
        return Answer()
    digest = sight.digest if sight is not None else ""
    if found == expected.OTHER_BYTES:
        ledger.add(Fact(ODD, desk.path, digest=digest, call=call.id))
        return Answer()  # a formatter may be at it: PostToolBatch tells
    desk.give_back()
    what = f"{desk.path} {_WRONG[found]}"
    ledger.add(Fact(LOST, desk.path, digest=digest, call=call.id, detail=what), Fact(ENDED, desk.path, call=call.id))
    return Answer(deny=f"{what} The tool reported success, but the write is not on the disk. {_NEXT}")


def _landed(ledger: Ledger, desk: Desk, call: str, until: float | None = None) -> None:
    """Write down that what stands there is the agent's."""
    write, sight = desk.landed(ledger.owner, until=until), desk.sight
    stat = stat_of(sight.status) if sight is not None else ""
    ledger.add(Fact(WROTE, desk.path, digest=write.digest, call=call, stat=stat, detail=write.version))


def _with_digest(ledger: Ledger, desk: Desk) -> Known:
    """What is known of the path, with the digest of a large write that fitted, if the file was let alone since."""
    known = ledger.of(desk.path)
    fits, sight = known.fits, desk.sight
    if fits is not None and sight is not None and identity(sight.status) == fits.stat:
        _landed(ledger, desk, fits.call)
    return ledger.of(desk.path)


_WRONG: Final = {
    "missing": "is not there.",
    "empty": "is empty.",
    "old": "holds the bytes that it held before.",
}
_NEXT: Final = "Read it, and write it again if that is still right."


def _overwrote(path: str, owner: Owner, version: str, at: float) -> str:
    return (
        f"This write replaced bytes that {owner.program} had written to {path} at {_clock(at)} (version {version}), "
        "after the write was asked for and before it was done. They are gone from the disk: tell whoever needs them."
    )


def _failed(call: Call, ledger: Ledger) -> Answer:
    return _end(ledger, call.paths)


def _gone(_call: Call, ledger: Ledger) -> Answer:
    return _end(ledger, [path for path, known in ledger.load().known.items() if known.open])


def _end(ledger: Ledger, paths: list[str]) -> Answer:
    for path in paths:
        try:
            with Desk(path, word_of(ledger), timeout=PATIENCE, patient=False) as desk:
                _with_digest(ledger.load(), desk)
                desk.give_back()
                ledger.add(Fact(ENDED, desk.path))
                ledger.drop_copy(desk.path)
        except LandedError:
            continue  # it ends with its time, or with its process
    return Answer()


# Between two turns of the model.


def _settle(_call: Call, ledger: Ledger) -> Answer:
    with ledger:
        written = {path for path, known in ledger.known.items() if known.open}
        lines = _close_all(ledger) + _changed(ledger, besides=written)
    return Answer(tell=_listed(lines))


def _close_all(ledger: Ledger) -> list[str]:
    opened = [path for path, known in ledger.known.items() if known.open]
    return [line for path in opened if (line := _close(ledger, path))]


def _close(ledger: Ledger, path: str) -> str:
    """End what the agent may write, once the other hooks are done; what there is to say about it."""
    with Desk(path, word_of(ledger), timeout=PATIENCE, patient=False, keeps=False) as desk:
        known = _with_digest(ledger, desk)
        said = _aftermath(ledger, desk, known)
        if known.wrote is not None and known.asked is not None:
            _flush(desk.path, int(known.asked.stat or 0))
        desk.give_back()
        ledger.add(Fact(ENDED, path))
    ledger.drop_copy(path)
    return said


def _aftermath(ledger: Ledger, desk: Desk, known: Known) -> str:
    """What became of the bytes between the tool and now."""
    asked, odd, wrote = known.asked, known.odd or known.fits, known.wrote
    claimed = odd or (wrote if wrote is not None and asked is not None and wrote.call == asked.call else None)
    sight, last = desk.sight, desk.record.landed
    digest = sight.digest if sight is not None else ""
    if claimed is None:
        return _unchecked(ledger, desk, asked, digest)
    if odd is None and claimed.digest == digest:
        return ""
    base = asked.detail if odd is not None and asked is not None else claimed.detail
    ours = (last.version if last is not None else "") == base
    if sight is not None and ours:
        from landed_claude_code.formatters import formatter, shown

        rewriter = formatter(ledger.agent.directory, ledger.owner.pid)
        if rewriter:
            said = f"{desk.path} was rewritten after the write, by a hook as it seems ({rewriter})."
            view = shown(sight.data, ledger.copy_of(desk.path))
            if not view:
                ledger.add(Fact(TOLD, desk.path, digest=digest))
                return f"{said} Read it before writing it again."
            _landed(ledger, desk, claimed.call)
            return f"{said} {view}"
    ledger.add(Fact(TOLD, desk.path, digest=digest))
    if sight is None:
        ledger.add(Fact(LOST, desk.path, detail=f"{desk.path} is gone"))
        return f"{desk.path}, which you wrote, is not there any more. {_NEXT}"
    return f"{desk.path} does not hold what you wrote: it holds what {_writer(desk.record, sight)}. {_NEXT}"


def _unchecked(ledger: Ledger, desk: Desk, asked: Fact | None, digest: str) -> str:
    """After a tool of which nothing was heard: it did not run, or the hook after it was killed."""
    if asked is None or asked.digest == digest:
        return ""
    last = desk.record.landed
    if last is not None and last.digest == digest and last.owner == ledger.owner and last.version != asked.detail:
        ledger.add(Fact(WROTE, desk.path, digest=digest, call=asked.call, detail=last.version))
        return ""  # it was killed after it had compared the bytes
    ledger.add(Fact(TOLD, desk.path, digest=digest))
    return (
        f"The check after your write of {desk.path} did not run, so that nothing says whether these are your bytes. "
        "Read it before writing it."
    )


def _flush(path: str, made: int) -> None:
    """Make the name durable: Claude Code flushes the file, but not where it renames it, nor the directories it makes.

    Args:
        made: how many directories above the file are new.
    """
    for _ in range(made + 1):
        path = _fs.parent_of(path)
        with _fs.Directory(path) as directory:
            directory.sync()


def _changed(ledger: Ledger, *, besides: set[str]) -> list[str]:
    """Files that hold other bytes than the agent last saw there, each told once; not those looked at just now."""
    lines = []
    for path, known in list(ledger.known.items()):
        seen = known.seen
        if seen is None or known.open or path in besides:
            continue
        try:
            status = posix.lstat(path)
            if seen.stat and known.told is None and stat_of(status) == seen.stat:
                continue
            sight = Artifact(path).look()
        except FileNotFoundError:
            sight = None
        except (OSError, LandedError):
            continue  # nothing can be said of it, and nothing is written to it unseen
        digest = sight.digest if sight is not None else ""
        if digest == seen.digest:
            if sight is not None and (known.told is not None or stat_of(sight.status) != seen.stat):
                kind = WROTE if seen.kind == WROTE else SEEN
                again = Fact(kind, path, digest=digest, call=seen.call, stat=stat_of(sight.status), detail=seen.detail)
                again.at = seen.at
                ledger.add(again)
            continue
        if known.told is not None and known.told.digest == digest:
            continue
        ledger.add(Fact(TOLD, path, digest=digest))
        word = "read" if seen.kind == SEEN else "wrote"
        who = _writer(Artifact(path).shelf.load(), sight)
        lines.append(
            f"{path}, which you {word}, is not there any more."
            if sight is None
            else f"{path} has changed since you {word} it: it holds what {who}. Read it before writing it."
        )
    return lines


def _prompt(_call: Call, ledger: Ledger) -> Answer:
    """An interrupt fires no event of its own: what the agent may still write ends here."""
    return _settle(_call, ledger)


# The end.


def _stop(call: Call, ledger: Ledger) -> Answer:
    """Every write that this agent was told of is on the disk, or somebody else's acknowledged write is on top of it."""
    with ledger:
        lost = [f"- {line}" for line in _close_all(ledger)]
        if call.again:
            return Answer()
        lost += [line for path, known in list(ledger.known.items()) if (line := _loss(ledger, path, known))]
    if not lost:
        return Answer()
    return Answer(
        deny=f"{len(lost)} of the files that you wrote in this session do not hold your write any more:\n"
        f"{_listed(lost)}\nWrite them again if they should, or say in your answer that they do not."
    )


def _loss(ledger: Ledger, path: str, known: Known) -> str:
    wrote = known.wrote
    if wrote is None or known.lost is not None or known.told is not None:
        return ""  # nothing to hold it to, or the agent knows
    if known.seen is not None and known.seen.digest != wrote.digest:
        return ""  # it has seen other bytes since
    artifact = Artifact(path)
    try:
        sight = artifact.look()
    except Refused:
        sight = None
    if sight is not None and sight.digest == wrote.digest:
        return ""
    record = artifact.shelf.load()
    last = record.landed
    digest = sight.digest if sight is not None else ""
    if last is not None and last.version != wrote.detail and last.digest == digest:
        return ""  # somebody went on from it, or removed it, through landed
    line = f"- {path}: " + ("it is gone" if sight is None else f"it holds what {_writer(record, sight)}")
    ledger.add(Fact(LOST, path, digest=digest, detail=line), Fact(TOLD, path, digest=digest))
    return line


def word_of(ledger: Ledger) -> str:
    """The agent as a lease names it: another process of the same session is another agent."""
    agent, owner = ledger.agent, ledger.owner
    return sha256(f"{agent.session}\0{agent.id}\0{owner.pid}\0{owner.started}".encode("utf-8", "surrogatepass"))[:32]


def _listed(lines: list[str]) -> str:
    more = len(lines) - FOUND_IN
    return "\n".join([*lines[:FOUND_IN], *([f"... and {more} more"] if more > 0 else [])])


def _clock(at: float) -> str:
    return strftime("%H:%M:%S", localtime(at))
