"""Checkpoints of CrewAI that are whole, or not there, or said to be missing.

    CheckpointConfig(location="./cp", provider=LandedJsonProvider())

The files are CrewAI's own: ``LOCATION/BRANCH/TIME_ID_p-PARENT.json``, so that ``crewai checkpoint`` lists, resumes and
prunes them. Each is published by landed, so no torn one ever has a checkpoint's name. CrewAI writes checkpoints in the
background and only logs it when one fails; here it is recorded (`crewai_landed.failures`), and raised at the end of the
kickoff.
"""

from __future__ import annotations

import importlib
import logging
import uuid
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from crewai.events.event_bus import crewai_event_bus
from crewai.state.provider.json_provider import JsonProvider
from pydantic import PrivateAttr

import landed
from crewai_landed import failures
from crewai_landed.failures import AGAIN, SUFFIX
from landed import LandedError, NotLanded, Refused
from landed.engines import absolute, is_address, without_password

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

logger = logging.getLogger("crewai_landed")

NOT_JSON: Final = "What CrewAI cannot write as JSON has no checkpoint: give it settings, an embedder as a dict, say."
"""What to do when CrewAI failed before it came to the provider."""


class LandedJsonProvider(JsonProvider):
    """CrewAI's JSON checkpoints, published by landed.

    A checkpoint that fails in the background makes the kickoff raise `CheckpointFailed` when it ends, from CrewAI
    1.15.5 on, which is the first that lets an extension do so. With an older one, and for the checkpoint that the end
    of the kickoff itself causes, call `check`.
    """

    _failed: list[tuple[str, Exception]] = PrivateAttr(default_factory=list)

    def model_post_init(self, context: Any, /) -> None:  # noqa: ANN401 - pydantic's signature
        super().model_post_init(context)
        _listen()

    # What CrewAI calls.

    def checkpoint(self, data: str, location: str, *, parent_id: str | None = None, branch: str = "main") -> str:
        """Write a checkpoint: when this returns, it is on the disk, under its name, verified.

        Returns:
            The path of the file.

        Raises:
            ValueError: the branch leads out of the location. Nothing was written.
            Refused: the location is an engine's address. CrewAI itself reads checkpoints back, and knows files alone.
                Nothing was written.
            NotLanded: the system refused the write. There is no file of that name.
            OutcomeUnknown: the file may or may not survive a crash.
        """
        try:
            path = _path(location, branch, parent_id)
            landed.write(path, data, expect=landed.ABSENT)
        except Exception as error:
            self.record_failure(location, branch, error)
            raise
        return str(path)

    async def acheckpoint(self, data: str, location: str, *, parent_id: str | None = None, branch: str = "main") -> str:
        """As `checkpoint`; a cancellation waits until it is known how the write ended."""
        write = partial(self.checkpoint, data, location, parent_id=parent_id, branch=branch)
        return await landed.aio.finish(write)

    def prune(self, location: str, max_keep: int, *, branch: str = "main") -> int:
        """Remove all but the newest `max_keep` checkpoints of a branch, once the newest is verified.

        Returns:
            How many were removed.

        Raises:
            VerifyFailed: the newest is not what was written. Nothing was removed.
            NotLanded: one cannot be removed; those before it are.
        """
        directory = _branch_directory(location, branch)
        files = sorted(directory.glob(f"*{SUFFIX}"), key=_age)
        kept = files[-max_keep:] if max_keep else []
        if kept:
            landed.verify(kept[-1])
        removed = 0
        for path in files[: len(files) - len(kept)]:
            try:
                landed.delete(path, expect=landed.ANY)
            except FileNotFoundError:
                continue  # another process prunes as well
            removed += 1
        return removed

    # What became of those in the background.

    def check(self) -> None:
        """Wait for the checkpoints that are under way, and raise if one has failed since the last time.

        Raises:
            CheckpointFailed: for the first of them; what failed is its cause.
        """
        # Twice: a checkpoint that fails before it gets here is told by an event that it causes itself.
        crewai_event_bus.flush()
        crewai_event_bus.flush()
        failed, self._failed = self._failed, []
        if failed:
            raise CheckpointFailed.of(failed) from failed[0][1]

    def record_failure(self, location: str, branch: str, error: Exception) -> None:
        """Note for `check` and for ``landed audit`` that a checkpoint was not stored."""
        where = str(Path(without_password(absolute(location))) / branch)
        self._failed.append((where, error))
        try:
            failures.record(where, error)
        except LandedError as second:
            logger.error("a failed checkpoint in %s cannot be recorded for the audit either: %s", where, second)  # noqa: TRY400

    def knows(self, message: str) -> bool:
        """Whether a failure with that message was noted and not raised yet."""
        return any(str(error) == message for _, error in self._failed)


