"""Eight processes, one document: no acknowledged write is lost and no rejected one is found, whoever dies or stops."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import histories
import pytest
from filelock import FileLock, Timeout
from results import note

import landed
from landed.artifact import Artifact
from landed.log import writes
from landed.records import counter_of

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SOURCE = str(Path(landed.__file__).parents[1])
PROCESSES = 8
GUARD = 60
"""Seconds after which something hangs."""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="signals and flock are POSIX's")


class Crowd:
    """Writers of one document, each a process, and their notes."""

    def __init__(self, root: Path) -> None:
        self.path = root / "work" / "document.txt"
        self.path.parent.mkdir()
        self.notes = root / "notes"
        self.notes.mkdir()
        self.stop = root / "stop"
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        self._started = 0

    def start(self, how: str, **environment: str) -> None:
        name = f"w{self._started}"
        self._started += 1
        command = [sys.executable, str(HERE / "writer.py"), name, how, str(self.path), str(self.notes / name)]
        process = subprocess.Popen(
            [*command, str(self.stop)], env={**os.environ, **environment, "PYTHONPATH": SOURCE, "LANDED_PROGRAM": name}
        )
        self.running[process.pid] = process

    def kill(self, pid: int) -> None:
        process = self.running.pop(pid)
        process.kill()
        process.wait(GUARD)

    def join(self) -> None:
        for process in self.running.values():
            assert process.wait(GUARD) == 0
        self.running.clear()

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait(GUARD)

    def attempts(self) -> dict[str, histories.Attempt]:
        return histories.read_notes(sorted(self.notes.iterdir()))

    def stored(self) -> list[str]:
        count, *names = self.path.read_text().splitlines()
        assert int(count) == len(names)
        return names

    def check_journal(self) -> dict[str, histories.Attempt]:
        """Every batch is there whole, and its names come in an order that its writers could have seen."""
        with landed.Journal(self.path) as journal:
            records = [entry.data.decode() for entry in journal.read()]
        names, seconds = records[::2], records[1::2]
        assert seconds == [f"and {name}" for name in names]
        attempts = self.attempts()
        report = histories.check(attempts, names)
        assert not report, report
        return attempts

    def check(self) -> dict[str, histories.Attempt]:
        """The history is right, and so is what landed itself keeps of it."""
        attempts = self.attempts()
        report = histories.check(attempts, self.stored())
        assert not report, report
        log = {write.version: landed for write, landed in writes(Artifact(self.path).shelf)}
        oldest = counter_of(next(iter(log)))  # the log forgets its older half when it grows
        acked = [one.more["version"] for one in attempts.values() if one.how == histories.ACKED]
        assert [version for version in acked if counter_of(version) >= oldest and not log.get(version)] == []
        assert os.listdir(self.path.parent) == [self.path.name]
        return attempts


@pytest.fixture
def crowd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    monkeypatch.setenv("LANDED_STATE_DIR", str(tmp_path / "state"))
    crowd = Crowd(tmp_path)
    yield crowd
    crowd.close()


def count(attempts: dict[str, histories.Attempt], how: str) -> int:
    return sum(one.how == how for one in attempts.values())


@pytest.mark.parametrize("how", ["edit", "cas"])
def test_counter(crowd: Crowd, how: str) -> None:
    each = 25
    for _ in range(PROCESSES):
        crowd.start(how, LIMIT=str(each))
    crowd.join()
    attempts = crowd.check()
    assert len(crowd.stored()) == count(attempts, histories.ACKED) == PROCESSES * each
    assert {one.more["why"] for one in attempts.values() if one.how == histories.REJECTED} <= {"StaleWrite"}
    if how == "edit":
        assert len(attempts) == PROCESSES * each
    else:
        assert count(attempts, histories.REJECTED) > 0, "nobody ever lost a race, so nothing was tested"


@pytest.mark.parametrize("hows", [["edit"], ["cas"], ["edit", "cas"], ["append"]], ids="+".join)
def test_killed_and_stopped(crowd: Crowd, hows: list[str]) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for n in range(PROCESSES):
        crowd.start(hows[n % len(hows)])
    kills = 0
    until = time.monotonic() + 5
    while time.monotonic() < until:
        time.sleep(chance.uniform(0.02, 0.15))
        pid = chance.choice(list(crowd.running))
        if chance.random() < 0.5:
            crowd.kill(pid)
            crowd.start(chance.choice(hows))
            kills += 1
        else:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(chance.uniform(0.01, 0.2))
            os.kill(pid, signal.SIGCONT)
    crowd.stop.touch()
    crowd.join()
    if hows == ["append"]:
        attempts = crowd.check_journal()
    else:
        landed.verify(crowd.path)  # settles what the last one killed had begun
        attempts = crowd.check()
    acked = count(attempts, histories.ACKED)
    note("many processes", what="+".join(hows), attempts=len(attempts), acknowledged=acked, kills=kills)
    assert kills > 5
    assert acked > 20


def test_programs_that_only_share_the_lock(crowd: Crowd) -> None:
    landed.write(crowd.path, "0\n")
    each = 10
    for n in range(PROCESSES):
        lock = Artifact(crowd.path).shelf.lock.path
        crowd.start("filelock" if n % 4 == 0 else "edit", LIMIT=str(each), LOCK_FILE=lock)
    crowd.join()
    assert not histories.check(crowd.attempts(), crowd.stored())
    assert len(crowd.stored()) == PROCESSES * each


TURNS = """
import sys, time
from landed.lock import Lock
lock, until, longest, turns = Lock(sys.argv[1]), time.monotonic() + 2, 0.0, 0
while (asked := time.monotonic()) < until:
    lock.acquire()
    longest = max(longest, time.monotonic() - asked)
    time.sleep(0.001)
    lock.release()
    turns += 1
