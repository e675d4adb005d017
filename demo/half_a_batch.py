"""(d) A memory agent stores a batch of records, and part of it is there.

The agent appends batches of 1,000 records and is killed in the middle of one. What is left is part of a batch, and
sometimes a record that no reader can parse and every reader skips. Nobody counts.
"""

from __future__ import annotations

import json
import time
from itertools import count
from typing import TYPE_CHECKING

from demo.scene import Outcome, Program, Scene, tell
from landed import edit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TITLE = "A memory agent stores part of a batch"
REPORTS = "thedotmack/claude-mem #1633, #3351; mem0ai/mem0 #5245"

BATCH = 1000
"""Records, some 100 bytes each: twelve times what Python buffers before it writes."""
BEFORE = 3
"""Batches that are acknowledged before the kill."""
LONGEST = 0.004
"""Seconds from the beginning of the next batch to the kill, at most: about what storing one takes."""
CASES = (f"SIGKILL in a batch of {BATCH:,}",)
BOUND = 60
"""Tries. A kill falls into the writing of a batch, and not between two, in most of them."""


def stock(scene: Scene, _case: str) -> Outcome:
    def attempt(outcome: Outcome) -> None:
        store = scene.empty() / "memory.jsonl"
        batches = _run_and_kill(scene, stock_agent, store)
        whole, unreadable = _records(store)
        part = whole % BATCH
        outcome.acknowledged = f"{batches} batches"
        outcome.found = f"{whole // BATCH} batches, {part} records of the next" + (", one torn" if unreadable else "")
        outcome.heard = "nothing"
        outcome.shown = part > 0 or unreadable > 0
        outcome.kept = not outcome.shown

    return scene.until_shown(Outcome('open("a").write()'), BOUND, attempt)


def landed(scene: Scene, _case: str) -> Outcome:
    def attempt(outcome: Outcome) -> None:
        store = scene.empty() / "memory.jsonl"
        batches = _run_and_kill(scene, landed_agent, store)
        whole, unreadable = _records(store)
        with edit(store) as doc:
            doc.text += _lines(batches + 2)
        settled = doc.receipt.settled if doc.receipt is not None else ""
        after, _ = _records(store)
        stored = whole // BATCH
        outcome.acknowledged = f"{batches} batches"
        outcome.found = f"{stored} batches" + (", the one begun among them" if stored > batches else "")
        outcome.heard = f"the next writer: {_in_words(settled)}"
        outcome.shown = settled != ""
        outcome.kept = (
            unreadable == 0 and whole % BATCH == 0 and stored in {batches, batches + 1} and after == whole + BATCH
        )

    return scene.until_shown(Outcome("landed.edit()"), BOUND, attempt)


def _in_words(settled: str) -> str:
    """What became of the batch that was begun, without the writer's name and time."""
    return f"the batch begun was {settled.rpartition(': ')[2]}" if settled else "nothing was under way"


def _run_and_kill(scene: Scene, agent: Callable[[str], None], store: Path) -> int:
    """Kill the agent a moment after it began a batch.

    Returns:
        How many batches it had acknowledged by then.
    """
    done = 0
    with Program(agent, str(store)) as program:
        for line in program.lines():
            done += line == "done"
            if line == "begin" and done == BEFORE:
                time.sleep(scene.chance.uniform(0, LONGEST))
                program.kill()
    return done


def _records(store: Path) -> tuple[int, int]:
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
        records = _batch(batch)
        tell("begin")
        with open(store, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        tell("done")


def landed_agent(store: str) -> None:
    for batch in count(1):
        lines = _lines(batch)
        tell("begin")
        with edit(store) as doc:
            doc.text += lines
        tell("done")


def _lines(batch: int) -> str:
    return "".join(json.dumps(record) + "\n" for record in _batch(batch))


def _batch(batch: int) -> list[dict[str, object]]:
    return [
        {"batch": batch, "record": number, "text": "the user prefers tea to coffee, " * 2} for number in range(BATCH)
    ]
