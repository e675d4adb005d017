"""What one agent has seen, written and been told: a text file for each agent, a line for each fact.

``STORE/agents/<session>/<agent>.log``, both names hashed. The first line says whose it is. Then one line for each fact,
in the order in which they became so; the last fact of a kind about a path counts. Lines are appended, and the file is
now and then rewritten shorter, under a lock of its own. Nothing is flushed: after a power cut every session is over.
"""

from __future__ import annotations

import sys
from time import time, time_ns

from landed._fs import NOFOLLOW, parent_of, posix
from landed.digest import sha256
from landed.lock import Lock
from landed.process import Owner
from landed.state import user_store
from landed_claude_code.adapter import Agent

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Final

AGENTS: Final = "agents"
"""In a user's store: the ledgers of agents, a directory for each session."""
SUFFIX: Final = ".log"
HEAD: Final = "agent"
PROCESS: Final = "process"
"""A process begins to run the agent; facts name it by its number. A resumed session has another one."""
LEFT: Final = "went-on"
"""In place of `PROCESS`, of its length: to another session, as by ``/clear``. Should it come back, it begins anew."""
BESIDE: Final = "beside"
"""The process that has just begun is not alone: another still runs the agent; neither hears of what the other does."""
CUT: Final = "cut"
"""How many bytes were left when the ledger was rewritten."""
SEEN: Final = "seen"
"""The agent has seen these bytes."""
WROTE: Final = "wrote"
"""The agent wrote these bytes, and they were found on the disk."""
ASKED: Final = "asked"
"""The agent may write; what stood there then."""
ENDED: Final = "ended"
"""The agent may not write any more."""
ODD: Final = "odd"
"""A write was found to be other than its tool says; to be settled."""
FITS: Final = "fits"
"""A write was found to be what its tool says; its digest is not taken yet. `stat` is the file's identity then."""
TOLD: Final = "told"
"""The agent knows that these bytes stand there, without having seen them."""
DENIED: Final = "denied"
LOST: Final = "lost"
"""A write of the agent was found missing; `detail` says how."""

NAME_DIGITS: Final = 24
"""Hexadecimal digits of a hashed name."""
LONG: Final = 128 * 1024
"""Bytes of a ledger before it is rewritten, if it has doubled since it last was: what counts may be as long."""
KEPT_STORIES: Final = 50
"""Denials and losses that rewriting keeps, for people."""
COPIED_FROM: Final = 2_000
COPIED_TO: Final = 256 * 1024
"""Bytes of a file of which a copy is kept between its write and the end of the batch."""
DIGEST_LATER: Final = COPIED_TO
"""Bytes of a file from which on its digest is taken once, when all tools have run, and not after each."""
LATE: Final = 50_000_000
"""Nanoseconds that a file must have rested before its times vouch for it: the kernel's clock ticks in milliseconds."""
SECOND: Final = 1_000_000_000
"""Nanoseconds in which, or in two of which, some file systems count: ext4 with inodes of 128 bytes, FAT."""
COARSE: Final = 5
"""Linux's CLOCK_REALTIME_COARSE, which file systems read."""
_FIELDS: Final = 8


class Fact:
    """One line.

    Attributes:
        kind: one of the kinds above.
        process: number of the process that the agent ran in.
        at: when, in seconds since the epoch.
        call: of the tool call, "" for none.
        digest: sha256 of what stood there; "" for nothing.
        stat: the file's identity then, if that vouches for the bytes, else ""; of `ASKED`, how many directories
            above it were missing.
        detail: a version, or words.
        path: resolved.
    """

    __slots__ = ("at", "call", "detail", "digest", "kind", "path", "process", "stat")

    def __init__(
        self, kind: str, path: str, *, digest: str = "", call: str = "", stat: str = "", detail: str = ""
    ) -> None:
        self.kind = kind
        self.path = path
        self.digest = digest
        self.call = call
        self.stat = stat
        self.detail = detail
        self.process = 0
        self.at = time()

    def encode(self) -> str:
        words = (self.kind, str(self.process), f"{self.at:.3f}", _escape(self.call), self.digest, self.stat)
        return "\t".join((*words, _escape(self.detail), _escape(self.path)))

    @classmethod
    def decode(cls, line: str) -> Fact | None:
        parts = line.split("\t")
        if len(parts) != _FIELDS:
            return None
        kind, process, at, call, digest, stat, detail, path = parts
        fact = cls(kind, _unescape(path), digest=digest, call=_unescape(call), stat=stat, detail=_unescape(detail))
        try:
            fact.process, fact.at = int(process), float(at)
        except ValueError:
            return None
        return fact