def _path(location: str, branch: str, parent_id: str | None) -> Path:
    """The name that CrewAI gives a checkpoint: what it reads back are the parent, and the order of the files."""
    time = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
    name = f"{time}_{uuid.uuid4().hex[:8]}_p-{parent_id or 'none'}{SUFFIX}"
    return _branch_directory(location, branch) / name


def _branch_directory(location: str, branch: str) -> Path:
    if is_address(location):
        raise Refused(
            "checkpoints are files, which CrewAI itself reads back",
            path=without_password(location),
            step="checkpoint",
            hint="Give a directory as location.",
        )
    directory = Path(location, branch)
    base = Path(location).resolve()
    if base not in (directory.resolve(), *directory.resolve().parents):
        raise ValueError(f"Branch name escapes checkpoint directory: {branch!r}")
    return directory


def _age(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_mtime_ns, path.name
    except FileNotFoundError:
        return 0, path.name  # another process prunes as well


# Out of the background. CrewAI lets HookAborted, and nothing else, out of its hooks.

hooks: Any
try:
    hooks = importlib.import_module("crewai.hooks.dispatch")
except ModuleNotFoundError:  # before 1.15.5
    hooks = None


class CheckpointFailed(NotLanded, Exception if hooks is None else hooks.HookAborted):  # type: ignore[misc]
    """A checkpoint of this run was not stored; the run itself went on.

    Attributes:
        failures: where, and the error, of each that failed.
    """

    state = "The checkpoints before it are intact."
    failures: Sequence[tuple[str, Exception]] = ()

    @classmethod
    def of(cls, failed: Sequence[tuple[str, Exception]]) -> CheckpointFailed:
        """The error for some failures."""
        (where, error), more = failed[0], len(failed) - 1
        what = f"a checkpoint was not stored: {getattr(error, 'what', error)}"
        made = cls(
            what + (f", and {more} more" if more else ""),
            path=where,
            step="checkpoint",
            errno=getattr(error, "errno", None),
            hint=AGAIN if isinstance(error, LandedError) else NOT_JSON,
        )
        made.outcome = getattr(error, "outcome", made.outcome)
        made.failures = tuple(failed)
        return made


_listening = False


def _listen() -> None:
    """Hear of checkpoints that fail before they get to a provider, and of the ends of kickoffs."""
    global _listening  # noqa: PLW0603 - once per process
    if _listening:
        return
    _listening = True
    from crewai.events.types.checkpoint_events import CheckpointFailedEvent

    crewai_event_bus.register_handler(CheckpointFailedEvent, _on_failed)
    if hooks is not None:
        hooks.register(hooks.InterceptionPoint.EXECUTION_END, _at_the_end)


def _on_failed(source: Any, event: Any) -> None:  # noqa: ANN401 - CrewAI names neither
    provider = getattr(source, "provider", None) or getattr(source, "_provider", None)
    if isinstance(provider, LandedJsonProvider) and not provider.knows(event.error):
        provider.record_failure(event.location, event.branch or "main", RuntimeError(event.error))


def _at_the_end(context: Any) -> None:  # noqa: ANN401 - of any execution
    if context.status == "failed":
        return  # that error is the one to raise
    for provider in {id(provider): provider for provider in _providers(context)}.values():
        provider.check()


def _providers(context: Any) -> Iterator[LandedJsonProvider]:  # noqa: ANN401
    """The providers of the crew, flow or agent whose execution ends."""
    entities = [context.crew, context.flow, context.agent, getattr(context.flow, "agent", None)]
    entities += getattr(context.crew, "agents", [])
    for entity in entities:
        provider = getattr(getattr(entity, "checkpoint", None), "provider", None)
        if isinstance(provider, LandedJsonProvider):
            yield provider
