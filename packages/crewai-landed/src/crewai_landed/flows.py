"""Flow persistence that lands: one journal per flow id, and nobody overwrites a state that was not seen.

    @persist(LandedFlowPersistence(path="./crew-state"))
    class Counter(Flow[State]): ...

Each save is appended only on top of the state that this run of the flow has loaded or saved last. If another process
has saved meanwhile, the save raises `StaleWrite`, out of ``kickoff``, and nothing is lost: run it again, and it goes on
from what is there now.
"""

from __future__ import annotations

import logging
import os
import platform
import threading
import weakref
from contextvars import ContextVar
from datetime import datetime, timezone
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from crewai.flow.persistence.base import FlowPersistence
from crewai.flow.persistence.decorators import PersistenceDecorator
from pydantic import Field, field_serializer, field_validator, model_validator

from crewai_landed import states
from crewai_landed.states import PENDING, RESUMED, STATE
from landed import Journals, LandedError, NotLanded, OutcomeUnknown, Record, StaleWrite
from landed.engines import absolute, below, is_address, without_password

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crewai.flow.async_feedback.types import PendingFeedbackContext
    from crewai.flow.flow import Flow
    from pydantic import BaseModel
    from typing_extensions import Self

    from landed import Entry, Journal

FLOWS: Final = "flows"
"""The part of the user's place that holds the journals."""
HISTORY: Final = 100
"""States of a flow that stay readable behind the newest: some days of a chat, and a few MB at most."""
REMEMBERED: Final = 4096
"""Flow ids whose last seen state a process remembers for saves that do not say which flow they are for."""

logger = logging.getLogger("crewai_landed")


class SavedState(NamedTuple):
    """One state of a flow's history.

    Attributes:
        number: of the record in the flow's journal; grows.
        method: the method that had completed.
        saved_at: when, in UTC.
        writer: the process that saved it.
        state: the state itself.
    """

    number: int
    method: str
    saved_at: datetime
    writer: str
    state: dict[str, Any]


