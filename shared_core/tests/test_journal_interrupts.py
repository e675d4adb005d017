"""Control-C at every line of an append: afterwards the journal goes on, in this thread and in others.

A trace function raises it where a real one may strike: between two lines of the journal's own modules. The lock has a
test of its own (test_lock_interrupts.py).
"""

from __future__ import annotations

import linecache
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from landed import entries
from landed import journal as journal_module
from landed._fs import FileOps
from landed.errors import NotLanded, OutcomeUnknown
from landed.journal import Journal
from landed.local import directory, follower, frames, log, segments
from landed.local.log import LocalLog

MODULES = {module.__file__ for module in (journal_module, entries, directory, follower, frames, log, segments)}
PATIENCE = 20.0


class Unflushed(FileOps):
    """Nothing here depends on the device, and hundreds of journals are made."""

    def fsync(self, fd: int) -> None: ...

    def fdatasync(self, fd: int) -> None: ...


class Interrupt:
    """Raises KeyboardInterrupt at the n-th line that is run in the journal's modules, once."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.place = ""

    def __call__(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        if frame.f_code.co_filename not in MODULES or in_a_finalizer(frame):
            return None
        if event == "line" and not never_struck(frame):
            self.left -= 1
            if self.left == 0:
                self.place = f"{frame.f_code.co_name}, line {frame.f_lineno}"
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


def in_a_finalizer(frame: FrameType | None) -> bool:
    """Whether Python would print what is raised there and go on: of any journal, wherever it is let go."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


def never_struck(frame: FrameType) -> bool:
    """Whether Python looks at no signals there: at a `try:`, and between the end of a `with` and its `__exit__`."""
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith(("with ", "try:"))


def interrupted_at(action: Callable[[], object], number: int) -> str:
    """Where the interrupt struck; "" when the action has fewer lines."""
    interrupt = Interrupt(number)
    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        action()
    except KeyboardInterrupt:
        return interrupt.place
    finally:
        sys.settrace(before)
    assert not interrupt.place, f"swallowed in {interrupt.place}"
    return ""


def places(make: Callable[[], Journal]) -> Iterator[tuple[str, Journal]]:
    """Every line of an append, each on a journal of its own with one append before."""
    for number in range(1, 2000):
        journal = make()
        journal.append([b"before"])
        place = interrupted_at(lambda journal=journal: journal.append([b"interrupted"]), number)
        if not place:
            assert number > 50, "too few lines to mean anything"
            return
        yield place, journal
    raise AssertionError("an append has no end")


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], Journal]:
    numbers = iter(range(10_000))

    def make() -> Journal:
        path = str(tmp_path / str(next(numbers)))
        return Journal(path, timeout=0.5, log=LocalLog(path, fs=Unflushed()))

    return make


def told(journal: Journal, data: bytes) -> str:
    """Append; what went wrong, in words. A handle that was told of a doubt is opened again."""
    try:
        journal.append([data])
    except OutcomeUnknown:
        journal.close()
        with Journal(journal.path) as again:
            again.append([data])
    except Exception as error:  # noqa: BLE001 - shown by the test
        return repr(error)
    return ""


def goes_on(journal: Journal) -> str:
    """Append from another thread; what went wrong."""
    failures: list[str] = []
    thread = threading.Thread(target=lambda: failures.append(told(journal, b"after")), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return "it hangs" if thread.is_alive() else failures[0]


def test_interrupt_at_every_line_of_an_append(make: Callable[[], Journal]) -> None:
    problems = []
    for place, journal in places(make):
        problem = goes_on(journal) or told(journal, b"again")
        with Journal(journal.path) as again:
            data = [entry.data for entry in again.read()]
        journal.close()
        if problem:
            problems.append(f"{place}: {problem}")
        elif data not in ([b"before", b"after", b"again"], [b"before", b"interrupted", b"after", b"again"]):
            problems.append(f"{place}: {data}")
    assert not problems, "\n".join(problems)


class Gate(Unflushed):
    """Holds the first flush until it is told to go on."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def fdatasync(self, fd: int) -> None:
        if not self.reached.is_set():
            self.reached.set()
            assert self.go_on.wait(PATIENCE)


@pytest.mark.parametrize("before", [0, 1, 2])
def test_interrupt_in_a_group_at_every_line(tmp_path: Path, before: int) -> None:
    """Those that it took along, or that were taken along with it, are told, and those that queued behind it go on.

    Args:
        before: how many queue before the one that is interrupted; without any, it leads.
    """
    problems = []
    for number in range(1, 2000):
        path, gate = str(tmp_path / str(number)), Gate()
        journal = Journal(path, timeout=10, log=LocalLog(path, fs=gate))
        place = interrupted_in_a_group(journal, gate, before, number, answers := [])
        with Journal(path) as again:
            landed = [entry.data for entry in again.read()]
        if any(answer == "hangs" for _, answer in answers):
            problems.append(f"{place}: {answers}")
        elif any((data in landed) != (answer == "landed") for data, answer in answers if answer != "unknown"):
            problems.append(f"{place}: {answers}, {landed}")
        journal.close()
        if not place:
            assert number > (30 if before else 50), "too few lines to mean anything"
            break
    assert not problems, "\n".join(problems)


def interrupted_in_a_group(
    journal: Journal, gate: Gate, before: int, number: int, answers: list[tuple[bytes, str]]
) -> str:
    """Three queue behind a first append; one of them is interrupted. Where, "" for nowhere."""
    places = [""]

    def append(data: bytes) -> None:
        try:
            journal.append([data])
            answers.append((data, "landed"))
        except OutcomeUnknown:
            answers.append((data, "unknown"))
        except NotLanded:
            answers.append((data, "refused"))

    def be_interrupted() -> None:
        places[0] = interrupted_at(lambda: journal.append([b"interrupted"]), number)

    threads = [threading.Thread(target=append, args=[b"first"], daemon=True)]
    threads[0].start()
    assert gate.reached.wait(PATIENCE)
    actions = [lambda: append(b"one"), lambda: append(b"two")]
    actions.insert(before, be_interrupted)
    for action in actions:
        threads.append(threading.Thread(target=action, daemon=True))
        waiting = len(journal._queue)
        threads[-1].start()
        eventually(lambda waiting=waiting, thread=threads[-1]: len(journal._queue) > waiting or not thread.is_alive())
    gate.go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    if any(thread.is_alive() for thread in threads):
        answers.append((b"", "hangs"))
    append(b"after")
    return places[0]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.0005)