class Known:
    """What an agent knows of one path: the last fact of each kind, and whether it may be writing."""

    __slots__ = ("asked", "fits", "lost", "odd", "open", "seen", "told", "wrote")

    def __init__(self) -> None:
        self.seen: Fact | None = None
        self.wrote: Fact | None = None
        self.told: Fact | None = None
        self.asked: Fact | None = None
        self.fits: Fact | None = None
        self.odd: Fact | None = None
        self.lost: Fact | None = None
        self.open = False

    def take(self, fact: Fact) -> None:
        if fact.kind in {SEEN, FITS, WROTE}:
            self.seen, self.told = fact, None
        if fact.kind == WROTE:
            self.wrote, self.fits, self.odd, self.lost = fact, None, None, None
        elif fact.kind == TOLD:
            self.told = fact
        elif fact.kind == ASKED:
            self.asked, self.open = fact, True
        elif fact.kind == FITS:
            self.fits, self.odd = fact, None
        elif fact.kind == ODD:
            self.odd = fact
        elif fact.kind == LOST:
            self.lost, self.odd = fact, None
        elif fact.kind == ENDED:
            self.open, self.fits, self.odd = False, None, None

    def has_seen(self, digest: str) -> bool:
        """Whether the bytes of that digest are what the agent last saw there."""
        return self.seen is not None and self.seen.digest == digest

    def is_over(self, call: str) -> bool:
        """Whether nothing was heard of an earlier call, and an agent's tools that write run one after the other.

        Somebody said no, or the hook after it was killed.
        """
        asked = self.asked
        if not self.open or asked is None or asked.call == call:
            return False
        return all(fact is None or fact.call != asked.call for fact in (self.wrote, self.fits, self.odd))


