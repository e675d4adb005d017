"""Every byte of a small journal is flipped, every file is cut at every length, files vanish and are exchanged.

What is read afterwards is right, or `Corrupt`: never wrong data, never silently less. In the boot that wrote the
journal that holds without exception. After a reboot the last append may look like a crash tail: nothing that follows
it says that it was flushed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest
from model_disk import Node
from model_journal import BOOT, Boot, Process, batch_of, fresh_disk, model_machine

from landed import entries
from landed.errors import Corrupt
from landed.local.frames import FRAME_MAGIC, HEADER, OVERHEAD, PAGE

__all__ = ["model_machine"]

pytestmark = pytest.mark.exhaustive

LOG_OFF = 60
RIGHT, TOLD, SHORT = "right", "Corrupt", "all but the last append"


class Victim:
    """A journal on a model disk, whose files a test may damage and mend.

    Attributes:
        right: its records.
        last: how many of them the last append gave.
    """

    def __init__(self, sizes: list[int], *, count: int = 2) -> None:
        writer = Process(fresh_disk())
        for number, size in enumerate(sizes, 1):
            writer.append(number, count, size)
        self.disk = writer.fs.disk
        self.right = [(entry.sequence, entry.data) for entry in writer.read()]
        self.last = count
        writer.die()
        self.disk.sync()

    @property
    def directory(self) -> Node:
        return self.disk.root.entries["model"].entries["work"].entries["journal"]

    @property
    def segments(self) -> list[str]:
        return sorted(name for name in self.directory.entries if name.endswith(".seg"))

    def data(self, name: str) -> bytes:
        return self.directory.entries[name].now.data

    @contextmanager
    def damaged(self, name: str, data: bytes) -> Iterator[None]:
        node = self.directory.entries[name]
        before, node.now = node.now, node.now._replace(data=data)
        try:
            yield
        finally:
            node.now = before

    def outcome(self) -> str:
        """What a new process makes of the journal: RIGHT, TOLD, SHORT, or what is wrong."""
        program = Process(self.disk)
        try:
            answers = {program.run(self._read), program.run(self._tail), program.run(self._read_newest_first)}
        finally:
            program.die()
        answers -= {RIGHT}
        if not answers:
            return RIGHT
        return answers.pop() if len(answers) == 1 else "; ".join(sorted(answers))

    def _read(self, program: Process, *, newest_first: bool = False) -> str:
        got: list[tuple[int, bytes]] = []
        expected = self.right[::-1] if newest_first else self.right
        try:
            got.extend((entry.sequence, entry.data) for entry in program.journal.read(newest_first=newest_first))
        except Corrupt as error:
            told = "offset" in str(error) or "missing" in str(error) or "without a segment" in str(error)
            return TOLD if got == expected[: len(got)] and told else f"{error} after {got}"
        if got == expected:
            return RIGHT
        short = self.right[: -self.last]
        return SHORT if got == (short[::-1] if newest_first else short) else f"silently {len(got)} records"

    def _read_newest_first(self, program: Process) -> str:
        return self._read(program, newest_first=True)

    def _tail(self, program: Process) -> str:
        try:
            tail = program.journal.tail
        except Corrupt:
            return TOLD
        known = {self.right[-1][0]: RIGHT, self.right[-1][0] - self.last: SHORT}
        return known.get(tail, f"the tail is {tail}")


@pytest.fixture
def several(model_machine: Boot, caplog: pytest.LogCaptureFixture) -> Victim:
    """Three segments with two or three batches each."""
    caplog.set_level(LOG_OFF)
    victim = Victim([900, 700, 400, 800, 600, 500, 300, 250])
    assert len(victim.segments) == 3
    return victim


@pytest.fixture
def one(model_machine: Boot, caplog: pytest.LogCaptureFixture) -> Victim:
    """A single append."""
    caplog.set_level(LOG_OFF)
    return Victim([100], count=1)


def frames_end(data: bytes) -> int:
    """Where the last frame of a segment ends."""
    return len(data.rstrip(b"\0"))


def outcomes(victim: Victim, mutants: Iterator[tuple[str, bytes]], name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for what, data in mutants:
        with victim.damaged(name, data):
            found.setdefault(victim.outcome(), []).append(what)
    return found


def flips(data: bytes, places: range) -> Iterator[tuple[str, bytes]]:
    for at in places:
        yield f"byte {at}", data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]


def cuts(data: bytes, sizes: Iterable[int]) -> Iterator[tuple[str, bytes]]:
    for size in sizes:
        yield f"{size} bytes", data[:size]


def zeroed(data: bytes, unit: int) -> Iterator[tuple[str, bytes]]:
    for at in range(0, len(data), unit):
        if any(data[at : at + unit]):
            yield f"zeros from {at}", (data[:at] + bytes(unit) + data[at + unit :])[: len(data)]


@pytest.mark.parametrize("index", [0, 1, 2])
def test_every_byte_flipped(several: Victim, index: int) -> None:
    name = several.segments[index]
    data = several.data(name)
    end = frames_end(data)
    found = outcomes(several, flips(data, range(end)), name)
    assert set(found) <= {RIGHT, TOLD}
    assert len(found[TOLD]) >= end - OVERHEAD  # the bytes of the seal are the only ones that nothing depends on
    after = outcomes(several, flips(data, range(end, len(data), 37)), name)
    assert set(after) <= {RIGHT, TOLD}


@pytest.mark.parametrize("index", [0, 1, 2])
def test_every_byte_flipped_and_rebooted(several: Victim, index: int) -> None:
    name = several.segments[index]
    data = several.data(name)
    BOOT.reboot()
    found = outcomes(several, flips(data, range(0, len(data), 7)), name)
    if index < 2:
        assert set(found) <= {RIGHT, TOLD}
    else:
        assert set(found) <= {RIGHT, TOLD, SHORT}
        last = data.rindex(FRAME_MAGIC)
        assert all(int(what.split()[1]) >= last for what in found[SHORT])


def test_every_byte_of_a_single_append_flipped(one: Victim) -> None:
    (name,) = one.segments
    found = outcomes(one, flips(one.data(name), range(frames_end(one.data(name)))), name)
    assert set(found) <= {TOLD}


@pytest.mark.parametrize("index", [0, 1, 2])
def test_every_cut(several: Victim, index: int) -> None:
    name = several.segments[index]
    data = several.data(name)
    end = frames_end(data)
    found = outcomes(several, cuts(data, [*range(end + 1), *range(end + 1, len(data), 37), len(data) - 1]), name)
    assert set(found) == {TOLD}


def test_every_cut_and_rebooted(several: Victim) -> None:
    BOOT.reboot()
    for name in several.segments:
        data = several.data(name)
        assert set(outcomes(several, cuts(data, range(0, len(data), 31)), name)) == {TOLD}


@pytest.mark.parametrize("extra", [1, 8, PAGE])
def test_a_longer_file_is_corrupt(several: Victim, extra: int) -> None:
    for name in several.segments:
        with several.damaged(name, several.data(name) + bytes(extra)):
            assert several.outcome() == TOLD


@pytest.mark.parametrize("unit", [512, 64])
def test_lost_sectors(several: Victim, unit: int) -> None:
    """A lost part is told, unless it is the end of the last append: that looks like a dead writer's."""
    for index, name in enumerate(several.segments):
        found = outcomes(several, zeroed(several.data(name), unit), name)
        assert set(found) <= ({RIGHT, TOLD} if index < 2 else {RIGHT, TOLD, SHORT})


