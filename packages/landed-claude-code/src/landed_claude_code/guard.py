"""The decisions: who may write, what must be said, and who may not stop yet.

They rest on digests alone. A file that still holds what an agent has seen is never denied to it, whatever its times
say; one that holds anything else is, whoever changed it.
"""

from __future__ import annotations

from errno import ENOTDIR
from time import time

from landed._fs import posix
from landed.artifact import Artifact
from landed.desk import Desk, end_lease
from landed.errors import LandedError, LockTimeout, NotLanded, Refused
from landed.state import resolve
from landed_claude_code import words
from landed_claude_code.adapter import (
    AFTER,
    ASKING,
    BEFORE,
    CONTEXT_LIMIT,
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
    from collections.abc import Callable
    from typing import Final

    from landed.artifact import Sight

PATIENCE: Final = 5.0
"""Seconds to wait for another agent or program before the tool is denied: most writes take a tenth of one."""
BOUND: Final = 120.0
"""Seconds that a lease lasts at most."""
WHILE_ASKING: Final = 600.0
"""Seconds that it lasts while a person is asked."""
WINDOW: Final = 5.0
"""Seconds that it lasts after the tool: until the other hooks are done, which PostToolBatch says sooner."""
ROOM: Final = CONTEXT_LIMIT - 500
"""Characters of what is said of all files: what is cut off was not shown."""
HELD: Final = 2
"""Files that one event waits for in vain: its time is short."""
HUGE: Final = 1 << 30
"""Bytes of a file up to which a Read of it counts: Claude Code edits none that has more, and hashing takes long."""
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
        FAILED: _gone,
        SETTLE: _settle,
        STOP: _stop,
        PROMPT: _settle,  # an interrupt fires no event of its own: what the agent may still write ends here
        START: _gone,
        END: _gone,
    }
    return decide[call.phase](call, ledger)


# Before the tool.


def _before(call: Call, ledger: Ledger) -> Answer:
    path = call.paths[0]
    if ledger.owner.alive() is False:
        return Answer(deny="Claude Code has ended; nothing was written.")  # a hook that outlived it
    _end(ledger, [path for path, known in ledger.load().known.items() if known.is_over(call.id)], heard=False)
    try:
        if reason := _too_large(path):
            return _denied(call, ledger, f"Nothing was written. {reason}")
        with Desk(path, ledger.word, timeout=PATIENCE, keeps=False) as desk:
            known = _with_digest(ledger.load(), desk)
            digest = desk.sight.digest if desk.sight is not None else ""
            if desk.sight is not None and not known.has_seen(digest):
                return _denied(call, ledger, words.unseen(desk, known), digest)
            version = desk.record.landed.version if desk.record.landed is not None else ""
            made = int(known.asked.stat or 0) if known.open and known.asked is not None else 0  # earlier in this batch
            stat = str(max(made, desk.missing()))
            # First the ledger: by it the lease is ended, should this process be killed as soon as it is granted.
            ledger.add(Fact(ASKED, desk.path, digest=digest, call=call.id, stat=stat, detail=version))
            desk.lend(call.id, ledger.owner, BOUND)
    except LockTimeout as busy:
        reason = (
            f"Nothing was written. {path} is being written by {words.without_time(busy)}. "
            "Wait a moment, read the file, then redo the change on what it holds then."
        )
        return _denied(call, ledger, reason)
    except NotLanded as error:
        if error.step == "target":
            return Answer()  # a directory, a device: the tool itself says what it thinks of that
        if error.step != "read" and not isinstance(error, Refused):
            raise  # our own records
        # What may not be read; a store, or a link, that a neighbour has planted: nobody would watch over the write.
        return Answer(deny=f"Nothing was written. {path}: {error.what}. {error.hint}".rstrip())
    return Answer()


def _denied(call: Call, ledger: Ledger, reason: str, digest: str = "") -> Answer:
    ledger.add(Fact(DENIED, resolve(call.paths[0]), digest=digest, call=call.id, detail=reason))
    return Answer(deny=reason)