class Ledger:
    """The ledger of one agent.

    Attributes:
        agent: whose.
        path: the file.
        owner: the process that runs the agent now.
        known: what is known of each path, as `load` found it and `add` continued it.
        stories: denials and losses, oldest first.
    """

    def __init__(self, agent: Agent, owner: Owner, directory: str) -> None:
        self.agent = agent
        self.owner = owner
        self.path = path_of(agent.session, agent.id, directory)
        self.known: dict[str, Known] = {}
        self.stories: list[Fact] = []
        self.processes: list[Owner] = []
        self._left: set[int] = set()
        self._beside = False
        self._foreign: dict[int, bool] = {}
        self._lock = Lock(self.path.removesuffix(SUFFIX) + ".lock")
        self._raw = b""
        """The whole lines that were read, or added."""
        self._cut = 0

    @property
    def word(self) -> str:
        """The agent as a lease names it: another process of the same session is another agent."""
        agent, owner = self.agent, self.owner
        text = f"{agent.session}\0{agent.id}\0{owner.pid}\0{owner.started}"
        return sha256(text.encode("utf-8", "surrogatepass"))[:32]

    def __enter__(self) -> Ledger:
        """Nobody else reads and then adds meanwhile."""
        self._acquire()
        self.load()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _acquire(self) -> None:
        try:
            posix.mkdir(parent_of(self.path), 0o700)
        except FileExistsError:
            pass
        except FileNotFoundError:
            import os

            os.makedirs(parent_of(self.path), 0o700)
        self._lock.acquire()

    def load(self) -> Ledger:
        """Read it, or what came since. What another process of the same session saw beside this one, it has not."""
        try:
            fd = posix.open(self.path, posix.O_RDONLY | NOFOLLOW)
        except FileNotFoundError:
            raw = b""
        else:
            with open(fd, "rb") as file:
                raw = file.read()
        if not raw.startswith(self._raw):
            self._raw, self._cut = b"", 0  # it was rewritten, or removed
        if not self._raw:
            self.known, self.stories, self.processes, self._left, self._foreign = {}, [], [], set(), {}
        raw = raw[: raw.rfind(b"\n") + 1]  # a full disk cuts a line short, and then its path may be another's
        for line in raw[len(self._raw) :].decode("utf-8", "surrogateescape").split("\n"):
            self._take(line)
        self._raw = raw
        return self

    def _take(self, line: str) -> None:
        if (fact := Fact.decode(line)) is not None:
            if self._ours(fact):
                self._note(fact)
            return
        kind, _, rest = line.partition("\t")
        if kind in {PROCESS, LEFT} and (owner := Owner.decode(rest)) is not None:
            if kind == LEFT:
                self._left.add(len(self.processes))
            self._begins(owner)
        elif kind == BESIDE:
            self._beside = True
        elif kind == HEAD:
            self.agent = agent_of(rest) or self.agent
        elif kind == CUT:
            self._cut = int(rest) if rest.isdecimal() else 0

    def _begins(self, owner: Owner) -> None:
        self.processes.append(owner)
        self._beside, self._foreign = False, {}

    def _ours(self, fact: Fact) -> bool:
        """Whether a fact is this process's, or that of a dead one, which it continues; who may live is another.

        So is one that went on after this one began, however it has ended since, and one that ran beside another: of two
        such conversations, whoever resumes the session continues one.
        """
        number = fact.process
        if number not in self._foreign:
            owner = self.processes[number] if number < len(self.processes) else None
            other = owner is not None and self.owner.pid > 0 and not self._same(owner)
            runs = owner is not None and number not in self._left and owner.alive() is not False
            self._foreign[number] = other and (runs or self._beside or self._number is not None)
        return not self._foreign[number]

    @property
    def _number(self) -> int | None:
        """Of this process, if it runs the agent."""
        return next((at for at, owner in enumerate(self.processes) if self._same(owner) and at not in self._left), None)

    def _same(self, owner: Owner) -> bool:
        return (owner.pid, owner.started, owner.host) == (self.owner.pid, self.owner.started, self.owner.host)

    def _note(self, fact: Fact) -> None:
        known = self.known.get(fact.path)
        if known is None:
            known = self.known[fact.path] = Known()
        known.take(fact)
        if fact.kind in {DENIED, LOST}:
            self.stories.append(fact)

    def of(self, path: str) -> Known:
        """What is known of `path`."""
        return self.known.get(path) or Known()

    def open_by(self, call: str) -> list[str]:
        """The paths that the agent may be writing; by that call, if it is not ""."""
        opened = [(path, known.asked) for path, known in self.known.items() if known.open]
        return [path for path, asked in opened if not call or (asked is not None and asked.call == call)]

    def begin(self) -> None:
        """Write down that from here on this process runs the agent.

        Raises:
            NotLanded: the ledger cannot be locked.
            OSError: it cannot be written.
        """
        with self:
            self._append(())

    def leave(self) -> None:
        """Write down that this process runs the agent no more, though it may live. Raises what `begin` does."""
        with self:
            owner = self.processes[self._number] if self._number is not None else self.owner
            line = f"\n{PROCESS}\t{owner.encode()}\n".encode("utf-8", "surrogateescape")
            if (at := self._raw.find(line)) >= 0:
                with open(posix.open(self.path, posix.O_WRONLY | NOFOLLOW), "wb") as file:
                    posix.pwrite(file.fileno(), LEFT.encode(), at + 1)  # which a full disk has room for

    def add(self, *facts: Fact) -> None:
        """Append facts.

        Raises:
            NotLanded: the ledger cannot be locked.
            OSError: it cannot be written.
        """
        if not facts:
            return
        ours = not self._lock.held
        if ours:
            self._acquire()
            self.load()
        try:
            self._append(facts)
        finally:
            if ours:
                self._lock.release()

    def keep_copy(self, path: str, data: bytes) -> None:
        """Keep what the agent wrote until it is settled, so that it can be shown what a hook made of it.

        A small file is shown as a whole, and needs none; of a very large one the agent is not shown what changed.
        """
        if not COPIED_FROM <= len(data) <= COPIED_TO:
            return
        try:
            with open(self._copy(path), "wb", opener=_private) as file:
                file.write(data)
        except OSError:
            self.drop_copy(path)  # a disk that is full: should a hook rewrite the file, the agent has to read it

    def copy_of(self, path: str) -> bytes | None:
        """What `keep_copy` kept."""
        try:
            with open(self._copy(path), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def drop_copy(self, path: str) -> None:
        """Keep it no longer."""
        try:
            posix.unlink(self._copy(path))
        except FileNotFoundError:
            return

    def _copy(self, path: str) -> str:
        return f"{self.path.removesuffix(SUFFIX)}.{_hashed(path)}"

    def _append(self, facts: tuple[Fact, ...]) -> None:
        lines = []
        if not self._raw:
            agent = self.agent
            words = (agent.session, agent.id, agent.kind, agent.directory, agent.transcript)
            lines.append("\t".join((HEAD, *map(_escape, words))))
        begins = (number := self._number) is None
        if number is None:
            number = len(self.processes)
            lines.append(f"{PROCESS}\t{self.owner.encode()}")
            if any(at not in self._left and owner.alive() for at, owner in enumerate(self.processes)):
                lines.append(BESIDE)
        for fact in facts:
            fact.process = number
            lines.append(fact.encode())
        text = "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")
        if len(self._raw) > max(LONG, 2 * self._cut):
            self._rewrite()
        fd = posix.open(self.path, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | NOFOLLOW, 0o600)
        with open(fd, "wb") as file:
            if posix.fstat(fd).st_size > len(self._raw):
                posix.ftruncate(fd, len(self._raw))  # a line that was cut short
            file.write(text)
        self._raw += text
        if begins:
            self._begins(self.owner)
        for fact in facts:
            self._note(fact)

    def _rewrite(self) -> None:
        """Keep the head and what counts."""
        lines = self._raw.decode("utf-8", "surrogateescape").split("\n")
        last: dict[tuple[str, str, str], str] = {}
        stories = 0
        for line in reversed(lines):
            fact = Fact.decode(line)
            if fact is None:
                continue
            story = fact.kind == DENIED
            stories += story
            if story and stories <= KEPT_STORIES:
                last[line, "", ""] = line
            elif not story:
                last.setdefault((fact.kind, fact.path, str(fact.process)), line)
        kept = {*last.values(), *(line for line in lines if line.partition("\t")[0] in {HEAD, PROCESS, LEFT, BESIDE})}
        text = "".join(line + "\n" for line in lines if line in kept)
        raw = text.encode("utf-8", "surrogateescape")
        cut = len(raw)
        raw += f"{CUT}\t{cut}\n".encode()
        temp = self.path + ".new"
        with open(temp, "wb", opener=_private) as file:
            file.write(raw)
        posix.replace(temp, self.path)
        self._raw, self._cut = raw, cut