print(longest, turns)
"""


def test_nobody_waits_for_long(tmp_path: Path) -> None:
    """The holder works for 1 ms and asks again at once: a lock that polls lets it have most of the turns."""
    command = [sys.executable, "-c", TURNS, str(tmp_path / "lock")]
    crowd = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    said = [process.communicate(timeout=GUARD)[0].split() for process in crowd]
    print("longest waits (s) and turns:", said)
    turns = [int(count) for _, count in said]
    assert max(float(wait) for wait, _ in said) < 1
    assert min(turns) * PROCESSES > max(turns), "one of them had hardly a turn"


HOLDER = """
import sys, time, landed
with landed.edit(sys.argv[1]) as draft:
    draft.text = "by the holder"
    print(flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(crowd: Crowd) -> Iterator[subprocess.Popen[str]]:
    """A process that is in the middle of an edit, until it is given a line."""
    command = [sys.executable, "-c", HOLDER, str(crowd.path)]
    environment = {**os.environ, "PYTHONPATH": SOURCE, "LANDED_PROGRAM": "the-holder"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        yield process
        process.kill()


def test_stopped_holder_keeps_the_lock_and_is_named(crowd: Crowd, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGSTOP)
    with pytest.raises(landed.LockTimeout) as caught:
        landed.write(crowd.path, "by another", timeout=0.3)
    assert caught.value.holder is not None
    assert f"the-holder (pid {holder.pid}" in caught.value.holder
    os.kill(holder.pid, signal.SIGCONT)
    holder.communicate("\n", timeout=GUARD)
    assert landed.read(crowd.path).text == "by the holder"


def test_waiter_gets_the_lock_of_a_dead_holder(crowd: Crowd, holder: subprocess.Popen[str]) -> None:
    crowd.start("edit", LIMIT="1")
    (waiter,) = crowd.running.values()
    with pytest.raises(subprocess.TimeoutExpired):
        waiter.wait(1)
    holder.kill()
    crowd.join()
    assert crowd.path.read_text() == "1\nw0.0\n"


def test_filelock_keeps_landed_out(crowd: Crowd) -> None:
    landed.write(crowd.path, "old")
    lock = Artifact(crowd.path).shelf.lock.path
    with FileLock(lock), pytest.raises(landed.LockTimeout):
        landed.write(crowd.path, "new", timeout=0.1)
    # Whoever gave up waiting has the lock for an instant when it becomes free, and gives it back at once.
    landed.write(crowd.path, "new", timeout=5)


def test_landed_keeps_filelock_out(crowd: Crowd) -> None:
    lock = Artifact(crowd.path).shelf.lock.path
    with landed.edit(crowd.path) as draft:
        draft.text = "new"
        with pytest.raises(Timeout):
            FileLock(lock, timeout=0.1).acquire()
    with FileLock(lock, timeout=0):
        assert landed.read(crowd.path).text == "new"


FORK = """
import os, sys, landed
try:
    with landed.edit(sys.argv[1]) as draft:
        child = os.fork()
        draft.text = "by the child" if child == 0 else "by the parent"
        if child:
            _, status = os.waitpid(child, 0)
except landed.NotLanded:
    sys.exit(3 if child == 0 else 4)
if child == 0:
    os._exit(0)
print(os.waitstatus_to_exitcode(status))
"""


def test_forked_child_in_an_edit_does_not_write(crowd: Crowd) -> None:
    """The lock is the parent's: a child that leaves the block as well would be a second writer under one lock."""
    command = [sys.executable, "-c", FORK, str(crowd.path)]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD, check=False, env=environment)
    assert (done.returncode, done.stdout) == (0, "3\n"), done
    assert landed.read(crowd.path).text == "by the parent"
