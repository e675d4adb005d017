"""(d) A memory agent stores a batch of records, and part of it is there.

The agent appends batches of 1,000 records and is killed in the middle of one. What is left is part of a batch, and
sometimes a record that no reader can parse and every reader skips. Nobody counts.
"""

from __future__ import annotations

import json
from itertools import count
from time import monotonic, sleep
from typing import TYPE_CHECKING

from demo.scene import Outcome, Program, Scene, tell
from landed import Journal
from landed.report import model
from landed.report.model import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TITLE = "A memory agent stores part of a batch"
REPORTS = "thedotmack/claude-mem #1633, #3351; mem0ai/mem0 #5245"

BATCH = 1000
"""Records, some 100 bytes each: twelve times what Python buffers before it writes."""
BEFORE = 3
"""Batches that are acknowledged before the kill."""
CASES = (f"SIGKILL in a batch of {BATCH:,}",)
BOUND = 200
"""Tries. The kill comes at a random moment of a batch; in most tries that is in the middle of its writing."""


def stock(scene: Scene, _case: str) -> Outcome:
    def attempt(outcome: Outcome) -> None:
        store = scene.empty() / "memory.jsonl"
        accepted, _, told = _run_and_kill(scene, stock_agent, store)
        whole, unreadable = _records_in(store)
        outcome.acknowledged = f"{accepted:,} records"
        outcome.found = f"{whole:,} records" + (", one torn" if unreadable else "")
        outcome.heard = "nothing"
        outcome.shown = whole % BATCH > 0 or unreadable > 0
        outcome.kept = not outcome.shown
        outcome.artifact = store.name
        left = f"{whole - accepted} records of it are there" + (", and part of one" if unreadable else "")
        outcome.events = _events(told, model.TOLD, Event(model.LOST, "the agent", f"a batch cut short: {left}"))

    return scene.until_shown(Outcome('open("a").write()'), BOUND, attempt)


def landed(scene: Scene, _case: str) -> Outcome:
    def attempt(outcome: Outcome) -> None:
        store = scene.empty() / "memory"
        accepted, begun, told = _run_and_kill(scene, landed_agent, store)
        with Journal(store) as journal:
            stored = journal.tail
            found = [entry.data for entry in journal.read()]
            journal.append(_records(stored // BATCH + 1), expect=stored)
            whole = len(list(journal.read())) == stored + BATCH
        landed = stored - accepted == BATCH
        outcome.acknowledged = f"{accepted:,} records"
        outcome.found = f"{stored:,} records, " + ("the whole batch begun among them" if landed else "whole batches")
        outcome.heard = f"the next writer: the tail says that the batch begun is {'there' if landed else 'not there'}"
        outcome.shown = begun
        outcome.artifact = store.name
        cut = Event(model.LANDED, "the agent", f"batch {BEFORE + 1}, of which it was not told")
        if not landed:
            cut = Event(model.FAILED, "the agent", f"batch {BEFORE + 1}: nothing of it is there")
        outcome.events = _events(told, model.LANDED, cut)
        outcome.kept = stored in {accepted, accepted + BATCH} and found == list(_all_records(stored // BATCH)) and whole

    return scene.until_shown(Outcome("Journal.append()"), BOUND, attempt)


def _events(told: list[tuple[float, str]], kind: str, cut: Event) -> list[Event]:
    """The batches that were acknowledged, and what the kill met."""
    done = [at for at, word in told if word == "done"]
    cut.at = told[-1][0]
    return [*(Event(kind, "the agent", f"batch {number}", at) for number, at in enumerate(done, 1)), cut]


def _run_and_kill(scene: Scene, agent: Callable[[str], None], store: Path) -> tuple[int, bool, list[tuple[float, str]]]:
    """Kill the agent some time after it began a batch, but before it can end it if it takes as long as the last.

    Returns:
        How many records it had been told are stored by then, whether a batch was begun and not ended, and what it said.
    """
    done, began, took, begun = 0, 0.0, 0.0, False
    with Program(agent, str(store)) as program:
        for line in program.lines():
            begun = line == "begin"
            if not begun:
                done, took = done + 1, monotonic() - began
            else:
                began = monotonic()
                if done == BEFORE:
                    sleep(scene.chance.uniform(0, took))
                    program.kill()
    return done * BATCH, begun, program.told


def _records_in(store: Path) -> tuple[int, int]:
    """How many records a reader finds, and how many lines are none."""
    whole = [_is_record(line) for line in store.read_bytes().splitlines()]
    return whole.count(True), whole.count(False)


def _is_record(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def stock_agent(store: str) -> None:
    for batch in count(1):
        tell("begin")
        with open(store, "ab") as file:
            file.writelines(record + b"\n" for record in _records(batch))
        tell("done")


def landed_agent(store: str) -> None:
    journal = Journal(store)
    for batch in count(1):
        records = list(_records(batch))
        tell("begin")
        journal.append(records)
        tell("done")


def _records(batch: int) -> Iterator[bytes]:
    for number in range(BATCH):
        yield json.dumps({"batch": batch, "record": number, "text": "the user prefers tea to coffee, " * 2}).encode()


def _all_records(batches: int) -> Iterator[bytes]:
    for batch in range(1, batches + 1):
        yield from _records(batch)
