"""The incidents that landed exists to end, replayed.

(a) A write says success, and there is no file, or another one, or the old bytes with a new time.
(b) One kill takes a process that had begun many writes, and nothing says which.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import landed
import landed.audit
from landed._fs import FileOps
from landed.artifact import Artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCE = str(Path(landed.__file__).parents[1])
GUARD = 60
"""Seconds after which something hangs."""
OLD = b"the plan of yesterday\n"
NEW = b"the plan for tomorrow\n"
OTHER = b"what a stranger wrote\n"  # as long as the plans: the size tells nothing


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LANDED_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "work").mkdir()
    return tmp_path / "work" / "plan.md"


def start(program: str, *arguments: object, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, **more}
    return subprocess.Popen(command, text=True, env=environment, **pipes)


@contextmanager
def killed_at_last(process: subprocess.Popen[str]) -> Iterator[None]:
    """Popen waits for the end of its process: a test that fails must not wait with it."""
    try:
        yield
    finally:
        process.kill()


def audit(path: Path) -> tuple[int, dict[str, Any]]:
    """What ``landed audit --json`` says of the directory, and its exit code."""
    command = [sys.executable, "-m", "landed", "audit", "--json", str(path.parent)]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD, check=False, env=environment)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


# (a) Write says success, no file. What goes wrong between the rename and the acknowledgement, and afterwards.


def vanish(path: Path) -> None:
    path.unlink(missing_ok=True)


def other_bytes_in_place(path: Path) -> None:
    path.write_bytes(OTHER)


def other_file(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(OTHER)
    other.replace(path)


def old_bytes_with_a_new_time(path: Path) -> None:
    path.write_bytes(OLD)
    os.utime(path)


def directory_vanishes(path: Path) -> None:
    vanish(path)
    path.parent.rmdir()


MISHAPS: dict[Callable[[Path], None], str] = {
    vanish: "lost",
    other_bytes_in_place: "bypassed",
    other_file: "bypassed",
    old_bytes_with_a_new_time: "lost",
}
mishaps = pytest.mark.parametrize("mishap", MISHAPS)


class Bystander(FileOps):
    """The operating system, and a program beside it that does its mishap just before the n-th call after the rename."""

    def __init__(self, at: int, mishap: Callable[[], None]) -> None:
        self.countdown: int | None = None
        self.at = at
        self.mishap = mishap

    @property
    def acted(self) -> bool:
        return self.countdown == -1


def _beside(name: str) -> Callable[..., Any]:
    def call(self: Bystander, *arguments: Any, **options: Any) -> Any:
        if self.countdown == 0:
            self.mishap()
        if self.countdown is not None and self.countdown >= 0:
            self.countdown -= 1
        answer = getattr(FileOps, name)(self, *arguments, **options)
        if name in {"rename", "link"} and self.countdown is None:
            self.countdown = self.at
        return answer

    return call


for _name in [name for name in vars(FileOps) if not name.startswith("_")]:
    setattr(Bystander, _name, _beside(_name))


@mishaps
@pytest.mark.parametrize("create", [False, True], ids=["replace", "create"])
def test_mishap_before_the_acknowledgement(path: Path, mishap: Callable[[Path], None], create: bool) -> None:
    told: list[landed.VerifyFailed] = []
    n = 0
    for n in count():
        path.unlink(missing_ok=True)
        if not create:
            landed.write(path, OLD, expect=landed.ANY)
        beside = Bystander(n, lambda: mishap(path))
        files = landed.Files(beside)
        try:
            files.write(path, NEW, expect=landed.ANY)
        except landed.VerifyFailed as failed:
            told.append(failed)
            with pytest.raises(landed.OutcomeUnknown):
                files.write(path, NEW, expect=landed.ANY)
            continue
        if not beside.acted:
            break
        # After the last look the bystander can be as quick as it likes: the next look finds it.
        never_there = create and mishap is old_bytes_with_a_new_time  # to landed these are just other bytes
        assert found_afterwards(path, "bypassed" if never_there else MISHAPS[mishap])
    assert n > 6, "there were hardly any calls to act at"
    # Before the flush of the directory and before the name is opened again, at least.
    assert len(told) >= 2
    assert all(error.path == str(path) and error.outcome == "unknown" for error in told)
    assert all("Read it again" in str(error) for error in told)


def found_afterwards(path: Path, verdict: str) -> bool:
    with pytest.raises(landed.VerifyFailed):
        landed.verify(path)
    (finding,) = landed.audit.audit(*landed.audit.stores(str(path.parent)))
    assert finding.verdict == verdict
    try:
        origin = landed.read(path).origin
    except FileNotFoundError:
        return verdict == "lost"
    return origin == "outside"


@mishaps
def test_mishap_after_the_acknowledgement(path: Path, mishap: Callable[[Path], None]) -> None:
    landed.write(path, OLD)
    landed.write(path, NEW)
    mishap(path)
    code, report = audit(path)
    assert (code, report["counts"][MISHAPS[mishap]]) == (1, 1)
    assert report["findings"][0]["path"] == str(path)
    with pytest.raises(landed.Bypassed):  # never overwritten unseen, not even by its own writer
        landed.write(path, b"the next plan\n")
    assert found_afterwards(path, MISHAPS[mishap])


def test_verify_when_the_directory_vanished(path: Path) -> None:
    landed.write(path, NEW)
    directory_vanishes(path)
    with pytest.raises(landed.VerifyFailed):
        landed.verify(path)


def test_audit_when_the_directory_vanished(path: Path) -> None:
    landed.write(path, NEW)
    directory_vanishes(path)
    code, report = audit(path)
    assert (code, report["counts"]["lost"]) == (1, 1)


STRANGER = """
import os, sys
path, mishap = sys.argv[1:]
seen = None
print(flush=True)
while True:
    try:
        now = os.stat(path).st_ino
    except FileNotFoundError:
        continue
    if now == seen:
        continue
    if mishap == "vanish":
        os.unlink(path)
    else:
        with open(path + ".other", "wb") as file:
            file.write(b"what a stranger wrote\\\\n")
        seen = os.stat(path + ".other").st_ino
        os.rename(path + ".other", path)
    print(now, flush=True)
