"""CrewAI's locks, in a directory of one's own."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from crewai.memory.types import MemoryRecord
from crewai_core.lock_store import lock, set_lock_backend

from crewai_landed import LandedFlowPersistence, LandedStorage, Locks
from landed import LockTimeout, NotLanded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "chromadb:/some/where"


@pytest.fixture
def locks(tmp_path: Path) -> Iterator[Locks]:
    made = Locks(tmp_path / "crew")
    set_lock_backend(made)
    yield made
    set_lock_backend(None)


def taken_elsewhere(locks: Locks, name: str = NAME) -> bool:
    """Whether another thread, which has no part in this one's blocks, cannot take the lock."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(tried, locks, name).result()


def tried(locks: Locks, name: str) -> bool:
    try:
        with locks(name, timeout=0.05):
            return False
    except LockTimeout:
        return True


def test_one_at_a_time(locks: Locks) -> None:
    with lock(NAME):
        assert taken_elsewhere(locks)
        assert not taken_elsewhere(locks, "another")
    assert not taken_elsewhere(locks)


def test_nothing_is_in_the_temp_directory(locks: Locks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "tmp"
    empty.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(empty))
    with lock(NAME):
        assert list(empty.iterdir()) == []
        assert [path.parent for path in (tmp_path / "crew").rglob("*") if path.is_file()] == [
            tmp_path / "crew" / "locks"
        ]


HOLD = """
import sys
from crewai_landed import Locks
with Locks(sys.argv[1])(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_processes_with_different_temp_directories_exclude_each_other(locks: Locks, tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, locks.path, NAME],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockTimeout, match=f"pid {holder.pid}"), lock(NAME, timeout=0.1):
            pass
    with lock(NAME, timeout=5):
        pass


def test_inside_its_block_a_lock_may_be_taken_again(locks: Locks) -> None:
    with lock(NAME):
        with lock(NAME, timeout=1), lock(NAME, timeout=1):
            assert taken_elsewhere(locks)
        assert taken_elsewhere(locks), "still the outer one's"
    assert not taken_elsewhere(locks)


@contextmanager
def transaction() -> Iterator[None]:
    with lock(NAME, timeout=1):
        yield


class Transaction:
    def __enter__(self) -> None:
        self.held = lock(NAME, timeout=1)
        self.held.__enter__()

    def __exit__(self, *_: object) -> None:
        self.held.__exit__(None, None, None)


@pytest.mark.parametrize("manager", [transaction, Transaction])
def test_also_when_a_context_manager_took_it(locks: Locks, manager: type[Transaction]) -> None:
    with manager(), manager(), lock(NAME, timeout=1):
        assert taken_elsewhere(locks)
    assert not taken_elsewhere(locks)


def test_entered_in_one_thread_and_left_in_another(locks: Locks) -> None:
    """As CrewAI's async code does: a thread that takes up other work while the lock is held does not hold it."""
    with ThreadPoolExecutor(1) as entering, ThreadPoolExecutor(1) as leaving:
        first = lock(NAME)
        entering.submit(first.__enter__).result()
        with pytest.raises(LockTimeout):  # the same thread, another task
            entering.submit(lock(NAME, timeout=0.05).__enter__).result()
        leaving.submit(first.__exit__, None, None, None).result()
        second = lock(NAME, timeout=5)
        entering.submit(second.__enter__).result()
        leaving.submit(second.__exit__, None, None, None).result()
    assert not taken_elsewhere(locks)


def test_tasks_of_one_event_loop_exclude_each_other(locks: Locks) -> None:
    inside = 0

    async def work() -> None:
        nonlocal inside
        loop, held = asyncio.get_running_loop(), lock(NAME, timeout=30)
        await loop.run_in_executor(None, held.__enter__)
        inside += 1
        assert inside == 1
        await asyncio.sleep(0.001)
        inside -= 1
        await loop.run_in_executor(None, held.__exit__, None, None, None)

    async def many() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(12))
        await asyncio.gather(*(work() for _ in range(8)))

    asyncio.run(many())