def _too_large(path: str) -> str:
    """What is to be done where a file is too large to be seen; "" for any other."""
    try:
        if posix.stat(path).st_size <= HUGE:
            return ""
    except (OSError, ValueError):
        return ""
    return (
        f"{path} holds over 1 GiB, of which no Read counts. Write to another path; or, if nobody needs what it holds, "
        "move it away with a shell command first."
    )


def _longer(call: Call, ledger: Ledger) -> Answer:
    try:
        with Desk(call.paths[0], ledger.word, timeout=PATIENCE, patient=False) as desk:
            if (lease := desk.lease) is not None and lease.agent == ledger.word:
                desk.lend(lease.call, ledger.owner, WHILE_ASKING)
    except Refused:
        return Answer()  # there is no lease, as before
    return Answer()


# After it.


def _read(call: Call, ledger: Ledger) -> Answer:
    """The agent has seen what stands there, if that is what it was shown."""
    from landed_claude_code import expected

    shown = expected.Shown(call.response)
    try:
        artifact = Artifact(call.paths[0], keeps=False)
        if _too_large(artifact.path) or (sight := artifact.look(each=shown.take)) is None:
            return Answer()
        stat = stat_of(sight.status)
        # The hook may start long after the tool read; but no Read is older than what has stood there for so long.
        rested = stat_of(sight.status, RESTED) != ""
        if not shown.found and not rested and sight.size > expected.SEARCHED:
            return Answer()
        known = ledger.load().of(artifact.path)
        if shown.nothing:
            stands = known.has_seen(sight.digest)
        else:
            stands = shown.found or rested or expected.shows(call.response, sight.data) is not False
    except (Refused, NotLanded, OSError):
        return Answer()  # a directory, a device, a file that we may not read, or that changes all the time
    if not stands:
        return Answer(tell=words.misread(artifact.path, shown_nothing=shown.nothing))
    if not known.has_seen(sight.digest) or known.told is not None or (stat and known.seen and not known.seen.stat):
        ledger.add(Fact(SEEN, artifact.path, digest=sight.digest, call=call.id, stat=stat))
    return Answer()


def _after(call: Call, ledger: Ledger) -> Answer:
    now = tick()
    try:
        with Desk(call.paths[0], ledger.word, timeout=PATIENCE, patient=False, known=standing()) as desk:
            known = ledger.load().of(desk.path)
            if any(fact is not None and fact.call == call.id != "" for fact in (known.wrote, known.fits)):
                return Answer()  # another copy of this hook was here
            for path in ledger.open_by(call.id):
                if path != desk.path:  # it led there when the tool was asked for, or another hook changed it
                    _give_back(ledger, path)
                    ledger.add(Fact(ENDED, path), Fact(ASKED, desk.path, call=call.id))  # to be settled as any other
            return _verdict(call, ledger, desk, known, now)
    except Refused:
        return Answer()


def _verdict(call: Call, ledger: Ledger, desk: Desk, known: Known, now: int) -> Answer:
    from landed_claude_code import expected

    sight = desk.sight
    asked = known.asked if known.asked is not None and known.asked.call == call.id else None
    unasked = asked is None and known.seen is None and call.response.get("originalFile") is not None

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
            return Answer(deny=words.overwrote(desk.path, before.owner, before.version, before.at))
        return Answer(deny=f"{desk.path} {words.WRONG['unasked']}" if unasked else "")
    digest = sight.digest if sight is not None else ""
    if found == expected.OTHER_BYTES:
        ledger.add(Fact(ODD, desk.path, digest=digest, call=call.id))
        return Answer()  # a formatter may be at it: PostToolBatch tells
    desk.give_back()
    what = f"{desk.path} {words.WRONG[found]}"
    ledger.add(Fact(LOST, desk.path, digest=digest, call=call.id, detail=what), Fact(ENDED, desk.path, call=call.id))
    return Answer(deny=f"{what} The tool reported success, but the write is not on the disk. {words.NEXT}")


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


def _gone(call: Call, ledger: Ledger) -> Answer:
    if call.phase == START:
        ledger.begin()  # what another process of the session writes from now on, this one has not seen
    answer = _end(ledger, ledger.load().open_by(call.id))
    if call.phase == END:
        ledger.leave()
    return answer


