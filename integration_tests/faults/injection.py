"""System-call injection with strace: find the calls of one operation, then kill or fail the process at each of them."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import landed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HERE = Path(__file__).parent
WORKERS = 2
GUARD = 60
"""Seconds after which a process that should take a tenth of one counts as hung."""

STORAGE = frozenset(
    re.findall(
        r"\w+",
        """open openat close read pread64 readv write pwrite64 writev lseek ftruncate fallocate fsync fdatasync
    sync_file_range stat lstat fstat newfstatat statx access faccessat faccessat2 readlink readlinkat rename renameat
    renameat2 link linkat symlink symlinkat unlink unlinkat mkdir mkdirat rmdir getdents64 chmod fchmod fchmodat chown
    fchown fchownat flistxattr fgetxattr fsetxattr fremovexattr listxattr getxattr setxattr flock fcntl fadvise64 ioctl
    copy_file_range sendfile""",
    )
)
HARMLESS = frozenset(
    re.findall(
        r"\w+",
        """brk mmap munmap mremap madvise mprotect futex getrandom getpid gettid getuid geteuid getgid getegid uname
    clock_gettime clock_nanosleep rt_sigaction rt_sigprocmask rt_sigreturn sched_yield sched_getaffinity prlimit64
    getcwd""",
    )
)
"""Calls that leave storage alone. One that is neither here nor in STORAGE fails the recording: it needs a decision."""


@dataclass(frozen=True)
class Call:
    """One system call of an operation: the `when`-th call `name` of the process. `text` is as strace printed it."""

    name: str
    when: int
    text: str

    def __str__(self) -> str:
        return f"{self.text[:110]} [{self.name} {self.when}]"


@dataclass(frozen=True)
class Ran:
    """What a subject said: `begun` its process id, `outcome` what its caller heard, None when it died before that."""

    returncode: int
    pid: int
    outcome: dict[str, Any] | None
    afterwards: dict[str, Any] | None
    trace: str


@cache
def why_not() -> str:
    """Why system calls cannot be injected here; "" when they can."""
    if sys.platform != "linux":
        return "system-call injection needs Linux"
    if shutil.which("strace") is None:
        return "needs strace"
    probe = [*strace("/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=9"), "true"]
    done = subprocess.run(probe, capture_output=True, text=True, timeout=GUARD, check=False)
    return "" if done.returncode == 0 else f"strace cannot trace here: {done.stderr.strip()[-200:]}"


def strace(output: str | Path, *options: str) -> list[str]:
    return ["strace", "-f", "-qq", "-s", "400", "-o", str(output), *options]


@cache
def copied() -> str:
    """A directory of our own that holds landed.

    Whether a module is compiled already changes the calls that its import makes, and nobody else may change that
    between the recording and the run.
    """
    directory = tempfile.mkdtemp(prefix="landed-faults-")
    atexit.register(shutil.rmtree, directory)
    shutil.copytree(Path(landed.__file__).parent, Path(directory) / "landed", ignore=shutil.ignore_patterns("*.pyc"))
    return directory


def environment(state: Path) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "LANDED_STATE_DIR": str(state),
        "PYTHONPATH": copied(),
        "PYTHONHASHSEED": "0",
    }


class Place:
    """A directory in which one operation is run again and again from the same beginning.

    Args:
        root: everything happens below it. Records are keyed by path, so a place cannot be moved or copied elsewhere.
        operation: one of the subject's.
        prepare: makes the beginning, once.

    Attributes:
        path: the artifact.
        state: the store of the user.
    """

    def __init__(self, root: Path, operation: str, prepare: Callable[[Place], None]) -> None:
        self.root = root
        self.operation = operation
        self.path = root / "work" / "file.txt"
        self.state = root / "state"
        self._beginning = root.with_suffix(".beginning")
        self.path.parent.mkdir(parents=True)
        prepare(self)
        shutil.rmtree(root / "scratch", ignore_errors=True)
        shutil.copytree(root, self._beginning)

    def reset(self) -> None:
        restore(self._beginning, self.root)

    def python(self, program: str, *, returncode: int = 0) -> None:
        """Run `program` in a process of its own, which has this place's landed and the artifact as `path`."""
        text = f"import os, landed, landed._fs; path = {str(self.path)!r}; {program}"
        command = [sys.executable, "-S", "-s", "-c", text]
        done = subprocess.run(command, timeout=GUARD, env=environment(self.state), check=False)
        assert done.returncode == returncode, (done, program)

    def die(self, call: str, when: str, program: str) -> None:
        """Run `program` in a process that is killed just ``"before"`` or ``"after"`` its first `call` of FileOps."""
        kill = f"os.kill(os.getpid(), {signal.SIGKILL:d})"
        steps = f"({kill}, real(*a, **k))" if when == "before" else f"(real(*a, **k), {kill})"
        seam = f"real = landed._fs.FileOps.{call}; landed._fs.FileOps.{call} = lambda *a, **k: {steps};"
        self.python(seam + program, returncode=-signal.SIGKILL)

    def run(self, *options: str, then: bool = False) -> Ran:
        """Run the operation under strace with `options`, from the beginning."""
        self.reset()
        scratch = self.root / "scratch"
        scratch.mkdir()
        trace = self.root / "trace"
        subject = [sys.executable, "-S", "-s", str(HERE / "subject.py"), self.operation, str(self.path), str(scratch)]
        done = subprocess.run(
            [*strace(trace, *options), *subject, *(["--then"] if then else [])],
            capture_output=True,
            text=True,
            timeout=GUARD,
            env=environment(self.state),
            check=False,
        )
        said = [json.loads(line) for line in done.stdout.splitlines()]
        if not said:
            raise AssertionError(f"the subject did not start: {done.stderr}")
        return Ran(
            done.returncode,
            said[0]["pid"],
            said[1] if len(said) > 1 else None,
            said[2] if len(said) > 2 else None,
            trace.read_text(),
        )

    def calls(self) -> list[Call]:
        """The storage calls of the operation, in order; the last is the marker after it."""
        self.run()  # once for the imports, which are compiled now
        ran = self.run()
        assert ran.outcome is not None
        assert ran.outcome["raised"] is None, ran.outcome
        return calls_between_markers(ran.trace)

    def witness(self) -> dict[str, Any]:
        """What a fresh process finds."""
        done = subprocess.run(
            [sys.executable, "-S", "-s", str(HERE / "witness.py"), str(self.path)],
            capture_output=True,
            text=True,
            timeout=GUARD,
            env=environment(self.state),
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(f"the next process failed: {done.stderr[-1500:]}")
        return json.loads(done.stdout)


def restore(source: Path, target: Path) -> None:
    """Make `target` hold what `source` holds; its directories stay the same inodes, which landed tells them by."""
    for found in target.iterdir():
        if found.is_dir() and (source / found.name).is_dir():
            restore(source / found.name, found)
        elif found.is_dir():
            shutil.rmtree(found)
        else:
            found.unlink()
    for wanted in source.iterdir():
        if not wanted.is_dir():
            shutil.copy2(wanted, target / wanted.name)  # extended attributes included
        elif not (target / wanted.name).exists():
            shutil.copytree(wanted, target / wanted.name)


def calls_between_markers(trace: str) -> list[Call]:
    counts: dict[str, int] = {}
    calls: list[Call] = []
    inside = False
    for line in trace.splitlines():
        found = re.match(r"\d+ +(\w+)\(", line)
        if found is None:
            continue
        name = found[1]
        counts[name] = counts.get(name, 0) + 1
        text = line.split(maxsplit=1)[1]
        if inside:
            if name not in HARMLESS:
                assert name in STORAGE, f"a system call that nobody has thought about: {text}"
                calls.append(Call(name, counts[name], text))
            if "landed-marker-end" in line:
                return calls
        inside = inside or "landed-marker-begin" in line
    raise AssertionError(f"no markers in the trace:\n{trace[-2000:]}")


def inject(call: Call, what: str) -> tuple[str, ...]:
    """The strace options that do `what` (``"signal=KILL"``, ``"error=EIO"``) as the process enters `call`."""
    return ("-e", f"trace={call.name}", "-e", f"inject={call.name}:{what}:when={call.when}")


def was_at(ran: Ran, call: Call) -> bool:
    """Whether the last call of the run is the one that was meant, as far as its descriptor and path tell."""
    return _identity(ran.trace.splitlines()[-2].split(maxsplit=1)[1]) == _identity(call.text)


def _identity(text: str) -> str:
    found = re.match(r'(\w+)\(([^,)]*)(, "[^"]*")?', text)
    assert found is not None, text
    path = found[3] if found[1].endswith("at") or found[1] == "mkdir" else ""
    return re.sub(r"[0-9a-f]{6,}", "#", f"{found[1]} {found[2]} {path}")


def in_parallel(places: list[Place], points: Iterable[Any], check: Callable[[Place, Any], str]) -> list[str]:
    """`check` every point, each worker in its own place; what went wrong, in the order of the points."""
    free = list(places)

    def one(point: Any) -> str:
        place = free.pop()
        try:
            return check(place, point)
        except AssertionError as error:
            return f"{point}: {error}"
        finally:
            free.append(place)

    with ThreadPoolExecutor(len(places)) as pool:
        return [problem for problem in pool.map(one, points) if problem]
