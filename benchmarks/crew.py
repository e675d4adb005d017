"""Processes and threads that append to one store for a slice of time, together, and wait for the next slice.

They live as long as the comparison, so that connections, caches and segments are as warm as in a program that runs:
the contenders take turns by slices, not by lifetimes.
"""

from __future__ import annotations

import multiprocessing
import queue
import threading
import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from stores import Store

HEAD_START = 0.1
"""Seconds between the order and the start of a slice: every worker has it by then."""
PATIENCE = 180.0
"""Seconds after the end of a slice until a worker that still appends counts as hung."""


@dataclass
class Slice:
    """What a crew did in a slice.

    Attributes:
        shares: appends that each worker finished before the end.
        appended: appends of all, with those that were under way at the end and finished later.
        seconds: how long it was.
        waits: for each worker, the seconds that each of its appends took.
    """

    shares: list[int]
    appended: int
    seconds: float
    waits: list[array[float]]

    @property
    def rate(self) -> float:
        """Appends a second; one that was not finished in the slice does not count."""
        return sum(self.shares) / self.seconds


class Crew:
    """`processes` with `threads` each, on the store of `kind` in `directory`."""

    def __init__(self, kind: type[Store], directory: str, processes: int, threads: int, size: int) -> None:
        kind.prepare(directory)
        context = multiprocessing.get_context("spawn")
        self._links: list[Connection] = []
        self._processes = []
        for number in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(kind, directory, number, threads, size, theirs), daemon=True)
            process.start()
            theirs.close()
            self._links.append(ours)
            self._processes.append(process)
        for link in self._links:
            _answer(link, PATIENCE)

    def run(self, seconds: float) -> Slice:
        """One slice."""
        start = time.monotonic() + HEAD_START
        for link in self._links:
            link.send((start, start + seconds))
        whole = Slice([], 0, seconds, [])
        for link in self._links:
            for finished, waits in _answer(link, seconds + PATIENCE):
                whole.shares.append(finished)
                whole.appended += len(waits)
                whole.waits.append(waits)
        return whole

    def close(self) -> None:
        for link in self._links:
            link.send(None)
        for process in self._processes:
            process.join(PATIENCE)


def _answer(link: Connection, patience: float) -> list[tuple[int, array[float]]]:
    if not link.poll(patience):
        raise TimeoutError(f"a worker has not answered for {patience:g} s")
    answer = link.recv()
    if isinstance(answer, BaseException):
        raise answer
    assert isinstance(answer, list)
    return answer


def _serve(kind: type[Store], directory: str, number: int, threads: int, size: int, link: Connection) -> None:
    """A process of the crew: opens the store, and runs its threads whenever it is told to."""
    store = kind(directory, number)
    answers: queue.SimpleQueue[tuple[int, array[float]] | BaseException] = queue.SimpleQueue()
    orders: list[queue.SimpleQueue[tuple[float, float] | None]] = [queue.SimpleQueue() for _ in range(threads)]
    for order in orders:
        threading.Thread(target=_work, args=(store, size, order, answers), daemon=True).start()
    link.send([])
    while (span := link.recv()) is not None:
        for order in orders:
            order.put(span)
        results = [answers.get() for _ in orders]
        failed = next((result for result in results if isinstance(result, BaseException)), None)
        link.send(results if failed is None else failed)


def _work(
    store: Store,
    size: int,
    orders: queue.SimpleQueue[tuple[float, float]],
    answers: queue.SimpleQueue[tuple[int, array[float]] | BaseException],
) -> None:
    try:
        append = store.writer()
        while True:
            answers.put(_append_until(append, bytes(range(256)) * (size // 256), *orders.get()))
    except BaseException as error:  # noqa: BLE001 - the one that waits for the answer raises it
        answers.put(error)


def _append_until(append: Callable[[bytes], object], data: bytes, start: float, end: float) -> tuple[int, array[float]]:
    """Appends that were finished in time, and the seconds of each that was begun in time."""
    waits = array("d")
    clock = time.monotonic
    finished = 0
    time.sleep(max(0.0, start - clock()))
    while (began := clock()) < end:
        append(data)
        done = clock()
        waits.append(done - began)
        if done < end:
            finished += 1
    return finished, waits