def _end(ledger: Ledger, paths: list[str], *, heard: bool = True) -> Answer:
    for path in paths:
        try:
            with Desk(path, ledger.word, timeout=PATIENCE, patient=False) as desk:
                _with_digest(ledger.load(), desk)
                _give_back(ledger, path, desk)
                asked = ledger.of(path).asked
                if not heard and asked and asked.digest != (desk.sight.digest if desk.sight is not None else ""):
                    continue  # it may have run: PostToolBatch tells
                ledger.add(Fact(ENDED, path))
                ledger.drop_copy(path)
        except (LandedError, OSError):
            _give_back(ledger, path)
    return Answer()


def _give_back(ledger: Ledger, path: str, desk: Desk | None = None) -> None:
    """End the lease on a path as it was when it was lent: by now it may lead elsewhere, or nowhere."""
    if desk is not None and desk.path == path:
        desk.give_back()
        return
    try:
        end_lease(path, ledger.word, PATIENCE)
    except (LandedError, OSError):
        return  # it ends with its time, or with its process


# Between two turns of the model.


def _settle(_call: Call, ledger: Ledger) -> Answer:
    with ledger:
        written = {path for path, known in ledger.known.items() if known.open}
        lines = _close_all(ledger)
        _each(_change, ledger, [path for path in ledger.known if path not in written], lines, later=True)
    return Answer(tell=words.listed(lines))


def _close_all(ledger: Ledger) -> list[str]:
    return _each(_close, ledger, ledger.open_by(""), [])


def _each(
    look: Callable[[Ledger, str, int], str], ledger: Ledger, paths: list[str], lines: list[str], *, later: bool = False
) -> list[str]:
    """Add to `lines` what `look` says of each path, told how many characters of it the agent will read.

    With `later`, the next event goes on when that is none. One that cannot be looked at is named, once, all the same.
    """
    held, room = 0, ROOM - sum(map(len, lines))
    for path in paths:
        left = room if len(lines) < words.FOUND_IN else 0
        if held == HELD or (later and left <= 0):
            break
        try:
            line = look(ledger, path, left)
        except LockTimeout as busy:  # the next event tries again
            line = f"{path} is being written by {words.without_time(busy)}."
            held += 1
        except (LandedError, OSError) as error:
            line = _unknown(ledger, path, error)
        lines += [line] if line else []
        room -= len(line)
    return lines


def _unknown(ledger: Ledger, path: str, error: LandedError | OSError) -> str:
    known = ledger.of(path)
    if known.open:
        _give_back(ledger, path)
        ledger.add(Fact(ENDED, path))
    elif known.told is not None:
        return ""
    ledger.add(Fact(TOLD, path))
    why = error.what if isinstance(error, LandedError) else error.strerror
    return f"{path} cannot be looked at ({why}), so that nothing says what it holds. Read it before writing it."


def _close(ledger: Ledger, path: str, room: int) -> str:
    """End what the agent may write, once the other hooks are done; what there is to say about it."""
    with Desk(path, ledger.word, timeout=PATIENCE, patient=False, keeps=False) as desk:
        known = _with_digest(ledger, desk)
        digest = desk.sight.digest if desk.sight is not None else ""
        said = _aftermath(ledger, desk, known, digest, room)
        if said and len(said) <= room and not ledger.of(desk.path).has_seen(digest):
            ledger.add(Fact(TOLD, desk.path, digest=digest))  # else it does not know
        if known.wrote is not None and known.asked is not None and desk.sight is not None:
            desk.flush(int(known.asked.stat or 0))
        _give_back(ledger, path, desk)
        ledger.add(Fact(ENDED, path))
    ledger.drop_copy(path)
    return said


def _aftermath(ledger: Ledger, desk: Desk, known: Known, digest: str, room: int) -> str:
    """What became of the bytes between the tool and now."""
    asked, odd, wrote = known.asked, known.odd or known.fits, known.wrote
    claimed = odd or (wrote if wrote is not None and asked is not None and wrote.call == asked.call else None)
    sight, last = desk.sight, desk.record.landed
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
            if not view or len(said) + len(view) > room:
                return f"{said} Read it before writing it again."
            _landed(ledger, desk, claimed.call)
            return f"{said} {view}"
    if sight is None:
        ledger.add(Fact(LOST, desk.path, detail=f"{desk.path} is gone"))
        return f"{desk.path}, which you wrote, is not there any more. {words.NEXT}"
    return f"{desk.path} does not hold what you wrote: it holds what {words.writer(desk.record, sight)}. {words.NEXT}"