def test_an_error_in_the_block_frees_it(locks: Locks) -> None:
    with pytest.raises(ValueError, match="mine"), lock(NAME):
        raise ValueError("mine")
    assert not taken_elsewhere(locks)


def test_a_holder_that_dies_frees_it(locks: Locks) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, locks.path, NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.communicate()
    with lock(NAME, timeout=5):
        pass


def test_threads_wait_for_each_other(locks: Locks) -> None:
    total = 0

    def add() -> None:
        nonlocal total
        for _ in range(50):
            with lock(NAME):
                before = total
                threading.Event().wait(0.0001)
                total = before + 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total == 200


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotLanded):
        Locks(tmp_path / "file" / "crew")


# Another user.


def test_bits_and_group_are_those_of_the_directory_above(tmp_path: Path) -> None:
    (tmp_path / "crew").mkdir()
    (tmp_path / "crew").chmod(0o770)
    locks = Locks(tmp_path / "crew")
    with locks(NAME):
        pass
    found = (tmp_path / "crew" / "locks").stat()
    assert stat.S_IMODE(found.st_mode) == 0o2770
    (file,) = (tmp_path / "crew" / "locks").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o660


def test_of_one_user_it_stays_private(locks: Locks) -> None:
    with lock(NAME):
        pass
    directory = os.path.join(locks.path, "locks")
    (file,) = os.scandir(directory)
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to become another user")
def test_a_second_user_with_permission_takes_turns() -> None:
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        shared = os.path.join(made, "crew")
        os.mkdir(shared)
        os.chown(shared, -1, 54321)
        os.chmod(shared, 0o2770)
        locks = Locks(shared)
        with locks(NAME):
            assert as_other_user(locks, 54321) == "LockTimeout"
        assert as_other_user(locks, 54321) == "taken"
        with locks(NAME, timeout=5):
            pass
        assert as_other_user(locks, 54322) == "NotLanded", "one without permission"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to become another user")
def test_a_second_user_with_permission_shares_memory_and_flows() -> None:
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        shared = os.path.join(made, "crew")
        os.mkdir(shared)
        os.chown(shared, -1, 54321)
        os.chmod(shared, 0o2770)
        memory, flows = LandedStorage(shared), LandedFlowPersistence(shared)
        memory.save([MemoryRecord(id="mine", content="mine", embedding=[1.0])])
        flows.save_state("one", "step", {"id": "one", "n": 1})

        def theirs() -> None:
            theirs = LandedStorage(shared)
            theirs.save([MemoryRecord(id="theirs", content="theirs", embedding=[1.0])])
            theirs.compact()
            assert theirs.count() == 2
            state = LandedFlowPersistence(shared).load_state("one")
            assert state is not None
            LandedFlowPersistence(shared).save_state("one", "step", {**state, "n": 2})

        assert in_other_user(theirs, 54321) == 0
        assert memory.count() == 2
        assert flows.load_state("one") == {"id": "one", "n": 2}
        memory.save([MemoryRecord(id="more", content="more", embedding=[1.0])])


def in_other_user(act: Callable[[], None], group: int) -> int:
    """The exit status of a call in a process of another user, in that group; 0 if it returned."""
    pid = os.fork()
    if pid == 0:
        status = 9
        try:
            os.setgroups([])
            os.setgid(group)
            os.setuid(54321)
            act()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def as_other_user(locks: Locks, group: int) -> str:
    """What a process of another user, in that group, makes of the lock."""

    def take() -> None:
        try:
            with Locks(locks.path)(NAME, timeout=0.1):
                return
        except LockTimeout:
            os._exit(1)
        except NotLanded:
            os._exit(2)

    return ["taken", "LockTimeout", "NotLanded"][in_other_user(take, group)]
