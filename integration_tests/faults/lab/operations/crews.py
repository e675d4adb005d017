"""What CrewAI writes through landed's packages: memory, flow states, checkpoints, locks."""

from __future__ import annotations

import json
import warnings
from datetime import datetime, timezone
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import lab.offline  # noqa: F401 - before CrewAI
import landed

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from crewai.flow.async_feedback.types import PendingFeedbackContext
    from crewai.memory.types import MemoryRecord
from crewai_landed import LandedFlowPersistence, LandedJsonProvider, LandedStorage, checkpoints, flows, store
from crewai_landed.locks import Locks
from lab.operations import Bug, Operation, Store, each

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.operations import Step, View

WAIT = 5.0
"""Seconds for a lock whose owner is dead."""
THEN = datetime(2026, 1, 2, tzinfo=timezone.utc).replace(tzinfo=None)

# Memory.


def _memory(name: str, content: str = "", **more: Any) -> MemoryRecord:
    text = content or f"what {name} is about"
    fields = {"scope": "/lab", "created_at": THEN, "last_accessed": THEN, "embedding": [1.0, 2.0, float(len(text))]}
    return MemoryRecord(id=name, content=text, **{**fields, **more})


def _on_memory(act: Callable[[LandedStorage], object], directory: Path) -> None:
    storage = LandedStorage(directory / "memory")
    act(storage)
    storage.close()


def _look_at_memory(directory: Path) -> View:
    view: View = {}
    storage = LandedStorage(directory / "memory")
    for record in storage.list_records(limit=1000):
        assert record.id not in view, f"{record.id} is there twice"
        assert storage.get_record(record.id) == record, f"{record.id} is listed otherwise than it is found"
        fields = [record.content, record.scope, record.categories, record.source, list(record.embedding or ())]
        view[record.id] = [*fields, record.last_accessed != THEN]
    found = {record.id for record, _ in storage.search([1.0, 2.0, 3.0], limit=1000)}
    assert found == view.keys(), f"a search finds {found}"
    storage.close()
    return view


def _memories(directory: Path) -> None:
    def save(storage: LandedStorage) -> None:
        storage.save([_memory(name) for name in "abc"])
        storage.save([_memory("d", scope="/other", categories=["kept"]), _memory("e", source="s")])
        storage.update(_memory("b", "revised"))

    _on_memory(save, directory)


def _touch(storage: LandedStorage) -> None:
    storage.touch_records(["a", "b"])


def _consolidate(storage: LandedStorage) -> None:
    with storage.write_lock:
        storage.update(_memory("a", "consolidated"))


MEMORY = Store(_look_at_memory, partial(_on_memory, lambda storage: storage.save([_memory("next")])))

# Flow states.


def _feedback(flow: str) -> PendingFeedbackContext:
    return PendingFeedbackContext(
        flow_id=flow, flow_class="lab.Flow", method_name="ask", method_output={"a": 1}, message="?", requested_at=THEN
    )


def _on_flows(act: Callable[[LandedFlowPersistence], object], directory: Path, *, history: int = 100) -> None:
    act(LandedFlowPersistence(directory / "flows", history=history))


def _save(kept: LandedFlowPersistence, number: int, flow: str = "flow") -> None:
    kept.save_state(flow, "step", {"id": flow, "number": number, "text": f"{number} " * 200})


def _wait(kept: LandedFlowPersistence, number: int) -> None:
    kept.save_pending_feedback("flow", _feedback("flow"), {"id": "flow", "number": number})


def _states(*more: Callable[[LandedFlowPersistence], object]) -> Step:
    def begin(directory: Path) -> None:
        kept = LandedFlowPersistence(directory / "flows")
        for number in range(3):
            _save(kept, number)
        _save(kept, 0, "other")
        for each_ in more:
            each_(kept)

    return begin