def _unchecked(ledger: Ledger, desk: Desk, asked: Fact | None, digest: str) -> str:
    """After a tool of which nothing was heard: it did not run, or the hook after it was killed."""
    if asked is None or asked.digest == digest:
        return ""
    last = desk.record.landed
    if last is not None and last.digest == digest and last.owner == ledger.owner and last.version != asked.detail:
        ledger.add(Fact(WROTE, desk.path, digest=digest, call=asked.call, detail=last.version))
        return ""  # it was killed after it had compared the bytes
    return (
        f"The check after your write of {desk.path} did not run, so that nothing says whether these are your bytes. "
        "Read it before writing it."
    )


def _change(ledger: Ledger, path: str, room: int) -> str:
    """Whether a file holds other bytes than the agent last saw there; told once."""
    known = ledger.of(path)
    seen = known.seen
    if seen is None or known.open:
        return ""
    last = known.told or seen
    if last.stat and _stat(path) == last.stat:
        return ""
    if line := _too_large(path):
        line = "" if known.told is not None else line
        if line and len(line) <= room:
            ledger.add(Fact(TOLD, path))
        return line
    sight = _stands(path)
    digest, stat = (sight.digest, stat_of(sight.status)) if sight is not None else ("", "")
    if digest == seen.digest:
        if sight is not None and (known.told is not None or stat != seen.stat):
            kind = WROTE if seen.kind == WROTE else SEEN
            again = Fact(kind, path, digest=digest, call=seen.call, stat=stat, detail=seen.detail)
            again.at = seen.at
            ledger.add(again)
        return ""
    if known.told is not None and known.told.digest == digest:
        if stat:
            ledger.add(Fact(TOLD, path, digest=digest, stat=stat))
        return ""
    line = words.changed(path, seen, Artifact(path).shelf.load(), sight)
    if len(line) <= room:  # else the next event names it
        ledger.add(Fact(TOLD, path, digest=digest, stat=stat))
    return line


def _stat(path: str) -> str:
    try:
        return stat_of(posix.lstat(path))
    except OSError:
        return ""


def _stands(path: str) -> Sight | None:
    """What stands there now; None where there is no file."""
    try:
        return Artifact(path, keeps=False).look()
    except (NotLanded, Refused) as error:
        if error.step == "target" or error.errno == ENOTDIR:
            return None
        raise


# The end.


def _stop(call: Call, ledger: Ledger) -> Answer:
    """Every write that this agent was told of is on the disk, or somebody else's acknowledged write is on top of it."""
    if call.again:
        return _gone(call, ledger)
    with ledger:
        lost = _each(_loss, ledger, list(ledger.known), _close_all(ledger))
    if not lost:
        return Answer()
    lines = words.listed([f"- {line}" for line in lost])
    return Answer(
        deny=f"{len(lost)} of the files that you wrote in this session do not hold your write any more:\n"
        f"{lines}\nWrite them again if they should, or say in your answer that they do not."
    )


def _loss(ledger: Ledger, path: str, room: int) -> str:
    known = ledger.of(path)
    wrote = known.wrote
    if wrote is None or known.lost is not None or known.told is not None:
        return ""  # nothing to hold it to, or the agent knows
    if known.seen is not None and known.seen.digest != wrote.digest:
        return ""  # it has seen other bytes since
    sight = _stands(path)
    if sight is not None and sight.digest == wrote.digest:
        return ""
    record = Artifact(path).shelf.load()
    last = record.landed
    digest = sight.digest if sight is not None else ""
    if last is not None and last.version != wrote.detail and last.digest == digest:
        return ""  # somebody went on from it, or removed it, through landed
    line = f"{path}: " + ("it is gone" if sight is None else f"it holds what {words.writer(record, sight)}")
    if len(line) <= room:  # likewise
        ledger.add(Fact(LOST, path, digest=digest, detail=line), Fact(TOLD, path, digest=digest))
    return line
