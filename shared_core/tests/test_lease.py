"""A lease stands in for the lock while another program's tool writes: everyone waits for it, and it ends by itself."""

from __future__ import annotations

import signal
import subprocess
import threading
import time as clocks
from hashlib import sha256
from time import monotonic, time
from typing import TYPE_CHECKING

import pytest

import landed
from landed import desk, lease
from landed.artifact import LARGE
from landed.audit import BYPASSED, IN_PROGRESS, INTACT, audit, stores
from landed.desk import Desk
from landed.lease import Lease
from landed.log import writes
from landed.process import Owner, me, start_token
from landed.shelf import Shelf
from landed.standing import standing
from landed.state import user_store

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path

    from programs import Programs

SOON = 0.2
"""Seconds that a writer waits which is to be refused."""


def lend(path: Path, *, agent: str = "a", owner: Owner | None = None, seconds: float = 60) -> Lease:
    with Desk(str(path), agent, timeout=1) as desk:
        return desk.lend("call", owner or me(), seconds)


def give_back(path: Path, *, agent: str = "a") -> None:
    with Desk(str(path), agent, timeout=1, patient=False) as desk:
        desk.give_back()


def dead() -> Owner:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as program:  # which ends with its input
        return Owner(program.pid, start_token(program.pid), me().host, "an agent")


def write(path: Path) -> None:
    landed.write(path, "landed", timeout=SOON)


def edit(path: Path) -> None:
    with landed.edit(path, timeout=SOON) as doc:
        doc.text += "landed"


def delete(path: Path) -> None:
    landed.delete(path, timeout=SOON)


@pytest.mark.parametrize("operation", [write, edit, delete, lambda path: landed.verify(path, timeout=SOON)])
def test_everyone_waits_for_a_lease_and_hears_who_has_it(work: Path, operation) -> None:
    path = work / "plan.md"
    landed.write(path, "one")
    lend(path, owner=Owner(me().pid, me().started, me().host, "Claude Code, agent 7"))
    with pytest.raises(landed.LockTimeout, match="Claude Code, agent 7") as refused:
        operation(path)
    assert refused.value.step == "lease"
    assert path.read_text() == "one"
    give_back(path)
    operation(path)


def test_a_writer_goes_on_as_soon_as_the_lease_is_given_back(work: Path) -> None:
    path = work / "plan.md"
    lend(path)
    later = threading.Timer(SOON, give_back, (path,))
    started = monotonic()
    later.start()
    landed.write(path, "landed", timeout=20)
    assert SOON / 2 < monotonic() - started < 10
    later.join()


def test_an_agent_waits_for_an_edit(work: Path) -> None:
    path = work / "plan.md"
    with landed.edit(path) as doc:
        with pytest.raises(landed.LockTimeout), Desk(str(path), "a", timeout=SOON):
            pass
        doc.text = "landed"
    with Desk(str(path), "a", timeout=SOON) as desk:
        assert desk.sight is not None
        assert desk.sight.data == b"landed"


def test_other_agents_wait_and_the_same_one_does_not(work: Path) -> None:
    path = work / "plan.md"
    lend(path, agent="a")
    lend(path, agent="a")
    with pytest.raises(landed.LockTimeout):
        lend(path, agent="b")
    give_back(path, agent="b")  # not its own: stays
    with Desk(str(path), "b", timeout=SOON, patient=False) as desk:
        assert desk.lease is not None
        assert desk.lease.agent == "a"


