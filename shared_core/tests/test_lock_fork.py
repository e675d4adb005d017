"""What a fork does to the lock: it stays the parent's, and the child starts afresh.

Each test is a program of its own: a test run with threads is no place to fork in.
"""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import landed
from landed.lock import IMPORTED_LATER

if TYPE_CHECKING:
    from programs import Programs

START = """
import fcntl, os, signal, subprocess, sys, threading, time, warnings
import filelock
import landed
from landed import Lock, LockTimeout
from landed import lock as lock_module

warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is tried here
path = sys.argv[1]

def is_free():
    probe = "import filelock, sys; filelock.FileLock(sys.argv[1]).acquire(timeout=0)"
    return subprocess.run([sys.executable, "-c", probe, path], stderr=subprocess.DEVNULL).returncode == 0

def in_child(work):
    '''Run `work` in a forked child; its pid.'''
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid

def ended_well(pid):
    return os.waitpid(pid, 0)[1] == 0
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "a.lock")


def run(programs: Programs, path: str, source: str) -> list[str]:
    return programs.run(START + source, path)


def test_child_cannot_release_the_parents_lock(programs: Programs, path: str) -> None:
    source = """
lock = Lock(path)
lock.acquire()
numbers = {fd for fd in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{fd}") == path}
(number,) = map(int, numbers)
def work():
    assert not lock.held
    other = os.open(path + ".other", os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    os.dup2(other, number)  # the number is free in the child, and somebody else's by now
    lock.release()
    assert os.path.realpath(f"/proc/self/fd/{number}") == path + ".other"
    try:
        fcntl.flock(os.open(path + ".other", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
        os._exit(2)
    except BlockingIOError:
        pass
assert ended_well(in_child(work))
print(lock.held, is_free())
lock.release()
print(is_free())
"""
    assert run(programs, path, source) == ["True False", "True"]


def test_child_waits_for_the_parents_lock(programs: Programs, path: str) -> None:
    source = """
lock = Lock(path)
lock.acquire()
def work():
    try:
        Lock(path).acquire(0)
        os._exit(2)
    except LockTimeout:
        pass
    own = Lock(path)
    own.acquire(30)
    assert own.held
child = in_child(work)
time.sleep(0.1)
lock.release()
print(ended_well(child), is_free())
"""
    assert run(programs, path, source) == ["True True"]


def test_child_can_use_the_same_object_again(programs: Programs, path: str) -> None:
    source = """
lock = Lock(path)
lock.acquire()
def work():
    lock.acquire(30)
    assert lock.held
    lock.release()
child = in_child(work)
lock.release()
print(ended_well(child), is_free())
"""
    assert run(programs, path, source) == ["True True"]


def test_parents_death_frees_the_lock_although_the_child_lives(programs: Programs, path: str) -> None:
    source = """
def hold_and_fork():
    lock = Lock(path)
    lock.acquire()
    survivor = in_child(lambda: time.sleep(60))
    print(survivor, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
pid = in_child(hold_and_fork)
os.waitpid(pid, 0)
print(is_free(), flush=True)
"""
    survivor, free = run_until_survivor(programs, path, source)
    os.kill(survivor, 9)
    assert free == "True"


def run_until_survivor(programs: Programs, path: str, source: str) -> tuple[int, str]:
    program = programs.start(START + source, path)
    return int(program.hear()), program.hear()


def test_fork_in_a_signal_handler_that_has_stopped_the_lock_table(programs: Programs, path: str) -> None:
    """The thread that has its guard cannot give it back before the handler ends: to wait for it would be for ever."""
    source = """
from landed._fs import FileOps
lock_module.STOPPED = 0.01
ended = []
def work():
    Lock(path + ".other").acquire(30)
signal.signal(signal.SIGUSR1, lambda *_: ended.append(ended_well(in_child(work))))
class Interrupts(FileOps):
    def open(self, *args, **kwargs):
        if not ended:
            signal.raise_signal(signal.SIGUSR1)
        return super().open(*args, **kwargs)
with Lock(path, fs=Interrupts()):
    print(ended, is_free())
print(ended_well(in_child(work)), is_free())
"""
    assert run(programs, path, source) == ["[True] False", "True True"]


def test_fork_while_another_thread_waits(programs: Programs, path: str) -> None:
    source = """
holder = subprocess.Popen([sys.executable, "-c",
    "import landed, sys\\nwith landed.Lock(sys.argv[1]): print(flush=True); sys.stdin.readline()", path],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE)
holder.stdout.readline()
got = []
def wait(number):
    with Lock(path):
        got.append(number)
threads = [threading.Thread(target=wait, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
while len(getattr(lock_module._slots.get(path), "waiters", ())) < 2:
    time.sleep(0.001)
time.sleep(0.05)  # the first of them waits in the kernel by now
def work():
    own = Lock(path)
    own.acquire(30)
    own.release()
child = in_child(work)
holder.communicate(b"\\n")
for thread in threads:
    thread.join(30)
print(sorted(got), ended_well(child), is_free())
"""
    assert run(programs, path, source) == ["[0, 1, 2] True True"]


def test_fork_just_after_the_lock_file_was_opened(programs: Programs, path: str) -> None:
    """A child that has a copy of the descriptor and does not know it keeps the lock when its parent dies."""
    source = """
from landed._fs import FileOps
survivors = []
class Forks(FileOps):
    def open(self, *args, **kwargs):
        fd = super().open(*args, **kwargs)
        # Another thread forks; if it has to wait until our descriptor is known, it forks a little later.
        thread = threading.Thread(target=lambda: survivors.append(in_child(lambda: time.sleep(60))))
        thread.start()
        thread.join(0.2)
        return fd
def hold_and_die():
    Lock(path, fs=Forks()).acquire()
    while not survivors:
        time.sleep(0.001)
    print(survivors[0], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(in_child(hold_and_die), 0)
print(is_free(), flush=True)
"""
    survivor, free = run_until_survivor(programs, path, source)
    os.kill(survivor, 9)
    assert free == "True"


def test_fork_just_before_an_abandoned_waiter_closes(programs: Programs, path: str) -> None:
    """The lock that came too late must not live on in a child."""
    source = """
from landed._fs import FileOps
survivors, armed = [], []
class Forks(FileOps):
    def close(self, fd):
        if armed:
            armed.clear()
            thread = threading.Thread(target=lambda: survivors.append(in_child(lambda: time.sleep(60))))
            thread.start()
            thread.join(0.2)
        super().close(fd)
theirs = filelock.FileLock(path)
theirs.acquire()
threads = lock_module._thread._count()
while lock_module._thread._count() == threads:  # on a slow machine the time may be over before a waiter is there
    try:
        Lock(path, fs=Forks()).acquire(0.05)
    except LockTimeout:
        pass
armed.append(True)  # the next descriptor that it closes is the waiter's
theirs.release()
while lock_module._thread._count() > threads or not survivors:
    time.sleep(0.001)
print(survivors[0], flush=True)
print(is_free(), flush=True)
"""
    survivor, free = run_until_survivor(programs, path, source)
    os.kill(survivor, 9)
    assert free == "True"


def test_child_does_not_inherit_the_turn_of_a_thread(programs: Programs, path: str) -> None:
    source = """
entered, leave = threading.Event(), threading.Event()
def hold():
    with Lock(path):
        entered.set()
        leave.wait()
thread = threading.Thread(target=hold)
thread.start()
entered.wait()
def work():
    try:
        Lock(path).acquire(0.05)
        os._exit(2)
    except LockTimeout as error:
        assert str(os.getppid()) in error.holder
child = in_child(work)
well = ended_well(child)
leave.set()
thread.join()
print(well, is_free())
"""
    assert run(programs, path, source) == ["True True"]


def test_child_cannot_finish_the_edit_of_its_parent(programs: Programs, tmp_path: Path) -> None:
    """The lock is the parent's; a child that leaves the block writes nothing."""
    target = tmp_path / "work.txt"
    source = """
landed.write(path, b"old", expect=landed.ABSENT)
edit = landed.edit(path)
doc = edit.__enter__()
def work():
    doc.text = "by the child"
    try:
        edit.__exit__(None, None, None)
        os._exit(2)
    except landed.NotLanded:
        pass
from landed.artifact import Artifact
stem = Artifact(path).shelf.record_path.removesuffix(".record")
def known():
    return [open(stem + ending, "rb").read() for ending in (".record", ".log")]
before = known()
child = in_child(work)
print(ended_well(child), landed.read(path).text, known() == before)
doc.text = "by the parent"
edit.__exit__(None, None, None)
print(landed.read(path).text, landed.verify(path).version == doc.receipt.version)
landed.write(path, b"more")
"""
    assert run(programs, str(target), source) == ["True old True", "by the parent True"]


def test_child_remembers_what_the_program_saw(programs: Programs, tmp_path: Path) -> None:
    source = """
landed.write(path, b"one", expect=landed.ABSENT)
def work():
    landed.write(path, b"two")
assert ended_well(in_child(work))
try:
    landed.write(path, b"three")
except landed.StaleWrite as error:
    print(type(error).__name__, landed.read(path).text)
"""
    assert run(programs, str(tmp_path / "work.txt"), source) == ["StaleWrite two"]


SLOWLY = """
class Slowly:
    def find_spec(self, name, path=None, target=None):
        if name == wanted and begun is not None:
            begun.set()
            time.sleep(0.2)

wanted, begun = sys.argv[2], threading.Event()
sys.meta_path.insert(0, Slowly())
threading.Thread(target=__import__, args=[wanted]).start()
assert begun.wait(20)
"""
"""A thread that is in the middle of an import."""


@pytest.mark.parametrize("module", ["landed.waiting", "landed.lease", "landed.editing", "landed.local.log"])
def test_a_fork_beside_an_import_leaves_the_child_able_to_import(programs: Programs, path: str, module: str) -> None:
    """CPython leaves the module locked in the child, who would wait for ever for a thread that it does not have."""
    source = """
def work():
    signal.alarm(10)
    __import__(wanted)

print(ended_well(in_child(work)))
"""
    assert programs.run(START + SLOWLY + source, path, module) == ["True"]


def test_an_interrupt_of_what_a_fork_imports_gives_back_no_guard_of_another_thread(
    programs: Programs, path: str
) -> None:
    """Python reports what a hook of a fork raises, and forks; afterwards the parent gives the guard back."""
    source = """
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "interrupted":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
sys.unraisablehook = lambda _: None
lock_module.IMPORTED_LATER = ("interrupted",)
has_it, kept = threading.Event(), []

def hold():
    with lock_module._guard:
        has_it.set()
        time.sleep(0.2)
        kept.append(lock_module._guard.locked())

holder = threading.Thread(target=hold)
holder.start()
assert has_it.wait(20)
print(ended_well(in_child(lambda: None)))
holder.join()
print(*kept, lock_module._guard.locked())
"""
    assert run(programs, path, source) == ["True", "True False"]


def test_a_fork_of_one_thread_imports_nothing(programs: Programs, path: str) -> None:
    source = """
assert ended_well(in_child(lambda: None))
print(*[name for name in lock_module.IMPORTED_LATER if name.startswith("landed.") and name in sys.modules])
"""
    assert run(programs, path, source) == [""]


def test_all_that_is_imported_later_is_imported_before_a_fork() -> None:
    """By the sources of what reads and writes local files and journals."""
    package = Path(landed.__file__).parent
    apart = {"aio", "audit", "copying", "doctor", "inspection"}
    found: set[str] = set()
    for file in [*package.glob("*.py"), *package.glob("local/*.py")]:
        functions = (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef))
        for node in (inner for function in functions for inner in ast.walk(function)):
            if isinstance(node, ast.ImportFrom) and node.module and file.stem not in apart:
                whole = node.module == "landed"  # from landed import remote
                found |= {f"landed.{name.name}" for name in node.names} if whole else {node.module}
    beyond = ("landed.objects", "landed.postgres")
    assert {"landed.waiting", "landed.lease", "landed.log", "landed.local.log"} <= found, "it finds them"
    ours = {name for name in found if name.startswith("landed.") and not name.startswith(beyond)}
    assert ours <= set(IMPORTED_LATER)
