"""The directory under a saver: killed writers, a directory that goes away, damage."""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from graphs import adder
from program import Program, put_many
from savers import thread

import landed
from langgraph.checkpoint.landed import LandedSaver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("seed", range(3))
def test_what_returned_survives_a_kill_and_what_did_not_is_whole_or_absent(tmp_path: Path, seed: int) -> None:
    told = []
    with Program(put_many, tmp_path, "t") as program:
        told += [program.hear() for _ in range(random.Random(seed).randint(20, 400))]
        program.kill()
        told += program.rest()
    with LandedSaver(tmp_path) as saver:
        stored = {one.checkpoint["id"]: one for one in saver.list(thread("t"))}
        for what, checkpoint_id, number in told:
            values = stored[checkpoint_id].checkpoint["channel_values"]
            assert values == {"number": int(number), "text": "x" * (int(number) * 997 % 20_000)}
            if what == "writes":
                writes = [(f"task {number}", "number", int(number)), (f"task {number}", "text", "y" * int(number))]
                assert stored[checkpoint_id].pending_writes == writes
        assert len(stored) - sum(what == "put" for what, *_ in told) in {0, 1}
        for one in stored.values():
            assert len(one.pending_writes) in {0, 2}


def remove(directory: Path) -> None:
    directory.rename(directory.with_name("removed"))  # what a put in the background makes there is not in the way
    shutil.rmtree(directory.with_name("removed"), ignore_errors=True)


def replace(directory: Path) -> None:
    directory.rename(directory.with_name("moved"))
    directory.mkdir()


def replace_with_a_copy(directory: Path) -> None:
    directory.rename(directory.with_name("moved"))
    shutil.copytree(directory.with_name("moved"), directory)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("harm", [remove, replace, replace_with_a_copy])
def test_a_directory_that_goes_away_under_a_run_raises(
    tmp_path: Path, harm: Callable[[Path], None], durability: str
) -> None:
    directory = tmp_path / "checkpoints"
    saver = LandedSaver(directory)
    adder(saver).invoke({"turn": "before"}, thread("t"))
    graph = adder(saver, lambda _: harm(directory))
    with pytest.raises(landed.LandedError):
        graph.invoke({"turn": "during"}, thread("t"), durability=durability)


def answers(directory: Path) -> list[Any]:
    """All that a saver says of what is stored there."""
    with LandedSaver(directory) as saver:
        return [[one._asdict() for one in saver.list(None)], saver.get_tuple(thread("t"))]


def damaged(directory: Path, right: list[Any]) -> bool:
    """Whether a saver notices what was done to its files; if it does not, what it says must be right."""
    try:
        found = answers(directory)
    except landed.LandedError:
        return True
    assert found == right, "damage reads as something else"
    return False


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    directory = tmp_path / "checkpoints"
    with LandedSaver(directory) as saver:
        for turn in ("a", "b" * 1000, "c"):
            adder(saver).invoke({"turn": turn}, thread("t"))
    return directory


def data_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*.seg") if path.is_file())


def test_a_changed_byte_reads_as_damage_or_makes_no_difference(stored: Path) -> None:
    right = answers(stored)
    chance = random.Random(1)
    noticed = []
    for path in data_files(stored):
        data = path.read_bytes()
        used = len(data.rstrip(b"\0"))
        for at in chance.sample(range(used), min(used, 60)):
            path.write_bytes(data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :])
            noticed.append(damaged(stored, right))
        path.write_bytes(data)
    assert sum(noticed) > 0.8 * len(noticed) > 40
    assert answers(stored) == right


def test_damage_never_reads_as_an_empty_thread(stored: Path, tmp_path: Path) -> None:
    right = answers(stored)
    found = data_files(stored)
    assert found
    for number, path in enumerate(found):
        data = path.read_bytes()
        for harm, harmed in enumerate((b"", bytes(len(data)), data[: len(data) // 2], data[:100], None)):
            if harmed is None:
                path.unlink()
            else:
                path.write_bytes(harmed)
            assert damaged(stored, right), f"{path.name}: harm {harm}"
            copy = tmp_path / f"{number} {harm}"
            shutil.copytree(stored, copy)
            # A run goes on from the last checkpoint if that reads, whatever is the matter with older ones.
            with LandedSaver(copy) as saver:
                try:
                    after = adder(saver).invoke({"turn": "on"}, thread("t"), durability="sync")
                except landed.LandedError:
                    continue
                assert after["updates"] == ["a", "b" * 1000, "c", "on"], f"{path.name}: harm {harm}"
        path.write_bytes(data)
    assert answers(stored) == right


def test_a_directory_that_may_not_be_written_raises_at_the_put(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    with LandedSaver(tmp_path) as saver:
        adder(saver).invoke({"turn": "a"}, thread("t"))
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(landed.LandedError):
                adder(saver).invoke({"turn": "b"}, thread("new"), durability="sync")
        finally:
            tmp_path.chmod(0o700)