def test_a_lease_ends_with_its_time_which_counts_as_waited(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = work / "plan.md"
    lend(path, seconds=SOON)
    allowed: list[float] = []
    acquire = Shelf.acquire

    def noted(shelf: Shelf, timeout: float, owner: Hashable = None) -> None:
        allowed.append(timeout)
        acquire(shelf, timeout, owner)

    monkeypatch.setattr(Shelf, "acquire", noted)
    landed.write(path, "landed", timeout=20)
    assert allowed[0] == 20
    assert allowed[-1] <= 20 - SOON / 2
    with Desk(str(path), "b") as desk:
        assert desk.record.lease is None, "the writer dropped it"


def test_a_lease_ends_with_its_owner(work: Path, programs: Programs) -> None:
    path = work / "plan.md"
    program = programs.start("import time; print('up', flush=True); time.sleep(600)")
    program.hear()
    lend(path, owner=Owner(program.pid, start_token(program.pid), me().host, "an agent"))
    with pytest.raises(landed.LockTimeout):
        write(path)
    program.signal(signal.SIGKILL)
    landed.write(path, "landed", timeout=20)
    lend(path, owner=dead())
    write(path)


def test_words_from_outside_do_not_break_the_line() -> None:
    lease = Lease("an agent", "a\ncall", 1, 2, me())
    again = Lease.decode(lease.encode())
    assert again is not None
    assert (again.agent, again.call, again.owner) == ("an_agent", "a_call", me())
    assert Lease("", "", 1, 2, me()).call == "-"


def test_a_clock_that_was_set_back_makes_no_lease_endless() -> None:
    assert not Lease("a", "c", time(), time() + 60, me()).over
    assert Lease("a", "c", time() + 3600, time() + 3660, me()).over


JUMPS = (3600, -3600, 86_400 * 400, -86_400 * 400)


@pytest.mark.skipif(not hasattr(clocks, "CLOCK_BOOTTIME"), reason="needs a clock that no setting changes")
@pytest.mark.parametrize("jump", JUMPS)
def test_a_clock_that_is_set_ends_no_lease_and_makes_none_longer(
    work: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    path = work / "plan.md"
    landed.write(path, "one")
    lend(path, seconds=60)
    monkeypatch.setattr(lease, "time", lambda: time() + jump)
    monkeypatch.setattr(desk, "time", lambda: time() + jump)
    with pytest.raises(landed.LockTimeout):
        write(path)
    with Desk(str(path), "a") as visit:
        visit.landed(me(), until=time() + jump + 0.3)  # cut short, by the clock as it is now
    started = monotonic()
    landed.write(path, "landed", expect=landed.ANY, timeout=30)
    assert monotonic() - started < 30


def test_where_no_clock_is_shared_the_time_of_day_ends_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """As between containers: what another one's clock said is not compared with ours."""
    for uptime in ("", "another boot.1.5"):
        assert not Lease("a", "c", time(), time() + 60, me(), uptime).over
        assert Lease("a", "c", time() - 61, time() - 1, me(), uptime).over


def test_what_the_tool_wrote_is_the_agents_write(work: Path) -> None:
    path = work / "plan.md"
    first = landed.write(path, "one")
    lend(path)
    path.write_text("two")
    with Desk(str(path), "a") as desk:
        assert desk.record.landed.version == first.version
        written = desk.landed(Owner(me().pid, me().started, me().host, "Claude Code, agent 7"), until=time() + SOON)
        assert desk.lease is not None
        assert desk.lease.until < time() + 1
    now = landed.Files().read(path)
    assert (now.version, now.origin) == (written.version, "landed")
    assert "Claude Code, agent 7" in now.writer
    with pytest.raises(landed.StaleWrite, match="Claude Code, agent 7"):
        landed.write(path, "three", expect=first.version, timeout=20)
    with Desk(str(path), "a") as desk:
        assert [done.version for done, on_chain in writes(desk._artifact.shelf) if on_chain][-2:] == [
            first.version,
            written.version,
        ]


def test_a_path_whose_directory_is_still_to_be_made(work: Path) -> None:
    path = work / "new" / "plan.md"
    lend(path)
    assert not path.parent.exists()
    with pytest.raises(landed.LockTimeout):
        write(path)
    give_back(path)
    write(path)
    assert path.read_text() == "landed"


def test_an_audit_beside_a_tool_cries_no_wolf(work: Path) -> None:
    path = work / "plan.md"
    landed.write(path, "one")
    lend(path)
    assert [found.verdict for found in audit(*stores(str(work)))] == [INTACT]
    path.write_text("two")
    assert [found.verdict for found in audit(*stores(str(work)))] == [IN_PROGRESS]
    lend(path, owner=dead())
    assert [found.verdict for found in audit(*stores(str(work)))] == [BYPASSED]


def test_the_status_names_the_agent(work: Path) -> None:
    path = work / "plan.md"
    lend(path, owner=Owner(me().pid, me().started, me().host, "Claude Code, agent 7"))
    with Desk(str(path), "a") as desk:
        key = desk._artifact.key
    seen = standing(user_store(), key)
    assert seen is not None
    assert seen.lease is not None
    assert seen.lease.owner.program == "Claude Code, agent 7"
    lend(path, owner=dead())
    seen = standing(user_store(), key)
    assert seen is not None
    assert seen.lease is None


def test_a_shared_directory_made_meanwhile_keeps_the_lease(work: Path) -> None:
    from landed.sharing import share

    path = work / "plan.md"
    landed.write(path, "one")
    lend(path)
    share(str(work))
    with pytest.raises(landed.LockTimeout):
        landed.write(path, "two", timeout=SOON)
    give_back(path)
    landed.write(path, "two", timeout=SOON)


@pytest.mark.parametrize("size", [10, LARGE, LARGE + 1, 3 * LARGE])
def test_who_asks_for_the_digest_alone_may_still_have_the_bytes(work: Path, size: int) -> None:
    path = work / "plan.md"
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    path.write_bytes(data)
    with Desk(str(path), "a", keeps=False) as desk:
        assert desk.sight is not None
        assert desk.sight.digest == sha256(data).hexdigest()
        assert desk.sight.size == size
        write = desk.landed(me())
        assert desk.sight.data == data
    assert landed.read(path).version == write.version
