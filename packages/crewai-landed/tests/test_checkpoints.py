"""Checkpoints: CrewAI's layout, whole files, and nothing fails in silence."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from crewai.flow.flow import Flow, listen, start
from crewai.state.checkpoint_config import CheckpointConfig
from crewai.state.provider.json_provider import JsonProvider
from crewai.state.provider.utils import detect_provider
from pydantic import BaseModel

import landed
from crewai_landed import CheckpointFailed, LandedJsonProvider, checkpoints, failures
from landed import NotLanded, VerifyFailed
from landed.audit import INTACT, UNFINISHED

HOOKS = checkpoints.hooks is not None


@pytest.fixture(autouse=True)
def _own_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANDED_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def location(tmp_path: Path) -> str:
    return str(tmp_path / "cp")


def files(location: str, branch: str = "main") -> list[Path]:
    return sorted(Path(location, branch).glob("*"))


class Steps(Flow[dict[str, Any]]):
    suppress_flow_events: bool = False

    @start()
    def a(self) -> str:
        return "a"

    @listen(a)
    def b(self) -> str:
        return "b"


def config(location: str, **more: Any) -> CheckpointConfig:
    more = {"on_events": ["method_execution_finished"], **more}
    return CheckpointConfig(location=location, provider=LandedJsonProvider(), **more)


# The layout.


def test_names_are_those_of_crewai(location: str) -> None:
    provider = LandedJsonProvider()
    path = provider.checkpoint('{"a": "ü"}', location)
    stock = JsonProvider().checkpoint("{}", location + "-stock")
    pattern = r"\d{8}T\d{6}_[0-9a-f]{8}_p-none\.json"
    for found in (path, stock):
        assert Path(found).parent.name == "main"
        assert re.fullmatch(pattern, Path(found).name)
    assert provider.extract_id(path) == Path(path).name[:24]
    child = provider.checkpoint("{}", location, parent_id=provider.extract_id(path), branch="fork/x")
    assert Path(child).parent == Path(location, "fork", "x")
    assert child.endswith(f"_p-{provider.extract_id(path)}.json")
    assert provider.from_checkpoint(path) == '{"a": "ü"}' == detect_provider(path).from_checkpoint(path)


def test_nothing_but_checkpoints_is_in_the_location(location: str) -> None:
    LandedJsonProvider().checkpoint("{}", location)
    assert [path.suffix for path in Path(location).rglob("*") if path.is_file()] == [".json"]


@pytest.mark.parametrize("branch", ["..", "../x", "a/../../x", "/etc"])
def test_a_branch_cannot_lead_out(location: str, branch: str) -> None:
    provider = LandedJsonProvider()
    with pytest.raises(ValueError, match="escapes"):
        provider.checkpoint("{}", location, branch=branch)
    with pytest.raises(ValueError, match="escapes"):
        provider.prune(location, 1, branch=branch)


def test_async(location: str) -> None:
    provider = LandedJsonProvider()

    async def both() -> str:
        return await provider.afrom_checkpoint(await provider.acheckpoint('{"x": 1}', location))

    assert asyncio.run(both()) == '{"x": 1}'


def test_config_takes_it_and_keeps_the_object(location: str) -> None:
    made = config(location)
    assert isinstance(made.provider, LandedJsonProvider)
    assert json.loads(made.model_dump_json())["provider"] == {"provider_type": "json"}


# Pruning.


def test_prune_keeps_the_newest(location: str) -> None:
    provider = LandedJsonProvider()
    paths = [provider.checkpoint(str(n), location) for n in range(5)]
    for age, path in enumerate(reversed(paths)):
        os.utime(path, (1e9 - age, 1e9 - age))
    assert provider.prune(location, 2) == 3
    assert sorted(map(str, files(location))) == sorted(paths[3:])
    assert provider.prune(location, 2) == 0
    assert provider.prune(location, 0) == 2
    assert provider.prune(location + "/nothing", 1) == 0


@pytest.mark.parametrize("damage", [b"", b'{"a'], ids=["emptied", "torn"])
def test_the_good_one_stays_until_the_new_one_is_verified(location: str, damage: bytes) -> None:
    provider = LandedJsonProvider()
    provider.checkpoint('{"good": 1}', location)
    newest = provider.checkpoint('{"new": 1}', location)
    Path(newest).write_bytes(damage)
    with pytest.raises(VerifyFailed):
        provider.prune(location, 1)
    assert len(files(location)) == 2


def test_a_good_one_of_the_stock_provider_is_pruned_by_a_newer_one_of_ours(location: str) -> None:
    old = JsonProvider().checkpoint("{}", location)
    os.utime(old, (1e9, 1e9))
    new = LandedJsonProvider().checkpoint("{}", location)
    assert LandedJsonProvider().prune(location, 1) == 1
    assert [str(path) for path in files(location)] == [new]


def test_config_prunes_after_each(location: str) -> None:
    Steps(checkpoint=config(location, max_checkpoints=1)).kickoff()
    checkpoints.crewai_event_bus.flush()
    assert len(files(location)) == 1


# Failures.


def full(*_: Any, **__: Any) -> None:
    raise NotLanded("the step 'write' failed: No space left on device", step="write", errno=errno.ENOSPC)


def findings(under: str = "") -> list[tuple[str, str]]:
    return [(finding.verdict, finding.path) for finding in failures.audit(under)]


def test_a_failure_raises_and_is_recorded(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert findings() == []
    provider = LandedJsonProvider()
    with monkeypatch.context() as patch:
        patch.setattr(landed, "write", full)
        with pytest.raises(NotLanded, match="No space"):
            provider.checkpoint("{}", location)
    main = os.path.join(os.path.realpath(location), "main")
    assert findings() == findings(os.sep) == findings(location) == findings(main) == [(UNFINISHED, main)]
    assert findings(location + "x") == findings("/elsewhere") == []
    with pytest.raises(CheckpointFailed, match="No space left") as caught:
        provider.check()
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.path == os.path.join(location, "main")
    assert isinstance(caught.value.__cause__, NotLanded)
    provider.check()  # once
    provider.checkpoint("{}", location)
    assert findings() == [(INTACT, main)], "one that lands settles it"


def test_a_journal_of_failures_that_was_never_made_is_no_finding() -> None:
    """Whoever made its directory died there, or met a bad disk."""
    os.makedirs(failures._path())
    assert findings() == []


def test_landed_audit_tells_of_it(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(landed, "write", full)
        with pytest.raises(NotLanded):
            LandedJsonProvider().checkpoint("{}", location)
    for arguments in ([], [os.path.dirname(location)]):
        ran = subprocess.run(
            [sys.executable, "-m", "landed", "audit", *arguments], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 1, ran.stdout + ran.stderr
        assert "a checkpoint of pid" in ran.stdout
        assert "No space left on device" in ran.stdout


def test_recording_that_fails_is_logged_and_the_error_is_still_the_first(
    location: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(landed, "write", full)
    monkeypatch.setattr(failures, "record", full)
    with pytest.raises(NotLanded, match="No space"):
        LandedJsonProvider().checkpoint("{}", location)
    assert "cannot be recorded for the audit" in caplog.text


@pytest.mark.skipif(not HOOKS, reason="CrewAI lets nothing out of its hooks before 1.15.5")
def test_a_failure_in_the_background_raises_out_of_kickoff(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(landed, "write", full)
        with pytest.raises(CheckpointFailed, match="No space left on device, and 1 more"):
            Steps(checkpoint=config(location)).kickoff()
    assert files(location) == []
    assert [verdict for verdict, _ in findings()] == [UNFINISHED]
    assert Steps(checkpoint=config(location)).kickoff() == "b"
    checkpoints.crewai_event_bus.flush()
    assert len(files(location)) == 2


@pytest.mark.skipif(not HOOKS, reason="CrewAI lets nothing out of its hooks before 1.15.5")
def test_a_state_that_cannot_be_serialised_raises_out_of_kickoff(location: str) -> None:
    class Unserialisable(BaseModel):
        id: str = ""
        what: Any = None

    class Bad(Flow[Unserialisable]):
        @start()
        def a(self) -> str:
            self.state.what = object()
            return "a"

    with pytest.raises(CheckpointFailed, match=r"a checkpoint was not stored.* cannot write as JSON"):
        Bad(checkpoint=config(location)).kickoff()
    assert [verdict for verdict, _ in findings()] == [UNFINISHED]


@pytest.mark.skipif(HOOKS, reason="this CrewAI lets the error out by itself")
def test_where_hooks_are_missing_check_raises(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = config(location)
    with monkeypatch.context() as patch:
        patch.setattr(landed, "write", full)
        Steps(checkpoint=made).kickoff()
        with pytest.raises(CheckpointFailed, match="No space left on device"):
            made.provider.check()
    assert [verdict for verdict, _ in findings()] == [UNFINISHED]


@pytest.mark.skipif(not HOOKS, reason="CrewAI lets nothing out of its hooks before 1.15.5")
def test_the_error_of_a_run_that_failed_is_its_own(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails(Flow[dict[str, Any]]):
        @start()
        def a(self) -> str:
            return "a"

        @listen(a)
        def b(self) -> str:
            raise ValueError("mine")

    with monkeypatch.context() as patch:
        patch.setattr(landed, "write", full)
        with pytest.raises(ValueError, match="mine"):
            Fails(checkpoint=config(location)).kickoff()


def test_another_runs_failure_is_not_this_ones(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = config(location)
    with monkeypatch.context() as patch:
        patch.setattr(landed, "write", full)
        with pytest.raises(NotLanded):
            failing.provider.checkpoint("{}", location)
    assert Steps(checkpoint=config(location)).kickoff() == "b"


# Going on.


def test_a_flow_goes_on_from_a_checkpoint_and_keeps_our_provider(location: str) -> None:
    made = config(location)
    Steps(checkpoint=made).kickoff()
    checkpoints.crewai_event_bus.flush()
    newest = max(files(location), key=checkpoints._age)
    again = config(location, restore_from=newest)
    assert Steps().kickoff(from_checkpoint=again) == "b"
    checkpoints.crewai_event_bus.flush()
    for path in files(location):
        assert landed.verify(path).size > 0, "each of them by landed"
