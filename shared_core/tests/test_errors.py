"""One tree of errors; each says what happened, where, in which state it left the disk, and what to do."""

from __future__ import annotations

import copy
import errno
import pickle
from typing import TYPE_CHECKING, Any

import pytest

import landed
from landed import errors
from landed.errors import from_os_error

if TYPE_CHECKING:
    from pathlib import Path

KINDS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, landed.LandedError)]


def test_the_tree() -> None:
    assert issubclass(landed.LandedError, Exception)
    assert not issubclass(landed.LandedError, OSError)
    for kind in (landed.StaleWrite, landed.LockTimeout, landed.Refused):
        assert issubclass(kind, landed.NotLanded)
    assert issubclass(landed.Bypassed, landed.StaleWrite)
    assert issubclass(landed.VerifyFailed, landed.OutcomeUnknown)
    assert not issubclass(landed.OutcomeUnknown, landed.NotLanded)
    assert not issubclass(landed.Corrupt, (landed.NotLanded, landed.OutcomeUnknown))


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_it_leaves_is_in_the_message(kind: type[landed.LandedError]) -> None:
    error = kind("it broke", path="/a", step="sync", hint="Mend it.")
    assert str(error) == f"/a: it broke (step: sync). {kind.state} Mend it."
    assert error.outcome == ("unknown" if issubclass(kind, landed.OutcomeUnknown) else "not_written")
    assert ("unknown" in kind.state or "published" in kind.state) == issubclass(kind, landed.OutcomeUnknown)


@pytest.mark.parametrize(
    "name", ["EACCES", "EDQUOT", "EIO", "EMFILE", "ENAMETOOLONG", "ENOSPC", "ENOTDIR", "EPERM", "EROFS"]
)
def test_what_the_system_refuses_has_a_next_step(name: str) -> None:
    cause = OSError(getattr(errno, name), "no")
    steps = {kind: from_os_error(kind, cause, "it broke", path="/a", step="sync").hint for kind in KINDS}
    assert all(steps.values())
    assert steps[landed.OutcomeUnknown] == "Read it again before writing.", "what may have landed is not done again"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_public_and_in_the_tree(kind: type[landed.LandedError]) -> None:
    assert getattr(landed, kind.__name__) is kind
    assert kind.__name__ in str(errors.__doc__)
    assert kind.__doc__


def test_the_fields() -> None:
    error = landed.NotLanded("it broke")
    assert (error.path, error.step, error.errno, error.expected, error.found, error.hint) == (None,) * 5 + ("",)
    assert str(error) == f"it broke. {error.state}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("through", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy], ids=["pickle", "copy"])
def test_errors_keep_their_fields_between_processes(kind: type[landed.LandedError], through: object) -> None:
    error = kind("it broke", path="/a", step="sync", errno=5, expected="1", found="2", hint="Mend it.")
    error.writer = "somebody"  # type: ignore[attr-defined]
    again = through(error)  # type: ignore[operator]
    assert type(again) is kind
    assert again.__dict__ == error.__dict__
    assert (str(again), again.args) == (str(error), error.args)


def test_an_error_of_the_system() -> None:
    cause = OSError(errno.ENOSPC, "No space left on device")
    error = from_os_error(landed.NotLanded, cause, "it broke", path="/a", step="write", hint="Make room.")
    assert type(error) is landed.NotLanded
    assert error.errno == errno.ENOSPC
    assert "it broke: No space left on device" in str(error)
    assert "TimeoutError" in str(from_os_error(landed.NotLanded, TimeoutError(), "it broke", path="/a", step="x"))


@pytest.mark.parametrize("nothing", [None, float("nan"), 10**400], ids=["none", "nan", "huge"])
def test_what_is_no_timeout_is_refused(tmp_path: Path, nothing: Any) -> None:
    landed.write(tmp_path / "a", b"x")
    for attempt in (
        lambda: landed.write(tmp_path / "a", b"y", timeout=nothing),
        lambda: landed.delete(tmp_path / "a", timeout=nothing),
        lambda: landed.verify(tmp_path / "a", timeout=nothing),
        lambda: landed.edit(tmp_path / "a", timeout=nothing).__enter__(),
        lambda: landed.Lock(str(tmp_path / "lock")).acquire(nothing),
        lambda: landed.Journal(tmp_path / "journal", timeout=nothing),
        lambda: landed.Journals(tmp_path / "journals", timeout=nothing),
        lambda: landed.write("s3://bucket/a", b"y", timeout=nothing),
    ):
        with pytest.raises(landed.Refused, match=f"a timeout is a number of seconds, not {nothing}"):
            attempt()
    assert (tmp_path / "a").read_bytes() == b"x"


@pytest.mark.parametrize("nothing", ["4096", 0, -1, 1e6, float("nan")])
def test_what_is_no_number_of_bytes_is_refused(tmp_path: Path, nothing: Any) -> None:
    for attempt in (
        lambda: landed.Journal(tmp_path / "journal", max_bytes=nothing),
        lambda: landed.Journals(tmp_path / "journals", max_bytes=nothing),
    ):
        with pytest.raises(landed.Refused, match=f"max_bytes is a number of bytes above 0, or None, not {nothing!r}"):
            attempt()
    assert not any(tmp_path.iterdir())
