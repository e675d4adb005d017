"""Whole files among the threads of one program: what each has seen is its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

import landed
from landed import Files, StaleWrite
from landed.memory import Memory

if TYPE_CHECKING:
    from pathlib import Path


def test_of_two_threads_that_read_the_same_exactly_one_lands(files: Files, work: Path) -> None:
    files.write(work / "a", b"start")
    both_have_read = threading.Barrier(2)
    outcomes: list[object] = []

    def change(name: str) -> None:
        data = files.read(work / "a").data
        both_have_read.wait()
        try:
            outcomes.append(files.write(work / "a", data + name.encode()))
        except StaleWrite as error:
            outcomes.append(error)

    threads = [threading.Thread(target=change, args=(name,)) for name in "xy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (landed_one,) = [each for each in outcomes if isinstance(each, landed.Receipt)]
    (refused,) = [each for each in outcomes if isinstance(each, StaleWrite)]
    assert refused.found == landed_one.version
    assert (work / "a").read_bytes() in (b"startx", b"starty")


def test_two_threads_that_are_the_first_have_one_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    both_make_one = threading.Barrier(2)

    class Slow(Memory):
        def __init__(self) -> None:
            super().__init__()
            both_make_one.wait(10)

    monkeypatch.setattr("landed.memory.Memory", Slow)
    files = Files()
    found: list[Memory] = []
    threads = [threading.Thread(target=lambda: found.append(files.memory)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [files.memory] * 2


def test_threads_count_exactly_through_edit(files: Files, work: Path) -> None:
    def count() -> None:
        for _ in range(20):
            with files.edit(work / "counter") as doc:
                doc.text = str(int(doc.text or "0") + 1)

    threads = [threading.Thread(target=count) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (work / "counter").read_text() == "120"