def agent_of(words: str) -> Agent | None:
    """The agent that the first line of a ledger tells of."""
    parts = [_unescape(word) for word in words.split("\t")]
    return Agent(*parts) if len(parts) == 5 else None  # noqa: PLR2004 - its fields


def read(path: str) -> Ledger:
    """A ledger as it stands in its file, for people: facts of all processes."""
    nobody = Owner(0, "-", "-", "-")
    ledger = Ledger(Agent("", "", "", "", ""), nobody, "")
    ledger.path = path
    return ledger.load()


def path_of(session: str, agent: str, directory: str) -> str:
    """The ledger of an agent; the main agent of a session has no id."""
    return f"{directory}/{_hashed(session)}/{_hashed(agent) if agent else 'main'}{SUFFIX}"


def agents_directory() -> str:
    """Where this user's ledgers are."""
    return f"{user_store().root}/{AGENTS}"


def stat_of(status: os.stat_result, late: int = LATE) -> str:
    """The identity of a file that has rested, by which its bytes can be taken as read; "" for one that has not."""
    return identity(status) if time_ns() - _changed(status) >= late else ""


def stat_before(status: os.stat_result, tick: int) -> str:
    """The identity of a file that was last changed before `tick`, by which a change after `tick` shows; else ""."""
    return identity(status) if _changed(status) < tick else ""


def tick() -> int:
    """What the kernel now writes as the time of a change, in nanoseconds since the epoch; it ticks in milliseconds."""
    if sys.platform != "linux":
        return time_ns() - LATE
    from time import clock_gettime_ns

    return clock_gettime_ns(COARSE)


def identity(status: os.stat_result) -> str:
    """What tells a file as it is from any other, and from itself after a change."""
    return f"{status.st_size}.{status.st_mtime_ns}.{status.st_ctime_ns}.{status.st_ino}"


def _changed(status: os.stat_result) -> int:
    """When it was last changed, at the latest."""
    at = max(status.st_mtime_ns, status.st_ctime_ns)
    return at if at % SECOND else at + 2 * SECOND


def _hashed(name: str) -> str:
    return sha256(name.encode("utf-8", "surrogatepass"))[:NAME_DIGITS]


def _private(path: str, flags: int) -> int:
    return posix.open(path, flags | NOFOLLOW, 0o600)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    parts = text.split("\\\\")
    return "\\".join(part.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r") for part in parts)
