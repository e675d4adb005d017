"""The soak: every workload of landed and its packages at once, on one directory, while some are killed and stopped.

    python -m lab.soak --minutes 2

In between the disk fails for a while: flushes or writes end with EIO, or it is full. What is refused then is refused by
errors of landed's own; at other times nothing is. Time is cut into eras, each with a directory of its own. When one is
over it is audited: what was acknowledged in it must be there, and `landed audit` must find nothing lost; then it is
removed, so that memory, descriptors and disk have to stay flat in the processes that live on.

Ctrl-C and SIGTERM end it early: it audits the era that it is in, tells what it found and leaves no process behind. A
second one does not wait for the audit. It exits with 0 if nothing was lost, 1 if something is wrong, and with 128 and
the number of the signal if nothing was wrong until that came.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from lab import disk, workloads
from lab.child import in_a_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HERE = Path(__file__).parent
ERA = 15.0
"""Seconds of one era."""
GUARD = 300
"""Seconds after which a writer hangs."""
KILLED = ("files", "memory", "checkpoints")
"""The writers that are killed; the others are stopped now and then, and must not grow."""
SPELL = (0.5, 2.0)
"""Seconds for which the disk fails."""
LONGEST = 20
"""Seconds after which it works again, even if it has not refused something to every writer."""
FAULTS = ("flush", "write", "full")
"""How, in turn, once in each era but every fourth: there nothing may be refused."""
DISK = disk.Kind("ext4", 512 << 20, "mkfs.ext4 -q -m 0")
LEFT = 16 << 10
"""Bytes left on a disk that is full: enough for the next few small writes, and for no more."""
RECENT = 16 << 10
"""Bytes of what a writer has said that are looked at again and again."""
MEMORY_SLACK = 64 << 20
"""Bytes by which a writer may grow after its first era."""
DESCRIPTOR_SLACK = 200
"""Locks that are not held stay open up to a limit (`landed.lock`), and so do records and logs with them."""


class Soak:
    """One soak in `root`.

    Args:
        faults: which of `FAULTS` there are.
        length: seconds of one era.
        mounted: whether its mountpoint is a disk of its own, which may be filled up.
    """

    def __init__(
        self, root: Path, names: list[str], seed: int, faults: list[str], *, length: float, mounted: bool
    ) -> None:
        self.root, self.names, self.chance, self.length = root, names, Random(seed), length
        self.faults = [fault for fault in faults if mounted or fault != "full"]
        self.spell: tuple[float, float] | None = None
        """When the disk failed in this era."""
        self.writers: dict[str, subprocess.Popen[bytes]] = {}
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.sizes: dict[str, list[tuple[int, int]]] = {}
        self.disk: list[int] = []
        self.era = 0
        self.ended_by = 0
        """The signal that ended it early."""

    def run(self, seconds: float) -> None:
        (self.root / "at").mkdir()
        self._begin_era()
        try:
            for name in self.names:
                self._start(name)
                workloads.load(name)  # so that the audits need not import it each time
            # Frameworks take seconds to import.
            self._wait_for(lambda: self.ended_by or all(map(self._is_here, self.names)))
            until = time.monotonic() + seconds
            ended = self.ended_by
            while not ended and (left := until - time.monotonic()) > 0:
                # A last era that is too short for a disk to fail and to work again belongs to the one before.
                self._disturb(time.monotonic() + (self.length if left > 1.5 * self.length else left))
                ended = self.ended_by  # later than this, the era that begins now is audited as well
                self._end_era()
                self._tell()
        finally:
            (self.root / "stop").touch()
            for writer in self.writers.values():
                writer.send_signal(signal.SIGCONT)
                writer.kill()
                writer.wait(GUARD)
        self._judge_sizes()

    def end(self, number: int, _: object = None) -> None:
        """End early, because of a signal: in good order at the first, at once at the second.

        Raises:
            KeyboardInterrupt: it is the second.
        """
        if self.ended_by:
            raise KeyboardInterrupt
        self.ended_by = number
        # Not by print, which raises if the signal came while something else is printed.
        os.write(2, b"ending: auditing what was written; once more to end without\n")

    def _wait_for(self, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + GUARD
        while not done():
            self._start_the_dead_again()
            assert time.monotonic() < deadline, (
                f"a writer hangs: { {name: one.poll() for name, one in self.writers.items()} }"
            )
            time.sleep(0.05)

    def _begin_era(self) -> None:
        self.era += 1
        (self.root / str(self.era)).mkdir()
        (self.root / disk.MOUNTPOINT / str(self.era) / "work").mkdir(parents=True)
        beside = self.root / "era.new"
        beside.write_text(str(self.era))
        beside.replace(self.root / "era")

    def _start(self, name: str) -> None:
        self.counts["started"] += 1
        (self.root / "at" / name).unlink(missing_ok=True)
        command = [sys.executable, "-m", "lab.soaker", name, str(self.root), str(self.chance.random())]
        with (self.root / f"{name}.err").open("ab") as errors:
            # In a session of its own: Ctrl-C is for this process alone, which then ends them.
            self.writers[name] = subprocess.Popen(command, cwd=HERE.parent, stderr=errors, start_new_session=True)

    def _disturb(self, until: float) -> None:
        began, length, turn = time.monotonic(), until - time.monotonic(), self.counts["eras"] % (len(self.faults) + 1)
        while time.monotonic() < until and not self.ended_by:
            if self.spell is None and turn < len(self.faults) and time.monotonic() > began + length / 3:
                self._fail(self.faults[turn])
            time.sleep(self.chance.uniform(0.2, 1))
            name = self.chance.choice(self.names)
            writer = self.writers[name]
            if not (self.root / "at" / name).exists():
                continue  # it has only just been started
            if name in KILLED:
                writer.kill()
                writer.wait(GUARD)
                self.counts["kills"] += 1
                self._start(name)
            else:
                writer.send_signal(signal.SIGSTOP)
                time.sleep(self.chance.uniform(0.01, 0.3))
                writer.send_signal(signal.SIGCONT)
                self.counts["stops"] += 1
            self._start_the_dead_again()

    def _start_the_dead_again(self) -> None:
        """Those that nobody killed."""
        for name, writer in self.writers.items():
            if writer.poll() is not None:
                words = (self.root / f"{name}.err").read_text()[-900:]
                self.problems.append(f"{name} ended with {writer.returncode}: {words}")
                self._start(name)

    def _fail(self, how: str) -> None:
        """Let the disk fail for a while, and until every writer has met it."""
        began = time.monotonic()
        told = self.root / (f"{disk.MOUNTPOINT}/ballast" if how == "full" else "fault")
        if how == "full":
            fill(told)
        else:
            beside = told.with_suffix(".new")
            beside.write_text(how)
            beside.replace(told)
        time.sleep(self.chance.uniform(*SPELL))
        while (
            not self.ended_by
            and time.monotonic() < began + LONGEST
            and not all(self._has(name, "failed", began) for name in self.names)
        ):
            time.sleep(0.1)
        told.unlink()
        self.spell = (began, time.monotonic())
        self.counts[f"{how} fails"] += 1

    def _is_here(self, name: str) -> bool:
        """Whether a writer works in this era."""
        at = self.root / "at" / name
        return at.exists() and at.read_text() == str(self.era)

    @staticmethod
    def _marks(name: str, era: Path, last: int = sys.maxsize) -> list[Any]:
        """What a writer has said in an era; of that the `last` bytes."""
        try:
            with (era / f"{name}.marks").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - last))
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        if last < sys.maxsize:
            del lines[:1]  # not whole
        return [json.loads(line) for line in lines if line.endswith(b"\n")]  # the last one may be written just now

    def _has(self, name: str, what: str, since: float) -> bool:
        """Whether a writer has been told so in this era."""
        marks = self._marks(name, self.root / str(self.era), RECENT)
        return any(what in mark and mark["at"] > since for mark in marks)

    def _end_era(self) -> None:
        """Let all go on to the next era, then audit and remove this one."""
        over, place = self.root / str(self.era), self.root / disk.MOUNTPOINT / str(self.era)
        spell, self.spell = self.spell, None
        if spell is not None:
            self._wait_for(lambda: all(self._has(name, "acked", spell[1]) for name in self.names))
        self._begin_era()
        self._wait_for(lambda: all(map(self._is_here, self.names)))
        self.disk.append(sum(path.stat().st_size for path in place.rglob("*") if path.is_file()))
        unchecked: set[str] = set()
        for name in self.names:
            if name not in KILLED:
                self.sizes.setdefault(name, []).append(_size(self.writers[name].pid))
            marks = self._marks(name, over)
            refused = [mark for mark in marks if "failed" in mark]
            acknowledged = sum("acked" in mark for mark in marks)
            self.counts.update({"acknowledged": acknowledged, name: acknowledged})
            self.counts.update({"refused": len(refused), f"{name} refused": len(refused)})
            found = [f"{one['error']}, on a good disk" for one in refused if spell is None or one["at"] < spell[0]]
            found += self._examine(name, place, marks)
            self.problems += [f"era {over.name}, {name}: {one}" for one in found]
            if name == "hook":
                unchecked = unfinished(place / "work", marks)
        self.problems += audit(place, unchecked)
        shutil.rmtree(over)
        shutil.rmtree(place)
        self.counts["eras"] += 1

    def _examine(self, name: str, place: Path, marks: list[Any]) -> list[str]:
        os.environ["LANDED_STATE_DIR"] = str(place / "state")
        return in_a_child(lambda: workloads.load(name).examine(place / "work", marks))

    def _judge_sizes(self) -> None:
        for name, sizes in self.sizes.items():
            if len(sizes) > 2:
                (memory, descriptors), (now, open_now) = sizes[1], sizes[-1]
                if now > memory + MEMORY_SLACK:
                    self.problems.append(f"{name} grew from {memory >> 20} to {now >> 20} MiB")
                if open_now > descriptors + DESCRIPTOR_SLACK:
                    self.problems.append(f"{name} has {open_now} descriptors, {descriptors} before")

    def _tell(self) -> None:
        told = " ".join(f"{name} {self.counts[name]}" for name in self.names)
        print(
            f"era {self.counts['eras']}: {self.counts['kills']} kills, {self.counts['stops']} stops, "
            f"{self.counts['refused']} refused by a bad disk, "
            f"{len(self.problems)} problems, acknowledged: {told}",
            file=sys.stderr,
            flush=True,
        )


def fill(ballast: Path) -> None:
    """Use up a disk but for `LEFT` bytes."""
    free = os.statvfs(ballast.parent)
    with ballast.open("wb") as file, suppress(OSError):  # others were faster: then it is full as well
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - LEFT)


def unfinished(directory: Path, marks: list[Any]) -> set[str]:
    """The files whose last write under the hook was not acknowledged, so that nobody was told that it was checked."""
    acked = {mark["acked"] for mark in marks if "acked" in mark}
    last = {mark["path"]: mark["begin"] for mark in marks if "begin" in mark}
    return {str(directory / name) for name, number in last.items() if number not in acked}


def audit(over: Path, unchecked: Iterable[str] = ()) -> list[str]:
    """What is wrong with what `landed audit` says of an era that is at rest.

    A writer that was killed leaves a write unfinished, or half a record; all else that is not intact is a problem, and
    so is an audit that fails, finds nothing at all, or exits with what does not fit its findings.

    Args:
        unchecked: files that may hold what something outside landed put there: a tool, whose hook met the bad disk.
    """
    environment = {**os.environ, "LANDED_STATE_DIR": str(over / "state")}
    command = [sys.executable, "-m", "landed", "audit", "--json", str(over / "work")]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=GUARD, check=False, start_new_session=True
    )
    try:
        findings = json.loads(done.stdout)["findings"]
    except (ValueError, KeyError):
        return [f"landed audit ended with {done.returncode}: {done.stdout[-900:]} {done.stderr[-900:]}"]
    excused = {"intact", "unfinished", "damaged record"}
    problems = [
        f"landed audit says {one['verdict']}: {one}"
        for one in findings
        if one["verdict"] not in excused and not (one["verdict"] == "bypassed" and one["path"] in unchecked)
    ]
    bad = any(one["bad"] for one in findings)
    if bad != (done.returncode == 1) or done.returncode not in {0, 1, 3}:
        problems.append(f"landed audit exits with {done.returncode}, and {'something' if bad else 'nothing'} is bad")
    if not any(one["verdict"] == "intact" for one in findings):
        problems.append("landed audit finds nothing intact")
    return problems


def _size(pid: int) -> tuple[int, int]:
    """Bytes of memory and number of descriptors of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))


