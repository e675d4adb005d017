"""A directory that two users write, with a uid each: what one plants, and what both may do when they are permitted.

python -m lab.ground files graph      what two users hear who use these workloads, as `neighbours_first` and `both`
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import landed
from lab import users, workloads
from lab.users import DONE, GROUP, NEIGHBOUR, VICTIM, As
from landed.sharing import share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = b"landed-record 1 and whatever else is the victim's own\n" * 20
ADDITIONS = 25


class Ground:
    """A home of the victim, and a directory that others may write.

    Attributes:
        home: the victim's; a secret is in it.
        open: the directory.
    """

    def __init__(self, root: Path) -> None:
        self.home, self.state, self.open = root / "home", root / "state", root / "open"
        for own in (self.home, self.state):
            own.mkdir(mode=0o700)
        self.secret = self.home / "secret"
        self.secret.write_bytes(SECRET)
        self.secret.chmod(0o600)
        for own in (self.home, self.state, self.secret):
            os.chown(own, VICTIM, VICTIM)
        self.open.mkdir()
        self.shared(0o1777, NEIGHBOUR)

    def state_of(self, uid: int) -> Path:
        """A user's own place for locks and records."""
        state = self.state.with_name(f"state-{uid}")
        if not state.exists():
            state.mkdir(mode=0o700)
            os.chown(state, uid, uid)
        return state

    def shared(self, mode: int, owner: int) -> None:
        os.chown(self.open, owner, GROUP)
        self.open.chmod(mode)

    def victim(self, act: Callable[[], object], group: int | None = None) -> str:
        os.environ["LANDED_STATE_DIR"] = str(self.state)
        return As(VICTIM, act, group).said()

    def harm(self) -> list[str]:
        """What has become of the victim's home."""
        status = self.secret.stat() if self.secret.exists() else None
        problems = [f"in the home: {name}" for name in os.listdir(self.home) if name != "secret"]
        if status is None:
            problems.append("the secret is gone")
        elif self.secret.read_bytes() != SECRET or (status.st_mode & 0o777, status.st_uid) != (0o600, VICTIM):
            problems.append(f"the secret is {self.secret.read_bytes()[:300]!r}, {status}")
        return problems

    def plant(self, what: str, path: Path) -> None:
        """Let the neighbour put something under a path, whatever is there."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if what == "hard link":
            os.link(self.secret, path)
            return

        def do() -> None:
            if what == "link":
                path.symlink_to(self.secret)
            elif what == "link to a directory":
                path.symlink_to(self.home)
            elif what == "FIFO":
                os.mkfifo(path, 0o666)
                path.chmod(0o666)
            elif what == "directory":
                path.mkdir(mode=0o777)
                path.chmod(0o777)
            else:
                path.write_bytes(b"the neighbour's")
                path.chmod(0o666 if what == "file" else 0o600)

        assert As(NEIGHBOUR, do, GROUP).said() == DONE


@contextmanager
def ground() -> Iterator[Ground]:
    with tempfile.TemporaryDirectory(prefix="landed-users-") as place:  # pytest's own are closed to other users
        os.chmod(place, 0o755)
        yield Ground(Path(place))


def refused(said: str) -> bool:
    """Whether what a user heard are errors of landed alone."""
    return said not in {DONE, users.HANGS} and "!" not in said


def prepared(name: str) -> workloads.Workload:
    """A workload whose imports are done, also those that its first operation makes."""
    work = InOneProcess() if name == "hook" else workloads.load(name)
    with tempfile.TemporaryDirectory() as place:
        os.environ["LANDED_STATE_DIR"] = os.path.join(place, "state")
        work.run(Path(place), lambda _: None, Random(0), work.steps)
        if name != "hook":
            (Path(place) / "more").mkdir()
            add_some(work, Path(place) / "more", 0, 2)
            work.added()
    return work


def InOneProcess() -> Any:  # noqa: N802 - a class that is made when its package is there
    from lab.workloads import hooks
    from landed_claude_code import hook

    class Hooked(hooks.Work):
        """The hook within this process: the interpreter may be another user's to start."""

        def _hook(self, event: str, fields: dict[str, Any]) -> dict[str, Any]:
            payload = {"session_id": "5e5510", "cwd": str(self.directory), "hook_event_name": event, **fields}
            os.environ["CLAUDE_PID"] = str(os.getpid())
            try:
                answer = hook._answered(payload)
            except Exception as error:  # noqa: BLE001 - as the hook itself
                answer = hook._failed(payload, error)
            if "systemMessage" in answer:
                raise hooks.Silent(f"{event}: {answer['systemMessage']}")
            return answer

    return Hooked()