class LandedFlowPersistence(FlowPersistence):
    """Flow states in landed journals: durable and verified when a save returns, and never saved over an unseen one.

    The history of a flow is pruned by this rule: whenever `history` more records have been appended, all but the last
    `history` are dropped; the newest state and feedback that is still waited for always stay.

    Args:
        path: a directory, created when missing, or an engine's address (``postgresql://...``, ``s3://...``). Shared by
            any number of processes. A checkpoint keeps it without the password.

    Attributes:
        history: how many records of each flow are kept at least; twice as many at most. At least 1.

    Raises:
        Refused: no engine has that address, or the server cannot carry journals.
        NotLanded: the directory cannot be made or read, or the server cannot be reached.
    """

    persistence_type: str = Field(default="LandedFlowPersistence")
    path: str = Field(repr=False)
    history: int = Field(default=HISTORY, ge=1)

    def __init__(self, path: str | os.PathLike[str] | None = None, /, **fields: Any) -> None:  # noqa: ANN401
        super().__init__(**fields if path is None else {"path": path, **fields})

    @field_validator("path", mode="before")
    @classmethod
    def _absolute(cls, path: str | os.PathLike[str]) -> str:
        return absolute(path)  # a checkpoint may be restored elsewhere

    @field_serializer("path")
    def _without_password(self, path: str) -> str:
        return without_password(path)

    @model_validator(mode="after")
    def _open(self) -> Self:
        _let_errors_out()
        self.init_db()
        return self

    # What CrewAI calls.

    def init_db(self) -> None:
        """Make the directory, or reach the server. A directory that was removed or replaced meanwhile is opened anew.

        Raises:
            Refused: no engine has that address, or the server cannot carry journals.
            NotLanded: the directory cannot be made, or the server cannot be reached.
        """
        journals = _journals(self.path)
        if not is_address(self.path):
            try:
                journals.find("\0")  # no flow of that name: it looks at the directory first
            except NotLanded:
                with _guard:
                    _opened.pop(self.path, None)
                _journals(self.path)

    def save_state(self, flow_uuid: str, method_name: str, state_data: dict[str, Any] | BaseModel) -> None:
        """Append a state on top of the one that this run has seen last.

        Raises:
            StaleWrite: another run has saved meanwhile. Nothing was written.
            Refused: the state holds something that cannot be stored. Nothing was written.
            NotLanded: the system refused the write. Nothing was written.
            OutcomeUnknown: it cannot be told whether it is stored; the next load looks at the disk.
        """
        self._append(flow_uuid, STATE, {"method": method_name, "state": state_data})

    def load_state(self, flow_uuid: str) -> dict[str, Any] | None:
        """The newest state, or None. What is saved in this context from here on must follow it.

        Raises:
            Corrupt: the journal is damaged.
            NotLanded: it cannot be read.
        """
        tail, found = self._newest(flow_uuid, STATE, PENDING)
        _note(self._key(flow_uuid), tail)
        return None if found is None else _content(found)["state"]

    def save_pending_feedback(
        self, flow_uuid: str, context: PendingFeedbackContext, state_data: dict[str, Any] | BaseModel
    ) -> None:
        """Append a state and the feedback that it waits for, as one record. Raises as `save_state`."""
        content = {"method": context.method_name, "state": state_data, "context": context.to_dict()}
        self._append(flow_uuid, PENDING, content)

    def load_pending_feedback(self, flow_uuid: str) -> tuple[dict[str, Any], PendingFeedbackContext] | None:
        """The state that waits for feedback and what it waits for, or None. Raises as `load_state`."""
        from crewai.flow.async_feedback.types import PendingFeedbackContext

        tail, found = self._newest(flow_uuid, PENDING, RESUMED)
        _note(self._key(flow_uuid), tail)
        if found is None or found.kind == RESUMED:
            return None
        content = _content(found)
        return content["state"], PendingFeedbackContext.from_dict(content["context"])

    def clear_pending_feedback(self, flow_uuid: str) -> None:
        """Take the feedback, before the flow goes on: of all that try, one gets through.

        Raises:
            StaleWrite: another resume has taken it, or the flow has been saved since. Nothing was written.
            NotLanded: the system refused the write. Nothing was written.
        """
        _, found = self._newest(flow_uuid, PENDING, RESUMED)
        if found is None or found.kind == RESUMED:
            raise StaleWrite(
                f"flow {flow_uuid} waits for no feedback: another resume has taken it",
                path=_journals(self.path).path,
                step="resume",
                hint="Let that one go on.",
            )
        self._append(flow_uuid, RESUMED, {"method": _content(found)["method"]})

    # What it is good for besides.

    def saved(self, flow_uuid: str) -> Iterator[SavedState]:
        """The states of a flow that are still there, newest first.

        Raises:
            Corrupt: the journal is damaged; the newer ones were given.
        """
        journal = _journals(self.path).find(flow_uuid)
        for entry in journal.read(newest_first=True) if journal is not None else ():
            if entry.kind != RESUMED:
                content = _content(entry)
                yield SavedState(
                    entry.sequence, content["method"], content["saved_at"], content["writer"], content["state"]
                )

    def forget(self, flow_uuid: str) -> bool:
        """Remove a flow with all its states; whether there was one.

        Raises:
            NotLanded: it cannot be removed. Nothing was changed.
        """
        with _guard:
            _latest.pop(self._key(flow_uuid), None)
        return _journals(self.path).remove(flow_uuid)

    # How.

    def _key(self, flow_uuid: str) -> _Key:
        return self.path, flow_uuid

    def _tail(self, flow_uuid: str) -> int:
        """The tail of a flow's journal: more than its newest record's number where a crash has cut off later ones."""
        journal = _journals(self.path).find(flow_uuid)
        return 0 if journal is None else journal.tail

    def _newest(self, flow_uuid: str, *kinds: int) -> tuple[int, Entry | None]:
        """The tail of a flow's journal, 0 when there is none, and its newest record of one of these kinds."""
        tail = self._tail(flow_uuid)
        journal = _journals(self.path).find(flow_uuid)
        for entry in journal.read(newest_first=True) if journal is not None else ():
            tail = max(tail, entry.sequence)  # it was appended meanwhile
            if entry.kind in kinds:
                return tail, entry
        return tail, None

    def _append(self, flow_uuid: str, kind: int, content: dict[str, Any]) -> None:
        journals = _journals(self.path)
        seen = _seen(self._key(flow_uuid), lambda: self._tail(flow_uuid))
        with seen.order:  # methods of one flow that run side by side save one after the other
            content |= {"saved_at": datetime.now(timezone.utc), "writer": _writer()}
            record = Record(states.encode(content).encode(), kind=kind)
            if seen.tail == UNKNOWN:
                raise OutcomeUnknown(
                    f"an earlier save of this run of flow {flow_uuid} has an unknown outcome",
                    path=journals.path,
                    step="poisoned",
                    hint="Kick it off again with its id: that loads what is there.",
                )
            try:
                seen.tail = journals.open(flow_uuid).append([record], expect=seen.tail).tail
            except StaleWrite as stale:
                raise self._stale(flow_uuid, seen.tail) from stale
            except OutcomeUnknown:
                seen.tail = UNKNOWN
                journals.forget(flow_uuid)
                raise
        if seen.tail % self.history == 0:
            self._prune(flow_uuid)

    def _stale(self, flow_uuid: str, tail: int) -> StaleWrite:
        now, newest = self._newest(flow_uuid, STATE, PENDING, RESUMED)
        by = _content(newest) if newest is not None else {}
        saved = f"record {now}, by {by['method']}, {by['writer']}, at {by['saved_at']:%H:%M:%S} UTC" if by else "none"
        error = StaleWrite(
            f"flow {flow_uuid} was saved by another run meanwhile: expected record {tail}, found {saved}",
            path=_journals(self.path).path,
            step="compare",
            expected=str(tail),
            found=str(now),
            hint="Kick it off again with its id: that loads the state that is there now.",
        )
        error.writer = by.get("writer")
        return error

    def _prune(self, flow_uuid: str) -> None:
        """Drop what is older than the history. The save has landed: if this fails, the next one tries again."""
        try:
            journal = _journals(self.path).open(flow_uuid)
            kept = {entry.sequence for entry in self._needed(journal)}
            oldest = journal.tail - self.history
            journal.compact(lambda entry: entry.sequence > oldest or entry.sequence in kept)
        except LandedError as error:
            logger.warning("the history of flow %s was not pruned: %s", flow_uuid, error)

    @staticmethod
    def _needed(journal: Journal) -> Iterator[Entry]:
        """The newest state, and the feedback that is waited for."""
        state = feedback = False
        for entry in journal.read(newest_first=True):
            if (not state and entry.kind != RESUMED) or (not feedback and entry.kind == PENDING):
                yield entry
            state = state or entry.kind != RESUMED
            feedback = feedback or entry.kind != STATE
            if state and feedback:
                return