def _look_at_flows(directory: Path) -> View:
    """Of each flow the states that are there, the newest, and the feedback that is waited for."""
    view: View = {}
    kept = LandedFlowPersistence(directory / "flows")
    for flow in ("flow", "other"):
        for saved in kept.saved(flow):
            view.setdefault(f"{flow} {saved.state['number']}", []).append([saved.method, saved.state])
        newest, pending = kept.load_state(flow), kept.load_pending_feedback(flow)
        if newest is not None:
            view[f"{flow} newest"] = newest
        if pending is not None:
            view[f"{flow} waits"] = [pending[0], pending[1].to_dict()]
    return view


def _prune_or_save(key: str) -> str:
    return "history" if key in {"flow 0", "flow 1"} else ""


FLOWS = Store(
    _look_at_flows,
    partial(_on_flows, lambda kept: _save(kept, 99)),
    frozenset({"flow 99", "flow newest"}),
)

# Checkpoints.


def _checkpoint(directory: Path, text: str, *, parent: str | None = None, branch: str = "main") -> None:
    provider = LandedJsonProvider()
    provider.checkpoint(json.dumps({"text": text}), str(directory / "checkpoints"), parent_id=parent, branch=branch)


def _checkpoints(directory: Path) -> None:
    for text in ("one", "two", "three"):
        _checkpoint(directory, text)
    _checkpoint(directory, "aside", branch="side")


def _look_at_checkpoints(directory: Path) -> View:
    """Every file that CrewAI takes for a checkpoint."""
    view: View = {}
    for path in sorted((directory / "checkpoints").glob("*/*.json")):
        text = json.loads(landed.read(path).data)["text"]
        view.setdefault(text, []).append([path.parent.name, path.stem.partition("_p-")[2]])
    return view


def _prune(directory: Path) -> None:
    LandedJsonProvider().prune(str(directory / "checkpoints"), 1)


CHECKPOINTS = Store(_look_at_checkpoints, lambda directory: _checkpoint(directory, "next"))

# Locks.


def _locked(directory: Path) -> None:
    with Locks(directory / "memory")("a name", timeout=WAIT):
        _on_memory(lambda storage: storage.update(_memory("a", "in the lock")), directory)


def _memory_operation(act: Callable[[LandedStorage], object]) -> Operation:
    return Operation(MEMORY, partial(_on_memory, act), _memories)


OPERATIONS = {
    "LandedStorage.save, the first": Operation(
        MEMORY, partial(_on_memory, lambda storage: storage.save([_memory(name) for name in "abc"]))
    ),
    "LandedStorage.save": _memory_operation(
        lambda storage: storage.save([_memory("f"), _memory("g"), _memory("a", "saved again")])
    ),
    "LandedStorage.update": _memory_operation(lambda storage: storage.update(_memory("a", "revised"))),
    "LandedStorage.delete": _memory_operation(lambda storage: storage.delete(record_ids=["a", "d"])),
    "LandedStorage.delete of a scope": _memory_operation(lambda storage: storage.delete("/lab")),
    "LandedStorage.reset": _memory_operation(lambda storage: storage.reset()),
    "LandedStorage.touch_records": _memory_operation(_touch),
    "LandedStorage.compact": _memory_operation(lambda storage: storage.compact()),
    "LandedStorage.write_lock": _memory_operation(_consolidate),
    "LandedFlowPersistence.save_state, the first": Operation(
        FLOWS, partial(_on_flows, lambda kept: _save(kept, 3)), ends_alike=False
    ),
    "LandedFlowPersistence.save_state": Operation(
        FLOWS, partial(_on_flows, lambda kept: _save(kept, 3)), _states(), ends_alike=False
    ),
    "LandedFlowPersistence.save_state that prunes": Operation(
        FLOWS,
        partial(_on_flows, lambda kept: _save(kept, 3), history=2),
        _states(),
        _prune_or_save,
        ends_alike=False,
    ),
    "LandedFlowPersistence.save_pending_feedback": Operation(
        FLOWS, partial(_on_flows, lambda kept: _wait(kept, 3)), _states(), ends_alike=False
    ),
    "LandedFlowPersistence.clear_pending_feedback": Operation(
        FLOWS,
        partial(_on_flows, lambda kept: kept.clear_pending_feedback("flow")),
        _states(lambda kept: _wait(kept, 3)),
        refuses_again="StaleWrite",
    ),
    "LandedFlowPersistence.forget": Operation(FLOWS, partial(_on_flows, lambda kept: kept.forget("flow")), _states()),
    "LandedJsonProvider.checkpoint, the first": Operation(
        CHECKPOINTS, lambda directory: _checkpoint(directory, "four"), ends_alike=False
    ),
    "LandedJsonProvider.checkpoint": Operation(
        CHECKPOINTS, lambda directory: _checkpoint(directory, "four", parent="p"), _checkpoints, ends_alike=False
    ),
    "LandedJsonProvider.prune": Operation(CHECKPOINTS, _prune, _checkpoints, each),
    "Locks": Operation(MEMORY, _locked, _memories),
}
"""The public write operations of memory, flow persistence, checkpoints and locks."""


