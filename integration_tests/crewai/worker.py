"""A process that does as it is told: one call of a function below per line of its input, one answer per line.

``python worker.py NAME ARGUMENT...`` calls one function, and ends.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from glob import glob
from typing import Any

import bugs
import offline
import pytest
import sides

FLOW = "the-flow"
_kept: dict[tuple[str, str], Any] = {}


def _storage(side: str, directory: str) -> Any:
    """One storage for the life of this process, as a program has one."""
    key = (side, directory)
    if key not in _kept:
        _kept[key] = sides.storage(side, directory)
    return _kept[key]


# What another process does meanwhile.


def save(side: str, directory: str, *contents: str) -> int:
    _storage(side, directory).save([sides.record(content) for content in contents])
    return len(contents)


def count(side: str, directory: str) -> int:
    return _storage(side, directory).count()


def reset(side: str, directory: str) -> None:
    _storage(side, directory).reset()


def kick_off(side: str, directory: str, times: int) -> dict[str, Any]:
    """Run a flow by one id, again and again; what was acknowledged, and what was refused."""
    kind = sides.counter(sides.flows(side, directory))
    done, refused = 0, []
    for _ in range(times):
        try:
            kind().kickoff(inputs={"id": FLOW})
            done += 1
        except Exception as error:  # noqa: BLE001 - the answer tells which
            refused.append(type(error).__name__)
    return {"done": done, "refused": refused}


_resumed: dict[str, Any] = {}


def load_pending(side: str, directory: str, persisted: bool) -> str:
    store = sides.flows(side, directory)
    kind = sides.review(store if persisted else None, os.path.join(directory, "effects"))
    _resumed["flow"] = kind.from_pending(FLOW, store)
    return "loaded"


def resume() -> str:
    try:
        return str(_resumed.pop("flow").resume("yes"))
    except Exception as error:  # noqa: BLE001 - the answer tells which
        return type(error).__name__


# Scripts that end, and processes that are killed.


def remember_many(side: str, directory: str) -> None:
    """The script ends right after it."""
    mine = sides.memory(side, directory)
    for number in range(20):
        mine.remember_many([f"valve {number} is open", f"pump {number} is off"], **offline.FIELDS)


def agent_learns(side: str, directory: str) -> None:
    """So does this one."""
    offline.agent(memory=sides.memory(side, directory)).kickoff("how is the reactor?")


def update_and_die(side: str, directory: str, record_id: str, call: int = 0) -> None:
    """Update a record, and die of SIGKILL at the worst moment there is, or at call number `call` of landed's."""
    kept = sides.storage(side, directory)
    before = kept.get_record(record_id)
    assert before is not None
    if side == sides.STOCK:
        kept._table.add = die  # an update is a deletion and then an addition
    else:
        die_at(call)
    kept.update(before.model_copy(update={"content": "new", "embedding": offline.embed(["new"])[0]}))


def update_and_die_aside(side: str, directory: str, record_id: str, call: int) -> int:
    """The same in a child; how it ended."""
    child = os.fork()
    if child == 0:
        try:
            update_and_die(side, directory, record_id, call)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(call: int) -> None:
    """Die at the call number `call` to the file system from now on."""
    from landed import _fs

    left = call

    def dying(function: Any) -> Any:
        def called(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                die()
            return function(*arguments, **options)

        return called

    for name in ("flock", "funlock", "pwrite", "fdatasync", "fsync", "pread", "stat", "fstat"):
        setattr(_fs.LOCAL, name, dying(getattr(_fs.LOCAL, name)))


BODY = json.dumps({"entities": [], "filler": "x" * (2 << 20)})


def checkpoints_and_kills(side: str, directory: str, rounds: int) -> dict[str, int]:
    """Kill a writer of checkpoints at a random moment, again and again; how often the newest file was torn."""
    chance, provider, torn, lost = random.Random(5), sides.provider(side), 0, 0
    for number in range(rounds):
        location = os.path.join(directory, str(number))
        acknowledged, child = _writer(provider, location, chance.uniform(0.005, 0.03))
        os.waitpid(child, 0)
        found = sorted(glob(f"{location}/**/*.json", recursive=True), key=os.path.getmtime)
        torn += bool(found) and not _whole(found[-1])
        lost += not all(os.path.exists(path) and _whole(path) for path in acknowledged)
    return {"torn": torn, "lost": lost}


def _writer(provider: Any, location: str, seconds: float) -> tuple[list[str], int]:
    """A child that writes checkpoints until it is killed, `seconds` after the first; what it acknowledged."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        while True:
            os.write(writing, (provider.checkpoint(BODY, location) + "\n").encode())
    os.close(writing)
    with os.fdopen(reading) as lines:
        first = lines.readline()
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        return [line[:-1] for line in (first, *lines) if line.endswith("\n")], child


def _whole(path: str) -> bool:
    with open(path, encoding="utf-8") as file:
        return file.read() == BODY


_planted = pytest.MonkeyPatch()


def plant(bug: str) -> None:
    getattr(bugs, bug)(_planted)


def mend() -> None:
    _planted.undo()


def serve() -> None:
    """Calls by line: ``[NAME, ARGUMENT, ...]``; answers by line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what CrewAI prints is no answer
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = globals()[name](*arguments)
        except Exception as error:  # noqa: BLE001 - the test decides what it means
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        serve()
    else:
        globals()[sys.argv[1]](*sys.argv[2:])
