"""A program with threads forks while one of them compacts a journal, one appends and one writes files.

Only the thread that forks lives on in the child, in the middle of whatever the others were doing. The child appends and
writes as well; it must end, and what parent and children were told is there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

FORKS = 40
GUARD = 120
"""Seconds after which the program hangs."""
PROGRAM = """
import faulthandler, os, sys, threading, time, warnings
import landed
warnings.simplefilter("ignore")  # what Python thinks of forks beside threads
place, forks = sys.argv[1], int(sys.argv[2])
journal, over, acked, compactions = landed.Journal(place + "/journal"), threading.Event(), [], []

def append(who):
    for number in range(1_000_000):
        if over.is_set():
            return
        data = b"%s.%d " % (who, number) + bytes(300)
        journal.append([data])
        acked.append(data)

def write():
    while not over.is_set():
        landed.write(place + "/file", "by the parent", expect=landed.ANY)

def compact():
    while not over.is_set():
        compactions.append(journal.compact(lambda entry: True))

threads = [threading.Thread(target=work) for work in (lambda: append(b"thread"), write, compact)]
for thread in threads:
    thread.start()
while not (acked and compactions):
    time.sleep(0.001)
for number in range(forks):
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(30, exit=True)
        journal.append([b"child.%d" % number])
        landed.write(place + "/file", f"by child {number}", expect=landed.ANY)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        print(f"child {number} ended with {status}", file=sys.stderr, flush=True)
        os._exit(1)  # the threads would go on for ever
    acked.append(b"child.%d" % number)
over.set()
for thread in threads:
    thread.join()
with landed.Journal(place + "/journal") as again:
    found = [entry.data for entry in again.read()]
assert len(set(found)) == len(found), "something is there twice"
assert sorted(found) == sorted(acked), (len(found), len(acked))
landed.verify(place + "/file")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork_beside_threads_that_write(tmp_path: Path) -> None:
    environment = {**os.environ, "LANDED_STATE_DIR": str(tmp_path / "state")}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(FORKS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GUARD, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