def soak(
    minutes: float, seed: int, names: list[str], faults: list[str] | None = None, length: float = ERA
) -> dict[str, Any]:
    """Soak what is installed; counts, sizes and problems."""
    names = [name for name in names if not workloads.missing(name)]
    faults = [*FAULTS] if faults is None else faults
    root = Path(tempfile.mkdtemp(prefix="landed-soak-"))
    why_not = disk.why_not("ext4")
    one = Soak(root, names, seed, faults, length=length, mounted=not why_not)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, one.end)
    bench = disk.Bench(root, DISK)
    try:
        if why_not:
            print(f"the disk is never full: {why_not}", file=sys.stderr)
        else:
            disk.own_namespace()
            bench.format()
            bench.mount(bench.image)
        one.run(minutes * 60)
    finally:
        bench.unmount()
        shutil.rmtree(root, ignore_errors=True)
    return {
        "seed": seed,
        "ended by": one.ended_by,
        "counts": one.counts,
        "sizes": one.sizes,
        "disk": one.disk,
        "problems": one.problems,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seed", type=int, default=None, help="drawn and printed by default")
    parser.add_argument("--workload", nargs="+", default=[*workloads.CORE, *workloads.PACKAGES])
    parser.add_argument(
        "--faults", nargs="*", choices=FAULTS, default=FAULTS, help="how the disk fails; all by default"
    )
    parser.add_argument("--era", type=float, default=ERA, help="seconds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seed = Random().randrange(1_000_000) if options.seed is None else options.seed
    result = soak(options.minutes, seed, options.workload, [*options.faults], options.era)
    code = 1 if result["problems"] else result["ended by"] and 128 + result["ended by"]
    if options.json:
        print(json.dumps(result))
        return code
    print(f"seed {result['seed']}")
    for what, count in result["counts"].items():
        print(f"{what:16}{count:>10}")
    for name, sizes in result["sizes"].items():
        words = " ".join(f"{memory >> 20}/{descriptors}" for memory, descriptors in sizes)
        print(f"{name}, MiB/descriptors after each era: {words}")
    print("disk, KiB of each era:", *(size >> 10 for size in result["disk"]))
    words = (
        f"nothing lost until {signal.Signals(result['ended by']).name} ended it"
        if result["ended by"]
        else "nothing lost"
    )
    print(*(result["problems"] or [words]), sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
