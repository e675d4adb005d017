"""An error from every system call of every operation, in a real process: the caller hears of it, and it is true.

Whatever fails, the caller gets an error of landed's with the errno and the step, or the operation succeeds in spite of
it. `NotLanded` means the old bytes, mode and attributes, no temp file, a free lock, and a library that still works;
`OutcomeUnknown` means old or new bytes, and a handle that refuses to write until the path has been read.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from injection import WORKERS, Call, Place, Ran, in_parallel, inject, why_not
from subject import NEW, OLD, look, temps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

MODE = 0o640
ATTRIBUTE = "user.kept"

WRITES = ("write", "pwrite64", "fsync", "fdatasync", "close")
CHANGES_NAMES = ("link", "rename", "mkdir", "unlink", "fsetxattr", "fchmod", "fchown", "ftruncate")


def nothing(place: Place) -> None:
    """No file, and no program that has used landed before."""


def old(place: Place) -> None:
    place.python(f"landed.write(path, {OLD!r})")
    place.path.chmod(MODE)
    os.setxattr(place.path, ATTRIBUTE, b"yes")


def old_in_a_shared_directory(place: Place) -> None:
    (place.path.parent / ".landed" / "artifacts").mkdir(parents=True)
    old(place)


def dead(place: Place) -> None:
    """A writer died after its rename."""
    old(place)
    place.die("rename", "after", f"landed.write(path, {DEAD!r}, expect=landed.ANY)")


DEAD = b"bytes of a writer that died\n"


class Scenario(NamedTuple):
    operation: str
    prepare: Callable[[Place], None]
    before: bytes | None
    after: bytes | None


SCENARIOS = {
    "first write of a user": Scenario("write", nothing, None, NEW),
    "replace": Scenario("write", old, OLD, NEW),
    "edit in a shared directory": Scenario("edit", old_in_a_shared_directory, OLD, NEW),
    "delete": Scenario("delete", old, OLD, None),
    "write after a death": Scenario("write", dead, DEAD, NEW),
    "read": Scenario("read", old, OLD, OLD),
    "verify": Scenario("verify", old, OLD, OLD),
}


def errors_of(call: Call) -> list[tuple[str, str]]:
    """The errors that this call may give when a disk fails, fills, or goes read-only; "+" where it goes on doing so."""
    errors = [("EIO", "")]
    if call.name == "newfstatat":
        return [*errors, ("EACCES", "")] if "= -1" in call.text else errors
    errors += [("EIO", "+")]
    creates = call.name == "openat" and "O_CREAT" in call.text
    if creates or call.name in WRITES or call.name.startswith(CHANGES_NAMES):
        errors += [("ENOSPC", "")]
    if call.name in WRITES:
        errors += [("EDQUOT", "")]
    if creates or call.name.startswith(CHANGES_NAMES):
        errors += [("EROFS", "")]
    if call.name == "openat":
        errors += [("EACCES", "")]
    return errors


@pytest.mark.parametrize("name", SCENARIOS)
def test_error(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    places = [Place(tmp_path / f"place{n}", scenario.operation, scenario.prepare) for n in range(WORKERS)]
    recordings = {place.root: place.calls()[:-1] for place in places}  # without the marker, which is ours
    points = [(n, *error) for n, call in enumerate(recordings[places[0].root]) for error in errors_of(call)]

    def check(place: Place, point: tuple[int, str, str]) -> str:
        n, error, times = point
        call = recordings[place.root][n]
        options = inject(call, f"error={error}")
        ran = place.run(*options[:-1], options[-1] + times, then=not times)
        assert "(INJECTED)" in ran.trace, f"nothing was injected: {ran}"
        problems = [words for words, wrong in faults(scenario, place, ran, error).items() if wrong]
        return f"{error}{times} at {call}: {'; '.join(problems)}" if problems else ""

    problems = in_parallel(places, points, check)
    print(f"{name}: {len(points)} errors at {len(recordings[places[0].root])} calls")
    assert not problems, f"{len(problems)} of {len(points)} points\n" + "\n\n".join(problems)


def faults(scenario: Scenario, place: Place, ran: Ran, error: str) -> dict[str, bool]:
    """What is wrong with the words that the caller heard, with the disk, and with what can be done afterwards."""
    heard = ran.outcome
    if heard is None:
        return {f"it died, {ran.returncode}": True}
    left = look(str(place.path)) if ran.afterwards is None else ran.afterwards["left"]
    unhurt = {"raised": None}
    problems = untrue(scenario, heard, left, error)
    if ran.afterwards is not None:
        unknown = "OutcomeUnknown" in heard.get("kinds", []) and scenario.operation in {"write", "edit", "delete"}
        unread, again = ran.afterwards["unread"], ran.afterwards["again"]
        problems |= {
            f"a write on an unknown outcome was let through: {unread}": unknown
            and unread["raised"] != "OutcomeUnknown",
            f"the library does not work any more: {unread}": not unknown and unread != unhurt,
            f"... not even after a read: {again}": again != unhurt,
        }
    found = place.witness()
    problems[f"the next process: {found}"] = not found["next"][2] or temps(found["left"]) != []
    return problems


def untrue(scenario: Scenario, heard: dict[str, Any], left: dict[str, Any], error: str) -> dict[str, bool]:
    kinds = heard.get("kinds", [])
    before, after = (None if data is None else data.decode() for data in (scenario.before, scenario.after))
    kept = before is None or (left.get("mode") == MODE and left.get("attributes") == [ATTRIBUTE])
    if heard["raised"] is None:
        return {
            "acknowledged, and not there": left["bytes"] != after,
            "acknowledged, and the attributes are gone": after is not None and not kept,
        }
    problems = {
        f"an error that is not landed's: {heard['message']}": "LandedError" not in kinds,
        f"the error does not say which step failed: {heard['message']}": not heard.get("step"),
        f"the error has another errno, {heard.get('errno')}": heard.get("errno") != getattr(errno, error),
    }
    if "NotLanded" in kinds:
        problems |= {
            "not landed, and the old bytes are gone": left["bytes"] != before,
            "not landed, and the old attributes are gone": not kept,
            "a temp file that the error does not name": any(name not in heard["hint"] for name in left["temps"]),
        }
    elif "OutcomeUnknown" in kinds:
        problems["neither the old bytes nor the new"] = left["bytes"] not in {before, after}
    return problems
