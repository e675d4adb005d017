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
from landed import edit

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
            doc.text += "".join(_lines(batches + 2))
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
    """Kill the agent some time after it began a batch, but before it can end it if it takes as long as the last.

    Returns:
        How many batches it had acknowledged by then.
    """
    done, began, took = 0, 0.0, 0.0
    with Program(agent, str(store)) as program:
        for line in program.lines():
            if line == "done":
                done, took = done + 1, monotonic() - began
            else:
                began = monotonic()
                if done == BEFORE:
                    sleep(scene.chance.uniform(0, took))
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
        tell("begin")
        with open(store, "a", encoding="utf-8") as file:
            file.writelines(_lines(batch))
        tell("done")


def landed_agent(store: str) -> None:
    for batch in count(1):
        text = "".join(_lines(batch))
        tell("begin")
        with edit(store) as doc:
            doc.text += text
        tell("done")


def _lines(batch: int) -> Iterator[str]:
    for number in range(BATCH):
        yield json.dumps({"batch": batch, "record": number, "text": "the user prefers tea to coffee, " * 2}) + "\n"