def add_some(work: workloads.Workload, directory: Path, first: int, count: int = ADDITIONS) -> str:
    """Which numbers were acknowledged; at least one."""
    work.directory, work.say, work.chance = directory, lambda _: None, Random(first)
    work.start()
    acked = []
    while not acked or (len(acked) < count and first % 1000 < count):
        try:
            work.add(first)
            acked.append(first)
        except landed.StaleWrite:
            work.added()  # the other was first: see what it did
        first += 1
        if first % 1000 > 5 * count:
            return "!nothing was acknowledged"
    return " ".join(map(str, acked))


def neighbours_first(work: workloads.Workload) -> list[str]:
    """The neighbour uses its own directory; what the victim hears when it comes with the same one."""
    problems: list[str] = []
    with ground() as made:
        os.environ["LANDED_STATE_DIR"] = str(made.state_of(NEIGHBOUR))
        said = As(NEIGHBOUR, lambda: work.run(made.open, lambda _: None, Random(1), 3)).said()
        if said != DONE:
            problems.append(f"the neighbour itself: {said}")
        before = {path: path.lstat().st_mtime_ns for path in made.open.rglob("*") if not path.is_dir()}
        made.plant("link to a directory", made.open / "locks")

        def come() -> str:
            marks: list[Any] = []
            work.endure(made.open, marks.append, Random(2), 3)
            return " ".join(str(mark.get("error", "!it landed")) for mark in marks if "begin" not in mark)

        said = made.victim(come)
        if not refused(said):
            problems.append(f"the victim heard: {said}")
        after = {path: path.lstat().st_mtime_ns for path in before if path.exists()}
        problems += made.harm() + [f"changed: {path}" for path in before if before[path] != after.get(path)]
    return problems


def both(work: workloads.Workload, *, stored: bool) -> list[str]:
    """Two users whom the directory permits, one after the other and at once; what is wrong."""
    problems: list[str] = []
    with ground() as made:
        made.shared(0o2770, 0)
        if stored:
            share(str(made.open))
        acked: list[int] = []

        def user(uid: int, first: int, count: int = ADDITIONS, group: int = GROUP) -> As:
            os.environ["LANDED_STATE_DIR"] = str(made.state_of(uid))
            return As(uid, lambda: (os.umask(0o002), add_some(work, made.open, first, count))[1], group)

        def end(*users_: As) -> None:
            for one in users_:
                said = one.said()
                if said.replace(" ", "").isdigit():
                    acked.extend(map(int, said.split()))
                else:
                    problems.append(said)

        end(user(VICTIM, 1000, 3))
        end(user(NEIGHBOUR, 2000, 3))
        end(user(VICTIM, 3000), user(NEIGHBOUR, 4000))
        stranger = user(NEIGHBOUR + 1, 5000, 1, NEIGHBOUR + 1).said()
        if not refused(stranger):
            problems.append(f"somebody who is not permitted heard: {stranger}")
        os.environ["LANDED_STATE_DIR"] = str(made.state_of(0))
        work.directory = made.open
        work.start()
        lost = set(acked) - set(work.added())
        problems += [f"lost: {lost}"] if lost else []
    return problems


def main() -> int:
    names = sys.argv[1:]
    works = {name: prepared(name) for name in names}
    found = {
        "neighbour": {name: neighbours_first(works[name]) for name in names if name not in workloads.CORE},
        "both": {name: both(works[name], stored=name == "files") for name in names if name != "hook"},
    }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