"""


@pytest.mark.parametrize("mishap", ["vanish", "replace"])
def test_race_with_a_stranger(path: Path, mishap: str) -> None:
    """Another process undoes every write as fast as it can: each is reported, by the write or by the next look."""
    heard = afterwards = 0
    with start(STRANGER, path, mishap) as stranger, killed_at_last(stranger):
        assert stranger.stdout is not None
        stranger.stdout.readline()
        until = time.monotonic() + 3
        while time.monotonic() < until:
            files = landed.Files()
            try:
                files.write(path, NEW, expect=landed.ANY)
            except (landed.VerifyFailed, landed.Bypassed):
                heard += 1
                stranger.stdout.readline()
            else:
                stranger.stdout.readline()  # now it has acted
                with pytest.raises(landed.VerifyFailed):
                    files.verify(path)
                afterwards += 1
    print(f"{heard} heard at once, {afterwards} found by the next look")
    assert heard > 0
    assert heard + afterwards > 20


# (b) One kill, many writes that were begun.

FLEET = """
import os, stat, sys, threading, time, landed
from landed._fs import FileOps

class Slow(FileOps):
    '''A disk that takes its time with half of the files.'''
    def fsync(self, fd):
        super().fsync(fd)
        a_file = stat.S_ISREG(os.fstat(fd).st_mode)
        if a_file and threading.current_thread().name == "begun":
            with lock:
                waiting.append(fd)
            time.sleep(3600)

lock, waiting, ended = threading.Lock(), [], []
files, number = landed.Files(Slow()), int(sys.argv[2])

def give_up(failure):
    sys.excepthook(*failure[:3])
    os._exit(1)

threading.excepthook = give_up

def work(n):
    path = os.path.join(sys.argv[1], f"journal{n}.txt")
    files.write(path, f"started {n}", expect=landed.ANY)
    ended.append(n)

for n in range(number):
    threading.Thread(target=work, args=(n,), name="begun" if n % 2 else "ended", daemon=True).start()
while len(waiting) + len(ended) < number:
    time.sleep(0.01)
print(flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("existed", [False, True], ids=["new", "replaced"])
def test_one_kill_takes_many_writes(path: Path, existed: bool) -> None:
    number = 28
    journals = [path.with_name(f"journal{n}.txt") for n in range(number)]
    if existed:
        for journal in journals:
            landed.write(journal, "before")
    with start(FLEET, path.parent, number) as fleet, killed_at_last(fleet):
        assert fleet.stdout is not None
        assert fleet.stdout.readline() == "\n"
        # While they are at it nothing is amiss: each is held by its living writer.
        code, report = audit(path)
        assert (code, report["counts"]["in progress"], report["counts"]["unfinished"]) == (0, number // 2, 0)
        fleet.send_signal(signal.SIGKILL)

    code, report = audit(path)
    begun, ended = journals[1::2], journals[0::2]
    assert code == 1
    assert report["counts"]["unfinished"] == len(begun)
    assert report["counts"]["intact"] == len(ended)
    for finding in report["findings"]:
        unfinished = finding["verdict"] == "unfinished"
        assert (Path(finding["path"]) in begun) is unfinished
        if unfinished:
            assert str(fleet.pid) in finding["detail"]
            assert "dead" in finding["detail"]
    for journal in begun:
        write = Artifact(journal).shelf.load().begun
        assert write is not None
        assert (write.owner.pid, write.owner.alive()) == (fleet.pid, False)
        if existed:
            assert journal.read_text() == "before"

    # The next opener is told, each time once, and then all is well.
    for journal in begun:
        receipt = landed.write(journal, "again", expect=landed.ANY, timeout=0)
        assert str(fleet.pid) in receipt.settled
        assert "aborted" in receipt.settled
        assert landed.write(journal, "and again").settled == ""
    code, report = audit(path)
    assert (code, report["counts"]["intact"]) == (0, number)
    assert sorted(os.listdir(path.parent)) == sorted(journal.name for journal in journals)