# Bugs.


def _one_by_one() -> None:
    real = LandedStorage._put
    LandedStorage._put = lambda self, records: [real(self, [record]) for record in records]


def _delete_one_by_one() -> None:
    def delete(self: LandedStorage, scope: str) -> None:
        for record in self.list_records(scope):
            real(self, record_ids=[record.id])

    real = LandedStorage.delete
    LandedStorage.delete = delete


def _touched_in_memory_only() -> None:
    store.Store.touch = lambda *_: None


def _compacted_without_its_memories() -> None:
    store._kept = lambda *_: False


def _state_before_feedback() -> None:
    real = LandedFlowPersistence._append

    def append(self: LandedFlowPersistence, flow: str, kind: int, content: dict[str, Any]) -> None:
        if kind == flows.PENDING:
            real(self, flow, flows.STATE, {key: value for key, value in content.items() if key != "context"})
        real(self, flow, kind, content)

    LandedFlowPersistence._append = append


def _feedback_not_taken() -> None:
    LandedFlowPersistence.clear_pending_feedback = lambda *_: None


def _pruned_of_all() -> None:
    LandedFlowPersistence._prune = _prune_by_hand


def _prune_by_hand(self: LandedFlowPersistence, flow: str) -> None:
    """Keep nothing, then save the newest again."""
    newest = self.load_state(flow)
    self.forget(flow)
    assert newest is not None
    self.load_state(flow)
    _save(self, newest["number"])


def _plain_checkpoint() -> None:
    checkpoints.landed = SimpleNamespace(ABSENT=None, write=lambda path, data, **_: _plainly(path, data))


def _plainly(path: Path, data: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data)


def _newest_first() -> None:
    checkpoints._age = lambda path: (-path.stat().st_mtime_ns, path.name)


BUGS = {
    "memories are saved one by one": Bug("LandedStorage.save", _one_by_one),
    "a scope is deleted one by one": Bug("LandedStorage.delete of a scope", _delete_one_by_one),
    "recalls are never written": Bug("LandedStorage.touch_records", _touched_in_memory_only),
    "a compaction keeps nothing": Bug("LandedStorage.compact", _compacted_without_its_memories),
    "a state lands before its feedback": Bug("LandedFlowPersistence.save_pending_feedback", _state_before_feedback),
    "feedback is not taken": Bug("LandedFlowPersistence.clear_pending_feedback", _feedback_not_taken),
    "a flow is pruned and written anew": Bug("LandedFlowPersistence.save_state that prunes", _pruned_of_all),
    "a checkpoint is written in place": Bug("LandedJsonProvider.checkpoint", _plain_checkpoint),
    "the newest checkpoint is pruned": Bug("LandedJsonProvider.prune", _newest_first),
}