@pytest.mark.parametrize("unit", [512, 64])
def test_lost_sectors_and_rebooted(several: Victim, unit: int) -> None:
    """The last append may be gone, and with it the proof that the one before it was flushed, if both are hit."""
    BOOT.reboot()
    for name in several.segments:
        last = several.data(name).rindex(FRAME_MAGIC)
        found = outcomes(several, zeroed(several.data(name), unit), name)
        for answer in set(found) - {RIGHT, TOLD}:
            assert name == several.segments[-1]
            assert all(int(what.split()[-1]) + unit > last for what in found[answer]), answer


def test_lost_page_between_frames(model_machine: Boot, caplog: pytest.LogCaptureFixture) -> None:
    """Frames that end just where pages do, and a page in the middle that has become zeros."""
    caplog.set_level(LOG_OFF)
    filling = [PAGE - OVERHEAD - entries.LAYOUT.size - len(batch_of(number, 1, 0)[0]) for number in range(2, 9)]
    filling[0] -= HEADER.size
    victim = Victim([40_000, *filling], count=1)
    name = victim.segments[-1]
    data = victim.data(name)
    assert [data[at * PAGE : at * PAGE + 4] for at in range(1, 7)] == [FRAME_MAGIC] * 6, "frames are not on the pages"
    found = outcomes(victim, (each for each in zeroed(data, PAGE) if each[0] != "zeros from 0"), name)
    assert set(found) <= {TOLD, SHORT}