def _content(entry: Entry) -> dict[str, Any]:
    content: dict[str, Any] = states.decode(entry.data)
    return content


def _writer() -> str:
    return f"pid {os.getpid()} on {platform.node()}"


# Journals are found by their place: CrewAI makes persistence objects as it pleases, and they must agree.

_opened: dict[str, Journals] = {}
_guard = threading.Lock()


def _journals(path: str) -> Journals:
    with _guard:
        if path not in _opened:
            _opened[path] = Journals(below(path, FLOWS))
        return _opened[path]


# What each run of a flow has seen. CrewAI's interface names the flow id and nothing of the run, and two runs in one
# process may have one id. A load is remembered in its context, which all that the run does inherits; a save goes by the
# flow object where CrewAI's decorator names it, and by what this process saw last where nothing does.

UNKNOWN: Final = -1
"""The tail seen by a run whose save may or may not be stored."""


class _Seen:
    """The newest record that a run has seen of its flow."""

    __slots__ = ("flow", "order", "tail")

    def __init__(self, tail: int) -> None:
        self.tail = tail
        self.order = threading.Lock()
        self.flow: weakref.ref[Flow[Any]] | None = None


if TYPE_CHECKING:
    from typing import TypeAlias

    _Key: TypeAlias = tuple[str, str]

_loaded: ContextVar[dict[_Key, _Seen]] = ContextVar("crewai_landed_loaded", default={})  # noqa: B039 - never changed
_saving: ContextVar[Flow[Any] | None] = ContextVar("crewai_landed_saving", default=None)
_of_flows: weakref.WeakKeyDictionary[Flow[Any], dict[_Key, _Seen]] = weakref.WeakKeyDictionary()
_latest: dict[_Key, _Seen] = {}


def _note(key: _Key, tail: int) -> None:
    """This context has seen the record `tail` of a flow."""
    seen = _Seen(tail)
    _loaded.set({**_loaded.get(), key: seen})
    with _guard:
        _remember(key, seen)


def _seen(key: _Key, look: Callable[[], int]) -> _Seen:
    """What the run that saves now has seen; one that never loaded begins on top of what is there."""
    flow, loaded = _saving.get(), _loaded.get().get(key)
    with _guard:
        known = _latest if flow is None else _of_flows.setdefault(flow, {})
        seen = known.get(key)
    if loaded is not None and (flow is None or loaded.flow is None or loaded.flow() is flow):
        seen = loaded
    if seen is None:
        first = _Seen(look())
        with _guard:
            seen = known.setdefault(key, first)  # another method of the same run may have come first
    with _guard:
        if flow is not None:
            seen.flow = weakref.ref(flow)
            known[key] = seen
        _remember(key, seen)
    return seen


def _remember(key: _Key, seen: _Seen) -> None:
    _latest.pop(key, None)
    _latest[key] = seen
    if len(_latest) > REMEMBERED:
        del _latest[next(iter(_latest))]


# CrewAI turns whatever a save raises into a RuntimeError that only quotes it. The one function that does so also knows
# the flow object.


def _let_errors_out() -> None:
    """Make ``kickoff`` raise landed's errors themselves."""
    wrapped = PersistenceDecorator.persist_state
    if hasattr(wrapped, "__wrapped__"):
        return

    @wraps(wrapped)
    def persist_state(
        cls: type[PersistenceDecorator],  # noqa: ARG001 - of a class method
        flow_instance: Flow[Any],
        method_name: str,
        persistence_instance: FlowPersistence,
        verbose: bool = False,  # noqa: FBT001, FBT002 - CrewAI's signature
    ) -> None:
        token = _saving.set(flow_instance)
        failed: LandedError | None = None
        try:
            wrapped(flow_instance, method_name, persistence_instance, verbose)
        except RuntimeError as error:
            if not isinstance(error.__cause__, LandedError):
                raise
            failed = error.__cause__
        finally:
            _saving.reset(token)
        if failed is not None:
            raise failed

    PersistenceDecorator.persist_state = classmethod(persist_state)  # type: ignore[method-assign, assignment]


if hasattr(os, "register_at_fork"):

    def _after_fork_in_child() -> None:
        global _guard  # noqa: PLW0603 - another thread of the parent may have held it
        _guard = threading.Lock()

    os.register_at_fork(after_in_child=_after_fork_in_child)
