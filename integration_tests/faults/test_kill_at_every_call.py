"""SIGKILL at every system call of every write: what was acknowledged is there, and the next writer need not wait.

strace kills the process as it enters the call, so that the call itself does not happen. The calls are found in a
recording of the same run. What a fresh process must find is known exactly for each point: the new bytes if and only if
the call that publishes came before, and a begun write with its dead owner if and only if that was written down last.
"""

from __future__ import annotations

import hashlib
import re
import signal
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from injection import WORKERS, Call, Place, in_parallel, inject, was_at, why_not
from subject import NEW, OLD, temps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


def nothing(place: Place) -> None:
    """No file, and no program that has used landed before."""


def old(place: Place) -> None:
    place.python(f"landed.write(path, {OLD!r})")


def old_in_a_shared_directory(place: Place) -> None:
    (place.path.parent / ".landed" / "artifacts").mkdir(parents=True)
    old(place)


def dead_writer(call: str, when: str, bytes_before: bytes | None) -> Callable[[Place], None]:
    """What a writer of other bytes leaves that was killed just before or after its `call`."""

    def prepare(place: Place) -> None:
        if bytes_before is not None:
            place.python(f"landed.write(path, {bytes_before!r})")
        place.die(call, when, f"landed.write(path, {DEAD!r}, expect=landed.ANY)")

    return prepare


DEAD = b"bytes of a writer that died\n"


class Scenario(NamedTuple):
    """One operation and what it begins with: the bytes that are there, and which logged writes landed."""

    operation: str
    prepare: Callable[[Place], None]
    bytes: bytes | None
    history: tuple[bool, ...]
    dead: bool = False


SCENARIOS = {
    "first write of a user": Scenario("write", nothing, None, ()),
    "replace": Scenario("write", old, OLD, (True,)),
    "replace in a shared directory": Scenario("write", old_in_a_shared_directory, OLD, (True,)),
    "edit": Scenario("edit", old, OLD, (True,)),
    "edit a new file": Scenario("edit", nothing, None, ()),
    "delete": Scenario("delete", old, OLD, (True,)),
    "write after a death before the rename": Scenario(
        "write", dead_writer("rename", "before", OLD), OLD, (True, False), dead=True
    ),
    "edit after a death after the rename": Scenario(
        "edit", dead_writer("rename", "after", OLD), DEAD, (True, True), dead=True
    ),
    "delete after a death between link and unlink": Scenario(
        "delete", dead_writer("link", "after", None), DEAD, (True,), dead=True
    ),
    "verify after a death after the rename": Scenario(
        "verify", dead_writer("rename", "after", OLD), DEAD, (True, True), dead=True
    ),
}


class Expected:
    """What a fresh process must find when only the first `n` calls of the operation were made."""

    def __init__(self, scenario: Scenario, place: Place, calls: list[Call], n: int) -> None:
        done = calls[:n]
        # The last one: before it, what a dead writer left may have been put in place again.
        published = n > max((at for at, call in enumerate(calls) if _publishes(call, place)), default=n)
        after = {"write": NEW, "edit": NEW, "delete": None}.get(scenario.operation)
        self.bytes = after if published else scenario.bytes
        records = [call.text for call in done if call.name == "pwrite64" and "landed-record" in call.text]
        self.begun = "\\nbegun=" in records[-1] if records else scenario.dead
        logged = any(re.match(r'write\(\d+, "\\n(name=|\d+-[0-9a-f]{12} )', call.text) for call in done)
        self.audit = [[["unfinished", False]]] if self.begun else [[], [["intact", None]]]
        # Before the first record: `test_audit_of_a_first_write`.
        self.audited = bool(records) or scenario.history != ()
        self.history = [*scenario.history, *([published] if logged else []), True]


def _publishes(call: Call, place: Place) -> bool:
    verbs = {"delete": ("unlink",), "verify": ()}.get(place.operation, ("link", "rename"))
    return call.name.startswith(verbs) and f'"{place.path.name}"' in call.text