def test_missing_segments(several: Victim) -> None:
    for name in several.segments:
        node = several.directory.entries.pop(name)
        assert several.outcome() == TOLD
        several.directory.entries[name] = node
    assert several.outcome() == RIGHT


def test_no_segment_left(several: Victim) -> None:
    kept = dict(several.directory.entries)
    for name in several.segments:
        del several.directory.entries[name]
    assert several.outcome() == TOLD
    several.directory.entries.update(kept)
    assert several.outcome() == RIGHT


def test_exchanged_segments(several: Victim) -> None:
    for first in several.segments:
        for second in several.segments:
            if first != second:
                with several.damaged(first, several.data(second)):
                    assert several.outcome() == TOLD


def test_segment_of_another_journal(several: Victim) -> None:
    other = Victim([901, 700, 400, 800, 600, 500, 300, 250])
    for name in several.segments[:-1]:
        with several.damaged(name, other.data(name)):
            assert several.outcome() == TOLD


def test_frames_exchanged_or_copied(several: Victim) -> None:
    """A frame is bound to its place: another's bytes there do not check, however good they are."""
    name = several.segments[-1]
    data = several.data(name)
    starts = [at for at in range(HEADER.size, len(data)) if data[at : at + 4] == FRAME_MAGIC]
    assert len(starts) == 3
    copied = data[: frames_end(data)] + data[starts[0] : starts[1]]
    with several.damaged(name, copied.ljust(len(data), b"\0")):
        assert several.outcome() == TOLD
    moved = data[: starts[1]] + data[starts[2] :]
    with several.damaged(name, moved.ljust(len(data), b"\0")):
        assert several.outcome() == TOLD


def test_all_frames_moved(several: Victim) -> None:
    name = several.segments[-1]
    data = several.data(name)
    with several.damaged(name, data[: HEADER.size] + bytes(8) + data[HEADER.size : -8]):
        assert several.outcome() == TOLD


# Nothing is overwritten.


def appended_over(victim: Victim, change: Callable[[bytes], bytes], name: str) -> tuple[BaseException | None, bytes]:
    """Append to the damaged journal; what it raises, and the segment afterwards."""
    with victim.damaged(name, change(victim.data(name))):
        program = Process(victim.disk)
        error: BaseException | None = None
        try:
            program.append(99)
        except Corrupt as raised:
            error = raised
        program.die()
        return error, victim.data(name)


def test_append_to_a_damaged_end_is_refused_and_changes_nothing(several: Victim) -> None:
    name = several.segments[-1]
    last = several.data(name).rindex(FRAME_MAGIC)

    def flip(data: bytes) -> bytes:
        return data[: last + 50] + b"\x55" + data[last + 51 :]

    before = flip(several.data(name))
    error, after = appended_over(several, flip, name)
    assert isinstance(error, Corrupt)
    assert str(last) in str(error)
    assert name in str(error.path)
    assert after == before


def test_append_to_a_journal_damaged_further_back_lands_and_the_damage_stays_told(several: Victim) -> None:
    """Writers need only the end. Whoever reads the damaged part is told."""
    name = several.segments[0]
    data = several.data(name)
    with several.damaged(name, data[:300] + b"\xaa" + data[301:]):
        assert several.outcome() == TOLD
        writer = Process(several.disk)
        first = writer.append(99)
        assert [entry.sequence for entry in writer.run(lambda each: list(each.journal.read(first)))] == [first]
        with pytest.raises(Corrupt):
            writer.read()
        with pytest.raises(Corrupt):
            writer.run(lambda each: each.journal.compact(lambda _: True))
        writer.die()
        assert several.data(name) == data[:300] + b"\xaa" + data[301:]
