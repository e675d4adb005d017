"""A disk of its own for any program is what it says, and nothing of it is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from lab import disk, own_disk

HERE = Path(__file__).parent
SLOW_MS = 20
FLUSHES = 10
KILLS = [pytest.param(signal.SIGKILL, id=f"SIGKILL {number}") for number in range(8)]
"""Several, as which process is the last to go is chance."""
LOOK = """
import json, os, sys, time
sys.path.append(sys.argv[3])
import surroundings
directory, flushes = sys.argv[1], int(sys.argv[2])
fd = os.open(os.path.join(directory, "file"), os.O_RDWR | os.O_CREAT)
os.write(fd, bytes(4096 * flushes)); os.fsync(fd)
started = time.perf_counter()
for number in range(flushes):
    os.pwrite(fd, b"x" * 4096, 4096 * number); os.fdatasync(fd)
took = time.perf_counter() - started
room = os.statvfs(directory)
print(json.dumps({
    "file_system": surroundings.file_system(directory), "journal": surroundings.journal(directory),
    "flush_ms": took / flushes * 1e3, "mib": room.f_blocks * room.f_frsize >> 20,
    "beside": sorted(os.listdir(os.path.dirname(directory))),
}))
"""


def needs(kind: str, *, device: bool) -> pytest.MarkDecorator:
    reason = disk.why_not(kind, device=device)
    return pytest.mark.skipif(bool(reason), reason=reason)


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lab.own_disk", *map(str, words)]
    env = os.environ | environment
    return subprocess.run(command, cwd=HERE, env=env, capture_output=True, text=True, check=False, timeout=120)


def look(*words: object) -> dict[str, object]:
    ran = run(*words, sys.executable, "-c", LOOK, "{}", FLUSHES, HERE.parents[1] / "benchmarks")
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def standing() -> tuple[set[Path], set[str]]:
    """What is in memory, and what loop devices stand on. Those of other tests may go at any time."""
    loops = set()
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):
            loops.add(path.read_text())
    return set(Path("/dev/shm").glob("landed-lab-*")), loops


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=needs(kind, device=False)) for kind in own_disk.MAKE])
def test_it_stands_on_the_disk_of_a_directory(kind: str, tmp_path: Path) -> None:
    seen = look("--fs", kind, "--size", 320, "--on", tmp_path)
    assert (seen["file_system"], seen["journal"]) == (kind, None if kind == "btrfs" else True)
    assert seen["beside"] == ["fuse", "mnt"]  # its image has no name any more
    assert list(tmp_path.iterdir()) == []


@needs("ext4", device=True)
def test_a_flush_takes_as_long_as_it_is_told() -> None:
    before = standing()
    seen = look("--flush-ms", SLOW_MS, "--size", 64)
    assert (seen["file_system"], seen["journal"]) == ("ext4", True)
    assert SLOW_MS <= float(seen["flush_ms"]) < 3 * SLOW_MS
    assert 32 <= seen["mib"] <= 64
    assert seen["beside"] == ["fuse", "mnt"]  # nor is there a log
    left, loops = standing()
    assert left <= before[0]
    assert loops <= before[1]


@needs("ext4", device=True)
def test_the_exit_code_is_the_commands() -> None:
    assert run("--flush-ms", 1, "--size", 64, "sh", "-c", "exit 7").returncode == 7
    assert run("--flush-ms", 1, "--size", 64, "sh", "-c", "kill -9 $$").returncode == 128 + signal.SIGKILL


def test_where_there_can_be_none_one_line_says_why() -> None:
    ran = run("--flush-ms", 1, "true", PATH="/nowhere")
    assert ran.returncode == own_disk.UNAVAILABLE
    assert ran.stderr.count("\n") == 1
    assert ran.stderr.startswith("there can be no disk of its own here: ")


@needs("ext4", device=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, *KILLS])
def test_whatever_ends_it_nothing_stays(number: signal.Signals) -> None:
    before = standing()
    words = ["--flush-ms", "1", "--size", "64", "sh", "-c", "echo up; read line"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-m", "lab.own_disk", *words], cwd=HERE, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        assert process.wait(30) == (128 + number if number == signal.SIGTERM else -number)
    until = time.monotonic() + 30
    while not standing()[1] <= before[1] and time.monotonic() < until:  # the command reads the end of its input first
        time.sleep(0.05)
    left, loops = standing()
    assert loops <= before[1]
    for directory in left - before[0]:  # a kill leaves the names of its directories, and not a byte
        assert number == signal.SIGKILL
        assert not any(path.is_file() for path in directory.rglob("*"))
        for path in sorted(directory.rglob("*"), reverse=True):
            path.rmdir()
        directory.rmdir()
