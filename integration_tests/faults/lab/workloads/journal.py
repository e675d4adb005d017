"""A journal: batches small and large, so that segments fill and roll, compaction, and another process's appends."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import landed
from lab.workloads import Workload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.workloads import Mark

SIZES = (0, 10, 200, 700, 2500, 70_000)
DROPPED = 4
"""A compaction drops every batch whose number this divides."""


def record(batch: int, at: int, count: int, size: int) -> bytes:
    return f"{batch} {at} {count} ".encode() + (f"{batch}.{at}," * size).encode()[:size]


def batch_of(data: bytes) -> tuple[int, int, int]:
    batch, at, count, _ = data.split(b" ", 3)
    return int(batch), int(at), int(count)


class Work(Workload):
    """The journal of landed."""

    steps = 30

    def start(self) -> None:
        place = os.path.join(self.directory, "journal")
        self._handles = []
        self._handles = [landed.Journal(place), landed.Journal(place)]  # two handles are like two processes

    def stop(self) -> None:
        for handle in self._handles:
            handle.close()

    def step(self) -> None:
        chance, number = self.chance, self.number
        journal = chance.choice(self._handles)
        if chance.random() < 1 / 8:
            self.say({"begin": number, "compacts": True})
            journal.compact(lambda entry: batch_of(entry.data)[0] % DROPPED != 0)
            self.say({"acked": number})
            return
        sizes = [chance.choice(SIZES) for _ in range(chance.choice((1, 1, 2, 5)))]
        self.say({"begin": number, "sizes": sizes})
        batch = [record(number, at, len(sizes), size) for at, size in enumerate(sizes)]
        self.say({"acked": number, "tail": journal.append(batch).tail})

    def add(self, number: int) -> None:
        self._handles[0].append([f"{number}".encode()])

    def added(self) -> list[int]:
        return [int(entry.data) for entry in self._handles[0].read()]

    def examine(self, directory: Path, marks: list[Mark]) -> list[str]:
        place = os.path.join(directory, "journal")
        if not marks:
            return []
        found = []
        for _ in range(2):  # what is recovered once is recovered
            with landed.Journal(place) as journal:
                found.append([(entry.sequence, entry.data) for entry in journal.read()])
                back = [(entry.sequence, entry.data) for entry in journal.read(newest_first=True)]
                if back[::-1] != found[-1]:
                    return ["backwards it reads otherwise"]
        if found[0] != found[1]:
            return ["opened again, it reads otherwise"]
        return list(_problems(found[0], marks))


def _problems(found: list[tuple[int, bytes]], marks: list[Mark]) -> Iterator[str]:
    sequences = [sequence for sequence, _ in found]
    if sequences != sorted(set(sequences)):
        yield f"numbers out of order: {sequences}"
    stored: dict[int, list[tuple[int, bytes]]] = {}
    for number, entries in itertools.groupby(found, key=lambda entry: batch_of(entry[1])[0]):
        if number in stored:
            yield f"batch {number} is there twice, or not in one piece"
        stored[number] = list(entries)
    begun = {mark["begin"]: (at, mark) for at, mark in enumerate(marks) if "begin" in mark}
    refused = {mark["failed"] for mark in marks if mark.get("landed") == "no"}
    acked = {mark["acked"]: (at, mark) for at, mark in enumerate(marks) if "acked" in mark}
    compactions = [number for number, (_, mark) in begun.items() if "compacts" in mark]
    may_go = max((begun[number][0] for number in compactions), default=-1)
    must_go = max((begun[number][0] for number in compactions if number in acked), default=-1)
    for number, entries in stored.items():
        sizes = begun[number][1].get("sizes", []) if number in begun else []
        if [data for _, data in entries] != [record(number, at, len(sizes), size) for at, size in enumerate(sizes)]:
            yield f"batch {number} is not whole, or was never begun"
        elif number in refused:
            yield f"batch {number} was refused and is there"
        elif number % DROPPED == 0 and number in acked and acked[number][0] < must_go:
            yield f"batch {number} was dropped by a compaction and is back"
        elif number in acked and entries[-1][0] != acked[number][1]["tail"]:
            yield f"batch {number} ends at {entries[-1][0]}, acknowledged was {acked[number][1]['tail']}"
    for number, (at, mark) in acked.items():
        may_be_gone = "tail" not in mark or (number % DROPPED == 0 and at < may_go)
        if number not in stored and not may_be_gone:
            yield f"batch {number} was acknowledged and is lost"
    order = [number for number in acked if number in stored]
    if [number for number in stored if number in acked] != order:
        yield "batches are out of order"
