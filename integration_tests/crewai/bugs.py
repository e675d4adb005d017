"""Bugs to plant in landed, in a test's process and in those that it starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import landed
from crewai_landed import table, wiring
from crewai_landed.flows import LandedFlowPersistence
from crewai_landed.storage import LandedStorage

if TYPE_CHECKING:
    import pytest


def an_update_is_a_deletion_and_a_save(patch: pytest.MonkeyPatch) -> None:
    def update(self: LandedStorage, record: Any) -> None:
        self.delete(record_ids=[record.id])
        self.save([record])

    patch.setattr(LandedStorage, "update", update)


def scopes_are_no_paths(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(table, "inside", lambda prefix: (prefix, prefix))


def saves_compare_nothing(patch: pytest.MonkeyPatch) -> None:
    append = landed.Journal.append
    patch.setattr(landed.Journal, "append", lambda self, records, expect=None: append(self, records))


def nobody_takes_the_feedback(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LandedFlowPersistence, "clear_pending_feedback", lambda *_: None)


def checkpoints_are_written_in_place(patch: pytest.MonkeyPatch) -> None:
    def write(path: Path, data: str, **_: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data)

    patch.setattr(landed, "write", write)


def install_forgets_flows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(wiring, "set_flow_persistence_factory", lambda _: None)