@pytest.mark.parametrize("name", SCENARIOS)
def test_kill(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    places = [Place(tmp_path / f"place{n}", scenario.operation, scenario.prepare) for n in range(WORKERS)]
    recordings = {place.root: place.calls() for place in places}
    shape = [(call.name, call.when) for call in recordings[places[0].root]]
    assert all([(call.name, call.when) for call in calls] == shape for calls in recordings.values())

    def check(place: Place, n: int) -> str:
        calls = recordings[place.root]
        ran = place.run(*inject(calls[n], "signal=KILL"))
        assert ran.returncode == -signal.SIGKILL, f"it was not killed: {ran}"
        assert was_at(ran, calls[n]), f"it was killed elsewhere: {ran.trace.splitlines()[-2]}"
        assert ran.outcome is None
        return judge(f"killed at {calls[n]}", place, Expected(scenario, place, calls, n))

    def unhurt(place: Place, _: int) -> str:
        ran = place.run()
        assert ran.outcome is not None
        assert ran.outcome["raised"] is None, ran.outcome
        return judge("acknowledged", place, Expected(scenario, place, recordings[place.root], len(shape)))

    problems = in_parallel(places, range(len(shape)), check) + in_parallel(places[:1], [0], unhurt)
    print(f"{name}: killed at each of {len(shape)} calls")
    assert not problems, f"{len(problems)} of {len(shape)} points\n" + "\n\n".join(problems)


def judge(point: str, place: Place, expected: Expected) -> str:
    found = place.witness()
    problems = [words for words, wrong in _faults(found, expected).items() if wrong]
    return f"{point}\n  {'; '.join(problems)}\n  {found}" if problems else ""


def _faults(found: dict[str, Any], expected: Expected) -> dict[str, bool]:
    text = None if expected.bytes is None else expected.bytes.decode()
    digest = "" if expected.bytes is None else hashlib.sha256(expected.bytes).hexdigest()
    begun = found["begun"]
    version, landed, right_bytes = found["next"]
    history = dict(found["history"])
    verified = found["verified"]
    return {
        "bytes before anybody settled": found["disk"] != text,
        "origin": found["origin"] != (None if text is None else "landed"),
        "begun, or not begun": (begun is not None) != expected.begun,
        "the owner of the begun write does not count as dead": begun is not None and begun["alive"] is not False,
        "a temp file that no begun write tells of": not expected.begun and temps(found["names"]) != [],
        "the audit": expected.audited and [finding[:2] for finding in found["audit"]] not in expected.audit,
        "the audit at last": [verdict for verdict, _, _ in found["audit_at_last"]] != ["intact"],
        "bytes after settling": found["settled_disk"] != text,
        "still begun after settling": found["settled_begun"] is not None,
        # Only a file that nobody ever wrote cannot be verified.
        "not verified": verified is None and (digest != "" or found["landed"] is not None),
        "verified as something else": verified is not None and found["digest"] != digest,
        "the next write": not right_bytes or landed["version"] != version,
        "temp files left": temps(found["left"]) != [],
        "a version twice in the history": len(history) != len(found["history"]),
        "the current version is not in the history": not history.get(version),
        f"the history, which is {expected.history}": [landed for _, landed in found["history"]] != expected.history,
    }


@pytest.mark.parametrize("name", ["first write of a user", "replace", "edit", "delete"])
def test_flushed_before_it_is_acknowledged(name: str, tmp_path: Path) -> None:
    """A kill leaves the page cache alone and cannot show a missing flush: the order of the calls does."""
    scenario = SCENARIOS[name]
    place = Place(tmp_path / "place", scenario.operation, scenario.prepare)
    recording = place.calls()
    calls = [call.text for call in recording]
    (published,) = (n for n, call in enumerate(recording) if _publishes(call, place))
    directory = _descriptor(calls, rf'"{place.path.parent}", O_RDONLY(?!.*O_PATH).*O_DIRECTORY')
    assert any(re.match(rf"fsync\({directory}\)", text) for text in calls[published:]), "the name is not flushed"
    if scenario.operation == "delete":
        return
    opened = next(n for n, text in enumerate(calls) if re.match(r'openat\(.*"\.landed-[\w.-]+\.tmp", O_WRONLY', text))
    temp = calls[opened].rpartition("= ")[2]
    fills = rf"(write|pwrite64|fsetxattr|fchmod|fchown|ftruncate)\({temp},"
    last = max(n for n in range(opened, published) if re.match(fills, calls[n]))
    flushes = [n for n in range(last, published) if re.match(rf"fsync\({temp}\)", calls[n])]
    assert flushes, "the bytes are not flushed before they get the name"
    reads = [n for n, text in enumerate(calls) if n > published and text.startswith("read(") and "the bytes of" in text]
    assert reads, "the bytes are not read back"


def _descriptor(calls: list[str], opened: str) -> str:
    (found,) = {match[1] for text in calls if (match := re.match(rf"openat\(.*{opened}.* = (\d+)$", text))}
    return found


def test_audit_of_a_first_write(tmp_path: Path) -> None:
    """Before the first record there is but a line in the log, and nothing can have come of it."""
    place = Place(tmp_path / "place", "write", nothing)
    calls = place.calls()
    record = next(n for n, call in enumerate(calls) if "landed-record" in call.text)
    for call in calls[record - 8 : record + 1]:
        assert place.run(*inject(call, "signal=KILL")).returncode == -signal.SIGKILL
        assert place.witness()["audit"] == [], call


def test_log_survives_a_death_while_it_is_set_aside(tmp_path: Path) -> None:
    place = Place(tmp_path / "place", "write", old)
    place.die(
        "rename",
        "after",
        "import landed.shelf; landed.shelf.LOG_LIMIT = 100; landed.shelf.LOG_CHECKS = 8;"
        "[landed.write(path, str(n), expect=landed.ANY) for n in range(9)]",
    )
    assert True in [landed for _, landed in place.witness()["history"]][:-1]
