"""SIGKILL at the system calls of one operation, in a process that was forked for it, and what the next processes find.

    python -m lab.deaths --module crews --only save --every

A framework takes seconds to import and an operation milliseconds. So one process imports, and forks a victim for each
death; strace takes hold of the victim just before the operation, and kills it as it enters the call.

A death leaves what the calls before it changed. So the victim is killed at each call that changes what the disk holds,
and after its return: each state that a death can leave is there once. Deaths at two calls between which none changes
anything leave the same; some of those, drawn with a seed, are tried to hold that to account, with --every all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from injection import Call, calls_between_markers, inject, restore, strace, why_not
from subject import BEGIN, END, mark

from lab import operations
from lab.child import in_a_child

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.operations import Operation, View

GUARD = 60
"""Seconds after which a victim hangs."""
SAMPLE = 4
"""Calls of an operation that change nothing and are tried as well."""
SEED = 7
LONG_AGO = 1_700_000_000
TRIES = 5
"""How often the calls are looked up again for a state that no death has left yet."""
CHANGES = frozenset(
    re.findall(
        r"\w+",
        """write pwrite64 writev ftruncate fallocate rename renameat renameat2 link linkat symlink symlinkat unlink
    unlinkat mkdir mkdirat rmdir chmod fchmod fchmodat chown fchown fchownat fsetxattr fremovexattr setxattr
    copy_file_range sendfile""",
    )
)


def changes(call: str) -> bool:
    """Whether the disk holds something else after the call, for all that a process can see."""
    if " = -1 " in call or "</dev/null>" in call:
        return False
    return call.partition("(")[0] in CHANGES or "O_CREAT" in call or "O_TRUNC" in call


def _modules(_: Path) -> list[str]:
    return [*sys.modules]


class Victim:
    """One operation that is killed again and again from the same beginning.

    Args:
        bug: plants a defect in the process that does the operation, and in no other.
    """

    def __init__(self, operation: Operation, root: Path, bug: Callable[[], object]) -> None:
        self.operation, self.bug = operation, bug
        self.directory, self._beginning = root / "place", root / "beginning"
        self._trace = root / "trace"
        self.directory.mkdir()
        self._import(*self._next(operation.begin, operation.act, operation.store.go_on, _modules))
        shutil.rmtree(self.directory)
        self.directory.mkdir()
        done = self._next(operation.begin)
        assert done == [], done
        shutil.copytree(self.directory, self._beginning)
        gc.freeze()  # else each fork copies what its collector looks at

    @staticmethod
    def _import(names: list[str]) -> None:
        """Import what the operation imports when it is first done: a victim imports nothing."""
        for name in names:
            with contextlib.suppress(ImportError, TypeError):  # names that are not of modules, or begin with a dot
                importlib.import_module(name)

    def reset(self) -> None:
        restore(self._beginning, self.directory)
        for directory, _, _ in os.walk(self.directory):
            os.utime(directory, (LONG_AGO, LONG_AGO))  # what changed just now, landed looks at twice

    def run(self, *options: str) -> tuple[int, list[str]]:
        """Do the operation under strace from the beginning: how the process ended, and what its main thread called."""
        self.reset()
        (hears, go), (ready, ready_there) = os.pipe(), os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Python thinks of forks beside the threads of a framework
            pid = os.fork()
        if pid == 0:
            self._be_the_victim(hears, ready_there)
        try:
            os.close(ready_there)
            assert os.read(ready, 1), "it ended before it began"
            tracer = subprocess.Popen([*strace(self._trace, "-y", *options), "-p", str(pid)])
            until = time.monotonic() + GUARD
            while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
                assert tracer.poll() is None, "strace has ended"
                assert time.monotonic() < until, "strace does not take hold"
                time.sleep(0.001)
            os.write(go, b"!")
            tracer.wait(GUARD)
        finally:
            os.close(go)  # it would wait for ever
            _, status = os.waitpid(pid, 0)
            os.close(hears)
            os.close(ready)
        lines = (line.split(maxsplit=1) for line in self._trace.read_text().splitlines())
        own = [line[1] for line in lines if line[0] == str(pid) and re.match(r"\w+\(", line[1])]
        return os.waitstatus_to_exitcode(status), own

    def _be_the_victim(self, hears: int, ready: int) -> None:
        signal.alarm(GUARD)
        code = 1
        try:
            self._settle()
            self.bug()
            os.write(ready, b"!")
            select.select([hears], [], [])  # a call that is counted nowhere
            mark(BEGIN)
            self.operation.act(self.directory)
            os.access(END, os.F_OK)  # how many of the calls that look at files come before may vary
            code = 0
        except BaseException:  # noqa: BLE001 - the exit code tells the other process, this the reader
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _settle(self) -> None:
        os.environ["LANDED_STATE_DIR"] = str(self.directory / "state")

    def _next(self, *steps: Callable[[Path], Any]) -> list[Any]:
        """What the steps return, in a process of their own; what one raises takes its place and ends them."""

        def work() -> list[Any]:
            self._settle()
            return [found for step in steps if (found := step(self.directory)) is not None]

        return in_a_child(work)

    def calls(self) -> list[Call]:
        """The storage calls of the operation; the last is the marker after it."""
        code, called = self.run("-e", "trace=all")
        assert code == 0, f"it ends with {code}: {called[-5:]}"
        return calls_between_markers("\n".join(f"0 {text}" for text in called))

    def kill(self, call: Call) -> int:
        """Do the operation, and die at a call; how many changes were made before, -1 if the process was not killed.

        How often the process looks at something may depend on how long ago that changed, so that it may die elsewhere.
        """
        traced = f"trace=openat,{call.name},{','.join(CHANGES)}"
        code, called = self.run(*inject(call, "signal=KILL"), "-e", traced)
        return sum(map(changes, called[:-1])) if code == -signal.SIGKILL else -1  # the last one was not made

    def look(self) -> View:
        found = self._next(self.operation.store.look)
        assert len(found) == 1, found
        assert isinstance(found[0], dict), found
        return found[0]

    def ends(self) -> tuple[View, View]:
        """What there is before the operation and after it, without a bug."""
        self.reset()
        before = self.look()
        done = self._next(self.operation.act)
        assert done == [], done
        return before, self.look()

    def next_ones(self) -> dict[str, Any]:
        """What the processes after it find: `found` twice, what doing it again came to, and what going on came to."""
        store = self.operation.store

        def again(directory: Path) -> str:
            try:
                self.operation.act(directory)
            except Exception as error:  # noqa: BLE001 - the operation says which is right
                return f"{type(error).__name__}: {error}"
            return ""

        found = self.look()
        second, refused, ended = self._told(store.look, again, store.look)
        (went_on,) = self._told(store.go_on, store.look)
        return {"found": found, "second": second, "refused": refused, "ended": ended, "went on": went_on}

    def _told(self, *steps: Callable[[Path], Any]) -> list[Any]:
        told = self._next(*steps)
        assert len(told) == sum(step is not self.operation.store.go_on for step in steps), told
        return told


class Judge:
    """Holds what is found after deaths, in the order of the calls, against what there was before and is afterwards."""

    def __init__(self, operation: Operation, before: View, after: View) -> None:
        self.operation, self.before, self.after = operation, before, after
        self._pieces: dict[str, set[str]] = {}
        for key in before.keys() | after.keys():
            if before.get(key) != after.get(key):
                self._pieces.setdefault(operation.piece(key), set()).add(key)
        self._landed: dict[int, set[str]] = {}
        """For each number of changes, the pieces that were there after a death that came behind so many."""

    def problems(self, told: dict[str, Any], made: int, *, returned: bool) -> list[str]:
        """What is wrong after one death.

        Args:
            made: how many changes it came behind.
            returned: it came after the operation had returned.
        """
        found, problems = told["found"], []
        landed = {piece for piece, keys in self._pieces.items() if self._is(found, keys, self.after)}
        for piece, keys in self._pieces.items():
            if piece not in landed and not self._is(found, keys, self.before):
                problems.append(f"{piece or 'it'} is there in part: { {key: found.get(key) for key in keys} }")
        moving = set().union(*self._pieces.values())
        still = (found.keys() | self.before.keys() | self.after.keys()) - moving
        if not self._is(found, still, self.before):
            problems.append(f"what it has nothing to do with is otherwise: {found}")
        for earlier, there in self._landed.items():
            if (earlier <= made and there - landed) or (earlier >= made and landed - there):
                problems.append(f"it comes and goes: {there} after {earlier} changes, {landed} after {made}")
        self._landed[made] = landed
        if returned and landed != self._pieces.keys():
            problems.append(f"it was acknowledged, and is not there: {sorted(self._pieces.keys() - landed)}")
        return problems + self._how_it_goes_on(told, whole=landed == self._pieces.keys())

    def _how_it_goes_on(self, told: dict[str, Any], *, whole: bool) -> list[str]:
        problems, refuses = [], self.operation.refuses_again
        if told["second"] != told["found"]:
            problems.append(f"the next process finds {told['second']}, this one found {told['found']}")
        if refuses and whole:
            if not told["refused"].startswith(refuses):
                problems.append(f"doing it again raises {told['refused'] or 'nothing'}, not {refuses}")
        elif told["refused"]:
            problems.append(f"it cannot be done again: {told['refused']}")
        if self.operation.ends_alike and told["ended"] != self.after:
            problems.append(f"done again it ends with {told['ended']}, not {self.after}")
        added = self.operation.store.added
        left = {key: value for key, value in told["went on"].items() if key not in added}
        if left != {key: value for key, value in told["ended"].items() if key not in added}:
            problems.append(f"who goes on changes {told['ended']} to {told['went on']}")
        if not added <= told["went on"].keys():
            problems.append(f"who goes on finds {told['went on']}")
        return problems

    @staticmethod
    def _is(found: View, keys: set[str], wanted: View) -> bool:
        return all(found.get(key) == wanted.get(key) for key in keys)


def explore(module: str, name: str, bug: str = "", *, every: bool = False) -> dict[str, Any]:
    """Kill one operation at its calls; what was counted, and what was wrong. With a bug planted, until it is seen."""
    operation = operations.load(module, name)
    root = Path(tempfile.mkdtemp(prefix="landed-deaths-"))
    try:
        victim = Victim(operation, root, partial(operations.plant, module, bug) if bug else bool)
        judge = Judge(operation, *victim.ends())
        calls = victim.calls()
        last = sum(changes(call.text) for call in calls)
        left, killed, problems = set(range(last + 1)), 0, []

        def die(call: Call) -> None:
            nonlocal killed
            made = victim.kill(call)
            if made >= 0:
                killed += 1
                left.discard(made)
                try:
                    found = judge.problems(victim.next_ones(), made, returned=made == last)
                except AssertionError as error:  # somebody cannot even look
                    found = [str(error)]
                problems.extend(f"killed after {made} changes, about {call}: {one}" for one in found)

        others = [call for call in calls if not changes(call.text)]
        for call in others if every else Random(SEED).sample(others, min(SAMPLE, len(others))):
            die(call)
        for _ in range(TRIES):
            for made in sorted(left, reverse=bool(bug)):  # most bugs show at the end
                if not (bug and problems):
                    die(([call for call in calls if changes(call.text)] + calls[-1:])[made])
            if left:
                calls = victim.calls()
    finally:
        shutil.rmtree(root)
    if left and not bug:
        problems.append(f"no death came behind {sorted(left)} changes")
    return {"calls": len(calls), "states": last + 1, "killed": killed, "bad": len(problems), "problems": problems}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.deaths", description=__doc__.partition("\n")[0])
    parser.add_argument("--module", nargs="+", choices=operations.NEEDS, default=[*operations.NEEDS])
    parser.add_argument("--only", metavar="WORD", default="", help="operations with this in their name")
    parser.add_argument("--bugs", action="store_true", help="plant the bugs, one by one, until each is seen")
    parser.add_argument("--every", action="store_true", help="kill at every call, also at those that change nothing")
    options = parser.parse_args()
    if why_not():
        print(why_not(), file=sys.stderr)
        return 0
    bad = 0
    for module in options.module:
        chosen = operations.bugs(module) if options.bugs else dict.fromkeys(operations.names(module), "")
        for what, name in chosen.items():
            if options.only not in what:
                continue
            started = time.monotonic()
            result = explore(module, name, what) if name else explore(module, what, every=options.every)
            problems = result.pop("problems")
            print(f"{what}: {result} {time.monotonic() - started:.1f} s", *problems[:10], sep="\n  ", flush=True)
            bad += bool(problems) is not options.bugs
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
