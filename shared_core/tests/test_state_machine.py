"""Programs read, write, edit and delete one file, others bypass landed, processes die, the power fails; in any order.

Beside it runs a model that fits on a page: which bytes may stand there, which version they have when landed vouches for
them, and what each program has seen. Whatever an operation does must be what the model allows.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from model_crash import crash_states, survivor
from model_world import PATH, STATE, Killed, Program, content, foreign_delete, foreign_write, litter, new_disk

from landed.errors import Bypassed, OutcomeUnknown, StaleWrite, VerifyFailed
from landed.records import ABSENT, ANY, LANDED, SEEN

PROGRAMS = st.integers(0, 1)
DATA = st.sampled_from([b"", b"a", b"b", b"longer than a sector " * 40])
EXPECT = st.sampled_from(["seen", "any", "absent", "current", "old"])


class FilesMachine(RuleBasedStateMachine):
    """Two programs and one file.

    `may_be` holds what may stand under the path: pairs of bytes (None for no file) and the version that was
    acknowledged for them ("" when nobody was told one). After every read or acknowledged write there is exactly one.
    """

    @initialize(xattrs=st.booleans(), seed=st.integers(0, 2**16))
    def boot(self, xattrs: bool, seed: int) -> None:
        self.rng = Random(seed)
        self.xattrs = xattrs
        self.disk = new_disk(xattrs=xattrs)
        self.programs = [Program(self.disk) for _ in range(2)]
        self.may_be: set[tuple[bytes | None, str]] = {(None, "")}
        self.given_out: set[str] = set()
        self.old = "1-never"
        self.outside = False
        self.vouched: set[tuple[bytes | None, str]] = set()
        self.earlier: set[tuple[bytes | None, str]] = set()
        self.unacknowledged = self.cut = False
        self.seen: list[object] = [None, None]

    # What landed's users do.

    @rule(who=PROGRAMS)
    def read(self, who: int) -> None:
        try:
            snapshot = self.programs[who].call(lambda files: files.read(PATH))
        except FileNotFoundError:
            assert None in {data for data, _ in self.may_be}
            self.may_be, self.seen[who] = {(None, "")}, ABSENT
            return
        matching = {version for data, version in self.may_be if data == snapshot.data}
        assert matching, f"read {snapshot.data!r} of {self.may_be}"
        if not self.outside and matching == {v for v in matching if v}:
            assert snapshot.origin == LANDED
            assert snapshot.version in matching or len(self.may_be) > 1
        if self.outside and snapshot.origin == LANDED:
            assert snapshot.data in {data for data, _ in self.vouched}
        self.may_be, self.seen[who] = {(snapshot.data, snapshot.version)}, snapshot.version

    @rule(who=PROGRAMS, data=DATA, how=EXPECT)
    def write(self, who: int, data: bytes, how: str) -> None:
        now = self._known()
        expect = {"seen": SEEN, "any": ANY, "absent": ABSENT, "old": self.old, "current": now or self.old}[how]
        before = content(self.disk, PATH)
        try:
            receipt = self.programs[who].call(lambda files: files.write(PATH, data, expect=expect))
        except StaleWrite as error:
            assert content(self.disk, PATH) == before
            assert how != "any"
            if isinstance(error, Bypassed):
                assert "+" in str(error.found) or before is None  # noqa: PT017 - both kinds are legal here
            if how == "seen" and now is not None and self.seen[who] is not None and not self.outside:
                assert self.seen[who] != now
            return
        except OutcomeUnknown:
            raise AssertionError("nothing failed") from None
        if how == "absent":
            assert before is None
        assert how != "old"
        assert how != "seen" or before is None or self.seen[who] is not None
        self._acknowledged(who, data, receipt.version)

    @rule(who=PROGRAMS, data=DATA)
    def edit(self, who: int, data: bytes) -> None:
        before = content(self.disk, PATH)
        with self.programs[who].running() as files, files.edit(PATH) as draft:
            assert draft.data == (before or b"")
            draft.data += data
        if draft.receipt is not None:
            self._acknowledged(who, (before or b"") + data, draft.receipt.version)
        else:
            self.seen[who] = draft.version
            assert content(self.disk, PATH) == before

    @rule(who=PROGRAMS)
    def delete(self, who: int) -> None:
        before = content(self.disk, PATH)
        try:
            receipt = self.programs[who].call(lambda files: files.delete(PATH, expect=ANY))
        except FileNotFoundError:
            assert before is None
            return
        assert receipt.version is ABSENT
        self._acknowledged(who, None, "")
        self.seen[who] = ABSENT

    @rule(who=PROGRAMS)
    def verify(self, who: int) -> None:
        try:
            receipt = self.programs[who].call(lambda files: files.verify(PATH, level="device"))
        except VerifyFailed:
            assert (
                self.outside or len(self.may_be) > 1 or "" in {version for _, version in self.may_be} or not self.xattrs
            )
            return
        held = content(self.disk, PATH)
        assert (receipt.digest == "") is (held is None)

    # What befalls them.

    @rule(data=DATA)
    def bypass(self, data: bytes) -> None:
        self._outside()
        foreign_write(self.disk, PATH, data)
        self.may_be = {(data, "")}

    @rule()
    def bypass_delete(self) -> None:
        if content(self.disk, PATH) is not None:
            self._outside()
            foreign_delete(self.disk, PATH)
            self.may_be = {(None, "")}

    @rule(who=PROGRAMS, data=st.none() | DATA, calls=st.integers(1, 55))
    def die(self, who: int, data: bytes | None, calls: int) -> None:
        """A program dies between any two calls; another one takes its place."""
        program = self.programs[who]
        program.kill_at(calls)
        try:
            with program.running() as files:
                if data is None:
                    files.delete(PATH, expect=ANY)
                else:
                    files.write(PATH, data, expect=ANY)
        except Killed:
            self.may_be |= {(data, "")}
            self.vouched |= {(data, "")}
            self.unacknowledged = True
        except FileNotFoundError:
            pass
        else:
            self.may_be = {(data, "")}
            self.outside = False
        program.die()
        self.programs[who], self.seen[who] = Program(self.disk), None

    @rule(synced=st.booleans())
    def power_cut(self, synced: bool) -> None:
        if synced or self.outside or self.unacknowledged or "" in {version for _, version in self.may_be}:
            self.disk.sync()  # what nobody acknowledged may go, though it was read, and then the model knows nothing
        self.cut = True
        self.disk = self.rng.choice(crash_states(self.disk, 8, self.rng))
        self.programs = [Program(self.disk) for _ in range(2)]
        self.seen = [None, None]

    @rule()
    def reboot_after_everybody_died(self) -> None:
        self.disk = survivor(self.disk)
        self.programs = [Program(self.disk) for _ in range(2)]
        self.seen = [None, None]

    # What is always true.

    @invariant()
    def the_bytes_are_ones_that_somebody_wrote(self) -> None:
        if hasattr(self, "disk"):
            assert content(self.disk, PATH) in {data for data, _ in self.may_be}

    def _acknowledged(self, who: int, data: bytes | None, version: object) -> None:
        assert content(self.disk, PATH) == data
        if data is not None:
            assert version not in self.given_out, "a version came twice"
            self.given_out.add(str(version))
            self.old = next((v for _, v in self.may_be if v and v != version), self.old)
        self.unacknowledged = self.cut = False
        self.earlier |= {(data, str(version))}
        self.may_be, self.outside, self.seen[who] = {(data, str(version) if data is not None else "")}, False, version
        if self.xattrs:
            assert litter(self.disk) == []

    def _known(self) -> str | None:
        versions = {version for _, version in self.may_be}
        return next(iter(versions)) or None if len(versions) == 1 else None

    def _outside(self) -> None:
        if not self.outside:
            self.vouched = set(self.may_be)  # bytes that are put back are landed's again
            if self.cut:
                self.vouched |= self.earlier  # and those of before, where the record was left behind
        self.outside = True


FilesMachine.TestCase.settings = settings(
    max_examples=120,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
)


class TestFiles(FilesMachine.TestCase):
    @pytest.fixture(autouse=True)
    def model_state(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LANDED_STATE_DIR", STATE)
