"""Every acknowledged write, held against the disk.

    for finding in landed.audit.audit(*landed.audit.stores("/srv/project")):
        print(finding.verdict, finding.path, finding.detail)

An audit changes nothing and stays out of the way: a file that holds what its record says is judged without a lock. Only
where something is begun, or does not match, is the path's lock taken, because without it a write that is under way
looks like a loss.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from time import gmtime, strftime

from landed import _fs, log
from landed.artifact import Artifact, Sight
from landed.errors import Corrupt, LandedError, LockTimeout, NotLanded, Refused
from landed.inventory import START_AGAIN, kept_elsewhere, keys, load, load_unsettled, within
from landed.lock import Lock
from landed.publish import DEVICE, READ
from landed.records import OUTSIDE, Absent, Write, counter_of
from landed.shelf import Shelf, key_of
from landed.state import BENCH, STORE_NAME, store_for, user_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from landed.inspection import Report
    from landed.records import Record
    from landed.state import Store

INTACT: Final = "intact"
"""Verdict: the file holds what landed acknowledged last."""
LOST: Final = "lost"
"""Verdict: the acknowledged bytes are gone and nothing new took their place: no file, an empty one, zeros, the old."""
BYPASSED: Final = "bypassed"
"""Verdict: something that does not use landed put other bytes there."""
UNFINISHED: Final = "unfinished"
"""Verdict: a write was begun and nobody is at it any more."""
IN_PROGRESS: Final = "in progress"
"""Verdict: a writer holds the lock now; look again later."""
DAMAGED: Final = "damaged record"
"""Verdict: what landed knew of the file cannot be read."""
DAMAGED_JOURNAL: Final = "damaged journal"
"""Verdict: a part of a journal is missing or not what was written."""
UNREADABLE: Final = "unreadable"
"""Verdict: the file or its lock cannot be opened, so that nothing can be said."""
VERDICTS: Final = (INTACT, LOST, BYPASSED, UNFINISHED, IN_PROGRESS, DAMAGED, DAMAGED_JOURNAL, UNREADABLE)

PATIENCE: Final = 5.0
"""Seconds to wait for the lock of a file that does not match and has nothing begun: its next writer is quick."""


class Finding:
    """What an audit says of one file.

    Attributes:
        verdict: one of `VERDICTS`.
        path: the file, or the journal's directory; of a damaged record, the record, where it does not say whose it is.
        detail: what was found, in words.
        hint: the next step; "" where there is nothing to do.
        write: the write that the verdict is about, or None.
        found: the version that is there now ("" for no file, None where it was not looked at).
        owner_alive: of an unfinished write, whether its process still runs; None when that cannot be told.
    """

    __slots__ = ("detail", "found", "hint", "owner_alive", "path", "verdict", "write")

    def __init__(
        self,
        verdict: str,
        path: str,
        detail: str,
        *,
        hint: str = "",
        write: Write | None = None,
        found: str | None = None,
    ) -> None:
        self.verdict = verdict
        self.path = path
        self.detail = detail
        self.hint = hint
        self.write = write
        self.found = found
        self.owner_alive = write.owner.alive() if write is not None and verdict == UNFINISHED else None

    @property
    def bad(self) -> bool:
        """Whether an acknowledged write is gone or changed, or a writer died and left one unfinished."""
        if self.verdict == UNFINISHED:
            return self.write is None or self.owner_alive is False
        return self.verdict in {LOST, BYPASSED, DAMAGED_JOURNAL}

    @property
    def told(self) -> bool:
        """Whether the audit could say how things stand."""
        return self.verdict not in {DAMAGED, UNREADABLE} and (self.verdict != UNFINISHED or self.bad)

    def __repr__(self) -> str:
        return f"<Finding {self.verdict}: {self.path}: {self.detail}>"


def stores(directory: str | None = None, fs: _fs.FileOps = _fs.LOCAL) -> list[Store]:
    """The stores that keep files in or below `directory`.

    Args:
        directory: where to look, nested ``.landed`` directories included. None means the user's own store, and the
            shared one that the working directory lies in.
        fs: the file operations to use.
    """
    if directory is None:
        found = [user_store(), store_for(os.getcwd(), fs)]
        return found[:1] if found[0].root == found[1].root else found
    directory = os.path.realpath(directory)
    nearest = store_for(directory, fs)
    return [nearest, *(store for store in _stores_below(directory, fs) if store.root != nearest.root)]


def _stores_below(directory: str, fs: _fs.FileOps) -> Iterator[Store]:
    waiting = [directory]
    while waiting:
        above = waiting.pop()
        try:
            names = sorted(fs.listdir(above), reverse=True)
        except OSError:
            continue  # what cannot be listed holds nothing that this user wrote
        for name in names:
            path = os.path.join(above, name)
            try:
                is_directory = stat.S_ISDIR(fs.stat(path, follow_symlinks=False).st_mode)
            except OSError:
                continue
            if not is_directory or name.startswith(BENCH):
                continue
            if name != STORE_NAME:
                waiting.append(path)
            elif (store := store_for(above, fs)).root == path:
                yield store


def audit(
    *stores: Store, under: str = "", level: str = READ, patience: float = PATIENCE, fs: _fs.FileOps = _fs.LOCAL
) -> Iterator[Finding]:
    """Compare every acknowledged write in `stores` with the disk, one file at a time.

    Args:
        *stores: where the records are, as `stores` gives them.
        under: only files in or below this directory (resolved, absolute); "" for all.
        level: ``"read"``, or ``"device"`` to read past the page cache.
        patience: seconds to wait for the lock of a file that does not match.
        fs: the file operations to use.
    """
    for store in stores:
        for key in keys(store, fs):
            yield from examine(store, key, under=under, level=level, patience=patience, fs=fs)


def examine(
    store: Store,
    key: str,
    *,
    under: str = "",
    level: str = READ,
    patience: float = PATIENCE,
    fs: _fs.FileOps = _fs.LOCAL,
) -> list[Finding]:
    """What `audit` says of one file.

    Returns:
        Nothing where no write was ever acknowledged or begun, the file is not `under`, or another store keeps it now;
        two findings where an unfinished write stands on top of a loss.
    """
    stem = os.path.join(store.artifacts, key)
    path = stem + ".record"
    try:
        if not _has_history(stem, fs):
            return []
        record = load_unsettled(store, key, fs)
        if record is not None:
            path = store.path_of(record.name)
            if not within(path, under) or kept_elsewhere(path, store, fs):
                return []
            if record.begun is None:
                findings = _compare(path, store, record, level, fs)
                if _clean(findings) and _unchanged(store, key, record, fs):
                    return findings
        lock = Lock(stem + ".lock", mode=store.mode, fs=fs)
        begun = record is not None and record.begun is not None
        lock.acquire(0 if begun else patience, owner=object())
        try:
            found = _examine_locked(store, key, level, fs)
            return found if record is not None else [one for one in found if _in_question(one.path, store, under, fs)]
        finally:
            lock.release()
    except LockTimeout as busy:
        who = busy.holder or "a program that does not say who it is"
        return [Finding(IN_PROGRESS, path, f"held by {who}", hint=_LATER)]
    except Corrupt as damage:
        return [Finding(DAMAGED, path, damage.what, hint=damage.hint)]
    except LandedError as error:
        return [Finding(UNREADABLE, path, error.what, hint=_OTHER_USER)]
    except OSError as error:
        return [Finding(UNREADABLE, path, error.strerror or str(error), hint=_OTHER_USER)]


def examine_journal(path: str, *, level: str) -> Finding:
    """What an audit says of one journal: all of it is read, and nothing is locked unless its end looks broken.

    Args:
        path: its directory.
        level: ``"read"``, or ``"device"`` to read past the page cache.
    """
    from landed import inspection

    try:
        report = inspection.examine(path, level=level)
    except NotLanded as error:
        return Finding(UNREADABLE, path, error.what, hint=error.hint)
    except OSError as error:
        return Finding(UNREADABLE, path, error.strerror or str(error), hint=_OTHER_USER)
    return judge_journal(report)


def judge_journal(report: Report) -> Finding:
    """What an audit says of a journal that `landed.inspection.examine` has read."""
    path = report.path
    if report.damage:
        more = f", and {len(report.damage) - 1} more" if len(report.damage) > 1 else ""
        hint = f"`{command('journal', 'salvage', path, 'OUT')}` copies what still reads."
        return Finding(DAMAGED_JOURNAL, path, f"{report.damage[0]}{more}", hint=hint)
    if report.busy:
        who = report.lock.holder or "a program that does not say who it is"
        return Finding(IN_PROGRESS, path, f"held by {who}", hint=_LATER)
    return Finding(INTACT, path, f"a journal, up to sequence number {report.tail}")


_LATER: Final = "Audit it again when the writer is done."
_TAKE_AWAY: Final = "Move it away, then put the bytes back with `landed write`."
_OTHER_USER: Final = "Run the audit as a user who may read the file and open its lock."


def _examine_locked(store: Store, key: str, level: str, fs: _fs.FileOps) -> list[Finding]:
    record = load(store, key, fs)
    if record is None:
        return _without_record(store, key, fs)
    path = store.path_of(record.name)
    begun = record.begun
    if begun is None:
        findings = _compare(path, store, record, level, fs)
        lease = record.lease
        if _clean(findings) or lease is None or lease.over:
            return findings
        return [Finding(IN_PROGRESS, path, f"an agent is about to write it: {lease}", hint=_LATER)]
    found = _compare(path, store, record, DEVICE, fs)  # its writer may have met an I/O error: look past the cache
    if any(record.lags(finding.found or "") for finding in found):
        return found
    in_place = _clean(found) and any(finding.write is begun for finding in found)
    if in_place and begun.owner.before_this_boot():
        return found  # what a reboot left is on the device; that it ended need not have been flushed
    alive = begun.owner.alive()
    who = {True: "its owner runs but let go of it", False: "its owner is dead", None: "its owner cannot be asked"}[
        alive
    ]
    what = "it is in place, though nobody was told" if in_place else "it did not reach the file"
    hint = f"`{command('verify', path)}` settles it, as does the next write."
    unfinished = Finding(UNFINISHED, path, f"{_said(begun)}: {who}; {what}", hint=hint, write=begun)
    return [unfinished, *(finding for finding in found if finding.verdict != INTACT)]


def _compare(path: str, store: Store, record: Record, level: str, fs: _fs.FileOps) -> list[Finding]:
    """The file against its record. Conclusive for a match; for anything else only under the lock."""
    last = record.landed
    artifact = Artifact(path, fs)
    try:
        sight = artifact.look(device=level == DEVICE)
    except Refused as error:
        return [Finding(BYPASSED, path, error.what, hint=_TAKE_AWAY, write=last)] if last is not None else []
    except NotLanded as error:
        if error.errno != errno.ENOTDIR:
            raise
        sight = None  # a file took the place of its directory
    verdict = artifact.judge(record, sight)
    found = "" if isinstance(verdict.version, Absent) else verdict.version
    if verdict.origin != OUTSIDE:
        known = [write for write in (record.begun, last) if write is not None]
        write = next((w for w in known if (w.version == found if found else w.digest == "")), None)
        if write is None and not found:
            return []
        return [
            Finding(INTACT, path, _said(write) if write is not None else f"version {found}", write=write, found=found)
        ]
    if last is None:
        return []  # bytes that were there before the first write, which did not land
    shelf = Shelf(store, record.name, key_of(record.name), fs)
    same = [write for write, _ in log.writes(shelf) if sight is not None and write.digest == sight.digest]
    if same and counter_of(same[-1].version) > record.counter:  # without extended attributes, after a power cut
        what = f"{_said(same[-1])}: it is in place, and its record is older"
        return [Finding(UNFINISHED, path, what, hint=_decide(path, found), write=same[-1], found=found)]
    loss = _loss(last, sight, same)
    hint = _put_back(path, found) if loss else _decide(path, found)
    what = loss or _change(sight)
    return [
        Finding(
            LOST if loss else BYPASSED, path, f"{what}; landed wrote {_said(last)}", hint=hint, write=last, found=found
        )
    ]


def _loss(last: Write, sight: Sight | None, same: list[Write]) -> str:
    """How the bytes of `last` were lost, when nothing new stands in their place; "" when something does.

    Args:
        same: the logged writes of the bytes that are there.
    """
    if sight is None:
        return "the file is gone"
    if not sight.data and last.size:
        return "the file is empty"
    if sight.data and not sight.data.strip(b"\0") and len(sight.data) == last.size:
        return "the file has its size and nothing but zeros"
    base = last.base.partition("+")[2]
    if base and sight.digest.startswith(base):
        return "the bytes that it replaced are back"
    return f"the old bytes of version {same[-1].version} are back" if same else ""


def _change(sight: Sight | None) -> str:
    if sight is None:
        return "no file"
    when = clock(sight.status.st_mtime)
    return f"{len(sight.data)} bytes that something outside landed put there, last changed {when}"


def _without_record(store: Store, key: str, fs: _fs.FileOps) -> list[Finding]:
    """A log without a record: nothing came of its first write, or a power cut took the record, or somebody did."""
    shelf = Shelf(store, "", key, fs)
    writes = [write for write, _ in log.writes(shelf)]
    if not writes:
        return []  # nothing was begun
    name = log.name_in(shelf)
    path = store.path_of(name) if key_of(name) == key else shelf.record_path
    sight = Artifact(path, fs).look(device=True) if path != shelf.record_path else None
    if sight is not None and counter_of(sight.tag) >= counter_of(writes[-1].version):
        what = f"version {sight.tag}, as the file itself says: its record is gone"
        return [Finding(INTACT, path, what, write=writes[-1], found=sight.tag)]
    if all(counter_of(write.version) == 1 for write in writes):
        return []  # refused, or dead before the record: who gets further gives out 2 next
    what = f"its record is missing; its log tells of writes up to version {writes[-1].version}"
    return [Finding(DAMAGED, path, what, hint=START_AGAIN)]


def _clean(findings: list[Finding]) -> bool:
    return all(finding.verdict == INTACT for finding in findings)


def _unchanged(store: Store, key: str, record: Record, fs: _fs.FileOps) -> bool:
    """Whether nobody wrote between the reading of `record` and now, so that what was seen meanwhile belongs to it."""
    now = load_unsettled(store, key, fs)
    return now is not None and now.sequence == record.sequence


def _has_history(stem: str, fs: _fs.FileOps) -> bool:
    for kind in (".record", ".log"):
        try:
            fs.stat(stem + kind, follow_symlinks=False)
        except FileNotFoundError:
            continue
        return True
    return False


def _in_question(path: str, store: Store, under: str, fs: _fs.FileOps) -> bool:
    """Whether an audit of `under` is to speak of it: always where it is only known by its record."""
    return os.path.dirname(path) == store.artifacts or (within(path, under) and not kept_elsewhere(path, store, fs))


# Words.


def _said(write: Write) -> str:
    what = f"version {write.version} ({write.size} bytes)" if write.digest else f"version {write.version} (a delete)"
    return f"{what} by {write.owner} at {clock(write.at)}"


def clock(at: float) -> str:
    """A time as every command and finding shows it: in UTC, as they are read elsewhere, to the second."""
    return strftime("%Y-%m-%d %H:%M:%S UTC", gmtime(at))


def command(*words: str) -> str:
    """A `landed` command line that a shell takes as it is."""
    return " ".join(_quoted(word) for word in ("landed", *words))


def _quoted(word: str) -> str:
    """With what a message cannot show, a line break or a byte that is no text, as the escape that a shell reads."""
    if word.isprintable():
        return shlex.quote(word)
    chars = (
        char if char.isprintable() and char not in "\\'" else "".join(f"\\{byte:03o}" for byte in os.fsencode(char))
        for char in word
    )
    return f"$'{''.join(chars)}'"


def _put_back(path: str, found: str) -> str:
    return (
        f"`{command('log', path)}` tells who wrote what. Put the bytes back with "
        f"`{command('write', path)} FILE --expect {found or 'absent'}`."
    )


def _decide(path: str, found: str) -> str:
    keep = command("write", path, path, "--expect", found)
    return f"Keep the change with `{keep}`, or put the right bytes there: name their file instead of the second path."
